"""Finding: which of an order's drafts are in the shop already. Reads only; the plan before approve asks the same.

A product we know the place of is trusted by its id, never searched for. Else our custom id is asked for, which is
exact and immediate; only then GTINs and SKUs are searched, in batches, and every hit is read whole and compared again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

from pipeline.domain import matching
from pipeline.domain.identifiers import spellings
from pipeline.domain.matching import Match
from pipeline.domain.shop import ShopProduct, ShopVariant
from pipeline.errors import VendorRefused
from pipeline.ports import NEW_PRODUCT, Shop, StoredDraft

CANDIDATES_MAX = 20
"""Products that may be one draft; more are a question to a person, not a list to read."""

Progress = Callable[[float, str], Awaitable[None]]


async def find_matches(shop: Shop, stored: Sequence[StoredDraft], progress: Progress | None = None) -> dict[str, Match]:
    """What each draft is in the shop, by draft id."""
    vanished = await shop.list_vanished(list(_known_ids(stored)))
    matches: dict[str, Match] = {}
    for done, one in enumerate(stored):
        match = await (_at_its_place(shop, one, vanished) if one.product_id else _named(shop, one))
        if match is not None:
            matches[one.draft.id] = match
        if progress is not None:
            await progress(done / len(stored), "looking for the order's products in the shop")
    unknown = [one for one in stored if one.draft.id not in matches]
    return matches | await _recognised(shop, unknown)


async def _at_its_place(shop: Shop, stored: StoredDraft, vanished: frozenset[str]) -> Match:
    """A draft whose product we know. Read only if something of it is missing there."""
    draft = stored.draft
    places = {one.draft_variant_id: one for one in stored.variants if one.variant_id}
    if stored.product_id in vanished:
        return matching.unclear(draft, "product_deleted", f"“{draft.plan.title}” was deleted in the shop.")
    gone = {name for name, place in places.items() if place.variant_id in vanished}
    if not gone and all(one.id in places for one in draft.variants):
        variants = {
            one.id: ShopVariant(
                id=places[one.id].variant_id,
                inventory_item_id=places[one.id].inventory_item_id,
                sku=one.plan.sku,
                barcode=one.plan.gtin,
                options=one.plan.options,
                product_id=stored.product_id,
            )
            for one in draft.variants
        }
        return Match(
            draft.id,
            matching.Verdict.EXISTING,
            product_id=stored.product_id,
            title=draft.plan.title,
            by="place",
            variants=variants,
            linked=True,
        )
    product = await shop.find_by_id(stored.product_id)
    if product is None:
        return matching.unclear(draft, "product_deleted", f"“{draft.plan.title}” was deleted in the shop.")
    known = {name: place.variant_id for name, place in places.items()}
    match = matching.existing(draft, product, "place", known)
    lost = [one for one in draft.variants if one.id in gone and one.id in match.missing]
    if lost:
        labels = ", ".join(one.plan.sku or " / ".join(one.plan.options.values()) or one.id for one in lost)
        return matching.unclear(draft, "variant_deleted", f"“{product.title}” has lost {labels} in the shop.")
    return match


async def _named(shop: Shop, stored: StoredDraft) -> Match | None:
    """A draft that carries our custom id in the shop, or that a person has decided about."""
    product = await shop.find_product(stored.custom_id)
    if product is not None:
        return matching.existing(stored.draft, product, "custom_id")
    if stored.choice == NEW_PRODUCT:
        return matching.create(stored.draft)
    if not stored.choice:
        return None
    product = await shop.find_by_id(stored.choice)
    if product is None:
        reason = f"The product chosen for “{stored.draft.plan.title}” is not in the shop."
        return matching.unclear(stored.draft, "product_deleted", reason)
    return matching.existing(stored.draft, product, "chosen")


async def _recognised(shop: Shop, stored: Sequence[StoredDraft]) -> dict[str, Match]:
    """Drafts nobody knows by name: looked for by GTIN and SKU."""
    products = _Products(shop)
    matches: dict[str, Match] = {}
    try:
        hits: Sequence[ShopVariant] | None = await _search(shop, stored)
    except VendorRefused as refused:
        if refused.code != "too_common":
            raise
        hits = None  # one code fits half the shop: ask for each draft by itself
    for one in stored:
        try:
            found = await _search(shop, [one]) if hits is None else hits
            ids = [*one.elsewhere, *(hit.product_id for hit in found if _may_be(one, hit))]
        except VendorRefused as refused:
            if refused.code != "too_common":
                raise
            ids = [""] * (CANDIDATES_MAX + 1)
        if len(set(ids)) > CANDIDATES_MAX or "" in ids:
            reason = f"“{one.draft.plan.title}”: its SKU or barcode is on too many products in the shop."
            matches[one.draft.id] = matching.unclear(one.draft, "several_matches", reason)
            continue
        candidates = [product for name in dict.fromkeys(ids) if (product := await products.get(name))]
        matches[one.draft.id] = matching.recognise(one.draft, candidates)
    return matches


async def _search(shop: Shop, stored: Sequence[StoredDraft]) -> Sequence[ShopVariant]:
    plans = [variant.plan for one in stored for variant in one.draft.variants]
    skus = list(dict.fromkeys(plan.sku for plan in plans if plan.sku))
    barcodes = list(dict.fromkeys(code for plan in plans if plan.gtin for code in spellings(plan.gtin)))
    return await shop.find_variants(skus=skus, barcodes=barcodes) if skus or barcodes else ()


def _may_be(stored: StoredDraft, hit: ShopVariant) -> bool:
    return any(matching.same_article(one, hit) for one in stored.draft.variants)


def _known_ids(stored: Iterable[StoredDraft]) -> Iterable[str]:
    for one in stored:
        if one.product_id:
            yield one.product_id
            yield from (place.variant_id for place in one.variants if place.variant_id)


class _Products:
    """Candidates read whole, each once."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._read: dict[str, ShopProduct | None] = {}

    async def get(self, product_id: str) -> ShopProduct | None:
        if product_id not in self._read:
            self._read[product_id] = await self._shop.find_by_id(product_id)
        return self._read[product_id]
