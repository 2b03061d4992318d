"""Labelled values outside the table: "PO Number: 4711", a label with its value beside it or below it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.reading.layout import Cell, Line, Sheet
from pipeline.reading.vocabulary import AMOUNT_FIELDS, FIELDS, PARTY_FIELDS, Field
from pipeline.reading.wording import compact, without_parentheses, words_of

_LONGEST_LABEL = 5
_BLOCK_LINES = 6
_FAR_BELOW = 3.5
_AMOUNT_TAIL = re.compile(r"[\s:]*(?:[A-Z]{3}\s*)?[$€£¥]?\s*[-(]?[\d.,'\s]*\d[\d.,]*\)?\s*(?:[A-Z]{3}|[€%])?\s*$")
_PERCENT = re.compile(r"\d+(?:[.,]\d+)?\s*%")


@dataclass(frozen=True, slots=True)
class Labelled:
    """A label's value. `near` is 1 for a value beside its label, less for one below.

    `block` are the lines below in the same column: the address under a name.
    """

    field: Field
    value: Cell
    where: str
    label: str
    block: tuple[str, ...] = ()
    near: float = 1.0


def total_label(text: str) -> Field | None:
    """The sum a text names ("Subtotal", "VAT 19 %:", "Total EUR 1,275.00"), None if it names anything more."""
    bare = without_parentheses(_PERCENT.sub(" ", text)).strip(" :.-")
    for candidate in (bare, _AMOUNT_TAIL.sub("", bare).strip(" :.-@")):
        meaning = FIELDS.get(compact(candidate))
        if meaning in AMOUNT_FIELDS:
            return meaning
    return None


def find_labelled(sheets: Sequence[Sheet]) -> list[Labelled]:
    """Every labelled value, in reading order."""
    return [found for sheet in sheets for number in range(len(sheet.lines)) for found in _in_line(sheet, number)]


def _in_line(sheet: Sheet, number: int) -> Iterator[Labelled]:
    line = sheet.lines[number]
    for place, cell in enumerate(line.cells):
        field, rest = split_label(cell)
        if field is None:
            continue
        label = cell.text[: len(cell.text) - len(rest)] if rest else cell.text
        if rest:
            value = Cell(rest, cell.left, cell.right)
            yield Labelled(field, value, line.where, label, _block(sheet, number, cell))
            continue
        beside = line.cells[place + 1] if place + 1 < len(line.cells) else None
        if beside is not None and split_label(beside)[0] is None:
            yield Labelled(field, beside, line.where, label, _block(sheet, number, beside))
            continue
        yield from _below(sheet, number, cell, field)


def split_label(cell: Cell) -> tuple[Field | None, str]:
    """The label a cell begins with and the text after it. Without a colon only labels that cannot be prose count."""
    head, colon, rest = cell.text.partition(":")
    field = _field(head) if colon else None
    if field:
        return field, rest.strip()
    field = total_label(cell.text)
    if field:
        amount = _AMOUNT_TAIL.search(_PERCENT.sub(" ", cell.text))
        return field, amount.group().strip(" :") if amount and amount.start() > 0 else ""
    if not colon and (exact := _field(cell.text)):
        return exact, ""
    return _prefixed(cell.text)


def _field(text: str) -> Field | None:
    bare = without_parentheses(_PERCENT.sub(" ", text))
    return FIELDS.get(compact(bare)) or FIELDS.get(compact(text))


def _prefixed(text: str) -> tuple[Field | None, str]:
    """A label without a colon whose value starts with a code: "Invoice # 4711", "VAT ID DE123"."""
    parts = text.split()
    for size in range(min(_LONGEST_LABEL, len(parts) - 1), 0, -1):
        field = FIELDS.get("".join(words_of(" ".join(parts[:size]))))
        rest = " ".join(parts[size:])
        if field and field not in PARTY_FIELDS and _looks_like_value(rest):
            return field, rest.strip(" :")
    return None, ""


def _looks_like_value(text: str) -> bool:
    return any(character.isdigit() for character in text.split(maxsplit=1)[0]) or "@" in text


def _below(sheet: Sheet, number: int, cell: Cell, field: Field) -> Iterator[Labelled]:
    under = _column(sheet, number, cell)
    first = next(under, None)
    if first is None:
        return
    line, value = first
    if split_label(value)[0] is None:
        rest = tuple(each.text for _, each in under)
        yield Labelled(field, value, line.where, cell.text, rest, near=0.9)


def _block(sheet: Sheet, number: int, cell: Cell) -> tuple[str, ...]:
    return tuple(each.text for _, each in _column(sheet, number, cell))


def _column(sheet: Sheet, number: int, cell: Cell) -> Iterator[tuple[Line, Cell]]:
    """The cells right below, until a gap, a label or the block's usual length ends them."""
    for line in sheet.lines[number + 1 : number + 1 + _BLOCK_LINES]:
        under = next((each for each in line.cells if each.overlaps(cell) or abs(each.left - cell.left) < 1), None)
        if under is None or line.drop > _FAR_BELOW or under.text.endswith(":"):
            return
        if any(split_label(each)[0] for each in line.cells if each.left <= under.left):
            return
        yield line, under
