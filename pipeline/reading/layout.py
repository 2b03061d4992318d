"""The shape every tabular document is brought into: sheets of lines of cells that know where they stand.

A spreadsheet's cell stands at its column number, a word on a page at its x coordinate. Whatever reads
tables and labels therefore works on both, and only the format modules know what a file is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Cell:
    """A piece of text from `left` to `right`. `value` is set where the file itself stores a number or a date."""

    text: str
    left: float
    right: float
    value: Decimal | date | None = None

    def overlaps(self, other: Cell) -> bool:
        """Whether the two stand above each other."""
        return self.left < other.right and other.left < self.right


@dataclass(frozen=True, slots=True)
class Line:
    """One printed line. `words` are its smallest pieces, `cells` are words that belong together.

    In a spreadsheet both are the same; on a page a cell is a run of words with ordinary gaps.
    `drop` is the distance to the line above in line heights, 1 where the file has no distances.
    """

    words: tuple[Cell, ...]
    cells: tuple[Cell, ...]
    where: str
    drop: float = 1.0

    @property
    def text(self) -> str:
        """The line as one string."""
        return " ".join(word.text for word in self.words)


@dataclass(frozen=True, slots=True)
class Sheet:
    """A page or a worksheet, top to bottom. `grid` tells exact columns from positions on paper."""

    name: str
    lines: tuple[Line, ...]
    grid: bool


def joined(cells: Iterable[Cell]) -> Cell:
    """Neighbouring cells as one."""
    parts = list(cells)
    value = parts[0].value if len(parts) == 1 else None
    text = " ".join(part.text for part in parts)
    return Cell(text, min(part.left for part in parts), max(part.right for part in parts), value)


def grid_line(texts: Iterable[str | tuple[str, Decimal | date | None]], where: str) -> Line:
    """A row of a spreadsheet; empty cells are left out and the others keep their column number."""
    cells = []
    for column, given in enumerate(texts):
        text, value = (given, None) if isinstance(given, str) else given
        if text.strip():
            cells.append(Cell(" ".join(text.split()), column, column + 1, value))
    return Line(tuple(cells), tuple(cells), where)


def plain_text(sheets: Iterable[Sheet], limit: int) -> str:
    """The whole document as text, one line each, cut at `limit` characters."""
    return "\n".join(line.text for sheet in sheets for line in sheet.lines)[:limit]
