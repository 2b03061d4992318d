"""Rows of a table -> order lines: wrapped rows joined, sizes spread out, charges told from goods.

A row without a name or without a number is a part of another row. What is left of that rule is a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from pipeline.domain.purchase_order import Evidence, ExtractedLine, LineKind
from pipeline.reading import amounts
from pipeline.reading.amounts import NumberStyle
from pipeline.reading.layout import Cell
from pipeline.reading.limits import MAX_CELL, MAX_LINES
from pipeline.reading.table import Row, Table
from pipeline.reading.vocabulary import COLUMNS, LINE_KINDS, OPTIONS, Column
from pipeline.reading.wording import compact, words_of

_NAMES = (Column.SKU, Column.GTIN, Column.DESCRIPTION, Column.PRODUCT)
_MEASURES = (Column.QUANTITY, Column.SHIPPED, Column.INVOICED, Column.UNIT_COST, Column.LINE_TOTAL)
_QUANTITY_UNIT = re.compile(r"([-+]?[\d.,' ]*\d)\s*([A-Za-zÀ-ÿ][\w./ ]{0,20})?")
_LABELLED_PIECE = re.compile(r"([A-Za-zÀ-ÿ#. ]{2,20}?)\s*[:#]\s*([^,;|]+)")
_TIMES = re.compile(r"(\d+)\s*[x\u00d7]\s*(\d+)", re.IGNORECASE)
_CODE = re.compile(r"(?=\S*\d)[A-Z0-9][A-Z0-9._/-]{2,}", re.IGNORECASE)
_CHARGE_WORDS = frozenset({"charge", "charges", "fee", "fees", "cost", "costs"})
_LONGEST_KIND = 4
_CENT = Decimal("0.01")
_SURE, _FAIR, _POOR, _GUESSED = 0.98, 0.9, 0.6, 0.5


@dataclass(slots=True)
class _Item:
    """Rows that make one line: the first holds the place, the others add words and missing numbers."""

    where: str
    text: list[str]
    cells: dict[int, Cell]
    notes: list[str] = field(default_factory=list)


def read_lines(tables: Sequence[Table], style: NumberStyle) -> tuple[ExtractedLine, ...]:
    """The lines of all tables, numbered through."""
    lines: list[ExtractedLine] = []
    for table in tables:
        for item in _filled_down(table, _items(table, style)):
            for line in _LineReader(table, item, style).lines():
                if len(lines) == MAX_LINES:
                    return tuple(lines)
                lines.append(line.model_copy(update={"position": len(lines) + 1}))
    return tuple(lines)


def adding_up(lines: Sequence[ExtractedLine]) -> int:
    """How many lines have quantity x cost = total: evidence for one reading of the numbers against another."""
    return sum(1 for line in lines if _agrees(line))


def kind_of(text: str, *, coded: bool = False) -> LineKind:
    """What a line is about, by the words it begins with; goods unless they say otherwise.

    "Freight" is a charge and so is "Freight DHL" without a code; "Delivery bike" with one (`coded`) is goods.
    """
    label, colon, _ = text.partition(":")
    if colon and (labelled := LINE_KINDS.get(compact(label))):
        return labelled
    words = words_of(text)
    for size in range(min(_LONGEST_KIND, len(words)), 0, -1):
        kind = LINE_KINDS.get("".join(words[:size]))
        rest = [word for word in words[size:] if word not in _CHARGE_WORDS]
        if kind and len(rest) <= (0 if coded else 1):
            return kind
    return LineKind.GOODS


# ------------------------------------------------------------------------------------ rows -> items


def _items(table: Table, style: NumberStyle) -> list[_Item]:
    items: list[_Item] = []
    waiting: list[Row] = []
    rows = table.rows
    for number, row in enumerate(rows):
        following = rows[number + 1] if number + 1 < len(rows) else None
        named, measured = _named(table, row), _measured(table, row, style)
        if measured and (named or waiting):
            items.append(_item([*waiting, row]))
            waiting = []
        elif measured and items and not _measured_item(table, items[-1], style):
            items[-1] = _with_numbers(items[-1], row)
        elif named and following and _measured(table, following, style) and not _named(table, following):
            waiting.append(row)
        elif named and not measured and _is_own_line(table, row):
            items.append(_item([row]))
        elif named and items and _goes_on(table, row):
            items[-1].notes.append(row.line.text)
    return items


def _filled_down(table: Table, items: Iterable[_Item]) -> Iterator[_Item]:
    """Where variants are rows, the product's name stands on its first row only, and so do options that repeat."""
    places = [table.place(column) for column in (Column.DESCRIPTION, Column.PRODUCT)]
    names = {place for place in places if place is not None}
    options = [place for place, heading in enumerate(table.headings) if heading.option]
    above: dict[int, Cell] = {}
    for item in items:
        if options and names and not any(item.cells.get(place) for place in names):
            changed = next((number for number, place in enumerate(options) if place in item.cells), 0)
            kept = [place for place in (*names, *options[:changed]) if place in above]
            item.cells = {**{place: above[place] for place in kept}, **item.cells}
        above = item.cells
        yield item


def _named(table: Table, row: Row) -> bool:
    options = any(cell and heading.option for heading, cell in zip(table.headings, row.cells, strict=True))
    return options or any(_cell(table, row, column) for column in _NAMES)


def _measured(table: Table, row: Row, style: NumberStyle) -> bool:
    cells = [_cell(table, row, column) for column in _MEASURES]
    cells += [cell for heading, cell in zip(table.headings, row.cells, strict=True) if heading.size]
    return any(_amount(cell, style) is not None for cell in cells if cell)


def _measured_item(table: Table, item: _Item, style: NumberStyle) -> bool:
    places = [table.place(column) for column in _MEASURES]
    return any(_amount(item.cells.get(place), style) is not None for place in places if place is not None)


def _is_own_line(table: Table, row: Row) -> bool:
    """A row with a code and a name is a line even without numbers; words alone go on with the line above."""
    code = _cell(table, row, Column.SKU) or _cell(table, row, Column.GTIN)
    name = _cell(table, row, Column.DESCRIPTION) or _cell(table, row, Column.PRODUCT)
    return bool(code and name and _CODE.fullmatch(code.text))


def _goes_on(table: Table, row: Row) -> bool:
    """Words under the name go on with it; a section's heading in the code's column and a "Notes:" row do not."""
    if LINE_KINDS.get(compact(row.line.cells[0].text)) is LineKind.NOTE:
        return False
    names = [place for column in (Column.DESCRIPTION, Column.PRODUCT) if (place := table.place(column)) is not None]
    return not names or any(row.cells[place] for place in names)


def _item(rows: Sequence[Row]) -> _Item:
    last = rows[-1]
    cells = {place: cell for place, cell in enumerate(last.cells) if cell}
    for row in rows[:-1]:
        for place, cell in enumerate(row.cells):
            if cell and place not in cells:
                cells[place] = cell
            elif cell:
                cells[place] = Cell(f"{cell.text} {cells[place].text}", cell.left, cell.right)
    return _Item(rows[0].line.where, [row.line.text for row in rows], cells)


def _with_numbers(item: _Item, row: Row) -> _Item:
    added = {place: cell for place, cell in enumerate(row.cells) if cell and place not in item.cells}
    return _Item(item.where, [*item.text, row.line.text], {**item.cells, **added}, item.notes)


def _cell(table: Table, row: Row, column: Column) -> Cell | None:
    place = table.place(column)
    return None if place is None else row.cells[place]


def _amount(cell: Cell | None, style: NumberStyle) -> Decimal | None:
    if cell is None:
        return None
    if isinstance(cell.value, Decimal):
        return cell.value
    found = amounts.parse(cell.text, style)
    if found is not None:
        return found
    quantity = _QUANTITY_UNIT.fullmatch(amounts.clean(cell.text))
    return amounts.parse(quantity[1], style) if quantity else None


# ------------------------------------------------------------------------------------ items -> lines


class _LineReader:
    """Reads one item's cells by what their columns mean."""

    def __init__(self, table: Table, item: _Item, style: NumberStyle) -> None:
        self._table = table
        self._item = item
        self._style = style

    def lines(self) -> Iterator[ExtractedLine]:
        """One line, or one per size where the sizes are columns."""
        line = self._line()
        sizes = {h.size: c for p, h in enumerate(self._table.headings) if h.size and (c := self._item.cells.get(p))}
        if not sizes:
            yield line
            return
        for size, cell in sizes.items():
            quantity = _amount(cell, self._style)
            if quantity:
                yield _of_size(line, size, quantity)

    def _line(self) -> ExtractedLine:
        words, pieces = self._words()
        product = self._text(Column.PRODUCT)
        options = self._options(pieces)
        quantity_cell = self._cell(Column.QUANTITY)
        sku = self._text(Column.SKU) or pieces.get("sku", "")
        description = words or " ".join([product, *options.values()]).strip() or sku
        unit = self._text(Column.UNIT) or _unit_beside(quantity_cell)
        kind = kind_of(description, coded=bool(sku))
        line = ExtractedLine(
            position=0,
            kind=kind if kind is not LineKind.GOODS else kind_of(sku, coded=True),
            sku=sku,
            gtin=re.sub(r"\D", "", self._text(Column.GTIN) or pieces.get("gtin", "")),
            description=description[:MAX_CELL],
            quantity=self._number(Column.QUANTITY),
            quantity_shipped=self._number(Column.SHIPPED),
            quantity_backordered=self._number(Column.BACKORDERED),
            quantity_invoiced=self._number(Column.INVOICED),
            unit=unit,
            pack_size=pack_size(self._text(Column.PACK), bare=True) or pack_size(unit, bare=False),
            unit_cost=self._number(Column.UNIT_COST),
            retail_price=self._number(Column.RETAIL),
            line_total=self._number(Column.LINE_TOTAL),
            options=options,
            product_name=product,
            image_url=_url(self._text(Column.IMAGE)),
        )
        billed = line.quantity_invoiced if line.quantity_invoiced is not None else line.quantity_shipped
        if line.quantity is None:
            line = line.model_copy(update={"quantity": billed})
        return line.model_copy(update={"evidence": self._evidence(line)})

    def _cell(self, column: Column) -> Cell | None:
        place = self._table.place(column)
        return None if place is None else self._item.cells.get(place)

    def _text(self, column: Column) -> str:
        cell = self._cell(column)
        return "" if cell is None else cell.text[:MAX_CELL]

    def _number(self, column: Column) -> Decimal | None:
        return _amount(self._cell(column), self._style)

    def _words(self) -> tuple[str, dict[str, str]]:
        """The description with its wrapped lines; codes and options printed in those lines are taken out."""
        words, pieces = [self._text(Column.DESCRIPTION)], {}
        for note in self._item.notes:
            found = _pieces(note)
            pieces.update(found)
            if not found:
                words.append(note)
        return " ".join(word for word in words if word), pieces

    def _options(self, pieces: Mapping[str, str]) -> dict[str, str]:
        in_columns = {
            heading.option: cell.text
            for place, heading in enumerate(self._table.headings)
            if heading.option and (cell := self._item.cells.get(place))
        }
        return {**{name: text for name, text in pieces.items() if name in OPTIONS.values()}, **in_columns}

    def _evidence(self, line: ExtractedLine) -> Evidence:
        confidence = _SURE if _agrees(line) else _FAIR
        if _disagrees(line):
            confidence = _POOR
        if line.kind is LineKind.GOODS and (line.quantity is None or line.unit_cost is None):
            confidence = min(confidence, _POOR if line.quantity is not None else _GUESSED)
        text = " | ".join([*self._item.text, *self._item.notes])
        return Evidence(confidence=confidence, where=self._item.where, text=text[:MAX_CELL])


def _pieces(note: str) -> dict[str, str]:
    """Codes and options spelled out in a wrapped line: "SKU: AB-1, Color: Navy". Empty unless all of it is that."""
    found: dict[str, str] = {}
    rest = note
    for piece in _LABELLED_PIECE.finditer(note):
        key = compact(piece[1])
        name = {Column.SKU: "sku", Column.GTIN: "gtin", Column.ITEM: "sku"}.get(COLUMNS.get(key, Column.TAX))
        name = OPTIONS.get(key) or name
        if name:
            found[name] = piece[2].strip()
            rest = rest.replace(piece[0], "")
    return {} if re.search(r"\w", rest) else found


def pack_size(text: str, *, bare: bool) -> int | None:
    """Units in a pack as a pack or unit column says it: "12", "Case of 12", "1x12", "CS/24"; None if it does not."""
    times = _TIMES.fullmatch(text.strip())
    if times:
        outer, inner = int(times[1]), int(times[2])
        return inner if outer == 1 else outer * inner
    numbers = re.findall(r"(?<![\d.,])\d{1,5}(?![\d.,])", text)
    whole = bare or re.search(r"[A-Za-z]", text)
    return int(numbers[0]) if whole and len(numbers) == 1 and int(numbers[0]) > 0 else None


def _unit_beside(cell: Cell | None) -> str:
    found = _QUANTITY_UNIT.fullmatch(amounts.clean(cell.text)) if cell and cell.value is None else None
    return (found[2] or "").strip() if found else ""


def _url(text: str) -> str:
    return text if re.fullmatch(r"https?://[^\s<>\"]+", text) else ""


def _of_size(line: ExtractedLine, size: str, quantity: Decimal) -> ExtractedLine:
    """The line for one size. The style's code gets colour and size added: a shop needs one code per variant."""
    options = {**line.options, "Size": size}
    style = line.sku
    parts = [style, *options.values()] if style else []
    name = line.product_name or line.description
    return line.model_copy(
        update={
            "sku": "-".join(re.sub(r"[^\w.]+", "", part.upper()) if part != style else part for part in parts),
            "description": " ".join([name, *options.values()]),
            "product_name": name,
            "options": options,
            "quantity": quantity,
            "line_total": None if line.unit_cost is None else line.unit_cost * quantity,
        }
    )


def _agrees(line: ExtractedLine) -> bool:
    return _product(line) is not None and not _disagrees(line)


def _disagrees(line: ExtractedLine) -> bool:
    product = _product(line)
    if product is None or line.line_total is None or line.unit_cost is None:
        return False
    cost, total = line.unit_cost, line.line_total
    billed = [q for q in (line.quantity, line.quantity_shipped, line.quantity_invoiced) if q is not None]
    return all(abs(quantity * cost - total) > _CENT * (abs(quantity) + 1) for quantity in billed)


def _product(line: ExtractedLine) -> Decimal | None:
    if line.quantity is None or line.unit_cost is None or line.line_total is None:
        return None
    return line.quantity * line.unit_cost
