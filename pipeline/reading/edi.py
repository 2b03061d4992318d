"""UN/EDIFACT messages: ORDERS, ORDRSP, INVOIC and DESADV, the segments a retailer's order is made of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, Final

from pipeline.domain.purchase_order import DocumentKind, Evidence, ExtractedLine, ExtractedOrder, Party
from pipeline.reading import amounts, dates
from pipeline.reading.amounts import NumberStyle
from pipeline.reading.limits import MAX_LINES, MAX_TEXT
from pipeline.reading.outcome import ReadOutcome
from pipeline.reading.refusal import Refused

_KINDS: Final = {
    "ORDERS": DocumentKind.PURCHASE_ORDER,
    "ORDRSP": DocumentKind.CONFIRMATION,
    "INVOIC": DocumentKind.INVOICE,
    "DESADV": DocumentKind.DELIVERY_NOTE,
    "PRICAT": DocumentKind.PRICE_LIST,
    "INVRPT": DocumentKind.STOCK_REPORT,
    "QUOTES": DocumentKind.QUOTE,
}
_CREDIT_NOTES = frozenset({"381", "83", "396"})
_PROFORMA = "325"
_QUANTITIES: Final = {
    "21": "quantity",
    "47": "quantity_invoiced",
    "12": "quantity_shipped",
    "83": "quantity_backordered",
    "192": "free",
}
_LINE_AMOUNTS = frozenset({"203", "66"})
_TOTALS: Final = {
    "79": "subtotal",
    "125": "subtotal",
    "124": "tax",
    "176": "tax",
    "77": "total",
    "86": "total",
    "9": "total",
}
_PRICES = frozenset({"AAA", "AAB", "CAL", "INV"})
_STYLE = NumberStyle(".", certain=True)

Segment = list[list[str]]


@dataclass(slots=True)
class _Message:
    """What has been read so far; segments before the first LIN belong to the header, after UNS to the summary."""

    kind: DocumentKind = DocumentKind.UNKNOWN
    header: dict[str, Any] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)
    parties: dict[str, Party] = field(default_factory=dict)
    lines: list[dict[str, Any]] = field(default_factory=list)
    summary: bool = False


def read_edifact(text: str) -> ReadOutcome:
    """Read the first message of an interchange."""
    message = _Message()
    for number, segment in enumerate(_segments(text)):
        reader = _READERS.get(segment[0][0])
        if reader:
            reader(message, segment)
        if message.lines and "where" not in message.lines[-1]:
            message.lines[-1]["where"] = f"segment {number + 1}"
        if segment[0][0] == "UNT" or len(message.lines) > MAX_LINES:
            break
    if message.kind is DocumentKind.UNKNOWN:
        raise Refused("unknown_type", "the EDI message is no order, confirmation, invoice or delivery note")
    return ReadOutcome(_order(message), text=text[:MAX_TEXT])


def _order(message: _Message) -> ExtractedOrder:
    supplier = message.parties.get("SU") or message.parties.get("SE") or Party()
    buyer = message.parties.get("BY") or message.parties.get("IV") or Party()
    evidence = {name: Evidence(confidence=0.99, where="segments") for name in message.header}
    # A location number identifies a supplier but is no name a person knows.
    named = not supplier.name.startswith("GLN ")
    evidence["supplier"] = Evidence(confidence=0.97 if named else 0.6, where="NAD", text=supplier.name)
    return ExtractedOrder(
        kind=message.kind,
        kind_confidence=0.99,
        references=message.references,
        supplier=supplier,
        buyer=buyer,
        lines=tuple(_line(line, number) for number, line in enumerate(message.lines, start=1)),
        confidence=0.97 if named else 0.85,
        evidence=evidence,
        reader="edi",
        **message.header,
    )


def _line(found: dict[str, Any], position: int) -> ExtractedLine:
    facts = {name: fact for name, fact in found.items() if name not in ("where", "free")}
    if facts.get("quantity") is None:
        facts["quantity"] = facts.get("quantity_invoiced", facts.get("quantity_shipped"))
    evidence = Evidence(confidence=0.98, where=found.get("where", ""))
    facts.setdefault("description", facts.get("sku") or facts.get("gtin", ""))
    return ExtractedLine(position=position, evidence=evidence, **facts)


# ------------------------------------------------------------------------------------ segments


def _unh(message: _Message, segment: Segment) -> None:
    message.kind = _KINDS.get(_at(segment, 2, 0), DocumentKind.UNKNOWN)


def _bgm(message: _Message, segment: Segment) -> None:
    message.header["number"] = _at(segment, 2, 0)
    if message.kind is DocumentKind.INVOICE and _at(segment, 1, 0) in _CREDIT_NOTES:
        message.kind = DocumentKind.CREDIT_NOTE
    if message.kind is DocumentKind.INVOICE and _at(segment, 1, 0) == _PROFORMA:
        message.kind = DocumentKind.PROFORMA


def _dtm(message: _Message, segment: Segment) -> None:
    read = _date(_at(segment, 1, 1))
    name = {"137": "order_date", "2": "due_date", "63": "due_date", "64": "due_date"}.get(_at(segment, 1, 0))
    if read and name and not message.lines:
        message.header.setdefault(name, read)


def _rff(message: _Message, segment: Segment) -> None:
    if not message.lines:
        message.references[_at(segment, 1, 0)] = _at(segment, 1, 1)


def _nad(message: _Message, segment: Segment) -> None:
    name = " ".join(part for part in _component(segment, 4) or _component(segment, 3) if part)
    location = _at(segment, 2, 0)
    address = ", ".join(part for place in (5, 6, 8, 9) for part in _component(segment, place) if part)
    message.parties[_at(segment, 1, 0)] = Party(name=name or (f"GLN {location}" if location else ""), address=address)


def _cux(message: _Message, segment: Segment) -> None:
    message.header.setdefault("currency", _at(segment, 1, 1))


def _lin(message: _Message, segment: Segment) -> None:
    code, scheme = _at(segment, 3, 0), _at(segment, 3, 1)
    message.lines.append({"gtin" if scheme in ("EN", "EAN", "UP", "SRV", "") else "sku": code})


def _pia(message: _Message, segment: Segment) -> None:
    for place in range(2, len(segment)):
        if message.lines and _at(segment, place, 1) in ("SA", "SU", "VN", "IN"):
            message.lines[-1].setdefault("sku", _at(segment, place, 0))


def _imd(message: _Message, segment: Segment) -> None:
    text = " ".join(part for part in _component(segment, 3)[3:] if part)
    if message.lines and text:
        earlier = message.lines[-1].get("description", "")
        message.lines[-1]["description"] = f"{earlier} {text}".strip()


def _qty(message: _Message, segment: Segment) -> None:
    name = _QUANTITIES.get(_at(segment, 1, 0))
    amount = _amount(_at(segment, 1, 1))
    if message.lines and not message.summary and name and amount is not None:
        message.lines[-1][name] = amount
        if unit := _at(segment, 1, 2):
            message.lines[-1]["unit"] = unit


def _pri(message: _Message, segment: Segment) -> None:
    amount = _amount(_at(segment, 1, 1))
    if message.lines and _at(segment, 1, 0) in _PRICES and amount is not None:
        basis = _amount(_at(segment, 1, 4)) or Decimal(1)
        message.lines[-1].setdefault("unit_cost", amount / basis)
    if message.lines and _at(segment, 1, 3) == "SRP" and amount is not None:
        message.lines[-1]["retail_price"] = amount


def _moa(message: _Message, segment: Segment) -> None:
    code, amount = _at(segment, 1, 0), _amount(_at(segment, 1, 1))
    if amount is None:
        return
    if message.lines and not message.summary and code in _LINE_AMOUNTS:
        message.lines[-1]["line_total"] = amount
    elif message.summary and code in _TOTALS:
        message.header[_TOTALS[code]] = amount


def _uns(message: _Message, _segment: Segment) -> None:
    message.summary = True


_READERS: Final = {
    "UNH": _unh,
    "BGM": _bgm,
    "DTM": _dtm,
    "RFF": _rff,
    "NAD": _nad,
    "CUX": _cux,
    "LIN": _lin,
    "PIA": _pia,
    "IMD": _imd,
    "QTY": _qty,
    "PRI": _pri,
    "MOA": _moa,
    "UNS": _uns,
}


# ------------------------------------------------------------------------------------ syntax


def _segments(text: str) -> Iterator[Segment]:
    """Split by the separators the interchange declares (UNA), or the usual ones; `?` takes the next one literally."""
    text = text.lstrip("\ufeff \r\n\t")
    component, element, release, terminator = ":", "+", "?", "'"
    if text.startswith("UNA") and len(text) >= 9:  # noqa: PLR2004 - "UNA" and its six characters
        component, element, release, terminator = text[3], text[4], text[6], text[8]
        text = text[9:]
    for segment in _split(text, terminator, release):
        if segment.strip():
            elements = _split(segment.strip("\r\n\t "), element, release)
            yield [[_literal(part, release) for part in _split(each, component, release)] for each in elements]


def _split(text: str, separator: str, release: str) -> list[str]:
    pattern = rf"(?:{re.escape(release)}.|[^{re.escape(separator + release)}])*"
    if not release.strip():
        return text.split(separator)
    parts, place = [], 0
    matcher = re.compile(pattern, re.DOTALL)
    while found := matcher.match(text, place):
        parts.append(found[0])
        place = found.end() + 1
        if place > len(text):
            break
    return parts


def _literal(text: str, release: str) -> str:
    return re.sub(rf"{re.escape(release)}(.)", r"\1", text) if release.strip() else text


def _component(segment: Segment, place: int) -> Sequence[str]:
    return segment[place] if place < len(segment) else ()


def _at(segment: Segment, place: int, part: int) -> str:
    parts = _component(segment, place)
    return parts[part].strip() if part < len(parts) else ""


def _amount(text: str) -> Decimal | None:
    return amounts.parse(text, _STYLE)


def _date(text: str) -> date | None:
    found = dates.find(text[:8], dates.DateStyle())
    return found[0] if found else None
