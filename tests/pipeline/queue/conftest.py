"""A queue on a real server, seen from inside (`bull`) and from outside (`raw`, `published`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import count

import pytest
import redis

from app.connections import Connections, open_connections
from pipeline.clock import SystemClock
from pipeline.queue.bull import Bull
from pipeline.queue.job import ClaimedJob, NewJob, RateLimit
from tests.pipeline.queue.support import BASE, QUEUE, Claimer, Enqueuer, MovedClock, Published
from tests.pipeline.queue.touched import key_reader, watched


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
async def connections(redis_url: str) -> AsyncIterator[Connections]:
    opened: asyncio.Future[Connections] = asyncio.get_running_loop().create_future()
    done = asyncio.Event()

    async def hold_open() -> None:
        """A task group must end in the task it began in, which a fixture's two halves are not."""
        async with open_connections(redis_url, SystemClock()) as connections:
            opened.set_result(connections)
            await done.wait()

    holding = asyncio.create_task(hold_open())
    yield await opened
    done.set()
    await holding


@pytest.fixture
def bull(connections: Connections, clock: MovedClock, every_key_is_declared: None) -> Bull:
    return Bull(connections.commands, leases=connections.leases, clock=clock)


@pytest.fixture
def every_key_is_declared(raw: redis.Redis) -> Iterator[None]:
    """Whatever a test does with the queue, no script touches a key that its header does not tell of."""
    with watched(raw) as since_last_call:
        yield
        keys_of = key_reader(raw)
        problems = {problem for run in since_last_call() for problem in run.problems(keys_of)}
    assert problems == set()


@pytest.fixture
def raw(redis_admin: redis.Redis) -> redis.Redis:
    """A second, ordinary client: what it sees is what anyone sees."""
    return redis_admin


@pytest.fixture
def published(raw: redis.Redis) -> Iterator[Published]:
    with raw.pubsub() as listener:
        listener.psubscribe(BASE + "*")
        listener.get_message(timeout=5)

        def since_last_call() -> list[tuple[str, str]]:
            raw.publish(BASE + "end", "")
            found = []
            while (message := listener.get_message(timeout=5)) and message["channel"] != BASE + "end":
                found.append((message["channel"].removeprefix(BASE), message["data"]))
            return found

        yield since_last_call


@pytest.fixture
def claim(bull: Bull) -> Claimer:
    numbers = count(1)

    async def claim_one(*, lease_ms: int = 30_000, limit: RateLimit | None = None) -> ClaimedJob:
        token = f"worker:{next(numbers)}"
        claimed = await bull.claim(QUEUE, token=token, lease_ms=lease_ms, limit=limit)
        assert isinstance(claimed, ClaimedJob), claimed
        return claimed

    return claim_one


@pytest.fixture
def enqueue(bull: Bull) -> Enqueuer:
    async def enqueue_some(*ids: str) -> None:
        for job_id in ids:
            await bull.enqueue(QUEUE, NewJob(id=job_id, data="{}"))

    return enqueue_some
