"""Numbers as printed: the sign and the decimal mark survive, whatever the country."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.reading.amounts import NumberStyle, currency_of, decide, find_last, parse

POINT, COMMA = NumberStyle("."), NumberStyle(",")
MONEY = st.decimals(min_value=Decimal("-99999999.99"), max_value=Decimal("99999999.99"), places=2)


@pytest.mark.parametrize(
    ("text", "style", "expected"),
    [
        ("0.125", POINT, "0.125"),
        ("0.125", COMMA, "0.125"),
        ("1.234", POINT, "1.234"),
        ("1.234", COMMA, "1234"),
        ("1,234", POINT, "1234"),
        ("1.234,50", POINT, "1234.50"),
        ("1,234.50", COMMA, "1234.50"),
        ("1 234,50", COMMA, "1234.50"),
        ("1\u202f234,50 €", COMMA, "1234.50"),
        ("1'234.50", POINT, "1234.50"),
        ("1.234.567", COMMA, "1234567"),
        ("(1,200.00)", POINT, "-1200.00"),
        ("-$50.00", POINT, "-50.00"),
        ("$-50.00", POINT, "-50.00"),
        ("50,00-", COMMA, "-50.00"),
        ("\u221212.50", POINT, "-12.50"),
        ("€ 9,90", POINT, "9.90"),
        ("USD 1,932", POINT, "1932"),
        (".75", POINT, "0.75"),
    ],
)
def test_a_printed_amount_is_read(text: str, style: NumberStyle, expected: str) -> None:
    assert parse(text, style) == Decimal(expected)


@pytest.mark.parametrize(
    "text", ["", "3 for $10", "12%", "A-12", "1,23,456.00.1", "(5.00", "12 units", "9" * 40, "NaN", "1e9"]
)
def test_what_is_no_amount_is_none(text: str) -> None:
    assert parse(text, POINT) is None


@given(MONEY, st.sampled_from([(",", "."), (".", ","), (" ", ","), ("'", "."), ("", "."), ("", ",")]))
def test_every_amount_survives_every_way_of_printing_it(amount: Decimal, marks: tuple[str, str]) -> None:
    group, mark = marks
    printed = f"{amount:,.2f}".replace(".", "\0").replace(",", group).replace("\0", mark)
    assert parse(printed, NumberStyle(mark)) == amount


@given(st.lists(MONEY, min_size=1, max_size=20), st.sampled_from([(",", "."), (".", ",")]))
def test_the_decimal_mark_is_found_by_any_number_that_proves_it(amounts: list[Decimal], marks: tuple[str, str]) -> None:
    group, mark = marks
    printed = [f"{amount:,.2f}".replace(".", "\0").replace(",", group).replace("\0", mark) for amount in amounts]
    assert decide(printed) == NumberStyle(mark, certain=True)


@given(st.text(max_size=60))
def test_no_text_breaks_the_parser(text: str) -> None:
    parse(text, POINT)
    find_last(text, COMMA)
    decide([text])
    currency_of(text)


def test_numbers_that_prove_nothing_leave_the_mark_uncertain() -> None:
    assert decide(["1,200", "24"]) == NumberStyle(".", certain=False)


def test_the_amount_of_a_tax_line_is_not_its_rate() -> None:
    assert find_last("Tax (8.5%): $70.32", POINT) == Decimal("70.32")
    assert find_last("BTW 21% € 124,61", COMMA) == Decimal("124.61")
    assert find_last("no amount here", POINT) is None


@pytest.mark.parametrize(
    ("text", "code"),
    [("$5.00", "USD"), ("CA$5.00", "CAD"), ("C$ 5", "CAD"), ("€ 5", "EUR"), ("5 CHF", "CHF"), ("5", "")],
)
def test_a_currency_is_known_by_code_or_sign(text: str, code: str) -> None:
    assert currency_of(text) == code
