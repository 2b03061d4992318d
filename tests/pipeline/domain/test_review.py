"""When a person must look: sums, sureness, and a merchant's wish."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain.merchant import MerchantSettings
from pipeline.domain.purchase_order import DocumentKind, Doubt, Evidence, ExtractedLine, LineKind
from pipeline.domain.review import check_confidence, check_lines, check_order, check_totals, reasons_to_review
from tests.pipeline.domain.printed import line, order

FREIGHT = line(9, kind=LineKind.CHARGE, quantity="1", unit_cost="35.00")
DISCOUNT = line(8, kind=LineKind.DISCOUNT, quantity=None, unit_cost=None, line_total="-5.00")


def codes(doubts: tuple[Doubt, ...]) -> list[str]:
    return [doubt.code for doubt in doubts]


@pytest.mark.parametrize(
    ("lines", "fields"),
    [
        ([line()], {"total": "45.00"}),
        ([line()], {"total": "45.02"}),
        ([line()], {"subtotal": "45.00", "tax": "4.50", "total": "49.50"}),
        ([line()], {"freight": "35", "total": "80.00", "subtotal": "45"}),
        ([line(), FREIGHT], {"total": "80.00", "subtotal": "80.00"}),
        ([line(), FREIGHT], {"freight": "35.00", "total": "80.00"}),
        ([line(), FREIGHT], {"freight": "2.00", "total": "82.00"}),
        ([line(), DISCOUNT], {"total": "40.00", "subtotal": "45.00"}),
        ([line(), DISCOUNT], {"discount": "5.00", "total": "40.00", "subtotal": "40.00"}),
        ([line()], {"discount": "-5.00", "freight": "1", "tax": "4", "total": "45.00"}),
        ([line(line_total="44.00")], {"total": "44.00"}),
        ([line(quantity="10", quantity_invoiced="6")], {"total": "27.00"}),
        ([line(quantity=None)], {}),
    ],
)
def test_totals_that_add_up_raise_no_doubt(lines: list[ExtractedLine], fields: dict[str, Any]) -> None:
    assert check_totals(order(*lines, **fields)) == ()


def test_an_invoice_bills_what_was_shipped_an_order_what_was_ordered() -> None:
    short = line(quantity="10", quantity_shipped="6", quantity_backordered="4")
    assert check_totals(order(short, kind=DocumentKind.INVOICE, total="27.00")) == ()
    assert codes(check_totals(order(short, total="27.00"))) == ["totals_mismatch"]


def test_totals_that_do_not_add_up_say_the_arithmetic() -> None:
    (doubt,) = check_totals(order(line(), discount="5", freight="35", tax="1", total="1275.00"))
    assert (doubt.code, doubt.blocking) == ("totals_mismatch", True)
    assert doubt.message.startswith("lines 45.00 + charges 35.00 - discount 5.00 + tax 1.00 = 76.00")
    assert "but the total says 1,275.00" in doubt.message
    (plain,) = check_totals(order(line(), total="99"))
    assert plain.message.startswith("The lines add up to 45.00, but the total says 99.00.")


def test_a_subtotal_is_checked_too() -> None:
    (doubt,) = check_totals(order(line(), subtotal="50.00"))
    assert (doubt.code, "45.00" in doubt.message) == ("totals_mismatch", True)


def test_lines_that_hold_the_tax_already_are_told_from_lines_that_do_not_add_up() -> None:
    assert codes(check_totals(order(line(), tax="7.18", total="45.00"))) == ["gross_prices"]


def test_a_total_of_unpriced_lines_cannot_be_checked_and_that_is_said() -> None:
    (doubt,) = check_totals(order(line(1), line(2, unit_cost=None), total="45"))
    assert (doubt.code, "line 2" in doubt.message) == ("totals_unchecked", True)


@given(st.lists(st.tuples(st.integers(1, 500), st.decimals("0.01", "500", places=2)), min_size=1, max_size=20))
def test_any_honest_sum_passes_and_a_lost_line_does_not(rows: list[tuple[int, Decimal]]) -> None:
    lines = [line(at, quantity=str(count), unit_cost=cost) for at, (count, cost) in enumerate(rows, 1)]
    total = sum((count * cost for count, cost in rows), Decimal(0))
    assert check_totals(order(*lines, total=total)) == ()
    lost = Decimal("100.00")
    assert codes(check_totals(order(*lines, total=total + lost))) == ["totals_mismatch"]


@pytest.mark.parametrize(
    "fields",
    [
        {"line_total": "45.00"},
        {"quantity_shipped": "6", "line_total": "27.00"},
        {"unit": "case", "pack_size": 12, "line_total": "540.00"},
        {"unit_cost": None, "line_total": "45.00"},
        {"kind": LineKind.NOTE, "line_total": "1.00"},
        {"quantity": None, "line_total": "1.00"},
        {},
    ],
)
def test_a_line_that_adds_up_raises_no_doubt(fields: dict[str, Any]) -> None:
    assert check_lines([line(**fields)]) == ()


def test_a_line_that_does_not_add_up_says_its_arithmetic() -> None:
    (doubt,) = check_lines([line(3, line_total="54.00")])
    assert (doubt.code, doubt.line, doubt.blocking) == ("line_mismatch", 3, True)
    assert doubt.message == "Line 3: 10 x 4.50 = 45.00, but the line says 54.00."


def test_what_was_read_unsurely_is_named() -> None:
    settings = MerchantSettings(confidence_threshold=0.8)
    unsure = line(2, evidence=Evidence(confidence=0.5, where="page 1"))
    doubts = check_confidence(order(line(1), unsure, kind_confidence=0.7), settings)
    assert [(doubt.code, doubt.line) for doubt in doubts] == [("low_confidence", None), ("low_confidence", 2)]
    assert "70%" in doubts[0].message
    assert check_confidence(order(), settings) == ()


def test_a_sound_order_raises_nothing_at_all() -> None:
    assert check_order(order(line(line_total="45"), total="45"), MerchantSettings()) == ()


BLOCKING = Doubt(code="totals_mismatch", message="no")
ASIDE = Doubt(code="invalid_gtin", message="hm", blocking=False)


def test_a_merchant_reviews_everything_unless_told_otherwise() -> None:
    reasons = reasons_to_review(MerchantSettings(), (), confirmed_orders=99)
    assert codes(reasons) == ["merchant_reviews_all"]


def test_with_automatic_approval_only_a_blocking_doubt_stops_an_order() -> None:
    settings = MerchantSettings(auto_approve=True)
    assert reasons_to_review(settings, (ASIDE,), confirmed_orders=0) == ()
    assert codes(reasons_to_review(settings, (ASIDE, BLOCKING, ASIDE), confirmed_orders=0)) == [
        "totals_mismatch",
        "invalid_gtin",
        "new_supplier",
    ]


def test_a_suppliers_first_orders_are_pointed_out() -> None:
    settings = MerchantSettings(review_first_orders=3)
    assert codes(reasons_to_review(settings, (), confirmed_orders=2)) == ["merchant_reviews_all", "new_supplier"]
    assert codes(reasons_to_review(settings, (), confirmed_orders=3)) == ["merchant_reviews_all"]
