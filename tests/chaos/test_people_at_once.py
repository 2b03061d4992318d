"""People who click twice, and commands that race a worker: one of them has its way, and no effect is doubled."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import anyio
from sqlalchemy import func, select, update

from app.bootstrap import Core
from app.db.effects import CALL_MAX
from app.db.errors import ConflictError
from app.db.people import Cancelled
from app.db.receiving import Units
from app.db.tables import effects, receipts, stage_runs
from app.enqueue import enqueue_next
from pipeline import flow
from pipeline.run_store import NextJob
from pipeline.runner import AFTERMATH
from tests.chaos.watching import (
    attempts,
    impatient,
    jobs_in,
    order_faults,
    order_ids,
    plain_csv,
    quantities,
    rows,
    run_of,
    until,
)
from tests.shop import connect_merchant, settings_for, settled, shop_state, submit, working

CLICKS = 5


async def _at_once(*commands: Callable[[], Awaitable[Any]]) -> tuple[list[Any], int]:
    """What those who had their way were given, and how many were refused."""
    given: list[Any] = []
    refused = 0

    async def click(command: Callable[[], Awaitable[Any]]) -> None:
        nonlocal refused
        try:
            given.append(await command())
        except ConflictError:
            refused += 1

    async with anyio.create_task_group() as tasks:
        for command in commands:
            tasks.start_soon(click, command)
    return given, refused


async def test_approving_twice_announces_once(redis_url: str, database_url: str, sandbox: str) -> None:
    async with working(settings_for(redis_url, database_url, sandbox)) as (core, _):
        await connect_merchant(core, sandbox, auto_approve=False)
        for number in range(4):
            await submit(core, f"{number}.csv", plain_csv(f"PO-{number}", {f"CUP{number}-S": 10}))
        waiting = await settled(core, 4)
        for row in waiting:

            async def approve(run_id: str = row.run_id) -> NextJob:
                return await core.people.approve(run_id, "ann")

            jobs, refused = await _at_once(*[approve] * CLICKS)
            assert (len(jobs), refused) == (1, CLICKS - 1)
            for _ in range(2):  # and its job is added twice: by the command and by the reconciler
                await enqueue_next(core.bull, jobs[0])
        ended = await settled(core, 4)
        assert {(row.state, row.entry) for row in ended} == {("completed", 1)}
        assert await quantities(sandbox) == {f"CUP{number}-S": (10, 0, 0) for number in range(4)}


async def test_approving_and_cancelling_together_ends_cancelled(
    redis_url: str, database_url: str, sandbox: str
) -> None:
    """Whichever comes first, nobody goes on with a cancelled run, and what was sent by then was sent once."""
    async with working(settings_for(redis_url, database_url, sandbox)) as (core, _):
        await connect_merchant(core, sandbox, auto_approve=False)
        for number in range(6):
            await submit(core, f"{number}.csv", plain_csv(f"PO-{number}", {f"CUP{number}-S": 10}))
        for row in await settled(core, 6):

            async def approve(run_id: str = row.run_id) -> None:
                await enqueue_next(core.bull, await core.people.approve(run_id, "ann"))

            async def cancel(run_id: str = row.run_id) -> Cancelled:
                return await core.people.cancel(run_id, "bob")

            await _at_once(approve, cancel, approve)
        ended = await settled(core, 6)
        assert {row.state for row in ended} == {"cancelled"}

        async def idle() -> bool:
            return not await jobs_in(core, "waiting", "active") and await attempts(core, "open") == 0

        await until(idle)
        assert {row.state for row in await settled(core, 6)} == {"cancelled"}
        assert all(units in {(10, 0, 0), (0, 0, 0)} for units in (await quantities(sandbox)).values())


async def test_a_call_under_way_when_its_run_is_cancelled_does_not_undo_what_the_next_order_does(
    redis_url: str, database_url: str, sandbox: str
) -> None:
    """Creating a product again would replace its variants: so the next order waits until no call can be left."""
    async with working(settings_for(redis_url, database_url, sandbox)) as (core, _):
        await connect_merchant(core, sandbox)
        await order_faults(sandbox, [{"operation": "productSet", "kind": "slow", "count": 1, "seconds": 1.0}])
        upload = await submit(core, "order.csv", plain_csv("PO-1", {"CUP-S": 10}))

        async def calling() -> bool:
            return bool(await rows(core, select(effects.c.key).where(effects.c.key.startswith("product:"))))

        await until(calling)
        await core.people.cancel((await run_of(core, upload))["id"], "bob")
        await submit(core, "other.csv", plain_csv("PO-2", {"CUP-S": 7}))

        async def arrived() -> bool:
            return (await shop_state(sandbox))["products_created"] == 1 and await attempts(core, "waited") > 0

        async with impatient(core, flow.SYNC):
            await until(arrived)
            async with core.database.transaction() as connection:
                past = stage_runs.c.ended_at - CALL_MAX
                await connection.execute(update(stage_runs).where(stage_runs.c.state == "lost").values(ended_at=past))
            ended = await settled(core, 2)
        assert sorted(row.state for row in ended) == ["cancelled", "completed"]
        assert await quantities(sandbox) == {"CUP-S": (7, 0, 0)}
        assert (await shop_state(sandbox))["products_created"] == 1


async def test_receiving_the_same_boxes_together_counts_them_once(
    redis_url: str, database_url: str, sandbox: str
) -> None:
    async with working(settings_for(redis_url, database_url, sandbox)) as (core, _):
        await connect_merchant(core, sandbox)
        await submit(core, "order.csv", plain_csv("PO-1", {"CUP-S": 10}))
        await settled(core, 1)
        (order_id,) = await order_ids(core)

        async def receive() -> NextJob:
            _, job = await core.people.receive(order_id, "ann", {"CUP-S": Units(6, rejected=1)})
            return job

        jobs, refused = await _at_once(*[receive] * CLICKS)
        assert (len(jobs), refused) == (1, CLICKS - 1)
        await enqueue_next(core.bull, jobs[0])
        await settled(core, 2)
        assert await quantities(sandbox) == {"CUP-S": (3, 6, 6)}
        (counted,) = await rows(core, select(func.count().label("n")).select_from(receipts))
        assert counted["n"] == 1


async def test_a_shop_away_for_longer_than_patience_fails_the_run_with_that_reason_and_retry_completes_it(
    redis_url: str, database_url: str, sandbox: str
) -> None:
    """The waits are moved into the past instead of waited for."""
    async with working(settings_for(redis_url, database_url, sandbox)) as (core, _):
        await connect_merchant(core, sandbox)
        await order_faults(sandbox, [{"operation": "*", "kind": "http_500", "count": 999}])
        upload = await submit(core, "order.csv", plain_csv("PO-1", {"CUP-S": 10}))

        async def waits() -> bool:
            return await attempts(core, "waited") > 0

        await until(waits)
        await _move_waits(core, by=flow.BY_NAME[flow.SYNC].patience + AFTERMATH)
        async with impatient(core, flow.SYNC):
            await settled(core, 1)
        run = await run_of(core, upload)
        assert (run["state"], run["failed_stage"], run["failure_code"]) == ("failed", flow.SYNC, "vendor_unavailable")
        assert re.search(r"HTTP 500: .* \(waited 1:05:\d\d; retry when it is back\)", run["failure"])

        async def told_redis() -> bool:
            return [job.failed_reason for job in await jobs_in(core, "failed")] == [run["failure"]]

        await until(told_redis)
        await order_faults(sandbox, [])
        first, refused = await _at_once(*[lambda: core.people.retry(run["id"], "ann")] * CLICKS)
        assert (len(first), refused) == (1, CLICKS - 1)
        await enqueue_next(core.bull, first[0])
        (ended,) = await settled(core, 1)
        assert (ended.state, ended.failure) == ("completed", "")
        assert await quantities(sandbox) == {"CUP-S": (10, 0, 0)}


async def _move_waits(core: Core, *, by: timedelta) -> None:
    async with core.database.transaction() as connection:
        await connection.execute(
            update(stage_runs)
            .where(stage_runs.c.state == "waited")
            .values(started_at=stage_runs.c.started_at - by, ended_at=stage_runs.c.ended_at - by)
        )
