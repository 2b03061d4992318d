"""A Redis that is away for long, comes back, or refuses us one day: the process stays, and says why it waits."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
import redis
import structlog

from app.admin.server import health_of
from app.connections import open_connections
from app.redis_socket import Address
from pipeline import flow, settling
from pipeline.clock import SystemClock
from pipeline.contract import Done, StageInput, StageResult
from pipeline.domain.results import Enrichment
from pipeline.queue.bull import Bull
from pipeline.worker import Worker
from tests.app.redis_proxy import Proxy, proxy_to
from tests.pipeline.line import Line, open_line
from tests.support import eventually

PATIENCE_S = 0.1
SECOND = flow.NAMES[1]


@asynccontextmanager
async def ends_with_redis_away(redis_url: str, database_url: str) -> AsyncIterator[tuple[Line, Proxy, Bull]]:
    """An attempt whose stage has just ended and been recorded, as Redis went; and a way past the line."""
    async with (
        proxy_to(redis_url) as proxy,
        open_connections(redis_url, SystemClock(), name="outside") as outside,
        open_line(proxy.url(), database_url, call_timeout_s=0.05) as line,
    ):

        async def redis_goes(_given: StageInput) -> StageResult:
            await proxy.close_door()
            proxy.reset()
            return Done(Enrichment())

        line.script(flow.FIRST, redis_goes)
        await line.add_upload()
        job = await line.claim(flow.FIRST)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(line.runner.attempt, job, None)
            await eventually(lambda: recorded(line))
            yield line, proxy, Bull(outside.commands)


async def recorded(line: Line) -> bool:
    return line.stages[flow.FIRST].calls == 1 and [state for *_, state in await line.journal()] == ["finished"]


async def test_an_attempt_that_ends_with_redis_away_is_settled_when_it_is_back_however_late(
    redis_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by the sweep, two minutes later and as a stall."""
    monkeypatch.setattr(settling, "SHIELDED_S", PATIENCE_S)
    async with ends_with_redis_away(redis_url, database_url) as (_, proxy, bull):
        await anyio.sleep(5 * PATIENCE_S)
        await proxy.open_door()
        await eventually(lambda: settled(bull))


async def settled(bull: Bull) -> bool:
    first, second = await bull.counts(flow.FIRST), await bull.counts(SECOND)
    return (first.completed, first.active, second.waiting) == (1, 0, 1)


@pytest.mark.parametrize("drains_first", [True, False])
async def test_a_redis_that_stays_away_does_not_hold_up_a_worker_that_drains(
    redis_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch, *, drains_first: bool
) -> None:
    monkeypatch.setattr(settling, "SHIELDED_S", PATIENCE_S)
    with anyio.fail_after(10):
        async with ends_with_redis_away(redis_url, database_url) as (line, _, bull):
            if not drains_first:
                await anyio.sleep(2 * PATIENCE_S)  # it insists by now
            line.runner.drain()
            assert (await bull.counts(flow.FIRST)).active == 1


# --------------------------------------------------------------------------- refused one day, and back


@pytest.fixture
def user(redis_url: str, redis_admin: redis.Redis) -> Iterator[str]:
    """The URL of a user of the access list who may do everything, for now."""
    rights = {"keys": ["*"], "channels": ["*"], "passwords": ["+x"], "commands": ["+@all"], "enabled": True}
    redis_admin.acl_setuser("worker", reset=True, **rights)
    address = Address.parse(redis_url)
    yield f"redis://worker:x@{address.host}:{address.port}"
    redis_admin.acl_deluser("worker")


@asynccontextmanager
async def at_work(line: Line, **changed: Any) -> AsyncIterator[Worker]:
    worker = line.worker(**changed)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        yield worker
        worker.stop()


async def test_scripts_that_are_refused_one_day_end_no_process_and_are_told_once(
    redis_url: str, database_url: str, user: str, redis_admin: redis.Redis
) -> None:
    with structlog.testing.capture_logs() as logs:
        async with open_line(user, database_url) as line, at_work(line) as worker:
            await line.add_upload("before")
            await eventually(lambda: through(line, 1))
            assert health_of(worker).trouble == ""

            redis_admin.execute_command("ACL", "SETUSER", "worker", "-eval", "-evalsha")
            worker._sweeper.nudge()
            worker._claimers[flow.FIRST].doubt()
            await eventually(lambda: hindered(worker))
            await eventually(lambda: refused_often(redis_admin))
            assert "NOPERM" in health_of(worker).trouble

            redis_admin.execute_command("ACL", "SETUSER", "worker", "+eval", "+evalsha")
            await eventually(lambda: consumes(worker))
            await line.add_upload("after")
            await eventually(lambda: through(line, 2))
    told = Counter((log["event"], log["role"], log.get("queue")) for log in logs if log["event"].startswith("role "))
    assert set(told.values()) == {1}
    assert {("role hindered", "sweep", None), ("role hindered", "claimer", flow.FIRST)} <= set(told)
    assert {("role goes on", *role) for event, *role in told if event == "role hindered"} <= set(told)


async def through(line: Line, count: int) -> bool:
    return (await line.bull.counts(flow.IMAGES)).completed >= count


async def hindered(worker: Worker) -> bool:
    return bool(worker._sweeper.hindrance.reason and worker._claimers[flow.FIRST].hindrance.reason)


async def refused_often(admin: redis.Redis) -> bool:
    """The access list counts what it denied in entries that it merges."""
    return max(int(entry["count"]) for entry in admin.acl_log()) >= 5


async def consumes(worker: Worker) -> bool:
    return health_of(worker).trouble == ""


async def test_back_again_what_is_held_is_renewed_and_what_was_missed_is_swept_at_once(
    redis_url: str, database_url: str, redis_admin: redis.Redis
) -> None:
    """Without waiting for the next beat or sweep, both of which are far away here."""
    go_on = anyio.Event()

    async def waits(_given: StageInput) -> StageResult:
        await go_on.wait()
        return Done(Enrichment())

    async with open_line(redis_url, database_url) as line:
        line.script(flow.FIRST, waits)
        async with at_work(line, guard_s=1000) as worker:
            job_id = await line.add_upload()
            await eventually(called(line))
            lock = f"{line.bull.keys.base(flow.FIRST)}{job_id}:lock"
            redis_admin.pexpire(lock, 5_000)
            swept = worker.last_report
            redis_admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")

            async def looked_after() -> bool:
                return redis_admin.pttl(lock) > 10_000 and worker.last_report is not swept

            await eventually(looked_after, within_s=4)
            go_on.set()
            await eventually(lambda: through(line, 1))


def called(line: Line) -> Callable[[], Awaitable[bool]]:
    async def is_called() -> bool:
        return line.stages[flow.FIRST].calls == 1

    return is_called
