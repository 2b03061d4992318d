"""Every sample is read as its truth says, and so are copies with other contents: nothing is known by heart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pipeline.domain.purchase_order import ExtractedLine, ExtractedOrder, LineKind
from pipeline.reading import ReadOutcome, read
from samples import make

SAMPLES = Path(make.__file__).parent
OWN_NAMES = ["Harbor & Pine", "Harbor & Pine LLC"]
BY_NAME = {sample.file: sample for sample in make.SAMPLES}
READABLE = [sample for sample in make.SAMPLES if sample.reason != "unreadable_without_model"]


def check(outcome: ReadOutcome, truth: dict[str, Any]) -> None:
    order = outcome.order
    assert order is not None, outcome.unreadable
    assert order.kind.value == truth["kind"]
    assert order.supplier.name == truth["supplier"]
    assert order.number == truth["number"]
    assert order.currency == truth["currency"]
    assert order.total == (None if truth["total"] is None else Decimal(truth["total"]))
    check_lines(order, truth["lines"])


def check_lines(order: ExtractedOrder, expected: Sequence[dict[str, Any]]) -> None:
    lines = {line.sku: line for line in order.lines}
    assert len(order.lines) == len(expected)
    assert [line.kind for line in order.lines] == [LineKind.GOODS] * len(expected)
    for truth in expected:
        check_line(lines[truth["sku"]], truth)


def check_line(line: ExtractedLine, truth: dict[str, Any]) -> None:
    assert line.quantity == truth["quantity"]
    assert line.unit_cost == Decimal(truth["unit_cost"])
    assert truth["description"].startswith(line.description) or line.description == truth["description"]
    assert (line.quantity_backordered or 0) == truth.get("backordered", 0)
    if truth.get("unit"):
        assert line.unit == truth["unit"]
    if line.options:
        assert line.options == truth["options"]
    for printed in ("image_url", "gtin"):
        assert getattr(line, printed) in ("", truth.get(printed, ""))


@pytest.mark.parametrize("sample", READABLE, ids=lambda sample: sample.file)
def test_a_sample_is_read_as_its_truth_says(sample: make.Sample) -> None:
    truth = json.loads((SAMPLES / f"{sample.file}.truth.json").read_text(encoding="utf-8"))
    check(read((SAMPLES / sample.file).read_bytes(), OWN_NAMES), truth)


def altered(sample: make.Sample) -> make.Sample:
    """Other supplier, number, quantities and costs in the same layout."""
    items = tuple(
        replace(item, quantity=item.quantity + 3 * place + 1, cost=str(Decimal(item.cost) + Decimal("0.35")))
        for place, item in enumerate(sample.paper.items)
    )
    changed = replace(sample.paper, number="ZX-90/417", supplier="Quillon Trading GmbH", items=items)
    return replace(sample, paper=changed)


@pytest.mark.parametrize("sample", [sample for sample in READABLE if sample.paper.items], ids=lambda each: each.file)
def test_an_altered_copy_is_read_as_its_contents_say(sample: make.Sample) -> None:
    copy = altered(sample)
    check(read(copy.content(), OWN_NAMES), copy.truth())


@pytest.mark.parametrize("sample", make.SAMPLES, ids=lambda sample: sample.file)
def test_the_committed_document_is_what_the_generator_makes(sample: make.Sample) -> None:
    """Documents and truths in the repository cannot drift from the papers they were printed from."""
    if sample.layout is not make.pdf_scan:  # a scan holds pixels of whatever font renderer is installed
        assert (SAMPLES / sample.file).read_bytes() == sample.content()
    assert json.loads((SAMPLES / f"{sample.file}.truth.json").read_text(encoding="utf-8")) == sample.truth()


def test_a_scan_is_left_to_a_model_with_a_picture_of_each_page() -> None:
    outcome = read((SAMPLES / "13-soap-scan.pdf").read_bytes(), OWN_NAMES)
    assert outcome.order is None
    assert "picture" in outcome.unreadable
    assert [page[:4] for page in outcome.pages] == [b"\x89PNG"]


def test_printed_options_pictures_and_retail_prices_are_kept() -> None:
    lines = {line.sku: line for line in order_of("01-ceramics-order.csv").lines}
    mug = lines["JC-MUG-SAG"]
    assert (mug.options, mug.product_name) == ({"Color": "Sage"}, "Stoneware Mug") or mug.description == "Stoneware Mug"
    assert mug.retail_price == Decimal("16.00")
    assert mug.image_url == "https://images.example/mug-sage.jpg"
    assert lines["JC-BWL-S"].options == {"Color": "White", "Size": "Small"}


def test_a_size_matrix_becomes_one_line_per_size_with_its_style_as_product() -> None:
    order = order_of("03-apparel-matrix.xlsx")
    hoodie = {line.options["Size"]: line for line in order.lines if line.product_name == "Watch Hoodie"}
    assert {size: line.quantity for size, line in hoodie.items()} == {"M": 6, "L": 8, "XL": 4, "XXL": 2}
    assert {line.retail_price for line in hoodie.values()} == {Decimal(62)}


def test_a_pack_is_taken_from_the_unit_column_and_never_from_the_name() -> None:
    packs = {line.sku: line.pack_size for line in order_of("06-snacks-cases.pdf").lines}
    assert packs == {"PP-GUM-12": 12, "PP-CHO-24": 24, "PP-JAM-06": 6, "PP-TIN-01": None}
    assert {line.pack_size for line in order_of("04-stationery-order.xlsx").lines} == {None}


def test_ordered_shipped_and_backordered_stay_apart() -> None:
    order = order_of("09-textiles-invoice.pdf")
    throw = order.lines[0]
    assert (throw.quantity, throw.quantity_shipped, throw.quantity_backordered) == (20, 16, 4)
    assert order.freight == Decimal("27.50")
    assert order.references["po_number"] == "PO-2026-0099"


def test_every_value_says_where_it_stands_and_confidence_is_between_0_and_1() -> None:
    for sample in READABLE:
        order = order_of(sample.file)
        stands = [*order.evidence.values(), *(line.evidence for line in order.lines)]
        assert all(0 <= evidence.confidence <= 1 for evidence in stands)
        assert all(line.evidence.where for line in order.lines)
    assert order_of("01-ceramics-order.csv").lines[0].evidence.where == "row 2"
    assert order_of("05-homewares-order.pdf").lines[-1].evidence.where.startswith("page 2, y ")


def test_our_own_name_is_never_the_supplier() -> None:
    """The same invoice with the merchant's name as letterhead names nobody rather than the merchant."""
    sample = BY_NAME["09-textiles-invoice.pdf"]
    ours = replace(sample, paper=replace(sample.paper, supplier="Harbor & Pine LLC"))
    order = read(ours.content(), OWN_NAMES).order
    assert order is not None
    assert "Harbor" not in order.supplier.name


def order_of(name: str) -> ExtractedOrder:
    order = read((SAMPLES / name).read_bytes(), OWN_NAMES).order
    assert order is not None
    return order
