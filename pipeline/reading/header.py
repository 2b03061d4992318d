"""The order's header: its own number among all the numbers printed, its dates, its currency and its terms."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

from pipeline.domain.purchase_order import DocumentKind, Evidence
from pipeline.reading import amounts, dates
from pipeline.reading.amounts import NumberStyle
from pipeline.reading.labels import Labelled
from pipeline.reading.layout import Cell
from pipeline.reading.vocabulary import NUMBER_FIELDS, Field

_OWN_NUMBER = {
    DocumentKind.PURCHASE_ORDER: (Field.PO_NUMBER, Field.ORDER_NUMBER, Field.NUMBER),
    DocumentKind.CONFIRMATION: (Field.ORDER_NUMBER, Field.NUMBER, Field.PO_NUMBER),
    DocumentKind.DELIVERY_NOTE: (Field.DELIVERY_NUMBER, Field.NUMBER, Field.ORDER_NUMBER, Field.PO_NUMBER),
    DocumentKind.CREDIT_NOTE: (Field.CREDIT_NUMBER, Field.NUMBER, Field.INVOICE_NUMBER),
    DocumentKind.QUOTE: (Field.QUOTE_NUMBER, Field.NUMBER),
}
_INVOICE_NUMBER = (Field.INVOICE_NUMBER, Field.NUMBER, Field.ORDER_NUMBER, Field.PO_NUMBER)
_CODE = re.compile(r"[A-Z]{0,6}[-_/ ]?\w*\d[\w./-]*", re.IGNORECASE)
_LONGEST_NUMBER = 40
_TERMS = re.compile(
    r"\b(?:net|netto|n)\s*\d{1,3}(?:\s*(?:days|tage|jours|dagen|d[ií]as|giorni))?\b|\b\d/\d{1,2} net \d+", re.IGNORECASE
)


@dataclass(slots=True)
class Header:
    """Header values; `evidence` says where each stands."""

    number: str = ""
    references: dict[str, str] = field(default_factory=dict)
    order_date: date | None = None
    due_date: date | None = None
    currency: str = ""
    payment_terms: str = ""
    evidence: dict[str, Evidence] = field(default_factory=dict)


def find_header(
    kind: DocumentKind, labelled: Sequence[Labelled], texts: Sequence[str], prose: Sequence[str], style: NumberStyle
) -> Header:
    """Read the header of a document of that kind. `texts` are values, `prose` is everything outside the table."""
    header = Header()
    _numbers(header, kind, labelled)
    _currency(header, labelled, texts, prose)
    _dates(header, labelled, texts, style)
    _terms(header, labelled)
    return header


def code_in(text: str) -> str:
    """The number or code a value begins with, empty if it holds none."""
    found = _CODE.match(text.strip(" #:."))
    return found[0].strip()[:_LONGEST_NUMBER] if found else ""


def _numbers(header: Header, kind: DocumentKind, labelled: Sequence[Labelled]) -> None:
    found: dict[Field, tuple[str, Labelled]] = {}
    for each in labelled:
        code = code_in(each.value.text)
        if each.field in NUMBER_FIELDS and code and dates.find(code, dates.DateStyle()) is None:
            found.setdefault(each.field, (code, each))
    own = next((each for each in _OWN_NUMBER.get(kind, _INVOICE_NUMBER) if each in found), None)
    if own is not None:
        header.number, source = found[own]
        confidence = (0.97 if own is not Field.NUMBER else 0.8) * source.near
        header.evidence["number"] = Evidence(confidence=confidence, where=source.where, text=source.value.text)
    header.references = {each.value: code for each, (code, _) in found.items() if each is not own}


def _currency(header: Header, labelled: Sequence[Labelled], texts: Sequence[str], prose: Sequence[str]) -> None:
    for each in labelled:
        code = amounts.currency_of(each.value.text) if each.field is Field.CURRENCY else ""
        if code:
            header.currency = code
            header.evidence["currency"] = Evidence(confidence=0.98, where=each.where, text=each.value.text)
            return
    votes = _votes(texts) or _votes(prose)
    if votes:
        code, count = votes.most_common(1)[0]
        # A bare dollar sign is used by twenty countries; a code or a euro sign is not.
        spelled = any(code in text for text in (*texts, *prose)) or code in {"EUR", "GBP"}
        alone = count == sum(votes.values())
        header.currency = code
        header.evidence["currency"] = Evidence(
            confidence=(0.9 if spelled else 0.75) if alone else 0.5, where="amounts", text=code
        )


def _votes(texts: Sequence[str]) -> Counter[str]:
    return Counter(code for text in texts if (code := amounts.currency_of(text)))


def _dates(header: Header, labelled: Sequence[Labelled], texts: Sequence[str], numbers: NumberStyle) -> None:
    style = dates.decide(texts, header.currency, decimal_comma=numbers.decimal == ",")
    wanted = (("order_date", (Field.ORDER_DATE, Field.DATE)), ("due_date", (Field.DUE_DATE,)))
    for name, fields in wanted:
        for each in (each for wanted_field in fields for each in labelled if each.field is wanted_field):
            read = _date(each.value, style)
            if read:
                found, certain = read
                setattr(header, name, found)
                confidence = 0.95 if certain else 0.55
                header.evidence[name] = Evidence(confidence=confidence, where=each.where, text=each.value.text)
                break


def _date(cell: Cell, style: dates.DateStyle) -> tuple[date, bool] | None:
    return (cell.value, True) if isinstance(cell.value, date) else dates.find(cell.text, style)


def _terms(header: Header, labelled: Sequence[Labelled]) -> None:
    for each in labelled:
        if each.field is Field.TERMS:
            header.payment_terms = each.value.text
            header.evidence["payment_terms"] = Evidence(confidence=0.9, where=each.where, text=each.value.text)
            return
    for each in labelled:
        found = _TERMS.search(each.value.text)
        if found:
            header.payment_terms = found[0]
            return
