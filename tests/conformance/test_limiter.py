"""A queue's limit holds for the whole fleet, Node's workers included: starts are counted in Bull's own key.

Nobody sweeps here, so whoever goes on when a window opens has waited for it by itself.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest
import redis
import redis.asyncio

from pipeline.queue.bull import Bull
from pipeline.queue.job import Limited, NewJob, RateLimit, Settled
from tests.conformance.oracle import Node
from tests.pipeline.queue.support import BASE, QUEUE, Claimer, Enqueuer
from tests.pipeline.test_claimer import Replica, completed, replica
from tests.support import eventually

_LINE = re.compile(r"^(?P<at>[\d.]+) \[\d+ (?P<who>\S+)\] ")
_OPENED = re.compile(rf'"(?:set|psetex)" "{BASE}limiter"', re.IGNORECASE)
_STARTED = re.compile(rf'"publish" "{BASE}active@(?P<token>[^"]*)"', re.IGNORECASE)
_FINISHED = re.compile(rf'"publish" "{BASE}completed"', re.IGNORECASE)
_END = "that is all"

OURS = re.compile(r"r\d+:\d+")
"""The tokens of this file's replicas; Node's are UUIDs."""


@dataclass(frozen=True)
class Script:
    """One call of a client and the commands it ran."""

    at: float  # seconds since 1970, by the server's clock
    lines: list[str] = field(default_factory=list)

    def started(self) -> list[str]:
        """By which token each job was claimed."""
        return [start["token"] for line in self.lines if (start := _STARTED.search(line))]


@dataclass
class Window:
    """From one beginning of Bull's counter to the next."""

    opened: float
    starts: list[tuple[float, str]] = field(default_factory=list)


@dataclass
class Monitor:
    """What the server did, script by script."""

    scripts: list[Script] = field(default_factory=list)

    async def watch(self, url: str, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        client = redis.asyncio.Redis.from_url(url, decode_responses=True, socket_timeout=None)
        async with client, client.monitor() as monitor:
            task_status.started()
            while _END not in (line := await monitor.connection.read_response()):
                if (met := _LINE.match(line)) is None:
                    continue
                if met["who"] == "lua":
                    self.scripts[-1].lines.append(line)
                else:
                    self.scripts.append(Script(float(met["at"])))

    def windows(self) -> list[Window]:
        """Jobs claimed, whoever claimed them, by the window they were counted in."""
        windows: list[Window] = []
        for script in self.scripts:
            if _any(_OPENED, script.lines):
                windows.append(Window(script.at))
            if started := script.started():
                windows[-1].starts += [(script.at, token) for token in started]
        return windows

    def starts_by_window(self) -> list[int]:
        """How many were claimed in each."""
        return [len(window.starts) for window in self.windows()]

    def taken_by_settling(self) -> int:
        """Jobs claimed by the very call that completed the one before."""
        return sum(bool(script.started()) and _any(_FINISHED, script.lines) for script in self.scripts)


def _any(pattern: re.Pattern[str], lines: Iterable[str]) -> bool:
    return any(pattern.search(line) for line in lines)


@asynccontextmanager
async def monitored(url: str, raw: redis.Redis) -> AsyncIterator[Monitor]:
    monitor = Monitor()
    async with anyio.create_task_group() as tasks:
        await tasks.start(monitor.watch, url)
        yield monitor
        raw.echo(_END)


@asynccontextmanager
async def fleet_of(url: str, count: int, limit: RateLimit) -> AsyncIterator[list[Replica]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(replica(url, f"r{number}", limit=limit)) for number in range(count)]


async def test_a_fleet_with_node_in_it_never_starts_more_in_a_window_than_the_limit(
    redis_url: str, raw: redis.Redis, node: Node
) -> None:
    """But for Node's own starts at the stroke: see `at_the_stroke`."""
    limit, jobs = RateLimit(4, 300), 48
    async with monitored(redis_url, raw) as monitor, fleet_of(redis_url, 3, limit) as fleet:
        await node.limit(QUEUE, limit.max, limit.duration_ms)
        for number in range(jobs):
            if number == limit.max:  # Node moves aside whatever it may not run: the fleet is to have some of them
                await eventually(lambda: began(fleet))
                await node.process(QUEUE)
            await fleet[0].bull.enqueue(QUEUE, NewJob(id=f"job-{number}", data="{}"))
        await eventually(lambda: all_ran(fleet, node, jobs), within_s=60)
        await eventually(lambda: completed(fleet[0].bull, QUEUE, jobs))
        ran = [job.id for one in fleet for job in one.ran] + node.ran
    assert sorted(ran) == sorted(f"job-{number}" for number in range(jobs))
    assert node.ran
    windows = monitor.windows()
    assert sum(len(window.starts) for window in windows) == jobs
    for window in windows:
        assert len(window.starts) - len(at_the_stroke(window, limit)) <= limit.max
    assert limit.max in monitor.starts_by_window()


async def began(fleet: list[Replica]) -> bool:
    return any(one.ran for one in fleet)


async def all_ran(fleet: list[Replica], node: Node, jobs: int) -> bool:
    return sum(len(one.ran) for one in fleet) + len(node.ran) >= jobs


def at_the_stroke(window: Window, limit: RateLimit) -> list[str]:
    """Starts of Node's in the last millisecond of a full window.

    There PTTL answers 0 while the counter still lives, and Bull (4.16.5, moveToActive: `delay > 0`) takes that for
    leave to start. It is as good as the next window's start; ours wait that millisecond.
    """
    ends = window.opened + limit.duration_ms / 1000
    return [token for at, token in window.starts[limit.max :] if not OURS.fullmatch(token) and abs(at - ends) < 0.002]


async def test_what_a_settling_call_claims_is_counted_like_any_other_start(redis_url: str, raw: redis.Redis) -> None:
    limit, jobs = RateLimit(4, 200), 30
    async with monitored(redis_url, raw) as monitor, fleet_of(redis_url, 1, limit) as [alone]:
        for number in range(jobs):
            await alone.bull.enqueue(QUEUE, NewJob(id=f"job-{number}", data="{}"))
        await eventually(lambda: completed(alone.bull, QUEUE, jobs))
    assert monitor.taken_by_settling() > 0
    assert (max(monitor.starts_by_window()), sum(monitor.starts_by_window())) == (limit.max, jobs)


async def test_while_the_window_is_closed_no_replica_asks_for_what_arrives(redis_url: str) -> None:
    """Five replicas and fifty announcements; each of the five is told once that the window is closed."""
    async with fleet_of(redis_url, 5, RateLimit(1, 600_000)) as fleet:
        bull = fleet[0].bull
        await bull.enqueue(QUEUE, NewJob(id="first", data="{}"))
        await eventually(lambda: completed(bull, QUEUE, 1))
        await bull.enqueue(QUEUE, NewJob(id="second", data="{}"))
        await eventually(lambda: told_to_wait(fleet))
        asked = sum(one.bull.asked for one in fleet)
        for number in range(50):
            await bull.enqueue(QUEUE, NewJob(id=f"job-{number}", data="{}"))
        await eventually(lambda: heard_of(fleet, 51))
        assert sum(one.bull.asked for one in fleet) == asked
        counts = await bull.counts(QUEUE)
        assert (counts.waiting, counts.delayed) == (51, 0)


async def told_to_wait(fleet: list[Replica]) -> bool:
    return all(one.claimers[QUEUE]._not_before > one.claimers[QUEUE]._clock.monotonic() for one in fleet)


async def heard_of(fleet: list[Replica], count: int) -> bool:
    return all(len(one.claimers[QUEUE]._ledger._waiting[QUEUE]) == count for one in fleet)


# ---------------------------------------------------------------------- a start that came to nothing


@pytest.fixture
def limit() -> RateLimit:
    return RateLimit(1, 600_000)


async def test_who_is_put_off_before_it_began_lets_another_start_in_its_place(
    bull: Bull, enqueue: Enqueuer, claim: Claimer, limit: RateLimit
) -> None:
    await enqueue("a", "b", "c")
    for _ in "ab":
        job = await claim(limit=limit)
        assert await bull.snooze(job, delay_ms=60_000, unstarted=True) is Settled.DONE
    assert (await claim(limit=limit)).id == "c"


async def test_a_start_that_called_somebody_stays_counted(
    bull: Bull, enqueue: Enqueuer, claim: Claimer, limit: RateLimit
) -> None:
    await enqueue("a", "b")
    await bull.snooze(await claim(limit=limit), delay_ms=60_000)
    assert isinstance(await bull.claim(QUEUE, token="t", lease_ms=1000, limit=limit), Limited)


async def test_a_start_is_not_given_back_to_a_later_window(
    bull: Bull, enqueue: Enqueuer, claim: Claimer, raw: redis.Redis, limit: RateLimit
) -> None:
    """There it was never counted: given back, it would let one more than the limit begin."""
    await enqueue("a", "b", "c")
    early = await claim(limit=limit)
    raw.delete(BASE + "limiter")  # the window ends
    raw.hincrby(BASE + "a", "processedOn", -1000)
    await claim(limit=limit)
    await bull.snooze(early, delay_ms=60_000, unstarted=True)
    assert raw.get(BASE + "limiter") == "1"


async def test_a_start_given_back_twice_is_given_back_once(
    bull: Bull, enqueue: Enqueuer, claim: Claimer, raw: redis.Redis
) -> None:
    """A settling call whose reply was lost is sent again."""
    await enqueue("a", "b")
    twice = RateLimit(2, 600_000)
    jobs = [await claim(limit=twice) for _ in "ab"]
    for _ in range(2):
        assert await bull.snooze(jobs[0], delay_ms=60_000, unstarted=True) is Settled.DONE
    assert raw.get(BASE + "limiter") == "1"


async def test_without_a_limit_nothing_is_given_back(
    bull: Bull, enqueue: Enqueuer, claim: Claimer, raw: redis.Redis
) -> None:
    """Node's workers may have one: their count is not ours to lower."""
    await enqueue("a")
    raw.set(BASE + "limiter", 3, px=60_000)
    await bull.snooze(await claim(), delay_ms=60_000, unstarted=True)
    assert raw.get(BASE + "limiter") == "3"
