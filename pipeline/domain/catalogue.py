"""From order lines to product pages: products with variants and options, within what a shop can hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from pipeline.domain import limits
from pipeline.domain.money import round_like
from pipeline.domain.options import MAX_OPTIONS, Options
from pipeline.domain.placing import KnownItem, Place, place_lines
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

MAX_TAGS = 250

Shelf = dict[str, list["Offer"]]
"""The lines of one product, by variant key."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One goods line with its price and, if there are any, better words."""

    line: NormalizedLine
    priced: PricedLine
    words: EnrichedLine | None = None


def plan_products(vendor: str, offers: Sequence[Offer], known: Iterable[KnownItem] = ()) -> ProductPlan:
    """The order's goods as products with variants, in line order, each article once."""
    places, doubts = place_lines([offer.line for offer in offers], known)
    shelves: dict[str, Shelf] = {}
    for offer in offers:
        place = places[offer.line.position]
        shelves.setdefault(place.product_key, {}).setdefault(place.variant_key, []).append(offer)
    titles = _titles(shelves)
    products = tuple(_product(key, titles[key], vendor, shelf) for key, shelf in shelves.items())
    joined = (doubt for key, shelf in shelves.items() for doubt in _joined(titles[key], shelf))
    beyond = (doubt for product in products if (doubt := limits.beyond(product)))
    costs = (doubt for shelf in shelves.values() for offers in shelf.values() for doubt in _costs(offers))
    return ProductPlan(products=products, doubts=(*doubts, *joined, *beyond, *costs, *_unpriced(offers, places)))


def _titles(shelves: Mapping[str, Shelf]) -> dict[str, str]:
    """A title per product: better words, else the printed name. Two products never share a printed name.

    Articles without options that share a product name are told apart by their own description or their SKU.
    """
    first = {key: _offers(shelf)[0].line for key, shelf in shelves.items()}
    used = Counter(printed_title(line) for line in first.values())
    titles = {}
    for key, line in first.items():
        title = printed_title(line)
        if used[title] > 1:
            title = line.name if line.name != title else f"{title} {line.sku}"
        else:
            better = (offer.words.title for offer in _offers(shelves[key]) if offer.words)
            title = next(filter(None, better), title)
        titles[key] = title[:TEXT_LIMIT].strip()
    return titles


def _product(key: str, title: str, vendor: str, shelf: Shelf) -> PlannedProduct:
    offers = _offers(shelf)
    options = Options(offer.line for offer in offers)
    words = next((offer.words for offer in offers if offer.words), None) or EnrichedLine(position=0, title="")
    priced = offers[0].priced
    return PlannedProduct(
        product_key=key,
        title=title,
        description_html=words.description_html,
        vendor=vendor[:TEXT_LIMIT],
        product_type=(priced.product_type or words.product_type)[:TEXT_LIMIT],
        tags=clean_tags((*priced.tags, *words.tags))[:MAX_TAGS],
        option_names=options.names,
        variants=tuple(_variant(variant, placed, options) for variant, placed in shelf.items()),
        image_urls=tuple(dict.fromkeys(offer.line.image_url for offer in offers if offer.line.image_url)),
    )


def _variant(key: str, offers: Sequence[Offer], options: Options) -> PlannedVariant:
    """Lines of the same article summed; their cost is the average of what is paid, their price the highest."""
    lines = [offer.line for offer in offers]
    prices = [offer.priced.price for offer in offers if offer.priced.price is not None]
    return PlannedVariant(
        variant_key=key,
        positions=tuple(line.position for line in lines),
        sku=next((line.sku for line in lines if line.sku), "")[:TEXT_LIMIT],
        gtin=next((line.gtin for line in lines if line.gtin), ""),
        options=options.of(lines[0]),
        quantity=sum(line.quantity for line in lines),
        unit_cost=_average_cost(offers),
        price=max(prices, default=None),
    )


def _average_cost(offers: Sequence[Offer]) -> Decimal | None:
    """What one unit costs over all lines; where nothing is coming, the highest printed cost."""
    costs = [(offer.priced.unit_cost, offer.line.quantity) for offer in offers if offer.priced.unit_cost is not None]
    highest = max((cost for cost, _ in costs), default=None)
    units = sum(quantity for _, quantity in costs)
    if highest is None or not units:
        return highest
    return round_like(sum((cost * quantity for cost, quantity in costs), Decimal(0)) / units, highest)


def _joined(title: str, shelf: Shelf) -> tuple[Doubt, ...]:
    options = len(Options(offer.line for offer in _offers(shelf)))
    if options <= MAX_OPTIONS:
        return ()
    message = f"{title} has {options} options; a shop holds {MAX_OPTIONS}, so the last were joined."
    return (Doubt(code="too_many_options", message=message),)


def _costs(offers: Sequence[Offer]) -> tuple[Doubt, ...]:
    costs = {offer.priced.unit_cost for offer in offers if offer.priced.unit_cost is not None}
    if len(costs) <= 1:
        return ()
    positions = ", ".join(str(offer.line.position) for offer in offers)
    message = f"Lines {positions} are the same article at different costs; the average was taken."
    return (Doubt(code="two_costs", line=offers[0].line.position, blocking=False, message=message),)


def _unpriced(offers: Sequence[Offer], places: Mapping[int, Place]) -> tuple[Doubt, ...]:
    """New articles without a price of any currency; what the shop has already keeps the price it has."""
    new = [offer.line for offer in offers if offer.priced.price is None and not places[offer.line.position].known]
    lines = ", ".join(str(line.position) for line in new if not line.unit_cost and not line.retail_price)
    message = f"No price for the new articles on line {lines}: neither cost nor retail price is printed."
    return (Doubt(code="no_price", message=message),) if lines else ()


def _offers(shelf: Shelf) -> list[Offer]:
    return [offer for placed in shelf.values() for offer in placed]
