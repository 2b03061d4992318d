"""Where a line belongs: under which product and variant keys, learned or derived.

Keys name a product within its supplier for ever, so they come from what the article *is* (remembered item,
style and options, SKU, GTIN, name) and never from where it stands in a document. The second order for the
same articles lands on the same drafts.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.domain.identifiers import fold, slug
from pipeline.domain.purchase_order import Doubt
from pipeline.domain.results import NormalizedLine

ONLY_VARIANT = "only"
"""The variant key of an article without options."""

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
class Place:
    """Where a line belongs; `known` when memory has met this very variant before."""

    product_key: str
    variant_key: str
    known: bool = False


def place_lines(
    lines: Sequence[NormalizedLine], known: Iterable[KnownItem]
) -> tuple[dict[int, Place], tuple[Doubt, ...]]:
    """The place of every line, by position.

    Memory wins. Lines of one style stay together: where memory knows one of them, the others join its product.
    """
    memory = _Memory(known, lines)
    recalled = {line.position: memory.recall(line) for line in lines}
    homes = _homes(lines, recalled)
    places: dict[int, Place] = {}
    holders: dict[Place, str] = {}
    doubts: list[Doubt] = []
    for line in lines:
        place = recalled[line.position] or Place(homes[product_key(line)], variant_key(line))
        holder = holders.setdefault(place, line.sku)
        if line.sku and holder and fold(line.sku) != fold(holder) and not place.known:
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
    return f"gtin:{line.gtin.zfill(14)}" if line.gtin else f"name:{slug(line.name) or fold(line.name)}"


def variant_key(line: NormalizedLine) -> str:
    """What tells the line's variant from others of its product: its options, as in the shop itself."""
    options = {option_key(name): fold(value) for name, value in line.options.items()}
    return "|".join(f"{name}={options[name]}" for name in sorted(options)) or ONLY_VARIANT


def option_key(name: str) -> str:
    """An option's name as it is compared."""
    return _SAME_OPTION.get(fold(name), fold(name))


class _Memory:
    """The supplier's known items, asked by SKU first and by GTIN second."""

    def __init__(self, known: Iterable[KnownItem], lines: Iterable[NormalizedLine]) -> None:
        self._by_sku: dict[str, list[KnownItem]] = defaultdict(list)
        self._by_gtin: dict[str, KnownItem] = {}
        for item in sorted(known, key=lambda item: (item.product_key, item.variant_key)):
            if item.sku:
                self._by_sku[fold(item.sku)].append(item)
            if item.gtin:
                self._by_gtin.setdefault(item.gtin.zfill(14), item)
        variants: dict[str, set[str]] = defaultdict(set)
        for line in lines:
            variants[fold(line.sku)].add(variant_key(line))
        self._styles = {sku for sku, keys in variants.items() if len(keys) > 1}

    def recall(self, line: NormalizedLine) -> Place | None:
        """The remembered place, None for an article nobody has met.

        Under a style number (one SKU for several sizes) the options decide, and a size not met before is
        a new variant of the known product.
        """
        items = self._sku_items(line)
        if not items:
            item = self._gtin_item(line)
            return _known_place(item) if item else None
        own = variant_key(line)
        exact = next((item for item in items if item.variant_key == own), None)
        if exact is not None:
            return _known_place(exact)
        is_style = len(items) > 1 or fold(line.sku) in self._styles
        return Place(items[0].product_key, own) if is_style else _known_place(items[0])

    def doubts(self, line: NormalizedLine, place: Place) -> tuple[Doubt, ...]:
        """Where the document contradicts what is remembered, or says too little to be recognised."""
        by_gtin = self._gtin_item(line)
        name = line.sku or line.gtin
        if not place.known:
            unclear = bool(self._sku_items(line)) and not line.options
            return (
                (_doubt(line, "options_missing", f"{name} comes in several variants; which one?"),) if unclear else ()
            )
        found: tuple[Doubt, ...] = ()
        if by_gtin and by_gtin.product_key != place.product_key:
            words = f"SKU {line.sku} and barcode {line.gtin} belong to different known articles."
            found += (_doubt(line, "sku_gtin_conflict", words),)
        if line.options and place.variant_key not in (ONLY_VARIANT, variant_key(line)):
            words = f"{name} had other options before; now it says {', '.join(line.options.values())}."
            found += (_doubt(line, "options_changed", words),)
        return found

    def _sku_items(self, line: NormalizedLine) -> list[KnownItem]:
        return self._by_sku.get(fold(line.sku), []) if line.sku else []

    def _gtin_item(self, line: NormalizedLine) -> KnownItem | None:
        return self._by_gtin.get(line.gtin.zfill(14)) if line.gtin else None


def _known_place(item: KnownItem) -> Place:
    return Place(item.product_key, item.variant_key, known=True)


def _homes(lines: Iterable[NormalizedLine], recalled: dict[int, Place | None]) -> dict[str, str]:
    """The product each derived key leads to: the one memory knows, and of several always the same one."""
    candidates: dict[str, set[str]] = defaultdict(set)
    for line in lines:
        place = recalled[line.position]
        candidates[product_key(line)] |= {place.product_key} if place else set()
    return {own: own if own in known else min(known, default=own) for own, known in candidates.items()}


def _without_options(line: NormalizedLine) -> str:
    """The name without the option values it repeats: "Linen Shirt Navy M" is the style "Linen Shirt"."""
    values = sorted(line.options.values(), key=len, reverse=True)
    pattern = "|".join(rf"(?<!\w){re.escape(value)}(?!\w)" for value in values)
    return re.sub(pattern, " ", line.name, flags=re.IGNORECASE)


def _conflict(line: NormalizedLine, holder: str) -> Doubt:
    what = ", ".join(line.options.values()) or line.name
    return _doubt(line, "variant_conflict", f"SKU {line.sku} and {holder} are both {what}; they were kept apart.")


def _doubt(line: NormalizedLine, code: str, words: str) -> Doubt:
    return Doubt(code=code, line=line.position, message=f"Line {line.position}: {words}")
