"""From order lines to product pages: which lines are one product, which are its variants, under which keys.

Keys name a product within its supplier for ever, so they come from what the article *is* (remembered item,
style and options, SKU, GTIN, name) and never from where it stands in a document. The second order for the
same articles lands on the same drafts.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from pipeline.domain.identifiers import fold, slug
from pipeline.domain.money import round_unit_cost
from pipeline.domain.purchase_order import Doubt
from pipeline.domain.results import (
    EnrichedLine,
    NormalizedLine,
    PlannedProduct,
    PlannedVariant,
    PricedLine,
    ProductPlan,
)
from pipeline.domain.wording import TEXT_LIMIT, clean_tags, printed_title

ONLY_VARIANT = "only"
"""The variant key of an article without options."""

MAX_OPTIONS = 3
MAX_VARIANTS = 2048
MAX_TAGS = 250
_FILLER = "Standard"
_SAME_OPTION = {"colour": "color"}
"""Option names that mean the same, so that a supplier's change of spelling makes no new variants."""


@dataclass(frozen=True, slots=True)
class KnownItem:
    """What the supplier's item memory says: this SKU or GTIN is that variant of that product."""

    sku: str
    gtin: str
    product_key: str
    variant_key: str


@dataclass(frozen=True, slots=True)
class Offer:
    """One goods line with its price and, if there are any, better words."""

    line: NormalizedLine
    priced: PricedLine
    words: EnrichedLine | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a line belongs. `known` lines were placed by memory."""

    product_key: str
    variant_key: str
    known: bool = False


def plan_products(vendor: str, offers: Sequence[Offer], known: Iterable[KnownItem] = ()) -> ProductPlan:
    """The order's goods as products with variants, in line order, each article once."""
    places, doubts = place_lines([offer.line for offer in offers], known)
    shelves: dict[str, dict[str, list[Offer]]] = {}
    for offer in offers:
        place = places[offer.line.position]
        shelves.setdefault(place.product_key, {}).setdefault(place.variant_key, []).append(offer)
    products = []
    titles = _titles(shelves)
    for key, shelf in shelves.items():
        product, found = _product(key, titles[key], vendor, shelf)
        products.append(product)
        doubts += found
    unpriced = _unpriced(offers, places)
    return ProductPlan(products=tuple(products), doubts=(*doubts, *unpriced))


def place_lines(
    lines: Sequence[NormalizedLine], known: Iterable[KnownItem]
) -> tuple[dict[int, Place], tuple[Doubt, ...]]:
    """The place of every line, by position.

    Memory wins. Lines of one style stay together: where memory knows one of them, the others join its product.
    """
    memory = _Memory(known, lines)
    recalled = {line.position: memory.recall(line) for line in lines}
    homes = {product_key(line): place.product_key for line in lines if (place := recalled[line.position])}
    places: dict[int, Place] = {}
    holders: dict[tuple[str, str], str] = {}
    doubts: list[Doubt] = []
    for line in lines:
        own = product_key(line)
        place = recalled[line.position] or Place(homes.get(own, own), variant_key(line))
        holder = holders.setdefault((place.product_key, place.variant_key), line.sku)
        if line.sku and holder and not _same(line.sku, holder) and not place.known:
            place = Place(f"sku:{fold(line.sku)}", ONLY_VARIANT)
            doubts.append(_conflict(line, holder))
        places[line.position] = place
        doubts += memory.doubts(line, place)
    return places, tuple(doubts)


def product_key(line: NormalizedLine) -> str:
    """What the line's product is called within its supplier when memory does not know it."""
    style = slug(line.product_name or _without_options(line)) if line.options else ""
    if style:
        return f"style:{style}"
    if line.sku:
        return f"sku:{fold(line.sku)}"
    return f"gtin:{line.gtin.zfill(14)}" if line.gtin else f"name:{slug(line.name)}"


def variant_key(line: NormalizedLine) -> str:
    """What tells the line's variant from others of its product: its options, as in the shop itself."""
    options = {_SAME_OPTION.get(fold(name), fold(name)): fold(value) for name, value in line.options.items()}
    return "|".join(f"{name}={options[name]}" for name in sorted(options)) or ONLY_VARIANT


class _Memory:
    """The supplier's known items, asked by SKU first and by GTIN second."""

    def __init__(self, known: Iterable[KnownItem], lines: Iterable[NormalizedLine]) -> None:
        self._by_sku: dict[str, list[KnownItem]] = defaultdict(list)
        self._by_gtin: dict[str, KnownItem] = {}
        for item in known:
            if item.sku:
                self._by_sku[fold(item.sku)].append(item)
            if item.gtin:
                self._by_gtin.setdefault(item.gtin.zfill(14), item)
        variants: dict[str, set[str]] = defaultdict(set)
        for line in lines:
            variants[fold(line.sku)].add(variant_key(line))
        self._styles = {sku for sku, keys in variants.items() if len(keys) > 1}

    def recall(self, line: NormalizedLine) -> Place | None:
        """The remembered place; under a style number (one SKU for several sizes) the options decide."""
        items = self._by_sku.get(fold(line.sku), []) if line.sku else []
        if not items:
            item = self._gtin_item(line)
            return Place(item.product_key, item.variant_key, known=True) if item else None
        own = variant_key(line)
        if len(items) > 1 or fold(line.sku) in self._styles:
            exact = any(item.variant_key == own for item in items)
            return Place(items[0].product_key, own, known=exact)
        return Place(items[0].product_key, items[0].variant_key, known=True)

    def doubts(self, line: NormalizedLine, place: Place) -> tuple[Doubt, ...]:
        """Where the document contradicts what is remembered."""
        found: tuple[Doubt, ...] = ()
        by_gtin = self._gtin_item(line)
        if place.known and by_gtin and by_gtin.product_key != place.product_key:
            message = (
                f"Line {line.position}: SKU {line.sku} and barcode {line.gtin} belong to different known articles."
            )
            found += (Doubt(code="sku_gtin_conflict", line=line.position, message=message),)
        changed = line.options and place.variant_key not in (ONLY_VARIANT, variant_key(line))
        if place.known and changed:
            printed = ", ".join(line.options.values())
            message = f"Line {line.position}: {line.sku or line.gtin} had other options before; now it says {printed}."
            found += (Doubt(code="options_changed", line=line.position, message=message),)
        return found

    def _gtin_item(self, line: NormalizedLine) -> KnownItem | None:
        return self._by_gtin.get(line.gtin.zfill(14)) if line.gtin else None


class _Spelling:
    """One spelling for every option name and value of a product: the first that was printed."""

    def __init__(self, lines: Iterable[NormalizedLine]) -> None:
        self._words: dict[str, str] = {}
        self.names: tuple[str, ...] = ()
        for line in lines:
            for name, value in line.options.items():
                self._words.setdefault(name.casefold(), name)
                self._words.setdefault(f"{name.casefold()}={value.casefold()}", value)
                self.names = tuple(dict.fromkeys((*self.names, self._words[name.casefold()])))

    def options(self, line: NormalizedLine) -> dict[str, str]:
        """A value for each of the product's options, in one order; more than three share the last one."""
        own = {name.casefold(): value for name, value in line.options.items()}
        values = [self._value(name, own.get(name.casefold(), "")) for name in self.names]
        last = MAX_OPTIONS - 1
        if len(values) > MAX_OPTIONS:
            values = [*values[:last], " / ".join(values[last:])]
        return dict(zip(self.titles(), values, strict=True))

    def titles(self) -> tuple[str, ...]:
        """The option names a shop can hold."""
        last = MAX_OPTIONS - 1
        return self.names if len(self.names) <= MAX_OPTIONS else (*self.names[:last], " / ".join(self.names[last:]))

    def _value(self, name: str, value: str) -> str:
        return self._words[f"{name.casefold()}={value.casefold()}"][:TEXT_LIMIT] if value else _FILLER


def _titles(shelves: Mapping[str, Mapping[str, Sequence[Offer]]]) -> dict[str, str]:
    """A title per product: better words, else the printed name; two products never share a printed name.

    Articles without options that share a product name are told apart by their own description or their SKU.
    """
    first = {key: next(iter(shelf.values()))[0] for key, shelf in shelves.items()}
    printed = {key: printed_title(offer.line) for key, offer in first.items()}
    used = Counter(printed.values())
    titles = {}
    for key, offer in first.items():
        title = printed[key]
        if used[title] > 1:
            title = offer.line.name if offer.line.name != title else f"{title} {offer.line.sku}".strip()
        better = offer.words.title if offer.words and used[printed[key]] == 1 else ""
        titles[key] = (better or title)[:TEXT_LIMIT].strip()
    return titles


def _product(
    key: str, title: str, vendor: str, shelf: dict[str, list[Offer]]
) -> tuple[PlannedProduct, tuple[Doubt, ...]]:
    offers = [offer for variant in shelf.values() for offer in variant]
    spelling = _Spelling(offer.line for offer in offers)
    variants = tuple(_variant(variant, placed, spelling) for variant, placed in shelf.items())
    words = next((offer.words for offer in offers if offer.words), None)
    priced = offers[0].priced
    product = PlannedProduct(
        product_key=key,
        title=title,
        description_html=words.description_html if words else "",
        vendor=vendor[:TEXT_LIMIT],
        product_type=(priced.product_type or (words.product_type if words else ""))[:TEXT_LIMIT],
        tags=clean_tags((*priced.tags, *(words.tags if words else ())))[:MAX_TAGS],
        option_names=spelling.titles(),
        variants=variants,
        image_urls=tuple(dict.fromkeys(offer.line.image_url for offer in offers if offer.line.image_url)),
    )
    return product, (*_limits(product, spelling), *(doubt for placed in shelf.values() for doubt in _costs(placed)))


def _variant(key: str, offers: Sequence[Offer], spelling: _Spelling) -> PlannedVariant:
    """Lines of the same article summed; their cost is the average of what is paid, their price the highest."""
    lines = [offer.line for offer in offers]
    prices = [offer.priced.price for offer in offers if offer.priced.price is not None]
    return PlannedVariant(
        variant_key=key,
        positions=tuple(line.position for line in lines),
        sku=next((line.sku for line in lines if line.sku), "")[:TEXT_LIMIT],
        gtin=next((line.gtin for line in lines if line.gtin), ""),
        options=spelling.options(lines[0]) if spelling.names else {},
        quantity=sum(line.quantity for line in lines),
        unit_cost=_average_cost(offers),
        price=max(prices, default=None),
    )


def _average_cost(offers: Sequence[Offer]) -> Decimal | None:
    costs = [(offer.priced.unit_cost, offer.line.quantity) for offer in offers if offer.priced.unit_cost is not None]
    if len({cost for cost, _ in costs}) <= 1:
        return costs[0][0] if costs else None
    units = sum(quantity for _, quantity in costs)
    if not units:
        return max(cost for cost, _ in costs)
    return round_unit_cost(sum((cost * quantity for cost, quantity in costs), Decimal(0)) / units)


def _limits(product: PlannedProduct, spelling: _Spelling) -> tuple[Doubt, ...]:
    found: tuple[Doubt, ...] = ()
    if len(spelling.names) > MAX_OPTIONS:
        message = (
            f"{product.title} has {len(spelling.names)} options; a shop holds {MAX_OPTIONS}, so the last were joined."
        )
        found += (Doubt(code="too_many_options", message=message),)
    if len(product.variants) > MAX_VARIANTS:
        message = f"{product.title} has {len(product.variants):,} variants; a shop holds {MAX_VARIANTS:,} per product."
        found += (Doubt(code="too_many_variants", message=message),)
    return found


def _costs(offers: Sequence[Offer]) -> tuple[Doubt, ...]:
    costs = {offer.priced.unit_cost for offer in offers if offer.priced.unit_cost is not None}
    if len(costs) <= 1:
        return ()
    positions = ", ".join(str(offer.line.position) for offer in offers)
    message = f"Lines {positions} are the same article at different costs; the average was taken."
    return (Doubt(code="two_costs", line=offers[0].line.position, blocking=False, message=message),)


def _unpriced(offers: Sequence[Offer], places: dict[int, Place]) -> tuple[Doubt, ...]:
    """New articles without a price; what the shop has already keeps the price it has."""
    lines = [o.line.position for o in offers if o.priced.price is None and not places[o.line.position].known]
    if not lines:
        return ()
    message = (
        f"No price for the new articles on line {', '.join(map(str, lines))}: neither cost nor retail price is known."
    )
    return (Doubt(code="no_price", message=message),)


def _without_options(line: NormalizedLine) -> str:
    """The name without the option values it repeats: "Linen Shirt Navy M" is the style "Linen Shirt"."""
    values = sorted(line.options.values(), key=len, reverse=True)
    pattern = "|".join(rf"(?<!\w){re.escape(value)}(?!\w)" for value in values)
    return re.sub(pattern, " ", line.name, flags=re.IGNORECASE)


def _same(one: str, other: str) -> bool:
    return one.casefold() == other.casefold()


def _conflict(line: NormalizedLine, holder: str) -> Doubt:
    what = ", ".join(line.options.values()) or line.name
    message = f"Line {line.position}: SKU {line.sku} and {holder} are both {what}; they were kept apart."
    return Doubt(code="variant_conflict", line=line.position, message=message)
