"""How many are coming, and what one costs: the two numbers a shop is hurt by most."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain.purchase_order import DocumentKind
from pipeline.domain.quantities import amounts_to, expected, pack_size, retail_units
from tests.pipeline.domain.printed import line

ORDER, INVOICE = DocumentKind.PURCHASE_ORDER, DocumentKind.INVOICE


def units(kind: DocumentKind = ORDER, **fields: Any) -> tuple[int, str, list[str]]:
    """Retail units, the cost of one, and the codes of the blocking doubts."""
    found = retail_units(line(**fields), kind)
    return found.quantity, str(found.unit_cost), [doubt.code for doubt in found.doubts if doubt.blocking]


def test_two_cases_of_twelve_are_twenty_four_units_at_a_twelfth_of_the_price() -> None:
    found = retail_units(line(quantity="2", unit="Case of 12", unit_cost="5.88", line_total="11.76"), ORDER)
    assert (found.quantity, found.unit_cost, found.packs) == (24, Decimal("0.4900"), "2 cases x 12 = 24 units")
    assert not found.doubts


def test_a_count_in_the_name_is_the_article_a_customer_takes_home() -> None:
    assert units(quantity="10", description="Tea bags, 24 ct", unit_cost="3.20", line_total="32") == (10, "3.20", [])
    assert units(quantity="10", description="Tea bags", unit="24 ct", unit_cost="3.20") == (10, "3.20", [])


def test_a_box_of_chocolates_is_no_question_but_a_case_of_them_is() -> None:
    assert units(description="Box of 24 chocolates")[2] == []
    assert units(description="Chocolates, case of 24")[2] == ["pack_unsure"]
    assert units(description="Chocolates, case of 24", unit="each")[2] == []


@pytest.mark.parametrize(
    ("unit", "column", "text", "size"),
    [
        ("CS12", None, "", 12),
        ("12/CS", None, "", 12),
        ("case (12)", None, "", 12),
        ("Dozen", None, "", 12),
        ("DZN", 6, "", 12),
        ("gross", None, "", 144),
        ("Stück", 12, "", None),
        ("C62", 12, "", None),
        ("each", 12, "", None),
        ("case", 6, "", 6),
        ("case", None, "Jam, case of 6", 6),
        ("case", None, "Jam", None),
        ("", 6, "", 6),
        ("", 1, "", None),
        ("", None, "Jam, case of 6", None),
    ],
)
def test_a_pack_is_read_from_the_unit_of_measure_or_the_pack_column(
    unit: str, column: int | None, text: str, size: int | None
) -> None:
    assert pack_size(line(unit=unit, pack_size=column, description=text)) == size


def test_where_the_single_unit_is_priced_only_the_quantity_is_multiplied() -> None:
    assert units(quantity="2", unit="case", pack_size=12, unit_cost="0.49", line_total="11.76") == (24, "0.49", [])
    assert units(quantity="2", pack_size=12, unit_cost="0.49", line_total="11.76") == (24, "0.49", [])


def test_a_pack_column_alone_does_not_multiply_single_units() -> None:
    assert units(quantity="24", pack_size=12, unit_cost="0.49", line_total="11.76") == (24, "0.49", ["pack_unsure"])


def test_fewer_than_a_pack_holds_must_be_packs() -> None:
    assert units(quantity="2", pack_size=12, unit_cost="5.88", line_total="11.76") == (24, "0.4900", [])


def test_a_cost_above_its_own_retail_price_is_the_cost_of_the_pack() -> None:
    fields = {"quantity": "24", "pack_size": 12, "unit_cost": "5.88", "line_total": "141.12"}
    assert units(**fields, retail_price="0.99") == (288, "0.4900", [])
    assert units(**fields, retail_price="9.99")[2] == ["pack_unsure"]


def test_a_pack_no_sum_confirms_is_multiplied_and_said() -> None:
    found = retail_units(line(quantity="1", unit="case", pack_size=6, unit_cost="12"), ORDER)
    assert (found.quantity, found.packs) == (6, "1 case x 6 = 6 units")
    assert [(doubt.code, doubt.blocking) for doubt in found.doubts] == [("pack_unconfirmed", False)]


def test_a_case_of_unknown_size_is_a_question() -> None:
    assert units(unit="case") == (10, "4.50", ["pack_unsure"])
    assert units(unit="box") == (10, "4.50", [])


def test_a_pack_with_only_a_total_is_priced_from_it() -> None:
    assert units(quantity="2", unit="box", pack_size=10, unit_cost=None, line_total="30") == (20, "1.5000", [])
    assert retail_units(line(quantity="2", unit="box of 10"), ORDER).packs == "2 boxes x 10 = 20 units"
    assert retail_units(line(quantity="2", unit="dozens", pack_size=12), ORDER).packs == "2 dozens x 12 = 24 units"


def test_a_line_without_unit_cost_is_priced_from_its_total() -> None:
    assert units(quantity="3", unit_cost=None, line_total="10") == (3, "3.3333", [])
    assert units(quantity="0", unit_cost=None, line_total="10") == (0, "None", [])
    assert units(quantity="3", unit_cost=None) == (3, "None", [])


def test_half_a_unit_is_a_question_in_packs_and_out_of_them() -> None:
    assert units(quantity="2.5", unit="kg") == (2, "4.50", ["fractional_quantity"])
    assert units(quantity="0.4", unit="case", pack_size=12)[2] == ["fractional_quantity"]
    assert units(quantity="0.5", unit="case", pack_size=12)[::2] == (6, [])


def test_a_missing_or_negative_quantity_announces_nothing() -> None:
    assert units(quantity=None) == (0, "4.50", ["no_quantity"])
    assert units(quantity="-2") == (0, "4.50", ["return_line"])
    assert units(quantity="-2", quantity_backordered="0") == (0, "4.50", ["return_line"])


def test_packs_beyond_belief_announce_nothing() -> None:
    assert units(quantity="500000", unit="case", pack_size=144)[::2] == (0, ["implausible_number"])


def test_an_invoice_brings_what_was_shipped_an_order_what_was_ordered() -> None:
    both = line(quantity="10", quantity_shipped="6", quantity_backordered="4")
    assert expected(both, INVOICE) == 6
    assert expected(line(quantity="10", quantity_shipped="6"), ORDER) == 10
    assert expected(line(quantity="10", quantity_invoiced="7"), INVOICE) == 7
    assert expected(line(quantity=None, quantity_shipped="6"), ORDER) == 6


@pytest.mark.parametrize(("ordered", "late", "coming"), [("10", "4", 6), ("10", "10", 0), ("2", "5", 0)])
def test_backorders_are_not_coming_yet(ordered: str, late: str, coming: int) -> None:
    assert expected(line(quantity=ordered, quantity_backordered=late), ORDER) == coming


@given(st.integers(1, 500), st.integers(2, 144), st.decimals("0.01", "999.99", places=2))
def test_multiplying_a_pack_out_keeps_the_money(cases: int, size: int, cost: Decimal) -> None:
    total = cases * cost
    found = retail_units(line(quantity=str(cases), unit=f"Case of {size}", unit_cost=cost, line_total=total), ORDER)
    assert found.quantity == cases * size
    assert found.unit_cost is not None
    assert abs(found.quantity * found.unit_cost - total) <= found.quantity * Decimal("0.00005")


@given(st.integers(1, 10_000), st.decimals("0.001", "999.999", places=3))
def test_a_total_computed_from_unrounded_cents_still_agrees(quantity: int, true_cost: Decimal) -> None:
    printed = round(true_cost, 2)
    total = round(quantity * true_cost, 2)
    if abs(quantity * printed - total) <= total / 100:
        assert amounts_to(Decimal(quantity), printed, total)


def test_a_total_that_is_a_percent_off_does_not_agree() -> None:
    assert not amounts_to(Decimal(1000), Decimal("1.00"), Decimal("1015.00"))
    assert not amounts_to(Decimal(2), Decimal("3.125"), Decimal("6.27"))
