"""Sheets of cells -> an order: the one place that knows in which sequence the questions must be asked.

Kind comes before direction (who wrote it depends on what it is), the decimal mark before any amount, and
no line exists outside a table. A paper that is no order ends with kind UNKNOWN and no lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipeline.domain.purchase_order import DocumentKind, Doubt, Evidence, ExtractedLine, ExtractedOrder, LineKind
from pipeline.reading import amounts
from pipeline.reading.amounts import NumberStyle
from pipeline.reading.header import find_header
from pipeline.reading.itemised import find_itemised
from pipeline.reading.kind import KindFound, by_labels, by_title
from pipeline.reading.labels import Labelled, find_labelled
from pipeline.reading.layout import Sheet, plain_text
from pipeline.reading.limits import MAX_TEXT
from pipeline.reading.lines import adding_up, read_lines
from pipeline.reading.outcome import ReadOutcome
from pipeline.reading.parties import find_parties
from pipeline.reading.sums import find_sums
from pipeline.reading.table import Table, Tables, find_tables
from pipeline.reading.vocabulary import Column, Field

_WITHOUT_LINES = frozenset({DocumentKind.STATEMENT, DocumentKind.PRICE_LIST, DocumentKind.STOCK_REPORT})
_ORDER_NUMBERS = frozenset({Field.PO_NUMBER, Field.ORDER_NUMBER, Field.INVOICE_NUMBER})
_SEVERAL = 2
_GUESSED_KIND = 0.6
_NOTHING = Evidence(confidence=0.0, where="")
_UNKNOWN = KindFound(DocumentKind.UNKNOWN, _NOTHING)
_NO_LINES = "it calls itself {kind}, but no table of lines was recognised"


def read_order(sheets: Sequence[Sheet], own_names: Sequence[str], reader: str) -> ReadOutcome:
    """Read a document that has been laid out as sheets."""
    text = plain_text(sheets, MAX_TEXT)
    found = find_tables(sheets)
    tables = _orders(found.tables, grid=any(sheet.grid for sheet in sheets))
    labelled = [*find_labelled(found.outside), *_repeated(tables), *_closing(tables)]
    style, lines = _lines(tables, sheets)
    if not lines:
        lines = find_itemised(found.outside, style)
    kind = _kind(sheets, labelled, tables, listed=bool(tables or lines))
    if kind.kind is DocumentKind.UNKNOWN:
        return ReadOutcome(_no_order(kind, reader), text=text)
    if kind.kind in _WITHOUT_LINES:
        lines = ()
    elif not lines:
        reason = _NO_LINES.format(kind=kind.kind.value.replace("_", " "))
        return ReadOutcome(None, unreadable=reason, text=text)
    order = _order(kind, lines, found, labelled, own_names, style)
    return ReadOutcome(order.model_copy(update={"reader": reader, "confidence": _confidence(order)}), text=text)


def _order(
    kind: KindFound,
    lines: tuple[ExtractedLine, ...],
    found: Tables,
    labelled: Sequence[Labelled],
    own_names: Sequence[str],
    style: NumberStyle,
) -> ExtractedOrder:
    texts = [*(each.value.text for each in labelled), *(text for table in found.tables for text in _texts(table))]
    prose = [line.text for sheet in found.outside for line in sheet.lines]
    header = find_header(kind.kind, labelled, texts, prose, style)
    parties = find_parties(kind.kind, found.outside, labelled, own_names)
    sums = find_sums(labelled, style)
    charged = any(line.kind is LineKind.CHARGE for line in lines)
    return ExtractedOrder(
        kind=kind.kind,
        kind_confidence=kind.evidence.confidence,
        number=header.number,
        references=header.references,
        order_date=header.order_date,
        due_date=header.due_date,
        currency=header.currency,
        supplier=parties.supplier,
        buyer=parties.buyer,
        payment_terms=header.payment_terms,
        lines=lines,
        # Freight that is a line is not freight again.
        **{**sums.values, "freight": None if charged else sums.values["freight"]},
        doubts=_doubts(found.tables),
        evidence={"kind": kind.evidence, **header.evidence, **parties.evidence, **sums.evidence},
    )


def _no_order(kind: KindFound, reader: str) -> ExtractedOrder:
    """What is known of a paper that is no order: only that. Its dates and sums are about something else."""
    return ExtractedOrder(
        kind=kind.kind, kind_confidence=0.0, confidence=0.0, evidence={"kind": kind.evidence}, reader=reader
    )


def _orders(tables: Sequence[Table], *, grid: bool) -> tuple[Table, ...]:
    """The tables that hold the order. A workbook's other sheets (summaries, look-ups) are not the order again."""
    if not tables:
        return ()
    best = max(tables, key=lambda table: (table.place(Column.QUANTITY) is not None, len(table.rows)))
    if not grid:
        return tuple(table for table in tables if table.place(Column.QUANTITY) is not None) or (best,)
    return tuple(table for table in tables if table.meanings == best.meanings)


def _kind(sheets: Sequence[Sheet], labelled: Iterable[Labelled], tables: Sequence[Table], *, listed: bool) -> KindFound:
    """A title says it; where there is none, the labels of a paper that lists something do."""
    titled = by_title(sheets)
    if titled and titled.evidence.confidence > _GUESSED_KIND:
        return titled
    told = by_labels({each.field for each in labelled}) if listed else None
    if told or (titled and listed):
        return told or titled or _UNKNOWN
    if any(_is_shopping(table) for table in tables):
        return KindFound(DocumentKind.PURCHASE_ORDER, Evidence(confidence=_GUESSED_KIND, where="table"))
    return _UNKNOWN


def _is_shopping(table: Table) -> bool:
    """A nameless table of goods with quantities and costs is an order somebody keeps in a spreadsheet."""
    quantity = table.place(Column.QUANTITY) is not None or any(heading.size for heading in table.headings)
    return quantity and table.place(Column.UNIT_COST) is not None


def _lines(tables: Sequence[Table], sheets: Sequence[Sheet]) -> tuple[NumberStyle, tuple[ExtractedLine, ...]]:
    """The lines, under the reading of numbers that makes more of them add up."""
    in_tables = [text for table in tables for text in _texts(table)]
    style = amounts.decide(in_tables or [line.text for sheet in sheets for line in sheet.lines])
    lines = read_lines(tables, style)
    if style.certain:
        return style, lines
    other = NumberStyle("," if style.decimal == "." else ".")
    others = read_lines(tables, other)
    return (other, others) if adding_up(others) > adding_up(lines) else (style, lines)


def _texts(table: Table) -> list[str]:
    return [cell.text for row in (*table.rows, *table.closing) for cell in row.cells if cell and cell.value is None]


def _repeated(tables: Sequence[Table]) -> list[Labelled]:
    """Header values printed as columns, on the first row or on every row: the first one stands for all."""
    found = []
    for table in tables:
        for place, heading in enumerate(table.headings):
            cells = ((row.line.where, row.cells[place]) for row in table.rows)
            first = next(((where, cell) for where, cell in cells if cell), None)
            if heading.field and first:
                found.append(Labelled(heading.field, first[1], first[0], heading.cell.text))
    return found


def _doubts(tables: Sequence[Table]) -> tuple[Doubt, ...]:
    """An export of many orders is not one order; nobody may announce their sum under the first one's number."""
    numbers: set[str] = set()
    for table in tables:
        places = [place for place, heading in enumerate(table.headings) if heading.field in _ORDER_NUMBERS]
        numbers |= {cell.text for row in table.rows for place in places[:1] if (cell := row.cells[place])}
    if len(numbers) < _SEVERAL:
        return ()
    named = ", ".join(sorted(numbers)[:3])
    return (Doubt(code="several_orders", message=f"the file holds {len(numbers)} orders ({named}): split it by order"),)


def _closing(tables: Sequence[Table]) -> list[Labelled]:
    """Sums in a TOTAL row stand under their column, however far from the word."""
    found = []
    for table in tables:
        place = table.place(Column.LINE_TOTAL)
        for row in table.closing:
            cell = None if place is None else row.cells[place]
            if cell and cell.value is not None:
                found.append(Labelled(Field.TOTAL, cell, row.line.where, "total"))
    return found


def _confidence(order: ExtractedOrder) -> float:
    """As good as its weakest part: the kind, the header on average, the lines on average."""
    header = [order.evidence.get(name, _NOTHING).confidence for name in ("number", "supplier")]
    lines = [line.evidence.confidence for line in order.lines]
    parts = [order.kind_confidence, 0.4 + 0.6 * sum(header) / len(header)]
    if lines:
        parts.append(sum(lines) / len(lines))
    return round(min(parts), 3)
