"""Products: one per draft, created once, and from then on the merchant's.

A product is found again by our custom id and a variant by its options, so both may be looked up at any time.
What exists in the shop keeps every edit: it gets missing variants, and costs where the merchant chose that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from pipeline.contract import Reject, StageInput
from pipeline.domain.matching import match_variants
from pipeline.domain.merchant import CostPolicy
from pipeline.domain.results import Draft, SyncedProduct, SyncedVariant
from pipeline.domain.shop import ShopProduct, ShopVariant
from pipeline.effects import Answer, Ledger
from pipeline.errors import VendorRefused
from pipeline.ports import Effect, Shop, StoredDraft


class Products:
    """Brings drafts into a shop, through the ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def place(self, given: StageInput, shop: Shop, stored: StoredDraft) -> SyncedProduct:
        """Make sure one draft's product and all its variants are in the shop."""
        draft = _with_costs_allowed(stored.draft, given.run.merchant.settings.cost_on_approve)
        places = {
            one.draft_variant_id: (one.variant_id, one.inventory_item_id) for one in stored.variants if one.variant_id
        }
        before = frozenset(places)
        product_id = stored.product_id
        if not product_id:
            answer = await self._create(given, shop, draft)
            product_id = str(answer["product_id"])
            places |= {name: (place[0], place[1]) for name, place in answer["variants"].items()}
        missing = [one.id for one in draft.variants if one.id not in places]
        if missing:
            answer = await self._add_variants(given, shop, draft, product_id, missing)
            places |= {name: (place[0], place[1]) for name, place in answer["variants"].items()}
        if given.run.merchant.settings.cost_on_approve is CostPolicy.LATEST:
            costs = {places[one.id][0]: one.plan.unit_cost for one in draft.variants if one.id in before}
            await self._set_costs(given, shop, product_id, {name: cost for name, cost in costs.items() if cost})
        return SyncedProduct(
            draft_id=draft.id,
            product_id=product_id,
            created=not stored.product_id,
            variants=tuple(
                SyncedVariant(
                    draft_variant_id=one.id,
                    variant_id=places[one.id][0],
                    inventory_item_id=places[one.id][1],
                    created=one.id not in before,
                )
                for one in draft.variants
            ),
        )

    async def _create(self, given: StageInput, shop: Shop, draft: Draft) -> Answer:
        """The product, created once per draft whichever order names it first.

        Even a fresh intent looks first: after a restored backup the ledger is younger than the shop, and
        creating again would overwrite what the merchant made of the product meanwhile.
        """

        async def find(_effect: Effect | None = None) -> Answer | None:
            found = await shop.find_product(draft.id)
            return None if found is None else _created(draft, found)

        async def create(_parameters: Mapping[str, Any]) -> Answer:
            found = await find()
            if found is not None:
                return found
            given.still_ours()
            return _created(draft, await shop.create_product(draft))

        parameters = {"draft_id": draft.id, "title": draft.plan.title}
        return await self._ledger.once(given, f"product:{draft.id}", parameters, call=create, ask=find)

    async def _add_variants(
        self, given: StageInput, shop: Shop, draft: Draft, product_id: str, missing: Sequence[str]
    ) -> Answer:
        """Variants an existing product lacks. The merchant may have added one of them by hand: look first."""

        async def look() -> tuple[ShopProduct, dict[str, ShopVariant]]:
            product = await shop.find_by_id(product_id)
            if product is None:
                message = f"“{draft.plan.title}” was deleted in the shop; restore it there or reprocess the order"
                raise Reject("product_deleted", message)
            return product, match_variants(draft, product)

        def answer(found: Mapping[str, ShopVariant]) -> Answer:
            return {"variants": {one: _place_of(found[one]) for one in missing}}

        async def ask(_effect: Effect) -> Answer | None:
            _, found = await look()
            return answer(found) if found.keys() >= set(missing) else None

        async def add(_parameters: Mapping[str, Any]) -> Answer:
            product, found = await look()
            lacking = [one for one in missing if one not in found]
            if lacking:
                given.still_ours()
                found = match_variants(draft, await shop.add_variants(product, draft, lacking))
            if not found.keys() >= set(missing):
                raise VendorRefused(f"the shop did not keep all variants of “{draft.plan.title}”", code="variants")
            return answer(found)

        digest = hashlib.sha256("|".join(sorted(missing)).encode()).hexdigest()[:16]
        parameters = {"product_id": product_id, "draft_variant_ids": sorted(missing)}
        return await self._ledger.once(given, f"variants:{draft.id}:{digest}", parameters, call=add, ask=ask)

    async def _set_costs(self, given: StageInput, shop: Shop, product_id: str, costs: Mapping[str, Decimal]) -> None:
        """The document's cost for variants that were there before; only for merchants who chose `latest`.

        Through the ledger although a repeat is harmless: replaying an old order must not undo a newer cost.
        """
        if not costs:
            return

        async def call(first: Mapping[str, Any]) -> Answer:
            await shop.set_costs(product_id, {name: Decimal(cost) for name, cost in first["costs"].items()})
            return {}

        async def ask(_effect: Effect) -> Answer | None:
            return None

        parameters = {"product_id": product_id, "costs": {name: str(cost) for name, cost in sorted(costs.items())}}
        digest = hashlib.sha256(repr(parameters).encode()).hexdigest()[:16]
        key = f"cost:{given.run.order_id}:{given.run.order_revision}:{digest}"
        await self._ledger.once(given, key, parameters, call=call, ask=ask)


def _with_costs_allowed(draft: Draft, policy: CostPolicy) -> Draft:
    """The draft as it may be created: without costs where the merchant wants none written."""
    if policy is not CostPolicy.NEVER:
        return draft
    variants = tuple(
        one.model_copy(update={"plan": one.plan.model_copy(update={"unit_cost": None})}) for one in draft.variants
    )
    return draft.model_copy(update={"variants": variants})


def _created(draft: Draft, product: ShopProduct) -> Answer:
    found = match_variants(draft, product)
    return {"product_id": product.id, "variants": {name: _place_of(one) for name, one in found.items()}}


def _place_of(variant: ShopVariant) -> list[str]:
    return [variant.id, variant.inventory_item_id]
