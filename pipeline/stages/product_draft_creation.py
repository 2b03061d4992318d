"""7 product-draft-creation: drafts a person can review, once per product."""

from __future__ import annotations

from pipeline.contract import Done, Reject, StageInput, StageResult
from pipeline.domain.drafting import draft_of
from pipeline.domain.results import Drafts, ProductPlan


class ProductDraftCreation:
    """Gives every planned product the id it has had since the first order that named it."""

    async def run(self, given: StageInput) -> StageResult:
        """Product plan -> drafts with derived ids."""
        supplier_id = given.run.supplier_id
        if supplier_id is None:
            raise Reject("missing_supplier", f"run {given.run.id} reached {given.stage} without a supplier")
        products = given.get(ProductPlan).products
        return Done(Drafts(drafts=tuple(draft_of(given.run.merchant.id, supplier_id, product) for product in products)))
