"""Dates as people print them -> date. 03/04/2026 is decided once per document, like the decimal mark."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Final

from pipeline.reading.wording import strip_accents

_MONTHS: Final = {
    1: "january jan januar janner jänner janvier janv januari enero ene gennaio gen",
    2: "february feb februar fevrier fev fevr februari febrero febbraio",
    3: "march mar marz maerz mrz mars maart mrt marzo",
    4: "april apr avril avr abril abr aprile",
    5: "may mai mei mayo maggio mag",
    6: "june jun juni juin junio giugno giu",
    7: "july jul juli juillet juil julio luglio lug",
    8: "august aug aout augustus agosto ago",
    9: "september sep sept septembre septiembre settembre set",
    10: "october oct oktober okt octobre octubre ottobre ott",
    11: "november nov novembre noviembre",
    12: "december dec dezember dez decembre diciembre dic dicembre",
}
_BY_NAME: Final = {name: month for month, names in _MONTHS.items() for name in names.split()}
_ISO = re.compile(r"\b(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?!\d)")
_COMPACT = re.compile(r"\b(20\d{2})(\d{2})(\d{2})\b")
_NUMERIC = re.compile(r"\b(\d{1,2})([-/.])(\d{1,2})\2(\d{4}|\d{2})\b")
_DAY_NAME = re.compile(
    r"\b(\d{1,2})(?:st|nd|rd|th)?[.]?[\s-]*(?:de\s+)?([a-z]{3,12})[.]?,?[\s-]*(?:de\s+)?(\d{4}|\d{2})\b"
)
_NAME_DAY = re.compile(r"\b([a-z]{3,12})[.]?\s+(\d{1,2})(?:st|nd|rd|th)?,?\s+(\d{4})\b")
_MONTHS_PER_YEAR = 12
_CENTURY = 100
_DAY_FIRST_CURRENCIES: Final = frozenset({"EUR", "GBP", "CHF", "AUD", "NZD", "SEK", "NOK", "DKK", "PLN", "CZK", "INR"})


@dataclass(frozen=True, slots=True)
class DateStyle:
    """Whether 03/04 is the third of April, and whether a date in the document proved it."""

    day_first: bool = False
    certain: bool = False


def decide(texts: Iterable[str], currency: str = "", *, decimal_comma: bool = False) -> DateStyle:
    """The document's order of day and month: proved by a number above 12, else by habit.

    Who writes a decimal comma writes the day first; so do most who are not paid in dollars.
    """
    day_first = month_first = 0
    for text in texts:
        for first, mark, second, _year in _NUMERIC.findall(text):
            if mark == ".":
                continue
            day_first += int(first) > _MONTHS_PER_YEAR >= int(second)
            month_first += int(second) > _MONTHS_PER_YEAR >= int(first)
    if day_first != month_first:
        return DateStyle(day_first=day_first > month_first, certain=True)
    return DateStyle(day_first=decimal_comma or currency in _DAY_FIRST_CURRENCIES)


def find(text: str, style: DateStyle) -> tuple[date, bool] | None:
    """The first date in the text, and whether it can be read in one way only (given the document's style)."""
    lowered = strip_accents(text).casefold()
    for pattern, order in ((_ISO, "ymd"), (_DAY_NAME, "dmy"), (_NAME_DAY, "mdy"), (_COMPACT, "ymd")):
        found = pattern.search(lowered)
        read = _build(dict(zip(order, found.groups(), strict=True))) if found else None
        if read:
            return read, True
    numeric = _NUMERIC.search(lowered)
    return _numeric(numeric, style) if numeric else None


def _numeric(found: re.Match[str], style: DateStyle) -> tuple[date, bool] | None:
    first, mark, second, year = found.groups()
    day_first = _build({"d": first, "m": second, "y": year})
    month_first = _build({"d": second, "m": first, "y": year})
    if mark == "." or month_first is None or day_first == month_first:
        read = day_first or month_first
        return (read, True) if read else None
    if day_first is None:
        return month_first, True
    return (day_first if style.day_first else month_first), style.certain


def _build(parts: dict[str, str]) -> date | None:
    month = parts["m"] if parts["m"].isdigit() else _BY_NAME.get(parts["m"], 0)
    year = int(parts["y"])
    try:
        return date(year + 2000 if year < _CENTURY else year, int(month), int(parts["d"]))
    except ValueError:
        return None
