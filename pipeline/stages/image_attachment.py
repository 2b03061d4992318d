"""8 image-attachment: candidate pictures per draft, and whether a person must look before the shop is touched."""

from __future__ import annotations

from pipeline.contract import Done, Review, StageInput, StageResult
from pipeline.domain.drafting import candidates
from pipeline.domain.purchase_order import Doubt
from pipeline.domain.results import (
    Drafts,
    ImageChoice,
    NormalizedOrder,
    OrderToSave,
    ParsedDocument,
    PricedOrder,
    ProductPlan,
)
from pipeline.domain.review import reasons_to_review
from pipeline.ports import Suppliers


class ImageAttachment:
    """Chooses pictures, then asks the one question of the whole order: may this go on without a person?

    It is asked here because here everything is known and nothing has left the house.
    """

    def __init__(self, suppliers: Suppliers) -> None:
        self._suppliers = suppliers

    async def run(self, given: StageInput) -> StageResult:
        """Drafts -> candidate pictures; Review with every doubt so far unless nothing needs a person."""
        drafts = given.get(Drafts).drafts
        choice = ImageChoice(images=tuple(image for draft in drafts for image in candidates(draft)))
        reasons = reasons_to_review(given.run.merchant.settings, _doubts(given), await self._confirmed_orders(given))
        return Review(reasons, choice) if reasons else Done(choice)

    async def _confirmed_orders(self, given: StageInput) -> int:
        known = await self._suppliers.list_suppliers(given.run.merchant.id)
        return next((one.orders_confirmed for one in known if one.id == given.run.supplier_id), 0)


def _doubts(given: StageInput) -> tuple[Doubt, ...]:
    """What every stage so far was unsure of, in the order it was found."""
    return (
        *given.get(ParsedDocument).order.doubts,
        *given.get(OrderToSave).doubts,
        *given.get(NormalizedOrder).doubts,
        *given.get(PricedOrder).doubts,
        *given.get(ProductPlan).doubts,
        *given.get(Drafts).doubts,
    )
