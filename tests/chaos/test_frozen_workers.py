"""Worker processes that are stopped, starved or wedged: the others take over, the stale ones write nothing.

Whole processes under real signals; what can be shown inside one is in tests/pipeline/test_leases_under_fire.py.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing.process import BaseProcess
from typing import Any

import anyio
import anyio.to_thread
import pytest
import redis
from sqlalchemy import select

from app.db.tables import stage_runs
from app.watchdog import EXIT_WEDGED
from pipeline import flow
from pipeline.worker import Worker
from tests.chaos.frozen import CallsTheVendor, worker_process
from tests.pipeline.line import Line, open_line
from tests.shop import settings_for
from tests.slow_vendor import SlowVendor, slow_vendor
from tests.support import CHAOS_IN_FULL, eventually
from tests.written import everything

STAGE = flow.FIRST
SEED = 20261125
PATIENCE_S = 60.0


def settings_of(redis_url: str, database_url: str, **changed: Any) -> dict[str, Any]:
    given = {"stages": STAGE, **changed}
    return settings_for(redis_url, database_url, "http://127.0.0.1:1", **given).model_dump()


@asynccontextmanager
async def rival(line: Line, vendor: SlowVendor) -> AsyncIterator[Worker]:
    """Another worker, healthy, that makes the same calls and does all other stages besides."""
    line.script(STAGE, CallsTheVendor(vendor.url).run)
    worker = line.worker()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        yield worker
        worker.stop()


async def done(line: Line, count: int) -> bool:
    """So many orders have been through all stages."""
    return (await line.bull.counts(flow.IMAGES)).completed >= count


async def past_the_stage(line: Line, count: int) -> bool:
    return (await line.bull.counts(STAGE)).completed >= count


async def exit_code(process: BaseProcess) -> int | None:
    await anyio.to_thread.run_sync(process.join, PATIENCE_S)
    return process.exitcode


async def stop(process: BaseProcess) -> None:
    """It was alive all the time, the watchdog did not take it for wedged, and it ends as it should."""
    assert process.is_alive()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGTERM)
    assert await exit_code(process) == 0


async def states(line: Line) -> list[str]:
    async with line.database.transaction() as connection:
        return sorted((await connection.execute(select(stage_runs.c.state))).scalars())


async def check_each_stage_once(line: Line, orders: int) -> None:
    """Every stage of every order recorded once; nothing failed, however many attempts were cut off."""
    async with line.database.transaction() as connection:
        rows = (await connection.execute(select(stage_runs.c.run_id, stage_runs.c.stage, stage_runs.c.state))).all()
    finished = [(run_id, stage) for run_id, stage, state in rows if state == "finished"]
    assert len(finished) == len(set(finished)) == orders * len(flow.NAMES)
    assert {state for *_, state in rows} <= {"finished", "crashed", "lost", "released"}


async def test_a_worker_frozen_until_another_has_done_its_job_writes_nothing_and_works_on(
    redis_url: str, database_url: str, redis_admin: redis.Redis, fork_server: None
) -> None:
    """SIGSTOP for more than a lease, then SIGCONT: its call is given up, the order is not touched again."""
    async with slow_vendor() as vendor, open_line(redis_url, database_url) as line:
        with worker_process(settings_of(redis_url, database_url), vendor.url) as frozen:
            await line.add_upload()
            await vendor.called.wait()
            assert frozen.pid is not None
            os.kill(frozen.pid, signal.SIGSTOP)
            vendor.answering = True
            async with rival(line, vendor):
                await eventually(lambda: done(line, 1), within_s=PATIENCE_S)
            before = await everything(line, redis_admin)
            assert not vendor.closed.is_set()
            os.kill(frozen.pid, signal.SIGCONT)
            with anyio.fail_after(PATIENCE_S):
                await vendor.closed.wait()
            await line.add_upload("upload-2")
            await eventually(lambda: past_the_stage(line, 2), within_s=PATIENCE_S)
            after = await everything(line, redis_admin)
            await stop(frozen)
        first_order = (await line.run_row("upload-1"))["id"]
        assert [row for row in after if first_order in str(row)] == [row for row in before if first_order in str(row)]
        assert await states(line) == ["crashed", *["finished"] * (len(flow.NAMES) + 1)]


BLOCKS = [
    ("sleeps", EXIT_WEDGED, 4),
    ("never lets go", -signal.SIGPROF, 2),
    *([("burns", EXIT_WEDGED, 4)] if CHAOS_IN_FULL else []),
]


@pytest.mark.parametrize(("block", "code", "lease_s"), BLOCKS, ids=[block for block, *_ in BLOCKS])
async def test_a_worker_whose_loop_is_blocked_ends_itself_and_others_do_its_jobs(
    redis_url: str, database_url: str, fork_server: None, block: str, code: int, lease_s: float
) -> None:
    """One job blocks the loop beside another that is in the middle of a call: that must end before it is repeated."""
    settings = settings_of(redis_url, database_url, lease_seconds=lease_s, heartbeat_seconds=lease_s / 8)
    async with slow_vendor() as vendor, open_line(redis_url, database_url) as line:
        with worker_process(settings, vendor.url, block=block) as wedged:
            await line.add_upload("upload-1")
            await vendor.called.wait()
            vendor.answering = True
            await line.add_upload("upload-2")
            await eventually(lambda: _active(line, 2), within_s=PATIENCE_S)
            async with rival(line, vendor):
                assert await exit_code(wedged) == code
                await eventually(lambda: done(line, 2), within_s=PATIENCE_S)
        if block == "sleeps":  # where the processor is what it is short of, only the fence can promise that
            assert vendor.most_under_way == 1
        await check_each_stage_once(line, orders=2)
        assert (await states(line)).count("crashed") == 2


async def _active(line: Line, count: int) -> bool:
    return (await line.bull.counts(STAGE)).active == count


async def test_a_stage_that_hangs_in_a_thread_keeps_no_process_from_stopping(
    redis_url: str, database_url: str, fork_server: None
) -> None:
    """Its job is handed back uncounted; the thread, which nobody can end, ends with the process."""
    settings = settings_of(redis_url, database_url, shutdown_grace_seconds=0.1)
    async with slow_vendor() as vendor, open_line(redis_url, database_url) as line:
        with worker_process(settings, vendor.url, block="in a thread") as hung:
            await line.add_upload("upload-1")
            await vendor.called.wait()
            await line.add_upload("upload-2")
            await eventually(lambda: _active(line, 2), within_s=PATIENCE_S)
            await stop(hung)
        assert (await line.bull.counts(STAGE)).waiting == 2
        assert await states(line) == ["released", "released"]


async def test_a_worker_that_gets_a_tenth_of_the_processor_is_not_taken_for_wedged(
    redis_url: str, database_url: str, fork_server: None
) -> None:
    orders = 8 if CHAOS_IN_FULL else 3
    async with slow_vendor() as vendor, open_line(redis_url, database_url) as line:
        vendor.answering = True
        with worker_process(settings_of(redis_url, database_url), vendor.url) as throttled:
            await line.add_upload("upload-0")
            await vendor.called.wait()
            for number in range(1, orders):
                await line.add_upload(f"upload-{number}")
            async with rival(line, vendor), throttling(throttled, on_s=0.03, off_s=0.27):
                await eventually(lambda: done(line, orders), within_s=PATIENCE_S)
            # And alone: nobody else takes the last one.
            async with throttling(throttled, on_s=0.03, off_s=0.27):
                await line.add_upload("upload-last")
                await eventually(lambda: past_the_stage(line, orders + 1), within_s=PATIENCE_S)
            await stop(throttled)
        assert set(await states(line)) <= {"finished", "crashed", "lost", "released"}


async def test_workers_frozen_at_any_moment_for_any_time_do_each_stage_once(
    redis_url: str, database_url: str, fork_server: None
) -> None:
    """Freezes shorter and longer than a lease, at moments nobody chose (but the seed), while orders come in."""
    freezes = 25 if CHAOS_IN_FULL else 4
    chance = random.Random(SEED)
    settings = settings_of(redis_url, database_url, lease_seconds=1.5, heartbeat_seconds=0.3, max_stalls=100)
    async with slow_vendor() as vendor, open_line(redis_url, database_url, max_stalls=100) as line:
        vendor.answering = True
        with worker_process(settings, vendor.url) as one, worker_process(settings, vendor.url) as two:
            async with rival(line, vendor):
                for number in range(freezes):
                    await line.add_upload(f"upload-{number}")
                    frozen = chance.choice((one, two))
                    assert frozen.pid is not None
                    await anyio.sleep(chance.uniform(0, 0.3))
                    os.kill(frozen.pid, signal.SIGSTOP)
                    await anyio.sleep(chance.uniform(0.1, 2.5))
                    os.kill(frozen.pid, signal.SIGCONT)
                await eventually(lambda: done(line, freezes), within_s=PATIENCE_S)
            await stop(one)
            await stop(two)
        await check_each_stage_once(line, orders=freezes)


@asynccontextmanager
async def throttling(process: BaseProcess, *, on_s: float, off_s: float) -> AsyncIterator[None]:
    """Let the process run for a part of the time only."""
    assert process.pid is not None
    pid = process.pid

    async def throttle() -> None:
        while True:
            os.kill(pid, signal.SIGSTOP)
            await anyio.sleep(off_s)
            os.kill(pid, signal.SIGCONT)
            await anyio.sleep(on_s)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(throttle)
        try:
            yield
        finally:
            tasks.cancel_scope.cancel()
            os.kill(pid, signal.SIGCONT)
