from __future__ import annotations

import pytest

from pipeline.domain.parsing import not_an_order, not_for_stock, unreadable
from pipeline.domain.purchase_order import DocumentKind, ExtractedOrder, LineKind
from tests.pipeline.domain.printed import line, order


@pytest.mark.parametrize("kind", [kind for kind in DocumentKind if kind.goes_on])
def test_an_order_with_goods_goes_on(kind: DocumentKind) -> None:
    printed = order(kind=kind)
    assert (not_for_stock(printed), not_an_order(printed)) == (None, None)


@pytest.mark.parametrize(
    "kind", [kind for kind in DocumentKind if not kind.goes_on and kind is not DocumentKind.UNKNOWN]
)
def test_a_kind_that_moves_no_stock_is_named(kind: DocumentKind) -> None:
    doubt = not_for_stock(order(kind=kind))
    assert doubt is not None
    assert doubt.code == "no_stock_document"
    assert kind.value.replace("_", " ") in doubt.message
    assert not_an_order(ExtractedOrder(kind=kind)) is None


def test_lines_on_paper_of_unknown_kind_move_nothing() -> None:
    doubt = not_for_stock(order(kind=DocumentKind.UNKNOWN))
    assert doubt is not None
    assert doubt.message.startswith("It is not clear what kind of document this is")


def test_paper_without_goods_is_no_order() -> None:
    letter, empty = ExtractedOrder(kind=DocumentKind.UNKNOWN), order(line(kind=LineKind.NOTE))
    for printed in (letter, empty):
        doubt = not_an_order(printed)
        assert doubt is not None
        assert doubt.code == "not_an_order"


def test_what_cannot_be_read_says_why_and_what_helps() -> None:
    scan = unreadable("a scanned page.", has_text=False)
    assert scan.code == "unreadable_without_model"
    assert scan.message == (
        "The document cannot be read without a model: a scanned page. Set a model's key or enter the order by hand."
    )
    text = unreadable("", has_text=True)
    assert (text.code, "its layout is not known" in text.message) == ("not_an_order", True)
