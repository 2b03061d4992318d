"""2 database-save: the extracted order as a purchase order of a known or new supplier."""

from __future__ import annotations

from pipeline.contract import Done, Review, StageInput, StageResult
from pipeline.domain.purchase_order import Doubt
from pipeline.domain.results import ParsedDocument
from pipeline.domain.saving import order_to_save
from pipeline.domain.suppliers import KnownSupplier
from pipeline.ports import Orders, SupplierRecord, Suppliers


class DatabaseSave:
    """Decides which order of which supplier a document is; the recorder writes it.

    The same bytes again are a copy: linked to their order, without effect. A person who approves the copy
    lands on that same order, where nothing is left to announce.
    """

    def __init__(self, suppliers: Suppliers, orders: Orders) -> None:
        self._suppliers = suppliers
        self._orders = orders

    async def run(self, given: StageInput) -> StageResult:
        """Extracted order -> order to save, or the order this document has made already."""
        run, parsed = given.run, given.get(ParsedDocument)
        number = await self._orders.find_same_document(run.merchant.id, parsed.sha256, run.id)
        if number is not None and not run.approved_by:
            return Review((_duplicate(number),))
        known = await self._suppliers.list_suppliers(run.merchant.id)
        return Done(order_to_save(parsed, run.merchant, [_known(record) for record in known]))


def _known(record: SupplierRecord) -> KnownSupplier:
    return KnownSupplier(record.id, record.name, record.normalized_name, record.tax_id, record.email, record.website)


def _duplicate(number: str) -> Doubt:
    fate = f"made order {number}" if number else "is being worked on"
    message = f"This very file was uploaded before and {fate}. Nothing was done a second time."
    return Doubt(code="duplicate_document", message=message)
