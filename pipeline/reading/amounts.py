"""Numbers as people print them -> Decimal, without ever guessing twice in one document.

"1.234" is a thousand or a bit more than one: no single number can tell, but the others in the same document can.
So the decimal mark is decided once per document (`decide`) from every number that leaves no doubt, and
then used for those that do (`parse`). A number that is clear by itself keeps its own reading.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

SIGNS: Final = {
    "US$": "USD",
    "CA$": "CAD",
    "AU$": "AUD",
    "C$": "CAD",
    "A$": "AUD",
    "zł": "PLN",
    "$": "USD",
    "€": "EUR",
    "£": "GBP",
    "¥": "JPY",
    "₹": "INR",
}
"""Longest first: "A$" is also the end of "CA$"."""

CURRENCIES: Final = frozenset(
    [
        "USD",
        "EUR",
        "GBP",
        "CHF",
        "CAD",
        "AUD",
        "NZD",
        "JPY",
        "CNY",
        "HKD",
        "SGD",
        "INR",
        "SEK",
        "NOK",
        "DKK",
        "PLN",
        "CZK",
        "HUF",
        "RON",
        "BGN",
        "TRY",
        "MXN",
        "BRL",
        "ZAR",
        "AED",
        "ILS",
        "KRW",
        "THB",
        "PHP",
        "MYR",
        "IDR",
        "TWD",
        "VND",
        "CLP",
        "COP",
        "ARS",
        "PEN",
    ]
)
_SIGN = r"(?:US\$|CA\$|AU\$|A\$|C\$|[$€£¥₹]|zł|kr\.?|Fr\.?|Rs\.?)"
_CODE = rf"(?:{'|'.join(sorted(CURRENCIES))})"
_DIGITS = r"\d{1,3}(?:[ ']\d{3})+(?!\d)(?:[.,]\d+)?|\d[\d.,]*\d|\d|[.,]\d+"
_NUMBER = re.compile(rf"(?:{_DIGITS})")
_AMOUNT = re.compile(
    rf"(?P<open>\()?\s*(?P<minus>[-+])?\s*(?:{_SIGN}|{_CODE})?\s*(?P<minus2>[-+])?\s*(?P<number>{_DIGITS})"
    rf"\s*(?:{_SIGN}|{_CODE}|[.,]-{{1,2}}(?=$))?\s*(?P<trailing>-)?\s*(?P<close>\))?",
    re.IGNORECASE,
)
_FOUND = re.compile(
    rf"(?<![\w.,])\(?[-+]?\s?(?:{_SIGN}\s?|{_CODE}\s)?[-+]?(?:\d[\d.,']*(?: \d{{3}}(?!\d)[\d.,]*)*|[.,]\d+)"
    rf"(?:\s?(?:{_SIGN}|{_CODE})\b)?-?\)?(?!\s?%)(?![\w])",
    re.IGNORECASE,
)
_GROUPED = re.compile(r"\d{1,3}(?:[.,' ]\d{3})+")
_ORDINARY = str.maketrans({"\u00a0": " ", "\u202f": " ", "\u2009": " ", "\u2019": "'", "\u2212": "-", "\u2013": "-"})
_GROUP = 3
_MAX_DIGITS = 18


@dataclass(frozen=True, slots=True)
class NumberStyle:
    """Which mark the document uses before decimals, and whether any number proved it."""

    decimal: str = "."
    certain: bool = False


def clean(text: str) -> str:
    """The text with compatibility forms, odd spaces, odd apostrophes and odd minus signs made ordinary."""
    return unicodedata.normalize("NFKC", text.translate(_ORDINARY)).translate(_ORDINARY).strip()


def decide(texts: Iterable[str]) -> NumberStyle:
    """The document's decimal mark, by the majority of the numbers that can only be read one way."""
    votes = {".": 0, ",": 0}
    hints = {".": 0, ",": 0}
    for text in texts:
        for number in _NUMBER.findall(clean(text)):
            mark = _own_mark(number)
            if mark:
                votes[mark] += 1
            elif _GROUPED.fullmatch(number) and "," in number:
                hints["."] += 1
    if votes["."] != votes[","]:
        return NumberStyle("." if votes["."] > votes[","] else ",", certain=True)
    return NumberStyle("." if hints["."] >= hints[","] else ",", certain=False)


def parse(text: str, style: NumberStyle) -> Decimal | None:
    """The amount that is the whole text, or None. Understands currency, "(1,200.00)", "-$50.00", "50,00-"."""
    found = _AMOUNT.fullmatch(clean(text))
    if found is None or bool(found["open"]) != bool(found["close"]):
        return None
    value = _number(found["number"], style)
    if value is None:
        return None
    negative = found["open"] or "-" in ((found["minus"] or "") + (found["minus2"] or "") + (found["trailing"] or ""))
    return -value if negative else value


def find_last(text: str, style: NumberStyle) -> Decimal | None:
    """The last amount in a text, percentages left out: the value of "Tax (8.5%): $70.32"."""
    for found in reversed(_FOUND.findall(clean(text))):
        value = parse(found, style)
        if value is not None:
            return value
    return None


def currency_of(text: str) -> str:
    """The ISO code a text names by code or by sign, empty if none or if it is only a sign many countries share."""
    cleaned = clean(text)
    for word in re.finditer(r"\b[A-Z]{3}\b", cleaned):
        if word[0] in CURRENCIES:
            return word[0]
    return next((code for sign, code in SIGNS.items() if sign in cleaned), "")


def _own_mark(number: str) -> str:
    """The decimal mark this number alone proves, empty if it could be read both ways or has none."""
    marks = [character for character in number if character in ".,"]
    if not marks:
        return ""
    last, other = marks[-1], "," if marks[-1] == "." else "."
    if len(marks) == 1:
        head, _, tail = number.partition(last)
        grouped_otherwise = " " in number or "'" in number
        ambiguous = len(tail) == _GROUP and head not in ("", "0") and len(head) <= _GROUP
        return "" if ambiguous and not grouped_otherwise else last
    if len(set(marks)) == 1:
        return other
    return last if marks.count(last) == 1 else ""


def _number(text: str, style: NumberStyle) -> Decimal | None:
    digits = re.sub(r"[' ]", "", text)
    mark = _own_mark(digits) or style.decimal
    other = "," if mark == "." else "."
    whole, _, fraction = digits.partition(mark)
    if mark in fraction or other in fraction or not _well_grouped(whole, other):
        return None
    digits = whole.replace(other, "")
    if len(digits) + len(fraction) > _MAX_DIGITS:
        return None
    return Decimal(f"{digits or '0'}.{fraction}" if fraction else digits)


def _well_grouped(whole: str, mark: str) -> bool:
    first, *groups = whole.split(mark)
    return all(len(group) == _GROUP for group in groups) and (not groups or 0 < len(first) <= _GROUP)
