"""Lines without a table: a description, and beside or below it "Qty: 12 @ $48.50  $582.00"."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pipeline.domain.purchase_order import Evidence, ExtractedLine
from pipeline.reading import amounts
from pipeline.reading.amounts import NumberStyle
from pipeline.reading.layout import Line, Sheet
from pipeline.reading.lines import kind_of

_COUNTED = re.compile(
    r"^(?P<before>.*?)\b(?:qty|quantity|menge|anzahl|qté|aantal|cant|qtà)?\s*[.:]?\s*(?P<quantity>\d[\d.,]*)\s*"
    r"(?P<unit>[a-z]{1,10}\s*)?[@\u00d7x]\s*(?P<cost>[$€£]?\s?\d[\d.,]*)(?:\s+(?:=\s*)?(?P<total>[$€£]?\s?\d[\d.,]*))?$",
    re.IGNORECASE,
)
_NUMBERING = re.compile(r"^\s*(?:\d{1,3}[.)]|[-•*])\s+")


def find_itemised(sheets: Sequence[Sheet], style: NumberStyle) -> tuple[ExtractedLine, ...]:
    """The counted items of a document, in reading order."""
    found = [each for sheet in sheets for each in _in_sheet(sheet.lines, style)]
    return tuple(line.model_copy(update={"position": number}) for number, line in enumerate(found, start=1))


def _in_sheet(lines: Sequence[Line], style: NumberStyle) -> Iterator[ExtractedLine]:
    for number, line in enumerate(lines):
        counted = _COUNTED.match(amounts.clean(line.text))
        if counted is None:
            continue
        above = lines[number - 1].text if number else ""
        description = _NUMBERING.sub("", counted["before"] or above).strip(" :-")
        quantity = amounts.parse(counted["quantity"], style)
        cost = amounts.parse(counted["cost"], style)
        total = amounts.parse(counted["total"] or "", style)
        if not description or quantity is None or cost is None:
            continue
        proved = total is not None and quantity * cost == total
        yield ExtractedLine(
            position=0,
            kind=kind_of(description),
            description=description,
            quantity=quantity,
            unit=(counted["unit"] or "").strip(),
            unit_cost=cost,
            line_total=total,
            evidence=Evidence(confidence=0.92 if proved else 0.7, where=line.where, text=line.text),
        )
