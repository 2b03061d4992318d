"""Orders and invoices that are XML: UBL (Peppol) and UN/CEFACT CII (Order-X, Factur-X, XRechnung).

Elements are named without their namespaces: versions and profiles differ in those and in little else.
A document type declaration is refused, because it is where entity bombs and external files come from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final
from xml.etree import ElementTree as ET

from pipeline.domain.purchase_order import DocumentKind, Evidence, ExtractedLine, ExtractedOrder, Party
from pipeline.reading import amounts, dates
from pipeline.reading.amounts import NumberStyle
from pipeline.reading.decoding import decode
from pipeline.reading.limits import MAX_LINES, MAX_TEXT
from pipeline.reading.outcome import ReadOutcome
from pipeline.reading.refusal import Refused

_STYLE = NumberStyle(".", certain=True)
_DECLARATION = re.compile(r"<!(?:DOCTYPE|ENTITY)", re.IGNORECASE)
_ENCODING = re.compile(rb"""<\?xml[^>]*encoding=["']([\w.-]{1,30})["']""")
_CREDIT_NOTES = frozenset({"381", "261", "396"})
_TYPE_CODES: Final = {
    "220": DocumentKind.PURCHASE_ORDER,
    "230": DocumentKind.PURCHASE_ORDER,
    "231": DocumentKind.CONFIRMATION,
    "325": DocumentKind.PROFORMA,
    **dict.fromkeys(_CREDIT_NOTES, DocumentKind.CREDIT_NOTE),
}
_ROOTS: Final = {
    "Order": DocumentKind.PURCHASE_ORDER,
    "OrderResponse": DocumentKind.CONFIRMATION,
    "Invoice": DocumentKind.INVOICE,
    "CreditNote": DocumentKind.CREDIT_NOTE,
    "DespatchAdvice": DocumentKind.DELIVERY_NOTE,
    "Quotation": DocumentKind.QUOTE,
    "Catalogue": DocumentKind.PRICE_LIST,
    "SCRDMCCBDACIOMessageStructure": DocumentKind.PURCHASE_ORDER,
    "CrossIndustryOrder": DocumentKind.PURCHASE_ORDER,
    "CrossIndustryInvoice": DocumentKind.INVOICE,
}


@dataclass(frozen=True, slots=True)
class _Dialect:
    """Where one family of formats keeps what we ask for; alternatives are separated by `|`."""

    type_code: str
    header: Mapping[str, str]
    supplier: str
    buyer: str
    party: Mapping[str, str]
    lines: str
    line: Mapping[str, str]
    quantity: str
    price_basis: str


_UBL = _Dialect(
    type_code="InvoiceTypeCode|OrderTypeCode|CreditNoteTypeCode",
    header={
        "number": "ID",
        "order_date": "IssueDate",
        "due_date": "DueDate|PaymentMeans/PaymentDueDate|Delivery/RequestedDeliveryPeriod/EndDate|"
        "Delivery/RequestedDeliveryPeriod/StartDate",
        "currency": "DocumentCurrencyCode|PricingCurrencyCode",
        "payment_terms": "PaymentTerms/Note",
        "subtotal": "LegalMonetaryTotal/LineExtensionAmount|AnticipatedMonetaryTotal/LineExtensionAmount",
        "tax": "TaxTotal/TaxAmount",
        "freight": "LegalMonetaryTotal/ChargeTotalAmount|AnticipatedMonetaryTotal/ChargeTotalAmount",
        "discount": "LegalMonetaryTotal/AllowanceTotalAmount|AnticipatedMonetaryTotal/AllowanceTotalAmount",
        "total": "LegalMonetaryTotal/PayableAmount|AnticipatedMonetaryTotal/PayableAmount",
    },
    supplier="SellerSupplierParty/Party|AccountingSupplierParty/Party|DespatchSupplierParty/Party",
    buyer="BuyerCustomerParty/Party|AccountingCustomerParty/Party|DeliveryCustomerParty/Party",
    party={
        "name": "PartyName/Name|PartyLegalEntity/RegistrationName",
        "tax_id": "PartyTaxScheme/CompanyID",
        "email": "Contact/ElectronicMail",
        "website": "WebsiteURI",
    },
    lines="OrderLine/LineItem|InvoiceLine|CreditNoteLine|DespatchLine",
    line={
        "sku": "Item/SellersItemIdentification/ID|Item/BuyersItemIdentification/ID",
        "gtin": "Item/StandardItemIdentification/ID",
        "description": "Item/Name|Item/Description",
        "unit_cost": "Price/PriceAmount",
        "line_total": "LineExtensionAmount",
    },
    quantity="Quantity|InvoicedQuantity|CreditedQuantity|DeliveredQuantity",
    price_basis="Price/BaseQuantity",
)
_AGREEMENT = "SupplyChainTradeTransaction/ApplicableHeaderTradeAgreement"
_SETTLEMENT = "SupplyChainTradeTransaction/ApplicableHeaderTradeSettlement"
_SUMS = f"{_SETTLEMENT}/SpecifiedTradeSettlementHeaderMonetarySummation"
_CII = _Dialect(
    type_code="ExchangedDocument/TypeCode",
    header={
        "number": "ExchangedDocument/ID",
        "order_date": "ExchangedDocument/IssueDateTime/DateTimeString",
        "due_date": f"{_SETTLEMENT}/SpecifiedTradePaymentTerms/DueDateDateTime/DateTimeString",
        "currency": f"{_SETTLEMENT}/OrderCurrencyCode|{_SETTLEMENT}/InvoiceCurrencyCode",
        "payment_terms": f"{_SETTLEMENT}/SpecifiedTradePaymentTerms/Description",
        "subtotal": f"{_SUMS}/LineTotalAmount",
        "tax": f"{_SUMS}/TaxTotalAmount",
        "freight": f"{_SUMS}/ChargeTotalAmount",
        "discount": f"{_SUMS}/AllowanceTotalAmount",
        "total": f"{_SUMS}/GrandTotalAmount",
    },
    supplier=f"{_AGREEMENT}/SellerTradeParty",
    buyer=f"{_AGREEMENT}/BuyerTradeParty",
    party={
        "name": "Name|SpecifiedLegalOrganization/TradingBusinessName",
        "tax_id": "SpecifiedTaxRegistration/ID",
        "email": "DefinedTradeContact/EmailURIUniversalCommunication/URIID",
        "website": "",
    },
    lines="SupplyChainTradeTransaction/IncludedSupplyChainTradeLineItem",
    line={
        "sku": "SpecifiedTradeProduct/SellerAssignedID|SpecifiedTradeProduct/BuyerAssignedID",
        "gtin": "SpecifiedTradeProduct/GlobalID",
        "description": "SpecifiedTradeProduct/Name|SpecifiedTradeProduct/Description",
        "unit_cost": "SpecifiedLineTradeAgreement/NetPriceProductTradePrice/ChargeAmount|"
        "SpecifiedLineTradeAgreement/GrossPriceProductTradePrice/ChargeAmount",
        "line_total": "SpecifiedLineTradeSettlement/SpecifiedTradeSettlementLineMonetarySummation/LineTotalAmount",
    },
    quantity="SpecifiedLineTradeDelivery/RequestedQuantity|SpecifiedLineTradeDelivery/AgreedQuantity|"
    "SpecifiedLineTradeDelivery/BilledQuantity",
    price_basis="SpecifiedLineTradeAgreement/NetPriceProductTradePrice/BasisQuantity",
)
_MONEY = ("subtotal", "tax", "freight", "discount", "total")


def read_xml(content: bytes) -> ReadOutcome:
    """Read an XML order or invoice. Refuses XML that is neither, damaged, or declares a document type."""
    text = _text(content)
    if _DECLARATION.search(text):
        raise Refused("unsafe_document", "the XML declares a document type, which orders never do")
    try:
        root = ET.fromstring(text)  # noqa: S314 - no document type, so no entities to expand and nothing external
    except (ET.ParseError, ValueError):
        raise Refused("damaged_document", "the XML is not well formed") from None
    kind = _ROOTS.get(_name(root))
    if kind is None:
        raise Refused("unknown_type", "the XML is no UBL, Order-X or Factur-X order or invoice")
    dialect = _CII if _first(root, "ExchangedDocument") is not None else _UBL
    return ReadOutcome(_order(root, kind, dialect), text=text[:MAX_TEXT])


def _text(content: bytes) -> str:
    declared = _ENCODING.match(content.removeprefix(b"\xef\xbb\xbf").lstrip()[:200])
    if declared:
        try:
            return content.decode(declared[1].decode().lower().replace("utf-8", "utf-8-sig"))
        except (LookupError, UnicodeDecodeError):
            pass  # the declaration is a claim like a file's name; the bytes decide
    return decode(content)


def _order(root: ET.Element, kind: DocumentKind, dialect: _Dialect) -> ExtractedOrder:
    found = {name: _text_at(root, path) for name, path in dialect.header.items()}
    sums = {name: amounts.parse(found[name], _STYLE) for name in _MONEY}
    days = {
        name: read[0] for name in ("order_date", "due_date") if (read := dates.find(found[name], dates.DateStyle()))
    }
    return ExtractedOrder(
        kind=_TYPE_CODES.get(_text_at(root, dialect.type_code), kind),
        kind_confidence=0.99,
        number=found["number"],
        currency=found["currency"].upper(),
        payment_terms=found["payment_terms"],
        supplier=_party(_first(root, dialect.supplier), dialect),
        buyer=_party(_first(root, dialect.buyer), dialect),
        lines=tuple(_lines(root, dialect)),
        confidence=0.98,
        evidence={
            name: Evidence(confidence=0.99, where=dialect.header[name].partition("|")[0], text=value)
            for name, value in found.items()
            if value
        },
        reader="xml",
        **days,
        **sums,
    )


def _party(element: ET.Element | None, dialect: _Dialect) -> Party:
    if element is None:
        return Party()
    return Party(**{name: _text_at(element, path) for name, path in dialect.party.items() if path})


def _lines(root: ET.Element, dialect: _Dialect) -> Iterator[ExtractedLine]:
    for position, element in enumerate(_all(root, dialect.lines), start=1):
        if position > MAX_LINES:
            return
        found = {name: _text_at(element, path) for name, path in dialect.line.items()}
        quantity = _first(element, dialect.quantity)
        basis = amounts.parse(_text_at(element, dialect.price_basis), _STYLE) or Decimal(1)
        cost = amounts.parse(found["unit_cost"], _STYLE)
        yield ExtractedLine(
            position=position,
            sku=found["sku"],
            gtin=found["gtin"],
            description=found["description"],
            quantity=amounts.parse((quantity.text or "") if quantity is not None else "", _STYLE),
            unit="" if quantity is None else quantity.get("unitCode", ""),
            unit_cost=cost if cost is None or basis == 1 else cost / basis,
            line_total=amounts.parse(found["line_total"], _STYLE),
            evidence=Evidence(confidence=0.98, where=f"line {position}", text=found["description"]),
        )


def _name(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _all(element: ET.Element, paths: str) -> list[ET.Element]:
    """The elements at the first of the alternative paths that leads anywhere."""
    for path in paths.split("|"):
        level = [element]
        for step in path.split("/"):
            level = [child for parent in level for child in parent if _name(child) == step]
        if level:
            return level
    return []


def _first(element: ET.Element, paths: str) -> ET.Element | None:
    return next(iter(_all(element, paths)), None)


def _text_at(element: ET.Element, paths: str) -> str:
    found = _first(element, paths)
    return "" if found is None else " ".join((found.text or "").split())
