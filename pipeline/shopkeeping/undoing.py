"""Undoing an order: the products it created and nobody touched are archived; what was edited or received stays.

Which, is decided once and written down: when a later attempt looks, some are archived by our own hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipeline.contract import Reject, StageInput
from pipeline.domain.matching import match_variants
from pipeline.domain.plan import ARCHIVED
from pipeline.domain.results import UndoneProduct
from pipeline.domain.shop import ShopProduct
from pipeline.domain.standing import undo_plan
from pipeline.domain.undo import Creation, why_kept
from pipeline.effects import Answer, Ledger
from pipeline.ports import Effect, Shop, ShopFacts

GONE = "it is not in the shop any more"
SCOPE = "write_products"
"""What the app must have been granted to archive a product."""


def require_right(facts: ShopFacts, creations: Sequence[Creation]) -> None:
    """Raise Reject where products are to be archived and the app may not: nothing is half undone by that."""
    if creations and SCOPE not in facts.scopes:
        message = f"The app may not archive products in this shop: grant it {SCOPE}, then retry. Nothing was undone."
        raise Reject("missing_scope", message)


class Undo:
    """Archives what an order created, through the ledger. Archiving deletes nothing: a person can bring it back."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def archive(self, given: StageInput, shop: Shop, creations: Sequence[Creation]) -> tuple[UndoneProduct, ...]:
        """Each product the order created: archived, or left with the reason."""
        receipt_id = str(given.run.receipt_id)
        by_draft = {one.draft_id: one for one in creations}
        looked = [await self._look(shop, one) for one in creations]
        parameters = {"products": [one.model_dump() for one in looked]}
        decided, _ = await self._ledger.decide(given, undo_plan(receipt_id), parameters, lambda own: own)
        undone: list[UndoneProduct] = []
        for done, fields in enumerate(decided["products"], start=1):
            one = UndoneProduct.model_validate(fields)
            creation = by_draft.get(one.draft_id)
            if not one.left and creation is not None:
                one = await self._archive(given, shop, receipt_id, creation, one)
            undone.append(one)
            await given.progress(done / len(decided["products"]), "archiving what nobody has touched")
        return tuple(undone)

    async def _archive(
        self, given: StageInput, shop: Shop, receipt_id: str, creation: Creation, one: UndoneProduct
    ) -> UndoneProduct:
        async def ask(_effect: Effect) -> Answer | None:
            product = await shop.find_by_id(one.product_id)
            return {"left": ""} if product is not None and product.status == ARCHIVED else None

        async def call(_first: Mapping[str, Any]) -> Answer:
            # Between the decision and this call the merchant may have been at work.
            product = await shop.find_by_id(one.product_id)
            left = GONE if product is None else await _why_kept(shop, creation, product)
            if not left:
                given.still_ours()
                await shop.archive_product(one.product_id)
            return {"left": left}

        key = f"archive:{receipt_id}:{one.draft_id}"
        answer = await self._ledger.once(given, key, {"product_id": one.product_id}, call=call, ask=ask)
        return one.model_copy(update={"left": answer["left"]})

    async def _look(self, shop: Shop, creation: Creation) -> UndoneProduct:
        if creation.product_id:
            product = await shop.find_by_id(creation.product_id)
        else:
            product = await shop.find_product(creation.custom_id)
        left = GONE if product is None else await _why_kept(shop, creation, product)
        return UndoneProduct(
            draft_id=creation.draft_id,
            title=creation.title if product is None else product.title,
            product_id=creation.product_id if product is None else product.id,
            left=left,
        )


async def _why_kept(shop: Shop, creation: Creation, product: ShopProduct) -> str:
    if not creation.product_id:  # the shop's answer was lost: its variants are known by what they are
        found = match_variants(creation.written[-1], product)
        creation = replace(creation, variants={name: one.id for name, one in found.items()})
    return why_kept(creation, product, [one.id for one in (await shop.gallery(product.id)).media])
