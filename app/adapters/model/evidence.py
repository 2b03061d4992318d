"""Where a value stands in a document's text, so that what a model says can be looked up."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from datetime import date
from decimal import Decimal

from pipeline.domain.identifiers import fold

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_GROUPED = re.compile(r"\d{1,3}(?:[ \u00a0\u202f'\u2019.,]\d{3})+(?:[.,]\d+)?(?!\d)")
_MARKS = re.compile(r"[^\d]")
_WORD = re.compile(r"\w+")
_INTEGER = re.compile(r"(?<!\d)\d{1,4}(?!\d)")


class SourceText:
    """A document's text, asked for words, numbers and dates. Answers are line numbers from 1, 0 for nowhere.

    A number is found in any spelling it may have been printed in ("1.234,50" is 1234.50): the model knew the
    document's convention, and here it is enough that such a number stands there at all.
    """

    def __init__(self, text: str) -> None:
        self._numbers: dict[Decimal, int] = {}
        self._words: dict[str, int] = {}
        self._integers: list[set[int]] = []
        self._starts: list[int] = []
        squeezed: list[str] = []
        length = 0
        for number, line in enumerate(text.splitlines(), start=1):
            folded = fold(line)
            self._starts.append(length)
            squeezed.append(folded.replace(" ", ""))
            length += len(squeezed[-1])
            self._integers.append({int(digits) for digits in _INTEGER.findall(line)})
            for value in _values(line):
                self._numbers.setdefault(value, number)
            for word in _WORD.findall(folded):
                self._words.setdefault(word, number)
        self._squeezed = "".join(squeezed)

    def __bool__(self) -> bool:
        return bool(self._squeezed)

    def line_of_text(self, value: str) -> int:
        """Where a code or a name stands, spacing and line breaks aside."""
        at = self._squeezed.find(fold(value).replace(" ", ""))
        return 0 if at < 0 else bisect_right(self._starts, at)

    def line_of_words(self, value: str) -> int:
        """Where the first of a text's words stands, if all of them stand somewhere: columns tear texts apart."""
        lines = [self._words.get(word, 0) for word in _WORD.findall(fold(value))]
        return lines[0] if lines and all(lines) else 0

    def line_of_number(self, value: Decimal) -> int:
        """Where a number stands; its sign may be printed as a minus, as brackets or as the word credit."""
        return self._numbers.get(abs(value), 0)

    def line_of_date(self, value: date) -> int:
        """The first line with the day and the year; the month may be a name in any language."""
        years = {value.year, value.year % 100}
        return next((n for n, found in enumerate(self._integers, 1) if value.day in found and years & found), 0)


def _values(line: str) -> Iterator[Decimal]:
    """Every number a line may hold, in every way it may be meant."""
    for printed in (*_NUMBER.findall(line), *_GROUPED.findall(line)):
        groups = _MARKS.split(printed)
        yield Decimal("".join(groups))
        if len(groups) > 1:
            yield Decimal(f"{''.join(groups[:-1])}.{groups[-1]}")
