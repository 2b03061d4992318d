"""Dates as printed; 03/04 is decided once for the whole document."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.reading.dates import DateStyle, decide, find

DAY_FIRST, MONTH_FIRST = DateStyle(day_first=True), DateStyle()


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-04",
        "2026/03/04",
        "20260304",
        "04.03.2026",
        "4 March 2026",
        "March 4, 2026",
        "Mar 4th, 2026",
        "04-Mar-26",
        "4. März 2026",
        "4 mars 2026",
        "4 maart 2026",
        "4 de marzo de 2026",
        "4 marzo 2026",
        "Order date: 2026-03-04T10:00:00Z",
    ],
)
def test_a_date_that_can_be_read_in_one_way_only(text: str) -> None:
    assert find(text, MONTH_FIRST) == (date(2026, 3, 4), True)


def test_an_ambiguous_date_follows_the_document_and_says_so() -> None:
    assert find("03/04/2026", DAY_FIRST) == (date(2026, 4, 3), False)
    assert find("03/04/2026", MONTH_FIRST) == (date(2026, 3, 4), False)
    assert find("13/04/2026", MONTH_FIRST) == (date(2026, 4, 13), True)


def test_one_clear_date_decides_for_the_others() -> None:
    assert decide(["03/04/2026", "28/02/2026"]) == DateStyle(day_first=True, certain=True)
    assert decide(["03/04/2026", "02/28/2026"]) == DateStyle(day_first=False, certain=True)
    assert decide(["03/04/2026"], "EUR") == DateStyle(day_first=True)
    assert decide(["03/04/2026"], decimal_comma=True) == DateStyle(day_first=True)
    assert decide(["03/04/2026"], "USD") == DateStyle()


@pytest.mark.parametrize("text", ["", "Net 30", "99/99/2026", "2026-13-40", "PO-2026-0117", "0303/2026"])
def test_what_is_no_date_is_none(text: str) -> None:
    assert find(text, MONTH_FIRST) is None


@given(st.text(max_size=40))
def test_no_text_breaks_the_finder(text: str) -> None:
    find(text, MONTH_FIRST)
    decide([text])
