"""Undo over real servers: by HTTP and the command line, half-done orders too, and what it says the second time."""

from __future__ import annotations

import pytest

from app.db import tables
from app.db.creations import PostgresCreations
from app.db.errors import ConflictError
from app.db.receiving import UndoneBefore, Units
from app.enqueue import enqueue_next
from pipeline.run_store import NextJob
from tests.app.test_plans import Office, office
from tests.chaos.test_one_article_of_two_suppliers import CUP, SUPPLIERS, TASSE, order_of
from tests.chaos.watching import order_faults, quantities
from tests.shop import shop_state

__all__ = ["office"]


async def approved(office: Office, number: str, units: dict[str, int]) -> str:
    """An order that is in the shop; its id."""
    return await put_in(office, await office.receive(number, units))


async def put_in(office: Office, run_id: str) -> str:
    await office.approve(run_id)
    await office.work()
    return str((await office.given.run_row(run_id))["order_id"])


async def undo(office: Office, order_id: str) -> dict[str, object]:
    """The undo's run, once it has ended."""
    job = await office.core.people.undo(order_id, "ann")
    assert isinstance(job, NextJob)
    await enqueue_next(office.core.bull, job)
    await office.work()
    return await office.given.run_row(job.run_id)


async def statuses(office: Office) -> dict[str, str]:
    return {one["title"]: one["status"] for one in (await shop_state(office.sandbox))["products"]}


async def test_an_order_is_undone_over_http_and_a_second_time_says_so(office: Office) -> None:
    order_id = await approved(office, "PO-1", {"CUP-S": 10, "CUP-L": 4})
    async with office.page() as client:
        told = (await client.post("/api/orders/PO-1/undo", json={"who": "ann"})).json()
        again = await client.post("/api/orders/PO-1/undo", json={"who": "bob"})
        assert (again.status_code, "wait for it" in again.json()["message"]) == (409, True)
        await office.work()
        run = await office.given.run_row(told["runId"])
        assert run["summary"] == (
            "order cancelled, 14 announced units taken back at Warehouse, 1 draft product archived"
        )
        assert await statuses(office) == {"CUP": "ARCHIVED"}
        assert await quantities(office.sandbox) == {"CUP-S": (0, 0, 0), "CUP-L": (0, 0, 0)}
        [order] = await office.given.rows(tables.purchase_orders)
        assert order["state"] == "cancelled"
        again = await client.post("/api/orders/PO-1/undo", json={"who": "bob"})
        assert (again.status_code, again.json()["message"]) == (200, "ann has undone order PO-1 already")
        shown = (await client.get(f"/api/orders/{order_id}")).json()["order"]
        assert shown["receipts"][0]["action"] == "undo"
    assert len(await office.given.rows(tables.receipts)) == 1
    assert [row["action"] for row in await office.given.rows(tables.audit)] == ["approve", "undo"]


async def test_a_later_order_brings_nothing_back_unasked(office: Office) -> None:
    await undo(office, await approved(office, "PO-1", {"CUP-S": 10}))
    run_id = await office.receive("PO-2", {"CUP-S": 5})
    read = await office.approvals.read(run_id, "ann")
    [product] = read.plan.products
    assert "“CUP” is archived in the shop. Bring it back there" in product.problem
    await office.approve(run_id)
    await office.work()
    run = await office.given.run_row(run_id)
    assert (run["state"], run["review"][0]["code"]) == ("needs_review", "product_archived")
    assert await statuses(office) == {"CUP": "ARCHIVED"}
    assert await quantities(office.sandbox) == {"CUP-S": (0, 0, 0)}


async def test_a_product_another_order_counts_on_stays(office: Office) -> None:
    first = await approved(office, "PO-1", {"CUP-S": 10})
    second = await approved(office, "PO-2", {"CUP-S": 5})
    run = await undo(office, first)
    assert "1 product left as it is (“CUP”: order PO-2 counts on it too)" in str(run["summary"])
    assert await quantities(office.sandbox) == {"CUP-S": (5, 0, 0)}
    assert await PostgresCreations(office.core.database).of_order(second) == []  # it only found it
    run = await undo(office, second)
    assert "taken back" in str(run["summary"])
    assert await statuses(office) == {"CUP": "DRAFT"}


async def test_a_product_another_suppliers_order_counts_on_stays(office: Office) -> None:
    """It came to that order by its GTIN, under a name and a draft of its own."""
    orders = {
        number: order_of(supplier, number, lines)
        for number, supplier, lines in zip(("PO-1", "PO-2"), SUPPLIERS, (CUP, TASSE), strict=True)
    }
    first, _ = [await put_in(office, await office.receive_file(*order)) for order in orders.items()]
    run = await undo(office, first)
    assert "1 product left as it is (“Cup”: order PO-2 counts on it too)" in str(run["summary"])
    assert await statuses(office) == {"Cup": "DRAFT"}


async def test_received_goods_stay_and_the_order_is_closed(office: Office) -> None:
    order_id = await approved(office, "PO-1", {"CUP-S": 10})
    _, job = await office.core.people.receive(order_id, "ann", {"CUP-S": Units(6)})
    await enqueue_next(office.core.bull, job)
    await office.work()
    run = await undo(office, order_id)
    assert str(run["summary"]).endswith(
        "1 product left as it is (“CUP”: 6 units of it are counted in the shop); what was received stays in stock"
    )
    assert await quantities(office.sandbox) == {"CUP-S": (0, 6, 6)}
    [order] = await office.given.rows(tables.purchase_orders)
    assert order["state"] == "closed"


async def test_variants_a_revision_added_are_ours_too(office: Office) -> None:
    order_id = await approved(office, "PO-1", {"CUP-S": 10})
    assert await approved(office, "PO-1", {"CUP-S": 10, "CUP-L": 2}) == order_id
    run = await undo(office, order_id)
    assert "1 draft product archived" in str(run["summary"])
    assert await statuses(office) == {"CUP": "ARCHIVED"}


async def test_an_order_that_failed_half_way_is_undone_as_far_as_it_came(office: Office) -> None:
    run_id = await office.receive("PO-1", {"CUP-S": 10})
    await office.approve(run_id)
    denied = [{"operation": "inventoryAdjustQuantities", "kind": "refused", "count": 9}]
    await order_faults(office.sandbox, denied)
    await office.work()
    await order_faults(office.sandbox, [])
    row = await office.given.run_row(run_id)
    assert row["state"] == "failed", row
    assert await statuses(office) == {"CUP": "DRAFT"}
    run = await undo(office, str(row["order_id"]))
    assert (run["state"], "1 draft product archived" in str(run["summary"])) == ("completed", True)
    assert await statuses(office) == {"CUP": "ARCHIVED"}


async def test_an_order_that_is_not_in_the_shop_or_is_on_its_way_cannot_be_undone(office: Office) -> None:
    run_id = await office.receive("PO-1", {"CUP-S": 10})
    order_id = str((await office.given.run_row(run_id))["order_id"])
    with pytest.raises(ConflictError, match="cancel its run instead"):
        await office.core.people.undo(order_id, "ann")
    await office.approve(run_id)
    with pytest.raises(ConflictError, match="is at work"):
        await office.core.people.undo(order_id, "ann")
    await office.work()
    assert not isinstance(await office.core.people.undo(order_id, "ann"), UndoneBefore)
    with pytest.raises(ConflictError, match="wait for it"):
        await office.core.people.undo(order_id, "bob")
    await office.work()
