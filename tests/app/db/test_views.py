"""What people see is bounded, newest first, and adds up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from app.db import order_view, tables, views
from app.db.errors import InvalidError
from app.db.people import People
from app.db.receiving import Units
from app.db.session import Database, PoolSize
from tests.app.db.given import DOUBTS, Given


@pytest.fixture
async def given(database_url: str) -> AsyncIterator[Given]:
    database = Database(database_url, PoolSize(2))
    yield Given(database)
    await database.close()


async def test_runs_are_listed_newest_first_page_by_page(given: Given) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(5):
        await given.run(f"r{number}", created_at=start + timedelta(minutes=number))
    first = await views.list_runs(given.database, limit=2)
    second = await views.list_runs(given.database, limit=2, before=first[-1].run_id)
    assert [row.run_id for row in first + second] == ["r4", "r3", "r2", "r1"]


async def test_runs_of_the_same_instant_are_not_lost_between_pages(given: Given) -> None:
    """Runs accepted in one transaction share their moment."""
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(3):
        await given.run(f"r{number}", created_at=moment)
    first = await views.list_runs(given.database, limit=1)
    rest = await views.list_runs(given.database, limit=9, before=first[0].run_id)
    assert {row.run_id for row in first + rest} == {"r0", "r1", "r2"}


async def test_a_page_is_bounded_whatever_is_asked(given: Given) -> None:
    assert await views.list_runs(given.database, limit=10**9) == []
    assert await views.list_runs(given.database, limit=-1) == []


async def test_lists_filter_by_merchant_and_state(given: Given) -> None:
    await given.run("a", merchant_id="m1", state="failed")
    await given.run("b", merchant_id="m2", state="failed")
    await given.run("c", merchant_id="m1", state="running")
    found = await views.list_runs(given.database, merchant_id="m1", state="failed")
    assert [row.run_id for row in found] == ["a"]


async def test_one_order_in_full(given: Given) -> None:
    await given.order()
    await People(given.database).receive("order-1", "ann", {"MUG-R": Units(8, 1)})
    await given.insert(tables.images, id="i", draft_id="p-1", run_id="run-1", url="https://x.example/i.png", position=1)
    await given.insert(tables.effects, key="product:p-1", run_id="run-1", fence=1, state="confirmed")
    view = await order_view.find_run(given.database, "run-1")
    assert view is not None
    assert (view.run.supplier, view.run.number, view.run.lines) == ("Acme Ltd", "PO-1", 2)
    assert view.run.document == "<b>po</b>.csv"
    assert view.order_state == "expected"
    assert [line.sku for line in view.lines] == ["MUG-R", "MUG-B"]
    assert {(row.sku, row.announced, row.open, row.product_id) for row in view.variants} == {
        ("MUG-R", 10, 10, "gid://shopify/Product/11"),
        ("MUG-B", 10, 10, "gid://shopify/Product/11"),
    }
    assert [(row.accepted, row.rejected, row.state) for row in view.receipts] == [(8, 1, "running")]
    assert len(view.images) == len(view.effects) == 1
    assert view.images[0].unused_uploads == 0
    assert [stage.stage for stage in view.stages] == ["product-draft-creation"]


async def test_reasons_for_review_are_shown_in_words(given: Given) -> None:
    await given.run_in_review("r", at="database-save")
    [row] = await views.list_runs(given.database)
    assert row.review == DOUBTS


async def test_a_run_is_found_by_any_of_its_names(given: Given) -> None:
    await given.order()
    await People(given.database).receive("order-1", "ann", "all")
    for name in ("run-1", "order-1", "upload-run-1", "wf-run-1"):
        assert await views.find_run_id(given.database, name) == "run-1"
    assert await views.find_run_id(given.database, "nothing") is None
    for name in ("run-1", "order-1", "PO-1"):
        assert await views.find_order_id(given.database, name) == "order-1"


async def test_a_number_that_two_orders_have_names_neither(given: Given) -> None:
    """Numbers are the suppliers' own: receiving the wrong order would sell what is not there."""
    await given.order()
    await given.insert(tables.suppliers, id="s2", merchant_id="m1", name="Brand", normalized_name="brand")
    await given.insert(
        tables.purchase_orders,
        id="order-2",
        merchant_id="m1",
        supplier_id="s2",
        key="PO-1",
        number="PO-1",
        kind="invoice",
    )
    with pytest.raises(InvalidError, match="several orders have the number PO-1"):
        await views.find_order_id(given.database, "PO-1")


async def test_changes_since_a_moment_are_seen_and_older_ones_not(given: Given) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    await given.run("old", updated_at=now - timedelta(seconds=5))
    await given.run("new", updated_at=now + timedelta(seconds=5))
    assert [row.run_id for row in await views.changed_runs(given.database, now)] == ["new"]


async def test_totals_count_what_waits_what_runs_and_what_died(given: Given) -> None:
    long_ago = datetime.now(UTC) - timedelta(seconds=90)
    await given.run("a", due_stage="shopify-sync", due_since=long_ago)
    await given.run("b", due_stage="shopify-sync", due_since=datetime.now(UTC))
    await given.run("c", state="failed", failed_stage="ai-parsing")
    hours_ago = long_ago - timedelta(hours=9)
    await given.run("parked", due_stage="ai-parsing", due_since=hours_ago, parked_at=hours_ago)
    await given.insert(tables.stage_runs, run_id="a", stage="shopify-sync", entry=0, attempt=1, fence=1, state="open")
    await given.insert(tables.queue_pauses, queue="ai-parsing", paused_by="ann")
    found = await views.totals(given.database)
    assert found.runs == {"running": 3, "failed": 1}
    assert found.due == {"shopify-sync": 2, "ai-parsing": 1}
    assert (found.active, found.failed) == ({"shopify-sync": 1}, {"ai-parsing": 1})
    assert 85 < found.oldest_due_s < 600
    assert found.paused == {"ai-parsing"}
