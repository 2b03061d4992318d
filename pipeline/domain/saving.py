"""From a document as read to the order as kept: its key, its content's hash, its supplier, its doubts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from decimal import Decimal

from pipeline.domain.identifiers import clean_text, fold
from pipeline.domain.merchant import Merchant
from pipeline.domain.plausible import plausible
from pipeline.domain.purchase_order import Doubt, ExtractedLine, ExtractedOrder
from pipeline.domain.results import OrderToSave, ParsedDocument
from pipeline.domain.review import check_order
from pipeline.domain.suppliers import KnownSupplier, choose_supplier, own_names


def order_to_save(parsed: ParsedDocument, merchant: Merchant, known: Sequence[KnownSupplier]) -> OrderToSave:
    """The purchase order (or its next revision) that this document makes."""
    order, wild = plausible(parsed.order)
    supplier, doubts = choose_supplier(order.supplier, order.buyer, own_names(merchant), known, parsed.sha256)
    number = clean_text(order.number)
    if not number:
        message = "The document has no order number, so a second copy of it cannot be recognised. Enter one."
        doubts += (Doubt(code="no_order_number", message=message),)
    return OrderToSave(
        supplier=supplier,
        number=number,
        key=number or f"document:{parsed.sha256}",
        content_hash=content_hash(order, supplier.normalized_name),
        kind=order.kind,
        order_date=order.order_date,
        due_date=order.due_date,
        currency=order.currency,
        subtotal=order.subtotal,
        tax=order.tax,
        freight=order.freight,
        discount=order.discount,
        total=order.total,
        confidence=order.confidence,
        lines=order.lines,
        doubts=(*doubts, *wild, *check_order(order, merchant.settings)),
    )


def content_hash(order: ExtractedOrder, supplier: str) -> str:
    """What the order says, hashed: the same for a re-export or another layout, different for another quantity."""
    amounts = (order.subtotal, order.tax, order.freight, order.discount, order.total)
    content = {
        "supplier": supplier,
        "currency": order.currency.strip().upper(),
        "amounts": [_plain(amount) for amount in amounts],
        "lines": sorted((_line_content(line) for line in order.lines), key=json.dumps),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _line_content(line: ExtractedLine) -> list[str]:
    words = (line.kind.value, line.sku, line.gtin, line.description, line.product_name, line.unit, str(line.pack_size))
    options = sorted(f"{fold(name)}={fold(value)}" for name, value in line.options.items())
    numbers = (
        line.quantity,
        line.quantity_shipped,
        line.quantity_backordered,
        line.quantity_invoiced,
        line.unit_cost,
        line.retail_price,
        line.line_total,
    )
    return [*(fold(word) for word in words), *(_plain(number) for number in numbers), *options]


def _plain(number: Decimal | None) -> str:
    """A number's value without its writing: 1.50 and 1.5 are the same."""
    return "" if number is None else f"{number.normalize():f}"
