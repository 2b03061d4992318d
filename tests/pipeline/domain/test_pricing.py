from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain.merchant import CategoryRule, ExchangeRate, MerchantSettings, Rounding
from pipeline.domain.pricing import finish, price_order
from pipeline.domain.results import NormalizedOrder, PricedLine
from tests.pipeline.domain.printed import goods


def priced(currency: str = "USD", settings: dict[str, Any] | None = None, **fields: Any) -> PricedLine:
    order = NormalizedOrder(currency=currency, lines=(goods(**fields),))
    return price_order(order, MerchantSettings(**(settings or {}))).lines[0]


@pytest.mark.parametrize(
    ("price", "rounding", "finished"),
    [
        ("15.00", "x.99", "15.99"),
        ("14.99", "x.99", "14.99"),
        ("0.10", "x.99", "0.99"),
        ("9.96", "x.95", "10.95"),
        ("9.95", "x.95", "9.95"),
        ("9.01", "whole", "10.00"),
        ("9.014", "none", "9.01"),
    ],
)
def test_a_price_is_finished_upwards(price: str, rounding: str, finished: str) -> None:
    assert str(finish(Decimal(price), Rounding(rounding), "USD")) == finished


def test_yen_have_no_cents_to_end_on() -> None:
    assert str(finish(Decimal("150.2"), Rounding.CENTS_99, "JPY")) == "151"


@given(st.decimals(min_value="0.01", max_value=10**6, places=4), st.sampled_from([r for r in Rounding if r != "none"]))
def test_finishing_never_eats_into_the_markup_and_never_adds_a_whole_unit(price: Decimal, rounding: Rounding) -> None:
    assert 0 <= finish(price, rounding, "USD") - price < 1


def test_the_markup_multiplies_the_cost() -> None:
    line = priced(unit_cost=Decimal("4.50"), settings={"markup": Decimal("2.5")})
    assert (line.price, line.unit_cost) == (Decimal("11.99"), Decimal("4.50"))
    assert line.price_rule == "cost x 2.5, finished to x.99"
    assert priced(settings={"rounding": "none"}).price_rule == "cost x 2.0"


def test_a_printed_retail_price_beats_the_markup() -> None:
    line = priced(retail_price=Decimal("12.50"))
    assert (line.price, line.price_rule) == (Decimal("12.50"), "printed retail price")


def test_a_foreign_cost_is_converted_at_a_dated_rate() -> None:
    settings = {"exchange_rates": {"EUR": ExchangeRate(rate=Decimal("1.1"), on=date(2026, 11, 2))}}
    line = priced("EUR", settings, unit_cost=Decimal(10))
    assert (line.unit_cost, line.price) == (Decimal("11.00"), Decimal("22.99"))
    assert line.price_rule == "cost x 2.0, finished to x.99, EUR at 1.1 of 2026-11-02"
    assert priced("EUR", settings, retail_price=Decimal(20)).price == Decimal("22.99")


def test_a_foreign_cost_without_a_rate_is_empty_never_the_same_number_in_dollars() -> None:
    order = price_order(NormalizedOrder(currency="EUR", lines=(goods(1), goods(2))), MerchantSettings())
    assert [(line.unit_cost, line.price) for line in order.lines] == [(None, None)] * 2
    assert [(doubt.code, doubt.blocking) for doubt in order.doubts] == [("no_exchange_rate", True)]
    assert order.currency == "USD"


@pytest.mark.parametrize("cost", [None, Decimal(0)])
def test_without_a_cost_there_is_no_price_to_make_up(cost: Decimal | None) -> None:
    line = priced(unit_cost=cost)
    assert (line.price, line.price_rule) == (None, "no price: no cost")


def test_a_retail_price_below_cost_looks_like_a_case_price() -> None:
    line = goods(unit_cost=Decimal("5.88"), retail_price=Decimal("0.99"))
    order = price_order(NormalizedOrder(currency="USD", lines=(line,)), MerchantSettings())
    assert [(doubt.code, doubt.line) for doubt in order.doubts] == [("price_below_cost", 1)]


def test_the_first_rule_whose_word_stands_in_the_text_gives_type_and_tags() -> None:
    rules = (
        CategoryRule(keywords=("", "mugshot"), product_type="Photo"),
        CategoryRule(keywords=("cup", "MUG"), product_type="Kitchen", tags=("ceramic", "new")),
        CategoryRule(keywords=("mug",), product_type="Other"),
    )
    line = priced(settings={"categories": rules, "default_tags": ("new",)})
    assert (line.product_type, line.tags) == ("Kitchen", ("new", "ceramic"))
