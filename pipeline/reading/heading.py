"""Finding a table's heading line and saying what each column means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from pipeline.reading.amounts import CURRENCIES
from pipeline.reading.layout import Cell, Line, joined
from pipeline.reading.vocabulary import COLUMNS, FIELDS, OPTIONS, Column, Field, is_size
from pipeline.reading.wording import without_parentheses, words_of

_IDENTITY = frozenset({Column.SKU, Column.GTIN, Column.ITEM, Column.DESCRIPTION, Column.PRODUCT})
_MEASURE = frozenset({Column.QUANTITY, Column.SHIPPED, Column.INVOICED, Column.UNIT_COST, Column.LINE_TOTAL})
_LONGEST_PHRASE = 6
_LEAST_KNOWN = 0.5
_LEAST_SIZES = 2


@dataclass(frozen=True, slots=True)
class Heading:
    """One column: where it stands and what it holds. Exactly one of the meanings is set, or none."""

    cell: Cell
    column: Column | None = None
    option: str = ""
    size: str = ""
    field: Field | None = None

    @property
    def known(self) -> bool:
        """Whether the heading's words mean anything to us."""
        return bool(self.column or self.option or self.size or self.field)


def find_headings(line: Line, below: Line | None, *, grid: bool) -> tuple[tuple[Heading, ...], int] | None:
    """The columns if this is a table's heading line, and how many lines the heading takes (1 or 2)."""
    single = _headings(line.cells if grid else _phrases(line.words))
    if not grid and below is not None and _is_wording(line) and _is_wording(below):
        double = _headings(_stacked(line, below))
        if _is_table(double) and _score(double) > max(_score(single), _score(_headings(_phrases(below.words)))):
            return double, 2
    return (single, 1) if _is_table(single) else None


def _headings(cells: Iterable[Cell]) -> tuple[Heading, ...]:
    return _resolved([_meant(cell) for cell in cells])


def _is_wording(line: Line) -> bool:
    """Whether a line may be half of a heading: no values, no labels."""
    return not any(letter.isdigit() or letter == ":" for letter in line.text)


def _meant(cell: Cell) -> Heading:
    words = words_of(without_parentheses(cell.text)) or words_of(cell.text)
    words = [word for word in words if word.upper() not in CURRENCIES] or words
    for size in range(len(words), 0, -1):
        for part in ("".join(words[:size]), "".join(words[-size:])):
            if part in COLUMNS:
                return Heading(cell, column=COLUMNS[part])
            if part in OPTIONS:
                return Heading(cell, option=OPTIONS[part])
            if size == len(words) and part in FIELDS:
                return Heading(cell, field=FIELDS[part])
    return Heading(cell, size=cell.text.strip()) if is_size(cell.text) else Heading(cell)


def _phrases(words: Sequence[Cell]) -> Iterator[Cell]:
    """Words of a page's line joined to the longest column names: narrow columns stand closer than a space is wide."""
    first = 0
    while first < len(words):
        size = next(
            (
                size
                for size in range(min(_LONGEST_PHRASE, len(words) - first), 1, -1)
                if _close(words[first : first + size]) and _exact(joined(words[first : first + size]))
            ),
            1,
        )
        yield joined(words[first : first + size])
        first += size


def _exact(cell: Cell) -> bool:
    key = "".join(words_of(without_parentheses(cell.text)))
    return key in COLUMNS or key in OPTIONS or key in FIELDS


def _close(words: Sequence[Cell]) -> bool:
    """Whether the gaps are those of one phrase: no wider than two letters."""
    letter = max((word.right - word.left) / max(len(word.text), 1) for word in words)
    return all(after.left - before.right <= 2 * letter for before, after in pairwise(words))


def _stacked(line: Line, below: Line) -> list[Cell]:
    """Cells of two lines as one heading, the lower joined to what it stands under."""
    cells = list(line.cells)
    for lower in below.cells:
        above = next((place for place, cell in enumerate(cells) if cell.overlaps(lower)), None)
        if above is None:
            cells.append(lower)
        else:
            cells[above] = joined([cells[above], lower])
    return sorted(cells, key=lambda cell: cell.left)


def _resolved(headings: Sequence[Heading]) -> tuple[Heading, ...]:
    """Headings whose meaning depends on their neighbours settled, and no meaning given twice."""
    counts = Counter(heading.column for heading in headings)
    named = counts[Column.DESCRIPTION] or counts[Column.PRODUCT]
    item = Column.SKU if named and not counts[Column.SKU] else Column.DESCRIPTION
    sizes = sum(1 for heading in headings if heading.size)
    taken: set[object] = set()
    resolved = []
    for given in headings:
        heading = replace(given, column=item) if given.column is Column.ITEM else given
        if heading.size and sizes < _LEAST_SIZES:
            heading = replace(heading, size="")
        meaning = heading.column or heading.option or heading.field
        if meaning in taken and meaning:
            again = Field.TOTAL if meaning is Column.LINE_TOTAL else None
            heading = Heading(heading.cell, field=again)
        taken.add(meaning)
        resolved.append(heading)
    return tuple(resolved)


def _is_table(headings: Sequence[Heading]) -> bool:
    columns = {heading.column for heading in headings if heading.column}
    sizes = sum(1 for heading in headings if heading.size)
    measured = columns & _MEASURE or sizes >= _LEAST_SIZES
    named = columns & _IDENTITY
    known = sum(1 for heading in headings if heading.known)
    return bool(named and measured) and known >= _LEAST_KNOWN * len(headings)


def _score(headings: Sequence[Heading]) -> int:
    return sum(1 for heading in headings if heading.known)
