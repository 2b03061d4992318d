"""From approve to the last carton: what is coming, what is sellable, and nothing of either twice."""

from __future__ import annotations

import signal
from functools import partial

import anyio.to_thread
import pytest
from sqlalchemy import select

from app.core import Core, open_core
from app.db.errors import ConflictError
from app.db.receiving import Delivered, Units
from app.db.tables import order_variants, purchase_orders
from app.enqueue import enqueue_next
from app.settings import Settings
from pipeline import flow
from tests.chaos.doomed import EFFECT_GAPS, ENGINE_GAPS, die_at
from tests.chaos.watching import (
    all_due_at,
    attempts,
    impatient,
    order_faults,
    order_ids,
    plain_csv,
    quantities,
    rows,
    run_of,
    until,
)
from tests.shop import connect_merchant, settings_for, settled, submit, working

ORDERS = 12


async def receive(core: Core, order_id: str, delivered: Delivered, *, over: bool = False) -> None:
    """A person counts, and the receipt's job is added as the page and the CLI do."""
    _, job = await core.people.receive(order_id, "ann", delivered, allow_over=over)
    await enqueue_next(core.bull, job)


async def test_approving_announces_and_only_receipts_make_goods_sellable(
    redis_url: str, database_url: str, sandbox: str
) -> None:
    async with working(settings_for(redis_url, database_url, sandbox)) as (core, _):
        await connect_merchant(core, sandbox, auto_approve=False)
        upload = await submit(core, "order.csv", plain_csv("PO-1", {"CUP-S": 10, "CUP-L": 4}))
        (row,) = await settled(core, 1)
        assert row.state == "needs_review"
        assert await quantities(sandbox) == {}

        await enqueue_next(core.bull, await core.people.approve(row.run_id, "ann"))
        await settled(core, 1)
        assert await quantities(sandbox) == {"CUP-S": (10, 0, 0), "CUP-L": (4, 0, 0)}

        order_id = (await run_of(core, upload))["order_id"]
        await receive(core, order_id, {"CUP-S": Units(6, rejected=1), "CUP-L": Units(1)})
        await settled(core, 2)
        assert await quantities(sandbox) == {"CUP-S": (3, 6, 6), "CUP-L": (3, 1, 1)}
        assert await _state(core, order_id) == "partially_received"

        with pytest.raises(ConflictError, match="CUP-S: 4 counted, 3 open"):
            await receive(core, order_id, {"CUP-S": Units(4)})
        assert await quantities(sandbox) == {"CUP-S": (3, 6, 6), "CUP-L": (3, 1, 1)}

        await receive(core, order_id, "all")
        await settled(core, 3)
        assert await quantities(sandbox) == {"CUP-S": (0, 9, 9), "CUP-L": (0, 4, 4)}
        assert await _state(core, order_id) == "received"

        await receive(core, order_id, {"CUP-L": Units(2, rejected=1)}, over=True)
        ended = await settled(core, 4)
        assert {row.state for row in ended} == {"completed"}
        assert await quantities(sandbox) == {"CUP-S": (0, 9, 9), "CUP-L": (0, 6, 6)}
        assert await _books(core, order_id) == {(10, 9, 1, 0), (4, 6, 1, 3)}


async def test_an_order_that_is_ended_leaves_nothing_incoming_and_keeps_what_came(
    redis_url: str, database_url: str, sandbox: str
) -> None:
    async with working(settings_for(redis_url, database_url, sandbox)) as (core, _):
        await connect_merchant(core, sandbox)
        for number in range(2):
            await submit(core, f"{number}.csv", plain_csv(f"PO-{number}", {f"CUP{number}-S": 10}))
        await settled(core, 2)
        first, second = await order_ids(core)
        await receive(core, first, {"CUP0-S": Units(6)})
        await settled(core, 3)
        for order_id in (first, second):
            _, job = await core.people.end_order(order_id, "ann", "cancel")
            await enqueue_next(core.bull, job)
        ended = await settled(core, 5)
        assert {row.state for row in ended} == {"completed"}
        assert await quantities(sandbox) == {"CUP0-S": (0, 6, 6), "CUP1-S": (0, 0, 0)}
        assert [await _state(core, one) for one in (first, second)] == ["closed", "cancelled"]
        assert await _books(core, first) == {(6, 6, 0, 0)}
        assert await _books(core, second) == {(0, 0, 0, 0)}

        await submit(core, "revised.csv", plain_csv("PO-1", {"CUP1-S": 12}))
        (revised,) = [row for row in await settled(core, 6) if row.document == "revised.csv"]
        assert (revised.state, "this order is over" in revised.summary) == ("completed", True)
        assert (await quantities(sandbox))["CUP1-S"] == (0, 0, 0)


@pytest.mark.parametrize("stage", [flow.SYNC, flow.STATUS])
async def test_a_worker_killed_in_each_gap_of_a_receipt_counts_no_unit_twice(
    stage: str, redis_url: str, database_url: str, sandbox: str, fork_server: None
) -> None:
    """Each receipt has units for every kind of change: accepted, on top of what was announced, and rejected."""
    # Each death takes up to ten receipts along, which come back when their leases have run out: so short ones.
    leases = {"lease_seconds": 1.6, "heartbeat_seconds": 0.4, "stalled_seconds": 0.5, "guard_seconds": 0.25}
    settings = settings_for(redis_url, database_url, sandbox, max_stalls=100, **leases)
    # The plan, then a change each for accepted, surplus and rejected units.
    effect_gaps = [(gap, passes) for gap in EFFECT_GAPS for passes in range(4)] if stage == flow.SYNC else []
    async with open_core(settings) as core:
        await connect_merchant(core, sandbox)
        orders = await _expected_orders(core, settings)
        for number, order_id in enumerate(orders):
            counted = {f"CUP{number}-S": Units(13, rejected=1), f"CUP{number}-L": Units(1, rejected=2)}
            await receive(core, order_id, counted, over=True)
        if stage == flow.STATUS:
            async with working(settings.model_copy(update={"stages": flow.SYNC})):
                await all_due_at(core, stage, ORDERS)
        given = settings.model_dump()
        given.pop("stages")
        for gap, passes in [*effect_gaps, *((gap, 0) for gap in ENGINE_GAPS)]:
            code = await anyio.to_thread.run_sync(partial(die_at, given, stage, gap, passes=passes))
            assert code == -signal.SIGKILL, f"{stage} never reached {gap} after {passes} passes"
        async with working(settings):
            ended = await settled(core, 2 * ORDERS)
        assert {row.state for row in ended} == {"completed"}
        assert await attempts(core, "failed") == 1  # the one that was made to fail
        held = await quantities(sandbox)
        for number, order_id in enumerate(orders):
            assert (held[f"CUP{number}-S"], held[f"CUP{number}-L"]) == ((0, 13, 13), (1, 1, 1))
            assert await _books(core, order_id) == {(10, 13, 1, 4), (4, 1, 2, 0)}


async def test_a_receipt_waits_for_a_revision_and_takes_no_more_than_it_left(
    redis_url: str, database_url: str, sandbox: str
) -> None:
    """Ten were open when the person counted; the revision under way leaves six, so two of eight are surplus."""
    async with working(settings_for(redis_url, database_url, sandbox)) as (core, _):
        await connect_merchant(core, sandbox)
        await submit(core, "order.csv", plain_csv("PO-1", {"CUP-S": 10}))
        await settled(core, 1)
        (order_id,) = await order_ids(core)
        slow = {"operation": "inventoryAdjustQuantities", "kind": "slow", "count": 1, "seconds": 1.0}
        await order_faults(sandbox, [slow])
        await submit(core, "revised.csv", plain_csv("PO-1", {"CUP-S": 6}))
        await all_due_at(core, flow.SYNC, 1)
        await receive(core, order_id, {"CUP-S": Units(8)})
        async with impatient(core, flow.SYNC):
            ended = await settled(core, 3)
        assert {row.state for row in ended} == {"completed"}
        assert await quantities(sandbox) == {"CUP-S": (0, 8, 8)}
        assert await _books(core, order_id) == {(6, 8, 0, 2)}


async def test_a_revision_between_two_attempts_at_a_receipt_leaves_it_what_it_planned(
    redis_url: str, database_url: str, sandbox: str
) -> None:
    """The receipt's move is answered 500 until the revision is through; both end, and nothing is negative."""
    async with working(settings_for(redis_url, database_url, sandbox)) as (core, _):
        await connect_merchant(core, sandbox)
        await submit(core, "order.csv", plain_csv("PO-1", {"CUP-S": 10}))
        await settled(core, 1)
        (order_id,) = await order_ids(core)
        await order_faults(sandbox, [{"operation": "inventoryMoveQuantities", "kind": "http_500", "count": 99}])
        await receive(core, order_id, {"CUP-S": Units(8)})

        async def receipt_waits() -> bool:
            return await attempts(core, "waited") > 0

        await until(receipt_waits)
        await submit(core, "revised.csv", plain_csv("PO-1", {"CUP-S": 5}))

        async def revised() -> bool:
            return await _books(core, order_id) == {(8, 0, 0, 0)}

        async with impatient(core, flow.SYNC):
            await until(revised)
            await order_faults(sandbox, [])
            ended = await settled(core, 3)
        assert {row.state for row in ended} == {"completed"}
        assert await quantities(sandbox) == {"CUP-S": (0, 8, 8)}
        assert await _books(core, order_id) == {(8, 8, 0, 0)}


async def _expected_orders(core: Core, settings: Settings) -> list[str]:
    """Orders whose goods are announced, by number."""
    uploads = [
        await submit(core, f"{number}.csv", plain_csv(f"PO-{number}", {f"CUP{number}-S": 10, f"CUP{number}-L": 4}))
        for number in range(ORDERS)
    ]
    async with working(settings):
        await settled(core, ORDERS)
    return [(await run_of(core, upload))["order_id"] for upload in uploads]


async def _state(core: Core, order_id: str) -> str:
    (found,) = await rows(core, select(purchase_orders.c.state).where(purchase_orders.c.id == order_id))
    return str(found["state"])


async def _books(core: Core, order_id: str) -> set[tuple[int, int, int, int]]:
    """(announced, received, rejected, surplus) of each variant."""
    names = ("announced", "received", "rejected", "surplus")
    columns = [order_variants.c[name] for name in names]
    found = await rows(core, select(*columns).where(order_variants.c.order_id == order_id))
    return {(row["announced"], row["received"], row["rejected"], row["surplus"]) for row in found}
