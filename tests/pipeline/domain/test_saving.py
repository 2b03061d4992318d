from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from pipeline.domain.purchase_order import ExtractedOrder, Party
from pipeline.domain.results import OrderToSave, ParsedDocument
from pipeline.domain.saving import content_hash, order_to_save
from tests.pipeline.domain.printed import line, merchant, order

SHA = "a" * 64


def save(printed: ExtractedOrder) -> OrderToSave:
    return order_to_save(ParsedDocument(order=printed, sha256=SHA), merchant(), ())


def test_an_order_is_kept_as_printed_under_the_number_people_know() -> None:
    saved = save(order(number=" PO 7 ", total="45.00"))
    assert (saved.number, saved.key, saved.total, saved.currency) == ("PO 7", "PO 7", Decimal("45.00"), "USD")
    assert (saved.supplier.normalized_name, saved.doubts) == ("acme pottery", ())


def test_an_order_without_a_number_is_known_by_its_bytes_and_a_person_looks() -> None:
    saved = save(order(number=" "))
    assert (saved.number, saved.key) == ("", f"document:{SHA}")
    assert [(doubt.code, doubt.blocking) for doubt in saved.doubts] == [("no_order_number", True)]


def test_everything_doubtful_is_kept_with_the_order() -> None:
    saved = save(order(line(unit_cost="-1"), supplier=Party(name="Harbour Goods"), total="50"))
    assert [doubt.code for doubt in saved.doubts] == [
        "supplier_is_own_shop",
        "no_supplier",
        "implausible_number",
        "totals_unchecked",
    ]
    assert saved.lines[0].unit_cost is None


SAID = order(line(1), line(2, options={"Size": "M", "Color": "Navy"}), total="90.00")


@pytest.mark.parametrize(
    "same",
    [
        SAID.model_copy(update={"lines": SAID.lines[::-1]}),
        SAID.model_copy(update={"total": Decimal("90.0"), "currency": "usd", "reader": "pdf", "confidence": 0.5}),
        order(line(1, description="MUG  1"), line(2, options={"color": "navy", "Size": "M"}), total="90"),
    ],
)
def test_the_same_content_in_another_layout_is_no_revision(same: ExtractedOrder) -> None:
    assert content_hash(same, "acme") == content_hash(SAID, "acme")


@pytest.mark.parametrize(
    "fields",
    [{"quantity": "11"}, {"unit_cost": "4.51"}, {"sku": "MUG-9"}, {"pack_size": 6}, {"quantity_shipped": "10"}],
)
def test_another_quantity_price_or_article_is_a_revision(fields: dict[str, Any]) -> None:
    changed = order(line(1, **fields), SAID.lines[1], total="90.00")
    assert content_hash(changed, "acme") != content_hash(SAID, "acme")


def test_the_same_content_of_another_supplier_or_in_another_currency_is_not_the_same() -> None:
    assert content_hash(SAID, "acme") != content_hash(SAID, "borealis")
    assert content_hash(SAID, "acme") != content_hash(SAID.model_copy(update={"currency": "EUR"}), "acme")
