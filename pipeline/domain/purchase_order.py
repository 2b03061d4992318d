"""What a supplier's document says, before any rule has touched it."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from enum import StrEnum

from pipeline.domain.values import Value


class DocumentKind(StrEnum):
    """What the paper is. Only some kinds may ever move stock (`goes_on`)."""

    PURCHASE_ORDER = "purchase_order"
    CONFIRMATION = "confirmation"
    PROFORMA = "proforma"
    INVOICE = "invoice"
    DELIVERY_NOTE = "delivery_note"
    CREDIT_NOTE = "credit_note"
    STATEMENT = "statement"
    QUOTE = "quote"
    PRICE_LIST = "price_list"
    STOCK_REPORT = "stock_report"
    UNKNOWN = "unknown"

    @property
    def goes_on(self) -> bool:
        """Whether goods may be announced because of such a document."""
        return self in _GOES_ON


_GOES_ON = frozenset(
    {
        DocumentKind.PURCHASE_ORDER,
        DocumentKind.CONFIRMATION,
        DocumentKind.PROFORMA,
        DocumentKind.INVOICE,
        DocumentKind.DELIVERY_NOTE,
    }
)


class LineKind(StrEnum):
    """What a line is about. Only goods become products."""

    GOODS = "goods"
    CHARGE = "charge"
    DISCOUNT = "discount"
    DEPOSIT = "deposit"
    FREE_GOODS = "free_goods"
    NOTE = "note"


class Evidence(Value):
    """Where a value stands in the document and how sure the reader is (0-1)."""

    confidence: float
    where: str
    text: str = ""


class Party(Value):
    """A company as the document prints it; empty strings mean the document does not say."""

    name: str = ""
    tax_id: str = ""
    email: str = ""
    website: str = ""
    address: str = ""


class ExtractedLine(Value):
    """One line as printed. Quantities are four columns because they are four different facts.

    `quantity` is what was ordered (on an invoice: what is billed); `unit_cost` is per printed unit, so
    per case where the unit is a case. `options` are columns like size and colour, in printed order.
    """

    position: int
    kind: LineKind = LineKind.GOODS
    sku: str = ""
    gtin: str = ""
    description: str = ""
    quantity: Decimal | None = None
    quantity_shipped: Decimal | None = None
    quantity_backordered: Decimal | None = None
    quantity_invoiced: Decimal | None = None
    unit: str = ""
    pack_size: int | None = None
    unit_cost: Decimal | None = None
    retail_price: Decimal | None = None
    line_total: Decimal | None = None
    options: dict[str, str] = {}
    product_name: str = ""
    image_url: str = ""
    evidence: Evidence = Evidence(confidence=1.0, where="")


class Doubt(Value):
    """One thing a person should look at. `code` is stable; `message` is for people and says what to do.

    `line` is the position of the line it is about, None for the whole order. A `blocking` doubt goes to
    review even when the merchant approves automatically.
    """

    code: str
    message: str
    line: int | None = None
    blocking: bool = True


class ExtractedOrder(Value):
    """A document's content as read, with where each header value stands (`evidence`, by field name)."""

    kind: DocumentKind
    kind_confidence: float = 1.0
    number: str = ""
    references: dict[str, str] = {}
    order_date: date | None = None
    due_date: date | None = None
    currency: str = ""
    supplier: Party = Party()
    buyer: Party = Party()
    payment_terms: str = ""
    lines: tuple[ExtractedLine, ...] = ()
    subtotal: Decimal | None = None
    tax: Decimal | None = None
    freight: Decimal | None = None
    discount: Decimal | None = None
    total: Decimal | None = None
    confidence: float = 1.0
    evidence: dict[str, Evidence] = {}
    doubts: tuple[Doubt, ...] = ()
    reader: str = ""
