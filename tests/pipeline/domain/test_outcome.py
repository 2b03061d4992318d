from __future__ import annotations

from pipeline.domain.outcome import completed, needs_review
from pipeline.domain.purchase_order import Doubt
from pipeline.domain.results import FailedProduct, ShopSync, StockMove, SyncedProduct, SyncedVariant

WHERE = "gid://shopify/Location/42"


def product(number: int, *, created: bool = True, variants: int = 1) -> SyncedProduct:
    synced = (
        SyncedVariant(draft_variant_id=f"v{number}-{at}", variant_id="1", inventory_item_id="1", created=created)
        for at in range(variants)
    )
    return SyncedProduct(draft_id=f"d{number}", product_id=f"p{number}", created=created, variants=tuple(synced))


def move(quantity: int, kind: str) -> StockMove:
    return StockMove(draft_variant_id="v", inventory_item_id="i", quantity=quantity, move=kind)


def test_a_finished_order_says_what_now_stands_in_the_shop() -> None:
    sync = ShopSync(
        products=(product(1, variants=4), product(2, variants=3)),
        stock=(move(1200, "announced"), move(1, "announced")),
        location_id=WHERE,
    )
    outcome = completed(sync, receipt=False)
    assert outcome.state == "completed"
    assert outcome.summary == "2 products (7 variants), 1,201 units announced as incoming at location 42"


def test_what_existed_is_told_from_what_is_new() -> None:
    sync = ShopSync(products=(product(1), product(2, created=False)), note="nothing was announced: no location")
    assert completed(sync, receipt=False).summary == (
        "2 products (2 variants), 1 of them new, no new units announced; nothing was announced: no location"
    )


def test_a_revision_that_takes_units_back_says_so() -> None:
    sync = ShopSync(products=(product(1),), stock=(move(3, "announced"), move(-4, "announced")))
    assert completed(sync, receipt=False).summary == "1 product (1 variant), 1 announced unit taken back"


def test_an_order_that_ended_says_what_was_taken_back() -> None:
    ended = ShopSync(stock=(move(-4, "announced"),), location_id=WHERE, location_name="Warehouse", ended="closed")
    assert completed(ended, receipt=True).summary == "order closed, 4 announced units taken back at Warehouse"
    assert completed(ShopSync(ended="cancelled"), receipt=True).summary == (
        "order cancelled, nothing was to be taken back"
    )


def test_units_sellable_at_once_are_named() -> None:
    sync = ShopSync(products=(product(1),), stock=(move(5, "announced"), move(5, "received")))
    assert completed(sync, receipt=False).summary.endswith(
        "5 units announced as incoming, 5 units made available at once"
    )


def test_a_receipt_speaks_of_what_came_in() -> None:
    sync = ShopSync(stock=(move(8, "received"), move(2, "rejected")), location_id=WHERE)
    assert completed(sync, receipt=True).summary == "8 units received into stock at location 42, 2 units rejected"
    assert completed(ShopSync(stock=(move(1, "received"),)), receipt=True).summary == "1 unit received into stock"


def test_a_review_says_every_reason_once_the_blocking_ones_first() -> None:
    doubts = (
        Doubt(code="a", message="A barcode is wrong.", blocking=False),
        Doubt(code="b", message="The total is off."),
        Doubt(code="b", message="The total is off."),
    )
    outcome = needs_review(doubts)
    assert (outcome.state, outcome.summary) == ("needs_review", "The total is off. A barcode is wrong.")


def test_a_review_with_many_reasons_stays_one_paragraph() -> None:
    doubts = tuple(Doubt(code="low_confidence", message=f"Line {at} is unclear.", line=at) for at in range(1, 61))
    assert needs_review(doubts).summary.endswith("Line 5 is unclear. And 55 more reasons.")
    assert needs_review(doubts[:6]).summary.endswith("And 1 more reason.")


def test_a_review_of_some_products_says_first_what_is_in_the_shop_all_the_same() -> None:
    failed = FailedProduct(draft_id="d", code="several_matches", message="“Mug” fits two products.")
    sync = ShopSync(products=(product(1),), stock=(move(9, "announced"),), failures=(failed,))
    outcome = needs_review((Doubt(code="several_matches", message=failed.message),), sync)
    assert outcome.summary == (
        "In the shop: 1 product (1 variant), 9 units announced as incoming. "
        "Not done, 1 product: “Mug” fits two products."
    )
