"""Orders go through eleven queues while the three connections burn: nothing failed, lost or counted, soon all is well.

`CHAOS=full` sets every fire there is, with the timings of production and longer than a call is waited for.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
import psutil
import pytest
import redis.asyncio
import structlog
from sqlalchemy import func, select

from app.connections import open_connections
from app.db.tables import runs, stage_runs
from app.redis_link import ConnectionState
from app.redis_socket import Address
from pipeline import flow
from pipeline.clock import SystemClock
from pipeline.contract import StageInput, StageResult
from pipeline.queue.bull import Bull
from pipeline.worker import Worker
from tests.app.answering_proxy import answering_proxy
from tests.app.redis_proxy import proxy_to
from tests.chaos.redis_faults import FAULTS, UNFELT, Fault, Fire
from tests.pipeline.line import Line, Scripted, open_line
from tests.support import CHAOS_IN_FULL, eventually

ORDERS = 12 if CHAOS_IN_FULL else 4
RECOVERED_S = 15.0
"""The promise: connected, and consuming what comes in."""
TIMING: dict[str, float] = {} if CHAOS_IN_FULL else {"call_timeout_s": 0.4, "connect_timeout_s": 0.4}
BURNS_S = 8.0 if CHAOS_IN_FULL else 0.8
STAGE_S = 0.05
QUICK = ("half open", "refused", "reset at any byte", "OOM", "READONLY", "SCRIPT FLUSH", "CLIENT KILL normal")
FIRES = {name: fault for name, fault in FAULTS.items() if CHAOS_IN_FULL or name in QUICK}


@dataclass
class Seen:
    """What the connections said, and how many sockets there were at once."""

    port: int
    changes: list[ConnectionState] = field(default_factory=list)
    sockets: list[int] = field(default_factory=list)

    def note(self, state: ConnectionState) -> None:
        self.changes.append(state)

    async def count_sockets(self) -> None:
        process = psutil.Process()
        while True:
            lines = process.net_connections("tcp")
            self.sockets.append(
                sum(bool(line.raddr) and line.raddr.port == self.port and line.fd != -1 for line in lines)
            )
            await asyncio.sleep(0.05)

    def all_ready(self) -> bool:
        last = {change.name: change.state for change in self.changes}
        return list(last.values()) == ["ready"] * 3


@dataclass
class Works:
    """A worker behind a line that burns, and a way past it for whoever brings orders and looks."""

    line: Line
    worker: Worker
    outside: Line
    fire: Fire
    seen: Seen
    seen_outside: Seen
    submitted: int = 0

    async def submit(self, count: int) -> None:
        for _ in range(count):
            self.submitted += 1
            await self.outside.add_upload(f"upload-{self.submitted}")

    async def felt(self) -> bool:
        """The fire has reached us: a connection was lost, a role cannot work, or we heard what was said."""
        lost = any(change.state == "reconnecting" for change in self.seen.changes)
        return lost or bool(self.worker.hindrance) or self.fire.speaker.answered > 0

    async def passed(self, stage: str, count: int) -> bool:
        """That many orders have passed this stage, as Postgres says: Redis may not be asked now."""
        async with self.line.database.transaction() as connection:
            done = await connection.scalar(
                select(func.count())
                .select_from(stage_runs)
                .where(stage_runs.c.stage == stage, stage_runs.c.state == "finished")
            )
            return int(done or 0) >= count


def slowly(script: Callable[[StageInput], Any]) -> Callable[[StageInput], Any]:
    async def run(given: StageInput) -> StageResult:
        await anyio.sleep(STAGE_S)
        result: StageResult = await script(given)
        return result

    return run


@asynccontextmanager
async def works(redis_url: str, database_url: str) -> AsyncIterator[Works]:
    async with (
        answering_proxy(redis_url) as speaker,
        proxy_to(speaker.url()) as proxy,
        redis.asyncio.Redis.from_url(redis_url, decode_responses=True) as admin,
        open_connections(redis_url, SystemClock(), name="outside", on_change=(seen_outside := Seen(0)).note) as outside,
    ):
        seen = Seen(proxy.port)
        async with open_line(proxy.url(), database_url, on_change=seen.note, **TIMING) as line:
            for name, stage in list(line.stages.items()):
                line.stages[name] = Scripted(slowly(stage.script))
            fire = Fire(proxy, speaker, admin, str(Address.parse(redis_url).password))
            worker = line.worker(guard_s=1, retry_delay_s=0.5, lease_s=60)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(worker.run)
                tasks.start_soon(seen.count_sockets)
                yield Works(line, worker, replace(line, bull=Bull(outside.commands)), fire, seen, seen_outside)
                worker.stop()
                await eventually(stopped(worker))
                tasks.cancel_scope.cancel()


def stopped(worker: Worker) -> Callable[[], Awaitable[bool]]:
    async def is_stopped() -> bool:
        return worker.running == 0

    return is_stopped


@pytest.mark.parametrize("fault", FIRES.values(), ids=FIRES.keys())
async def test_connections_under_fire_lose_fail_and_count_nothing_and_recover_within_15_seconds(
    redis_url: str, database_url: str, fault: Fault, record_property: Callable[[str, object], None]
) -> None:
    with structlog.testing.capture_logs() as logs:
        async with works(redis_url, database_url) as works_:
            await works_.submit(ORDERS)
            await eventually(lambda: works_.passed(flow.NAMES[2], 2))
            async with fault(works_.fire):
                await anyio.sleep(BURNS_S)
                if fault not in UNFELT:
                    await eventually(works_.felt)
            recovered_s = await _recover(works_)
            record_property("recovered_s", round(recovered_s, 2))
            await eventually(lambda: works_.passed(flow.IMAGES, works_.submitted), within_s=60)
            await _check_orders(works_)
            named = [client["name"] for client in await works_.fire.admin.client_list()]
            assert sorted(name for name in named if name.startswith("po:")) == [
                "po:commands", "po:events", "po:leases",
            ]  # fmt: skip
    assert max(works_.seen.sockets) == 3
    _check_told(works_, logs)


async def _recover(works_: Works) -> float:
    """How long it takes until all is ready and an order that came after healing is under way."""
    began = anyio.current_time()
    await works_.submit(1)
    with anyio.fail_after(RECOVERED_S):
        await eventually(lambda: works_.passed(flow.FIRST, works_.submitted), within_s=RECOVERED_S)
        while not works_.seen.all_ready():
            await anyio.sleep(0.01)
    return anyio.current_time() - began


async def _check_orders(works_: Works) -> None:
    """Every order passed every stage once; nothing failed, and nobody counted the fire against an order."""
    async with works_.line.database.transaction() as connection:
        states = dict(
            (await connection.execute(select(stage_runs.c.state, func.count()).group_by(stage_runs.c.state))).all()
        )
        ended = (await connection.execute(select(runs.c.state))).scalars().all()
    assert Counter(ended) == {"completed": works_.submitted}
    assert states.pop("finished") == works_.submitted * len(flow.NAMES)
    assert set(states) <= {"released"}, states
    bull = works_.outside.bull
    for queue in flow.NAMES:
        await eventually(lambda queue=queue: settled(bull, queue, works_.submitted))
        jobs = await bull.list_jobs(queue, "completed", 0, 199)
        assert {(job.attempts_made, job.stalled_count) for job in jobs} == {(0, 0)}, queue


async def settled(bull: Bull, queue: str, count: int) -> bool:
    """Everything that was ever in this queue has been completed."""
    counts = await bull.counts(queue)
    return (counts.completed, counts.failed, counts.active, counts.waiting, counts.delayed) == (count, 0, 0, 0, 0)


def _check_told(works_: Works, logs: list[Any]) -> None:
    """One log event and one call for each change of state, and each of them a change; no trouble but the fire."""
    told = Counter((log["connection"], log["state"]) for log in logs if log["event"] == "redis connection changed")
    changes = [*works_.seen.changes, *works_.seen_outside.changes]
    assert told == Counter((change.name, change.state) for change in changes)
    for name in ("commands", "events", "leases"):
        states = [change.state for change in works_.seen.changes if change.name == name]
        assert all(before != after for before, after in itertools.pairwise(states)), states
    assert [log for log in logs if log["log_level"] == "error"] == []
