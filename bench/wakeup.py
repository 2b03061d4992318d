"""How long a job lies in a queue whose worker is idle: ours beside npm bull, in one run on one Redis.

    .venv/bin/python -m bench.wakeup [SECONDS]

Each system consumes eleven queues under a prefix of its own. A driver per system uses one queue after the other, some
jobs each, and adds a job 0-4 s after the last one was taken ("after the last") or 0-12 s ("at random"), because a
blocking client that serves queues in turn is slow in different ways for the two. What is
timed is what an outsider hears: from `waiting@` to `active@`. Prints percentiles; asserts nothing.
"""

from __future__ import annotations

import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import anyio
import redis.asyncio

from app import logs
from app.connections import open_connections
from app.embedded import open_home, start_redis
from pipeline import flow
from pipeline.clock import SystemClock
from pipeline.queue.bull import Bull
from pipeline.queue.heartbeat import Heartbeat
from pipeline.queue.job import NewJob
from pipeline.reconciler import Reconciler
from pipeline.run_store import NotDue, Ticket
from pipeline.runner import Runner
from pipeline.worker import Worker, WorkerConfig
from tests.conformance.oracle import INTEROP
from tests.pipeline.line import Silent

OURS = "ours, 3 connections"
NODE = {"npm bull, 33 connections": "default", "npm bull, all queues on 3 connections": "shared"}
PATTERNS = ("after the last", "at random")
PAUSES_S = {PATTERNS[0]: 4.0, PATTERNS[1]: 12.0}
JOBS_IN_A_ROW = 5
LONGEST_S = 60.0
"""Nobody is waited for longer; the shared blocking client needs up to 50 s."""


class NothingDue:
    """A run store that has no use for any job: what is measured is how soon it is asked."""

    async def load(self, _ticket: Ticket, **_answers: Any) -> NotDue:
        return NotDue("measured")

    async def list_due(self, **_which: Any) -> list[Any]:
        return []

    async def list_turns(self, _run_id: str | None = None) -> list[Any]:
        return []

    async def list_paused(self) -> frozenset[str]:
        return frozenset()


@asynccontextmanager
async def our_worker(url: str, prefix: str) -> AsyncIterator[None]:
    clock, store = SystemClock(), NothingDue()
    async with open_connections(url, clock) as connections:
        bull = Bull(connections.commands, prefix=prefix, leases=connections.leases, clock=clock)
        heartbeat = Heartbeat(bull, clock, every_s=30, lease_s=120)
        worker = Worker(
            bull=bull,
            events=connections.events,
            runner=Runner(
                bull=bull,
                runs=store,  # type: ignore[arg-type]
                stages={},
                heartbeat=heartbeat,
                progress=Silent(),
                clock=clock,
                random=random.random,
                worker="bench",
            ),
            heartbeat=heartbeat,
            reconciler=Reconciler(bull, store, clock, every_s=60, quiet_s=180),  # type: ignore[arg-type]
            pauses=store,
            clock=clock,
            random=random.random,
            config=WorkerConfig(name="bench"),
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.run)
            yield
            worker.stop()


@contextmanager
def node_worker(url: str, prefix: str, mode: str) -> Iterator[None]:
    node = shutil.which("node")
    if node is None:
        sys.exit("node is not on this machine: there is nothing to compare with")
    command = [node, str(INTEROP / "idle.js"), url, prefix, mode, *flow.NAMES]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.stdin.close()


class Ear:
    """Hears when each job begins to wait and when somebody takes it."""

    def __init__(self) -> None:
        self._at: dict[tuple[str, str, str], float] = {}
        self._expected: dict[tuple[str, str, str], anyio.Event] = {}

    async def listen(self, listener: redis.asyncio.client.PubSub) -> None:
        async for message in listener.listen():
            if message["type"] == "pmessage":
                base, _, word = message["channel"].partition("@")[0].rpartition(":")
                heard = (base, message["data"], word)
                self._at[heard] = time.perf_counter()
                if heard in self._expected:
                    self._expected[heard].set()

    async def pick_up_s(self, base: str, job_id: str) -> float:
        """Seconds the job lay there; infinity if nobody came."""
        taken = (base, job_id, "active")
        self._expected[taken] = anyio.Event()
        if taken not in self._at:
            with anyio.move_on_after(LONGEST_S):
                await self._expected[taken].wait()
        return self._at.get(taken, float("inf")) - self._at[base, job_id, "waiting"]


async def drive(bull: Bull, ear: Ear, pattern: str, until: float, found: list[float]) -> None:
    """Use the queues in turn until the time is over."""
    chance = random.Random(f"{bull.keys.prefix} {pattern}")
    number = 0
    while time.perf_counter() < until:
        queue = flow.NAMES[number // JOBS_IN_A_ROW % len(flow.NAMES)]
        number += 1
        await anyio.sleep(chance.uniform(0, PAUSES_S[pattern]))
        job_id = f"{pattern.replace(' ', '-')}-{number}"
        await bull.enqueue(queue, NewJob(id=job_id, data="{}"))
        found.append(await ear.pick_up_s(bull.keys.base(queue)[:-1], job_id))


async def measure(url: str, seconds: float) -> None:
    results: dict[tuple[str, str], list[float]] = {}
    async with AsyncExitStack() as stack:
        connections = await stack.enter_async_context(open_connections(url, SystemClock()))
        ear = await stack.enter_async_context(listening(url))
        systems: list[tuple[str, str, str]] = []
        for place, pattern in enumerate(PATTERNS):  # a worker per pattern: one's jobs must not wake it for the other's
            await stack.enter_async_context(our_worker(url, f"ours{place}"))
            systems.append((OURS, pattern, f"ours{place}"))
            for name, mode in NODE.items():
                stack.enter_context(node_worker(url, f"{mode}{place}", mode))
                systems.append((name, pattern, f"{mode}{place}"))
        until = time.perf_counter() + seconds
        async with anyio.create_task_group() as drivers:
            for name, pattern, prefix in systems:
                found = results[name, pattern] = []
                drivers.start_soon(drive, Bull(connections.commands, prefix=prefix), ear, pattern, until, found)
    for (name, pattern), found in results.items():
        print(f"{name:40} {pattern:15} {_percentiles([1000 * one for one in found])}")


@asynccontextmanager
async def listening(url: str) -> AsyncIterator[Ear]:
    ear = Ear()
    async with (
        redis.asyncio.Redis.from_url(url, decode_responses=True) as client,
        client.pubsub() as listener,
        anyio.create_task_group() as tasks,
    ):
        await listener.psubscribe("*:waiting@*", "*:active@*")
        tasks.start_soon(ear.listen, listener)
        yield ear
        tasks.cancel_scope.cancel()


def _percentiles(values: list[float]) -> str:
    cuts = statistics.quantiles([*values, values[-1]], n=100, method="inclusive")  # it wants two at least
    p50, p90, p99 = (f"{cuts[place]:.1f}" for place in (49, 89, 98))
    return f"n {len(values):4}  p50 {p50}  p90 {p90}  p99 {p99}  max {max(values):.1f}  (ms)"


def main(seconds: float) -> None:
    with open_home(None) as home, start_redis(home) as url:
        logs.configure("text", file=home.log("bench"))
        anyio.run(measure, url, seconds)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 300)
