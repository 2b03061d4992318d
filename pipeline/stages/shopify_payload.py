"""6 shopify-payload: the order's lines as products with variants and options."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.contract import Done, StageInput, StageResult
from pipeline.domain.catalogue import Offer, plan_products
from pipeline.domain.placing import KnownItem
from pipeline.domain.results import Enrichment, NormalizedOrder, OrderToSave, PricedOrder
from pipeline.domain.suppliers import vendor_name
from pipeline.ports import SupplierItem, Suppliers


class ShopifyPayload:
    """Groups lines into product pages, under the keys this supplier's articles have had before."""

    def __init__(self, suppliers: Suppliers) -> None:
        self._suppliers = suppliers

    async def run(self, given: StageInput) -> StageResult:
        """Normalized, priced and enriched lines -> product plan."""
        remembered = await self._suppliers.items(given.run.supplier_id) if given.run.supplier_id else ()
        vendor = vendor_name(given.get(OrderToSave).supplier)
        return Done(plan_products(vendor, _offers(given), [_known(item) for item in remembered]))


def _offers(given: StageInput) -> Sequence[Offer]:
    prices = {priced.position: priced for priced in given.get(PricedOrder).lines}
    words = {enriched.position: enriched for enriched in given.get(Enrichment).lines}
    lines = given.get(NormalizedOrder).lines
    return [Offer(line, prices[line.position], words.get(line.position)) for line in lines]


def _known(item: SupplierItem) -> KnownItem:
    return KnownItem(item.sku, item.gtin, item.product_key, item.variant_key)
