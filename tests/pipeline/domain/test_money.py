from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain.money import currency_code, round_money, round_unit_cost


@pytest.mark.parametrize(
    ("printed", "shop", "code"),
    [
        ("usd", "EUR", "USD"),
        (" EUR ", "USD", "EUR"),
        ("€", "USD", "EUR"),
        ("C$", "USD", "CAD"),
        ("Euro", "USD", "EUR"),
        ("$", "USD", "USD"),
        ("$", "CAD", "CAD"),
        ("$", "EUR", None),
        ("dollars", "USD", None),
        ("", "USD", None),
    ],
)
def test_a_currency_is_its_code_or_nobody_knows(printed: str, shop: str, code: str | None) -> None:
    assert currency_code(printed, shop) == code


@pytest.mark.parametrize(
    ("amount", "currency", "rounded"),
    [("1.005", "USD", "1.01"), ("1.004", "EUR", "1.00"), ("149.5", "JPY", "150"), ("1.2345", "KWD", "1.235")],
)
def test_an_amount_has_as_many_decimals_as_its_currency(amount: str, currency: str, rounded: str) -> None:
    assert str(round_money(Decimal(amount), currency)) == rounded


@given(st.decimals(min_value=0, max_value=10**6, places=4), st.integers(min_value=1, max_value=1000))
def test_dividing_a_case_loses_less_than_a_cent_per_hundred_units(cost: Decimal, size: int) -> None:
    assert abs(round_unit_cost(cost / size) * size - cost) <= Decimal("0.00005") * size
