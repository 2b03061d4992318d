"""What a reading is worth: an order to go on with, or the reason why a person must look."""

from __future__ import annotations

from pipeline.domain.purchase_order import DocumentKind, Doubt, ExtractedOrder, LineKind


def unreadable(why: str, *, has_text: bool) -> Doubt:
    """Nothing was read and no model is configured to try."""
    reason = why.strip().rstrip(".") or "its layout is not known"
    if has_text:
        message = f"No order was found in the text: {reason}. If it is one, set a model's key or enter it by hand."
        return Doubt(code="not_an_order", message=message)
    message = f"The document cannot be read without a model: {reason}. Set a model's key or enter the order by hand."
    return Doubt(code="unreadable_without_model", message=message)


def not_for_stock(order: ExtractedOrder) -> Doubt | None:
    """The doubt about a kind of document that never moves stock, named; None for those that may."""
    if order.kind.goes_on:
        return None
    if order.kind is DocumentKind.UNKNOWN:
        named = "It is not clear what kind of document this is"
    else:
        named = f"This is a {order.kind.value.replace('_', ' ')}"
    return Doubt(code="no_stock_document", message=f"{named}; nothing is announced because of it.")


def not_an_order(order: ExtractedOrder) -> Doubt | None:
    """The doubt about paper that lists no goods, unless its kind already says why; None if it lists some."""
    if _has_goods(order) or not (order.kind.goes_on or order.kind is DocumentKind.UNKNOWN):
        return None
    return Doubt(code="not_an_order", message="The document lists no goods, so there is nothing to order or announce.")


def _has_goods(order: ExtractedOrder) -> bool:
    return any(line.kind is LineKind.GOODS for line in order.lines)
