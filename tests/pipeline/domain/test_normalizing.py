from __future__ import annotations

from decimal import Decimal

import pytest

from pipeline.domain.normalizing import is_charge, normalize
from pipeline.domain.purchase_order import DocumentKind, Evidence, ExtractedLine, LineKind
from pipeline.domain.results import NormalizedOrder
from tests.pipeline.domain.printed import line, saved


def codes(order: NormalizedOrder) -> list[str]:
    return [doubt.code for doubt in order.doubts]


def test_a_line_becomes_clean_and_keeps_its_facts() -> None:
    printed = line(
        sku=" mug-1 ",
        gtin="4006381333931",
        description="  Mug   blue",
        product_name="Mug",
        options={" Color ": " Blue", "Size": " "},
        retail_price="9.90",
        image_url=" https://acme.test/1.jpg ",
        evidence=Evidence(confidence=0.9, where="row 2"),
    )
    (found,) = normalize(saved(printed), "USD").lines
    assert (found.sku, found.gtin, found.name, found.product_name) == ("mug-1", "4006381333931", "Mug blue", "Mug")
    assert (found.options, found.quantity, found.unit_cost) == ({"Color": "Blue"}, 10, Decimal("4.50"))
    assert (found.retail_price, found.image_url, found.confidence) == (
        Decimal("9.90"),
        "https://acme.test/1.jpg",
        0.9,
    )


@pytest.mark.parametrize("kind", [LineKind.CHARGE, LineKind.DISCOUNT, LineKind.DEPOSIT, LineKind.NOTE])
def test_only_goods_become_products(kind: LineKind) -> None:
    order = normalize(saved(line(1), line(2, kind=kind)), "USD")
    assert [found.position for found in order.lines] == [1]
    assert not order.doubts


def test_free_goods_are_not_announced_and_that_is_said() -> None:
    order = normalize(saved(line(1, kind=LineKind.FREE_GOODS)), "USD")
    assert (order.lines, codes(order), order.doubts[0].blocking) == ((), ["free_goods"], False)


@pytest.mark.parametrize("text", ["Freight", "Shipping & Handling", "Frais de port", "Fuel surcharge", "Versandkosten"])
def test_freight_is_no_product_whatever_the_reader_called_it(text: str) -> None:
    order = normalize(saved(line(description=text, sku="")), "USD")
    assert (order.lines, codes(order)) == ((), ["charge_line"])


@pytest.mark.parametrize("text", ["Shipping boxes 30x30", "Costs and fees", "Port wine", "Delivery van, toy"])
def test_goods_that_speak_of_shipping_are_goods(text: str) -> None:
    assert not is_charge(line(description=text))
    assert not is_charge(line(description="Freight", gtin="4006381333931"))


def test_a_line_without_name_or_code_is_a_question() -> None:
    order = normalize(saved(ExtractedLine(position=4, quantity=Decimal(1))), "USD")
    assert (order.lines, codes(order), order.doubts[0].blocking) == ((), ["nameless_line"], True)


def test_a_line_is_called_by_what_it_has() -> None:
    bare = {"description": "", "product_name": ""}
    printed = (
        line(1, **bare, sku="A1"),
        line(2, **bare, sku="", gtin="4006381333931"),
        line(3, description="", product_name="Mug"),
    )
    assert [found.name for found in normalize(saved(*printed), "USD").lines] == ["A1", "4006381333931", "Mug"]


def test_a_document_without_currency_is_taken_in_the_shops_and_that_is_said() -> None:
    order = normalize(saved(currency=" "), "EUR")
    assert (order.currency, codes(order), order.doubts[0].blocking) == ("EUR", ["currency_assumed"], False)


def test_a_currency_nobody_can_name_is_a_question() -> None:
    order = normalize(saved(currency="$"), "EUR")
    assert (order.currency, codes(order), order.doubts[0].blocking) == ("$", ["unknown_currency"], True)


def test_a_backorder_is_not_announced_and_that_is_said() -> None:
    printed = line(quantity="10", quantity_shipped="6", quantity_backordered="4")
    order = normalize(saved(printed, kind=DocumentKind.INVOICE), "USD")
    assert (order.lines[0].quantity, codes(order)) == (6, ["backordered"])
    assert order.doubts[0].message == "Line 1: 4 are on backorder and were not announced."


def test_the_orders_own_total_confirms_a_pack_without_line_totals() -> None:
    printed = line(quantity="2", pack_size=12, unit_cost="5.88")
    confirmed = normalize(saved(printed, total="11.76"), "USD")
    assert (confirmed.lines[0].quantity, codes(confirmed)) == (24, [])
    assert codes(normalize(saved(printed), "USD")) == ["pack_unsure"]
    assert codes(normalize(saved(printed, total="141.12"), "USD")) == ["pack_unsure"]


def test_damaged_codes_are_told_with_their_line() -> None:
    order = normalize(saved(line(3, sku="4.01E+12", gtin="123")), "USD")
    assert [(doubt.code, doubt.line) for doubt in order.doubts] == [("damaged_sku", 3), ("invalid_gtin", 3)]
