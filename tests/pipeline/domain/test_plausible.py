from __future__ import annotations

from typing import Any

import pytest

from pipeline.domain.plausible import plausible
from tests.pipeline.domain.printed import line, order


@pytest.mark.parametrize(
    "fields",
    [
        {"quantity": "1E+999999"},
        {"quantity_shipped": "1000001"},
        {"unit_cost": "1E-30"},
        {"unit_cost": "-4.50"},
        {"retail_price": "2000000000"},
        {"line_total": "-9E+99"},
        {"pack_size": 0},
        {"pack_size": 999_999},
    ],
)
def test_a_number_no_line_contains_is_taken_out_and_named(fields: dict[str, Any]) -> None:
    cleaned, (doubt,) = plausible(order(line(**fields)))
    (name,) = fields
    assert getattr(cleaned.lines[0], name) is None
    assert (doubt.code, doubt.line, doubt.blocking) == ("implausible_number", 1, True)
    assert name.replace("_", " ") in doubt.message


def test_a_total_no_order_has_is_taken_out() -> None:
    cleaned, (doubt,) = plausible(order(total="1E+40"))
    assert (cleaned.total, doubt.line) == (None, None)


def test_lines_that_share_a_position_get_positions_of_their_own() -> None:
    cleaned, doubts = plausible(order(line(0), line(0, sku="B")))
    assert ([one.position for one in cleaned.lines], doubts) == ([1, 2], ())


def test_an_ordinary_order_is_left_as_it_is() -> None:
    printed = order(line(quantity="-3", line_total="-13.50", pack_size=12), discount="-5", total="40.00")
    assert plausible(printed) == (printed, ())
