"""Tables: the heading line, where its columns run, and the rows below it until the totals.

On paper a column is a strip of white space wide: the cut between two headings goes where the fewest words
of the table's body stand in the way. In a spreadsheet a column is a number, and nothing is cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from pipeline.reading.heading import Heading, find_headings
from pipeline.reading.labels import total_label
from pipeline.reading.layout import Cell, Line, Sheet, joined
from pipeline.reading.vocabulary import Column, Field

_FURNITURE = re.compile(
    r"^(?:page|seite|pagina|página)\s*\d+|^\d+\s*(?:/|of|von|de|van)\s*\d+$|^(?:continued|carried forward|übertrag|"
    r"report à nouveau|transport|suma y sigue|a riportare)\b|^[-=_*.\s|+]+$",
    re.IGNORECASE,
)
_FAR = 3.0
_IN_TABLE_TOTALS = frozenset({Field.FREIGHT, Field.DISCOUNT})
_ITEM_NUMBERS = ((Column.QUANTITY, Column.SHIPPED, Column.INVOICED), (Column.UNIT_COST, Column.LINE_TOTAL))
_NAMES = (Column.DESCRIPTION, Column.PRODUCT, Column.SKU, Column.POSITION)


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table's body, one cell or None per heading."""

    line: Line
    cells: tuple[Cell | None, ...]


@dataclass(slots=True)
class Table:
    """A table as found. `closing` are its totals rows: printed inside it, but no lines."""

    headings: tuple[Heading, ...]
    rows: list[Row] = field(default_factory=list)
    closing: list[Row] = field(default_factory=list)

    def place(self, column: Column) -> int | None:
        """The number of the column with that meaning."""
        return next((place for place, heading in enumerate(self.headings) if heading.column is column), None)

    @property
    def meanings(self) -> tuple[object, ...]:
        """What the columns hold, for telling whether two tables are parts of one."""
        return tuple(heading.column or heading.option or heading.size or heading.field for heading in self.headings)


@dataclass(frozen=True, slots=True)
class Tables:
    """All tables of a document and the lines that belong to none, in order."""

    tables: tuple[Table, ...]
    outside: tuple[Sheet, ...]


def find_tables(sheets: Sequence[Sheet]) -> Tables:
    """Every table of the document. On paper one goes on across pages until its totals."""
    tables: list[Table] = []
    outside: list[Sheet] = []
    open_table: Table | None = None
    closed = False
    for sheet in sheets:
        reader = _SheetReader(sheet, None if sheet.grid else open_table, closed=closed)
        reader.read()
        tables += reader.tables
        outside.append(Sheet(sheet.name, tuple(reader.outside), sheet.grid))
        open_table, closed = reader.open_table, reader.closed
    return Tables(tuple(tables), tuple(outside))


class _SheetReader:
    """Goes down one sheet; `open_table` is the table being read, handed on to the next page.

    A table whose sums have begun is `closed`, and opens again when an item follows: sums of parts are no end.
    """

    def __init__(self, sheet: Sheet, open_table: Table | None, *, closed: bool) -> None:
        self.sheet = sheet
        self.tables: list[Table] = []
        self.outside: list[Line] = []
        self.open_table = open_table
        self._cuts = [] if open_table is None else _cuts(open_table.headings, _body(sheet.lines))
        self.closed = closed
        self._far = False

    def read(self) -> None:
        lines = self.sheet.lines
        skip = 0
        for number, line in enumerate(lines):
            if skip:
                skip -= 1
                continue
            below = lines[number + 1] if number + 1 < len(lines) else None
            found = find_headings(line, below, grid=self.sheet.grid)
            if found:
                headings, taken = found
                skip = taken - 1
                self._open(headings, lines[number + taken :])
            elif self.open_table is None:
                self.outside.append(line)
            else:
                self._continue(self.open_table, line)

    def _open(self, headings: tuple[Heading, ...], below: Sequence[Line]) -> None:
        repeated = self.open_table is not None and self.open_table.meanings == Table(headings).meanings
        if not repeated:
            self.open_table = Table(headings)
            self.tables.append(self.open_table)
        self._cuts = _cuts(headings, _body(below))
        self.closed = self._far = False

    def _continue(self, table: Table, line: Line) -> None:
        if _FURNITURE.match(line.text):
            return
        row = Row(line, self._cells(table, line))
        if _closing(table, row):
            table.closing.append(row)
            self.closed = True
        if self.closed and not _is_item(table, row):
            self.outside.append(line)
            return
        self.closed = False
        self._far = (self._far or line.drop > _FAR) and _only_text(row)
        if self._far:
            self.outside.append(line)
        else:
            table.rows.append(row)

    def _cells(self, table: Table, line: Line) -> tuple[Cell | None, ...]:
        if self.sheet.grid:
            by_column = {cell.left: cell for cell in line.cells}
            return tuple(by_column.get(heading.cell.left) for heading in table.headings)
        edges = [float("-inf"), *self._cuts, float("inf")]
        strips = [[word for word in line.words if low <= _middle(word) < high] for low, high in pairwise(edges)]
        return tuple(joined(strip) if strip else None for strip in strips)


def _middle(word: Cell) -> float:
    return (word.left + word.right) / 2


def _only_text(row: Row) -> bool:
    return not any(character.isdigit() for character in row.line.text) or sum(1 for cell in row.cells if cell) == 1


def _closing(table: Table, row: Row) -> bool:
    """Whether the row is the first of the totals. Freight named as an item is a line, named as a sum it is not."""
    label = next((found for cell in row.line.cells if (found := total_label(cell.text))), None)
    if label is None:
        return False
    named = [cell for column in _NAMES if (place := table.place(column)) is not None and (cell := row.cells[place])]
    if label in _IN_TABLE_TOTALS and any(total_label(cell.text) for cell in named):
        return False
    first = row.line.cells[0]
    return not named or total_label(first.text) is not None


def _is_item(table: Table, row: Row) -> bool:
    """Whether a row below sums is beyond doubt another item: a name, a quantity and money, each in its column."""
    if any(total_label(cell.text) for cell in row.line.cells):
        return False
    named = any(row.cells[place] for column in _NAMES if (place := table.place(column)) is not None)
    return named and all(_has_digit(table, row, columns) for columns in _ITEM_NUMBERS)


def _has_digit(table: Table, row: Row, columns: Sequence[Column]) -> bool:
    cells = [row.cells[place] for column in columns if (place := table.place(column)) is not None]
    return any(cell is not None and cell.text.strip(" $\u20ac\u00a3")[:1].isdigit() for cell in cells)


def _body(lines: Sequence[Line]) -> list[Line]:
    """The lines that show where the columns run: up to the totals."""
    body: list[Line] = []
    for line in lines:
        if body and any(total_label(cell.text) for cell in line.cells):
            break
        if _FURNITURE.match(line.text) is None and line.drop <= _FAR:
            body.append(line)
    return body


def _cuts(headings: Sequence[Heading], body: Sequence[Line]) -> list[float]:
    """Between each pair of headings, the middle of the whitest strip."""
    cells = [heading.cell for heading in headings]
    return [_cut(before, after, body) for before, after in pairwise(cells)]


def _cut(before: Cell, after: Cell, body: Sequence[Line]) -> float:
    low, high = before.left, after.right
    words = [before, after, *(word for line in body for word in line.words)]
    words = [word for word in words if word.right > low and word.left < high]
    edges = sorted({low, high, *(edge for word in words for edge in (word.left, word.right) if low < edge < high)})
    strips = list(_strips(edges, words))
    fewest = min(crossed for _, _, crossed in strips)
    left, right, _ = max((strip for strip in strips if strip[2] == fewest), key=lambda strip: strip[1] - strip[0])
    return (left + right) / 2


def _strips(edges: Sequence[float], words: Sequence[Cell]) -> Iterator[tuple[float, float, int]]:
    for left, right in pairwise(edges):
        middle = (left + right) / 2
        yield left, right, sum(1 for word in words if word.left < middle < word.right)
