"""What is published becomes calls; nothing else does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
import redis

from app.connections import Connections
from pipeline.queue.bull import Bull
from pipeline.queue.job import Failure, NewJob
from pipeline.queue.keys import Keys
from pipeline.queue.notifier import Notifier
from tests.pipeline.queue.support import BASE, NEXT, QUEUE, Claimer, Enqueuer


class Heard:
    """Notes the calls, and lets a test wait for the next one."""

    def __init__(self) -> None:
        self._send, self._receive = anyio.create_memory_object_stream[tuple[object, ...]](100)

    async def next(self) -> tuple[object, ...]:
        with anyio.fail_after(5):
            return await self._receive.receive()

    def note(self, *what: object) -> None:
        self._send.send_nowait(what)

    def close(self) -> None:
        self._send.close()
        self._receive.close()


@asynccontextmanager
async def listening(connections: Connections) -> AsyncIterator[Heard]:
    heard = Heard()
    notifier = Notifier(
        connections.events,
        Keys(),
        [QUEUE, NEXT],
        on_waiting=lambda queue, job_id: heard.note("waiting", queue, job_id),
        on_taken=lambda queue, job_id: heard.note("taken", queue, job_id),
        on_resumed=lambda queue: heard.note("resumed", queue),
        on_delayed=lambda queue, due_ms: heard.note("delayed", queue, due_ms),
        on_resubscribed=lambda: heard.note("resubscribed"),
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(notifier.run)
        assert await heard.next() == ("resubscribed",)
        yield heard
        tasks.cancel_scope.cancel()
    heard.close()


async def test_jobs_that_can_be_claimed_wake_their_queue(
    bull: Bull, connections: Connections, raw: redis.Redis
) -> None:
    async with listening(connections) as heard:
        await bull.enqueue(NEXT, NewJob(id="a", data="{}"))
        assert await heard.next() == ("waiting", NEXT, "a")
        await bull.claim(NEXT, token="t", lease_ms=1000)
        assert await heard.next() == ("taken", NEXT, "a")
        await bull.pause(QUEUE)
        await bull.resume(QUEUE)
        assert await heard.next() == ("resumed", QUEUE)
        raw.publish(BASE + "stalled@", "a")
        assert await heard.next() == ("waiting", QUEUE, "a")


async def test_a_delayed_job_tells_when_it_is_due(
    bull: Bull, connections: Connections, raw: redis.Redis, enqueue: Enqueuer, claim: Claimer
) -> None:
    async with listening(connections) as heard:
        raw.publish(BASE + "delayed", "1795460638137.0012")  # Bull's own spelling
        assert await heard.next() == ("delayed", QUEUE, 1795460638137)
        raw.publish(BASE + "delayed", "soon")
        raw.publish(BASE + "completed", "{}")
        await enqueue("a")
        job = await claim()
        assert await heard.next() == ("waiting", QUEUE, "a")
        assert await heard.next() == ("taken", QUEUE, "a")
        await bull.retry(job, failure=Failure("x"), attempts_made=1, delay_ms=5_000)
        word, queue, due_ms = await heard.next()
        assert (word, queue) == ("delayed", QUEUE)
        assert isinstance(due_ms, int)


async def test_after_a_lost_connection_it_listens_again_and_says_so(
    bull: Bull, connections: Connections, raw: redis.Redis
) -> None:
    async with listening(connections) as heard:
        for client in raw.client_list():
            if client["name"].endswith(":events"):
                raw.client_kill(client["addr"])
        assert await heard.next() == ("resubscribed",)
        await bull.enqueue(QUEUE, NewJob(id="a", data="{}"))
        assert await heard.next() == ("waiting", QUEUE, "a")


@pytest.mark.parametrize("prefix", ["{bull}", "b[u]ll*"])
async def test_a_prefix_is_matched_literally(connections: Connections, raw: redis.Redis, prefix: str) -> None:
    heard = Heard()
    notifier = Notifier(
        connections.events,
        Keys(prefix),
        [QUEUE],
        on_waiting=lambda queue, job_id: heard.note("waiting", queue, job_id),
        on_taken=lambda queue, job_id: heard.note("taken", queue, job_id),
        on_resumed=lambda queue: heard.note("resumed", queue),
        on_delayed=lambda *_: None,
        on_resubscribed=lambda: heard.note("resubscribed"),
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(notifier.run)
        await heard.next()
        raw.publish(f"{prefix}:{QUEUE}:waiting@x", "1")
        assert await heard.next() == ("waiting", QUEUE, "1")
        tasks.cancel_scope.cancel()
    heard.close()
