"""Undo: which products an order created are still as they were written, so that they may go.

domain.md section 4: archive *untouched* drafts. `updatedAt` cannot tell: our own pictures and quantities may move it.
So what the shop shows is compared with what was written; in doubt a product was touched, and stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from pipeline.domain.identifiers import fold
from pipeline.domain.results import Draft, DraftVariant
from pipeline.domain.shop import ShopProduct, ShopVariant

DRAFT = "DRAFT"
_TAG = re.compile(r"<[^>]*>|\s+")


@dataclass(frozen=True, slots=True)
class Creation:
    """A product that an order created. `written` is its draft as each revision of the order had it, oldest first.

    `product_id` is empty where the shop never said it (a death in between); then `custom_id` finds it. `variants` are
    the ids the shop gave, by draft variant; `media_ids` the pictures that are ours; `also_in` another order that counts
    on the product.
    """

    draft_id: str
    custom_id: str
    product_id: str
    written: tuple[Draft, ...]
    variants: Mapping[str, str]
    media_ids: frozenset[str] = frozenset()
    also_in: str = ""

    @property
    def title(self) -> str:
        """What it was called when it was created."""
        return self.written[0].plan.title


def why_kept(creation: Creation, product: ShopProduct, media_ids: Sequence[str]) -> str:
    """Why this product must stay as it is, in words that follow its name; empty when nobody has touched it."""
    if creation.also_in:
        return f"order {creation.also_in} counts on it too"
    return next(_touched(creation, product, media_ids), "")


def _touched(creation: Creation, product: ShopProduct, media_ids: Sequence[str]) -> Iterator[str]:
    plan = creation.written[0].plan
    if product.status != DRAFT:
        yield f"it is {product.status.lower()} by now"
    if product.total_inventory:
        yield f"{product.total_inventory:,} units of it are counted in the shop"
    if product.title.strip() != plan.title.strip():
        yield "its title was edited"
    if (product.vendor, product.product_type) != (plan.vendor, plan.product_type):
        yield "its vendor or type was edited"
    if _tags(product.tags) != _tags(plan.tags):
        yield "its tags were edited"
    if _plain(product.description_html) != _plain(plan.description_html):
        yield "its description was edited"
    if set(media_ids) - creation.media_ids:
        yield "it has pictures that are not ours"
    if {one.id for one in product.variants} != set(creation.variants.values()):
        yield "its variants are not those we created"
    yield from _touched_variants(creation, product)


def _touched_variants(creation: Creation, product: ShopProduct) -> Iterator[str]:
    there = {one.id: one for one in product.variants}
    seen: dict[str, DraftVariant] = {}
    costs: dict[str, set[Decimal | None]] = {}
    for draft in creation.written:
        for one in draft.variants:
            seen.setdefault(one.id, one)
            costs.setdefault(one.id, {None}).add(one.plan.unit_cost)
    for name, variant_id in creation.variants.items():
        variant = there.get(variant_id)
        if variant is not None and name in seen and _differs(seen[name], variant, costs[name]):
            yield f"its variant {seen[name].plan.sku or variant_id.rpartition('/')[2]} was edited"


def _differs(one: DraftVariant, variant: ShopVariant, costs: set[Decimal | None]) -> bool:
    plan = one.plan
    return (
        (variant.price or Decimal(0)) != (plan.price or Decimal(0))
        or variant.cost not in costs
        or fold(variant.sku) != fold(plan.sku)
        or variant.barcode.strip() != plan.gtin
        or {fold(name): fold(value) for name, value in variant.options.items()}
        != {fold(name): fold(value) for name, value in plan.options.items()}
    )


def _tags(tags: Sequence[str]) -> set[str]:
    """Shopify splits tags at commas, trims and sorts them."""
    return {part.strip().casefold() for tag in tags for part in tag.split(",")} - {""}


def _plain(html: str) -> str:
    """The text alone: a shop may write the same HTML another way."""
    return _TAG.sub("", html)
