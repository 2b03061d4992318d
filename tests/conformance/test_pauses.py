"""A pause of people is kept in Postgres: a starting Node, an emptied Redis and a new replica all have to obey it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import anyio
import pytest
import redis

from app.db.people import People
from app.db.uploads import create_upload
from app.enqueue import enqueue_upload
from pipeline import flow
from pipeline.worker import Worker
from tests.app.held import held
from tests.conformance.oracle import Node
from tests.pipeline.line import MERCHANT, Line, open_line
from tests.support import eventually

FIRST = flow.FIRST
NO_SWEEP_S = 1000.0
"""A guard so long that the only sweeps are the first one and those somebody asked for."""

UPSTREAM_OPTIONS = {"removeOnComplete": 100, "attempts": 3, "backoff": {"type": "exponential", "delay": 2000}}


@pytest.fixture
async def line(redis_url: str, database_url: str) -> AsyncIterator[Line]:
    async with held(open_line(redis_url, database_url)) as opened:
        yield opened


@asynccontextmanager
async def at_work(line: Line, *stages: str) -> AsyncIterator[Worker]:
    """One worker, of the first stage unless told otherwise, from its first sweep on."""
    worker = line.worker(guard_s=NO_SWEEP_S, stages=stages or (FIRST,))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        await eventually(lambda: swept(worker))
        yield worker
        worker.stop()


async def swept(worker: Worker) -> bool:
    return worker.last_report is not None


async def pause(line: Line) -> None:
    """As the page, the API and the command do."""
    await People(line.database).pause_queue(FIRST, "ann")
    await line.bull.pause(FIRST)


async def resume(line: Line) -> None:
    await People(line.database).resume_queue(FIRST, "ann")
    await line.bull.resume(FIRST)


async def add_by_node(node: Node, upload: str) -> None:
    """As upstream's cron does."""
    data = {"uploadId": upload, "merchantId": MERCHANT, "fileName": "order.csv"}
    sent = {"workflowId": f"wf_{upload}", "stage": "ai_parsing", "data": data}
    await node.queue(FIRST, "add", sent, UPSTREAM_OPTIONS)


async def holds(line: Line, count: int) -> bool:
    """The queue is paused, and that many jobs wait in it."""
    return await line.bull.is_paused(FIRST) and (await line.bull.counts(FIRST)).paused == count


async def begun(line: Line) -> int:
    return line.stages[FIRST].calls


async def done(line: Line, count: int) -> bool:
    return (await line.bull.counts(FIRST)).completed == count


def claimed_after(raw: redis.Redis, moment_ms: int) -> list[str]:
    """Jobs of the first queue that somebody claimed later than that, by Redis' clock."""
    ids = [key for key in raw.scan_iter(f"bull:{FIRST}:*", _type="hash") if raw.hexists(key, "processedOn")]
    return [key for key in ids if int(str(raw.hget(key, "processedOn"))) > moment_ms]


def now_ms(raw: redis.Redis) -> int:
    seconds, micros = raw.time()
    return int(seconds) * 1000 + int(micros) // 1000


# ------------------------------------------------------------------------------------ how soon it bites


@pytest.mark.parametrize("by", ["us", "node"])
async def test_nothing_is_claimed_once_a_pause_was_acknowledged(
    line: Line, node: Node, redis_admin: redis.Redis, by: str
) -> None:
    """Neither by a claim nor by a settling call that would take the next: the jobs are out of their reach at once."""
    async with at_work(line):
        for number in range(40):
            await line.add_upload(f"upload-{number}")
        await eventually(lambda: some_began(line))
        await (pause(line) if by == "us" else node.queue(FIRST, "pause"))
        acknowledged = now_ms(redis_admin)
        await add_by_node(node, "by-node")
        await line.add_upload("by-us")
        await eventually(lambda: nobody_works(line))
        assert claimed_after(redis_admin, acknowledged) == []
        begun_before = await begun(line)
        assert await holds(line, 42 - begun_before)
        await (resume(line) if by == "us" else node.queue(FIRST, "resume"))
        await eventually(lambda: done(line, 42))  # no sweep is due for a quarter of an hour
    assert await begun(line) == 42


async def some_began(line: Line) -> bool:
    return await begun(line) > 2


async def nobody_works(line: Line) -> bool:
    return (await line.bull.counts(FIRST)).active == 0


async def test_a_pause_that_did_not_reach_redis_bites_with_the_next_sweep(line: Line) -> None:
    """Who paused wrote to Postgres and found Redis away. One sweep is the bound, in every replica."""
    async with at_work(line) as worker:
        await People(line.database).pause_queue(FIRST, "ann")
        worker._sweeper.nudge()
        await eventually(lambda: line.bull.is_paused(FIRST))
        await line.add_upload()
        assert await holds(line, 1)
        assert await begun(line) == 0
        await resume(line)
        await eventually(lambda: done(line, 1))


async def test_a_starting_worker_claims_nothing_before_it_knows_what_is_paused(line: Line) -> None:
    """Redis has forgotten the pause, and the job is there to take."""
    await People(line.database).pause_queue(FIRST, "ann")
    await line.add_upload()
    ask = line.store.list_paused

    async def slowly() -> frozenset[str]:
        for _ in range(50):  # a claim sent meanwhile would have been answered long ago
            await line.bull.counts(FIRST)
        return await ask()

    line.store.list_paused = slowly  # type: ignore[method-assign]
    async with at_work(line):
        await eventually(lambda: holds(line, 1))
        assert await begun(line) == 0


# --------------------------------------------------------------------------------------- who undoes it


async def test_a_starting_node_frees_nothing_of_what_people_paused(
    line: Line, node: Node, redis_admin: redis.Redis
) -> None:
    """It resumes every queue, then removes all that waits and adds it again; each order still runs once."""
    async with at_work(line) as worker:
        await pause(line)
        for number in range(3):
            await line.add_upload(f"ours-{number}")
            await add_by_node(node, f"nodes-{number}")
        worker._sweeper.nudge()
        await eventually(lambda: knows(worker))
        for queue in flow.NAMES:
            # Of the six it finds none where the worker has paused the queue again before it looked.
            assert await node.start(queue) in ((6, 0) if queue == FIRST else (0,))
        await eventually(lambda: holds(line, 6))
        assert claimed_after(redis_admin, 0) == []
        await resume(line)
        await eventually(lambda: done(line, 6))
    assert await begun(line) == 6


async def knows(worker: Worker) -> bool:
    return FIRST in worker._gate.paused


async def test_what_waits_for_its_turn_survives_a_starting_node(line: Line, node: Node) -> None:
    """It adds the parked again without their delay; they ask once more, and the door's answer is the same."""
    line.store._open_runs = 1
    for number in range(5):
        await line.add_upload(f"upload-{number}")
    for _ in range(5):
        await line.step(FIRST)
    assert await node.start(FIRST) == 4
    for _ in range(4):
        await line.step(FIRST)
    counts = await line.bull.counts(FIRST)
    assert (counts.waiting, counts.delayed, await begun(line)) == (0, 4, 1)
    async with at_work(line, *flow.NAMES):
        await eventually(lambda: done(line, 5))
    assert await begun(line) == 5


async def test_a_pause_survives_redis_coming_back_empty(line: Line, redis_admin: redis.Redis) -> None:
    """Accepted orders come back into the paused queue; nothing runs before people say so."""
    async with at_work(line) as worker:
        await pause(line)
        for number in range(3):
            await upload(line, f"{number}.csv")
        redis_admin.flushall()
        worker._sweeper.nudge()
        await eventually(lambda: holds(line, 3))
        assert claimed_after(redis_admin, 0) == []
        await resume(line)
        await eventually(lambda: done(line, 3))
    assert await begun(line) == 3


async def upload(line: Line, name: str) -> None:
    """As the page does: accepted when it is answered, whatever Redis remembers."""
    sent = await create_upload(
        line.database, merchant_id=MERCHANT, name=name, mime="text/csv", content=b"x", at=datetime.now(UTC)
    )
    await enqueue_upload(line.bull, sent)
