"""A line that is reset at any byte: what was claimed, finished or renewed happened once, or is found not to have."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import pytest
import redis

from app.connections import Connections, open_connections
from pipeline.clock import SystemClock
from pipeline.errors import RedisUnavailable
from pipeline.queue.bull import Bull
from pipeline.queue.job import ClaimedJob, ClaimNext, FinishReply, Held, NewJob, Retention, Settled, Successor
from tests.app.redis_proxy import Proxy, proxy_to
from tests.pipeline.queue.support import BASE, NEXT, QUEUE

KEEP = Retention(age_s=3600)


@dataclass
class Line:
    """A queue behind a line that will be reset after `at` bytes in one direction; None: they are only counted."""

    bull: Bull
    raw: redis.Redis
    proxy: Proxy
    connections: Connections
    reply: bool
    at: int | None = None
    size: int = 0
    tokens: int = 0

    @contextmanager
    def struck(self) -> Iterator[None]:
        before = self.proxy.carried[self.reply]
        if self.at is not None:
            self.proxy.reset_after(self.at, replies=self.reply)
        yield
        self.size = self.proxy.carried[self.reply] - before

    def token(self) -> str:
        self.tokens += 1
        return f"w:{self.tokens:06}"

    async def fresh(self, *ids: str) -> None:
        """An empty Redis with these jobs waiting, and three connections that work."""
        self.raw.flushdb()
        async with asyncio.timeout(10):
            while any(state.state != "ready" for state in self.connections.states()):
                await asyncio.sleep(0)
        for job_id in ids:
            await self.bull.enqueue(QUEUE, NewJob(id=job_id, data="{}"))

    async def claim(self, token: str | None = None) -> ClaimedJob:
        claimed = await self.bull.claim(QUEUE, token=token or self.token(), lease_ms=30_000)
        assert isinstance(claimed, ClaimedJob)
        return claimed


async def claim(line: Line) -> None:
    await line.fresh("a")
    token = line.token()
    with line.struck():
        try:
            job = await line.claim(token)
        except RedisUnavailable:
            job = (await line.bull.adopt(QUEUE, token)).claimed or await line.claim()
    assert (job.id, job.lease.lost) == ("a", False)
    assert line.raw.get(f"{BASE}a:lock") == job.token
    assert await states(line, QUEUE) == {"active": 1}
    assert (await line.bull.finish(job, returnvalue="1", retention=KEEP)).settled is Settled.DONE


async def finish(line: Line) -> None:
    """The busiest exchange: complete, hand on, claim the next."""
    await line.fresh("a", "b")
    job, claim_next = await line.claim(), ClaimNext(line.token(), 30_000)
    successor = Successor(NEXT, NewJob(id="a-next", data="{}"))

    async def call() -> FinishReply:
        return await line.bull.finish(job, returnvalue="1", retention=KEEP, successor=successor, claim_next=claim_next)

    with line.struck():
        try:
            done = await call()
        except RedisUnavailable:
            done = await call()
    assert done.settled is Settled.DONE
    assert isinstance(done.next, ClaimedJob)
    assert (done.next.id, done.next.token) == ("b", claim_next.token)
    assert line.raw.get(f"{BASE}b:lock") == claim_next.token
    assert await states(line, QUEUE) == {"active": 1, "completed": 1}
    assert await states(line, NEXT) == {"waiting": 1}


async def renew(line: Line) -> None:
    """Nobody hears of the reset: it goes by `commands` then."""
    await line.fresh("a")
    job = await line.claim()
    with line.struck():
        assert await line.bull.renew([Held(QUEUE, "a", job.token)], 60_000) == set()
    assert line.raw.pttl(f"{BASE}a:lock") > 50_000
    assert await states(line, QUEUE) == {"active": 1}


async def states(line: Line, queue: str) -> dict[str, int]:
    """How many jobs are in each state, where there are any."""
    return {state: count for state, count in asdict(await line.bull.counts(queue)).items() if count}


@pytest.mark.parametrize("exchange", [claim, finish, renew])
@pytest.mark.parametrize("reply", [False, True], ids=["request", "reply"])
async def test_whatever_byte_a_line_ends_at_the_call_happened_once_or_is_found_not_to_have(
    redis_url: str, redis_admin: redis.Redis, exchange: Callable[[Line], Awaitable[None]], *, reply: bool
) -> None:
    async with (
        proxy_to(redis_url) as proxy,
        open_connections(proxy.url(), SystemClock(), random=lambda: 0.0) as opened,
    ):
        line = Line(Bull(opened.commands, leases=opened.leases), redis_admin, proxy, opened, reply)
        for _ in range(2):  # the second time the scripts are there, and the size is that of the call alone
            await exchange(line)
        size = line.size
        for line.at in range(size + 1):
            await exchange(line)
            assert proxy.was_reset.is_set(), f"byte {line.at} of {size} was never reached"
