"""Real documents of other people (tests/data/documents, with manifest): what must not get worse."""

from __future__ import annotations

import json
from decimal import Decimal
from hashlib import sha256

import pytest

from pipeline.domain.purchase_order import DocumentKind, ExtractedOrder
from pipeline.reading import read
from tests.pipeline.reading.score import DOCUMENTS, EXPECTED, score


@pytest.mark.parametrize("name", EXPECTED)
def test_a_real_document_is_read_in_full(name: str) -> None:
    result = score(name)
    assert result.wrong == ()
    assert result.f1 == 1.0


def test_the_documents_are_those_of_the_manifest() -> None:
    for entry in json.loads((DOCUMENTS / "manifest.json").read_text(encoding="utf-8")):
        assert sha256((DOCUMENTS / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]


def test_a_stock_report_is_named_and_none_of_its_rows_is_an_order_line() -> None:
    order = order_of("md-SPARSE-2024-INV-1234_borderless_table.pdf")
    assert (order.kind, order.lines) == (DocumentKind.STOCK_REPORT, ())


def test_a_statement_is_named_and_holds_no_lines() -> None:
    order = order_of("azure-invoice-1.pdf")
    assert (order.kind, order.lines, order.number) == (DocumentKind.STATEMENT, (), "2468")
    assert (order.supplier.name, order.buyer.name) == ("Contoso, Ltd.", "Fabrikam Residences")
    assert order.total == Decimal(4950)


def test_japanese_text_is_decoded_and_a_list_of_people_is_no_order() -> None:
    outcome = read((DOCUMENTS / "cp932.csv").read_bytes(), [])
    assert "名前,年齢,住所".replace(",", " ") in outcome.text
    assert outcome.order is not None
    assert (outcome.order.kind, outcome.order.lines) == (DocumentKind.UNKNOWN, ())


def test_an_edifact_order_without_names_keeps_location_numbers_and_says_it_is_unsure() -> None:
    order = order_of("edifact-orders.edi")
    assert (order.kind, order.number) == (DocumentKind.PURCHASE_ORDER, "801715918011")
    assert [(line.gtin, line.quantity) for line in order.lines] == [("5020436373085", 8), ("5020436373108", 8)]
    assert order.supplier.name == "GLN 5020436000004"
    assert order.evidence["supplier"].confidence < 0.8


def order_of(name: str) -> ExtractedOrder:
    order = read((DOCUMENTS / name).read_bytes(), []).order
    assert order is not None
    return order
