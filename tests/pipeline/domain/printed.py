"""Documents in the words of a test: a printed line, an order of lines, the merchant who receives it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from pipeline.domain.merchant import Merchant, MerchantSettings
from pipeline.domain.purchase_order import DocumentKind, ExtractedLine, ExtractedOrder, Party
from pipeline.domain.results import NormalizedLine, OrderToSave, SupplierChoice

_DECIMALS = {
    "quantity",
    "quantity_shipped",
    "quantity_backordered",
    "quantity_invoiced",
    "unit_cost",
    "retail_price",
    "line_total",
    "subtotal",
    "tax",
    "freight",
    "discount",
    "total",
}


def _exact(fields: dict[str, Any]) -> dict[str, Any]:
    """Numbers written as strings become the decimals they say."""
    return {
        name: Decimal(value) if name in _DECIMALS and value is not None else value for name, value in fields.items()
    }


def line(position: int = 1, **fields: Any) -> ExtractedLine:
    """A printed line: ten mugs at 4.50 unless told otherwise."""
    usual = {"sku": f"MUG-{position}", "description": f"Mug {position}", "quantity": "10", "unit_cost": "4.50"}
    return ExtractedLine(position=position, **_exact(usual | fields))


def order(*lines: ExtractedLine, **fields: Any) -> ExtractedOrder:
    """A purchase order of those lines from Acme Pottery, in dollars."""
    usual = {"kind": DocumentKind.PURCHASE_ORDER, "number": "PO-1", "currency": "USD", "reader": "csv"} | {
        "supplier": Party(name="Acme Pottery Ltd"),
        "lines": lines or (line(),),
    }
    return ExtractedOrder(**_exact(usual | fields))


def saved(*lines: ExtractedLine, **fields: Any) -> OrderToSave:
    """The same order as stage 2 hands it on."""
    printed = order(*lines, **fields)
    copied = {name: getattr(printed, name) for name in OrderToSave.model_fields if hasattr(printed, name)}
    chosen = SupplierChoice(id="sup-1", name="Acme Pottery Ltd", normalized_name="acme pottery")
    return OrderToSave(**(copied | {"supplier": chosen, "key": "PO-1", "content_hash": "hash", "doubts": ()}))


def goods(position: int = 1, **fields: Any) -> NormalizedLine:
    """A normalized line: ten mugs."""
    usual = {"kind": "goods", "sku": f"MUG-{position}", "gtin": "", "name": f"Mug {position}", "product_name": ""}
    amounts = {"quantity": 10, "unit_cost": Decimal("4.50")}
    return NormalizedLine(position=position, **(usual | amounts | fields))


def merchant(**settings: Any) -> Merchant:
    """A merchant who approves automatically unless told otherwise."""
    rules = MerchantSettings(**({"auto_approve": True} | settings))
    return Merchant(id="m-1", name="Harbour Goods", shop_domain="harbour.myshopify.com", settings=rules)
