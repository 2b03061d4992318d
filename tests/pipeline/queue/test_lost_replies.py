"""A reply that never came is asked for, not guessed: no job is lost, none is claimed or handed on twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from app.connections import open_connections
from pipeline.clock import SystemClock
from pipeline.errors import ReplyLost
from pipeline.queue.bull import Bull
from pipeline.queue.job import ClaimedJob, ClaimNext, Failure, FinishReply, NewJob, Retention, Settled, Successor
from tests.app.redis_proxy import Proxy, proxy_to
from tests.pipeline.queue.support import NEXT, QUEUE

KEEP = Retention(age_s=3600)


@dataclass(frozen=True)
class BadLine:
    """A queue behind a line that can lose replies."""

    bull: Bull
    proxy: Proxy

    async def lose(self, call: Awaitable[object]) -> None:
        """Let the call reach Redis and its reply vanish."""
        self.proxy.replies_swallowed.clear()
        self.proxy.swallow_replies = True
        running = asyncio.ensure_future(call)
        await self.proxy.replies_swallowed.wait()
        self.proxy.swallow_replies = False
        self.proxy.cut()
        with pytest.raises(ReplyLost):
            await running


@asynccontextmanager
async def bad_line(redis_url: str) -> AsyncIterator[BadLine]:
    async with proxy_to(redis_url) as proxy, open_connections(proxy.url(), SystemClock()) as opened:
        line = BadLine(Bull(opened.commands), proxy)
        for job_id in ("known", "a", "b"):
            await line.bull.enqueue(QUEUE, NewJob(id=job_id, data="{}"))
        # each script once, so that what gets lost below is its answer and not a NOSCRIPT
        job = await claimed(line, "known")
        await line.bull.finish(job, returnvalue="1", retention=Retention(count=0))
        await line.bull.retry(job, failure=Failure("x"), attempts_made=1, delay_ms=0)
        yield line


async def claimed(line: BadLine, token: str) -> ClaimedJob:
    job = await line.bull.claim(QUEUE, token=token, lease_ms=30_000)
    assert isinstance(job, ClaimedJob)
    return job


async def test_a_claim_whose_reply_was_lost_is_adopted(redis_url: str) -> None:
    async with bad_line(redis_url) as line:
        await line.lose(line.bull.claim(QUEUE, token="w:1", lease_ms=30_000))
        adopted = (await line.bull.adopt(QUEUE, "w:1")).claimed
        assert adopted is not None
        assert (adopted.id, adopted.lease.lost) == ("a", False)
        assert (await line.bull.finish(adopted, returnvalue="1", retention=KEEP)).settled is Settled.DONE


async def test_a_finish_whose_reply_was_lost_may_be_sent_again(redis_url: str) -> None:
    async with bad_line(redis_url) as line:
        job = await claimed(line, "w:1")

        def finish() -> Awaitable[FinishReply]:
            return line.bull.finish(
                job,
                returnvalue="1",
                retention=KEEP,
                successor=Successor(NEXT, NewJob(id="a-next", data="{}")),
                claim_next=ClaimNext("w:2", 30_000),
            )

        await line.lose(finish())
        assert (await line.bull.adopt(QUEUE, "w:1", "a")).settled
        again = await finish()
        assert again.settled is Settled.DONE
        assert isinstance(again.next, ClaimedJob)
        assert again.next.id == "b"
        assert (await line.bull.counts(NEXT)).waiting == 1


async def test_a_job_removed_at_its_end_does_not_hide_the_claim_that_came_with_it(redis_url: str) -> None:
    """Sent again the finished job is gone; what was claimed in its place is ours all the same, and known to nobody."""
    async with bad_line(redis_url) as line:
        job = await claimed(line, "w:1")

        def finish() -> Awaitable[FinishReply]:
            return line.bull.finish(
                job, returnvalue="1", retention=Retention(count=0), claim_next=ClaimNext("w:2", 30_000)
            )

        await line.lose(finish())
        again = await finish()
        assert again.settled is Settled.GONE
        assert isinstance(again.next, ClaimedJob)
        assert again.next.id == "b"


async def test_a_failure_whose_reply_was_lost_is_counted_once(redis_url: str) -> None:
    async with bad_line(redis_url) as line:
        job = await claimed(line, "w:1")

        def retry() -> Awaitable[Settled]:
            return line.bull.retry(job, failure=Failure("x", ["t"]), attempts_made=1, delay_ms=60_000)

        await line.lose(retry())
        assert await retry() is Settled.DONE
        record = await line.bull.job(QUEUE, "a")
        assert record is not None
        assert record.stacktrace == ("t",)
        assert (await line.bull.counts(QUEUE)).delayed == 1


async def test_an_enqueue_with_an_id_may_be_sent_again(redis_url: str) -> None:
    async with bad_line(redis_url) as line:
        await line.lose(line.bull.enqueue(NEXT, NewJob(id="n", data="{}")))
        assert not (await line.bull.enqueue(NEXT, NewJob(id="n", data="{}"))).created
        assert (await line.bull.counts(NEXT)).waiting == 1


async def test_a_claim_that_came_with_a_lost_reply_is_told_although_the_finished_job_is_gone(redis_url: str) -> None:
    """Somebody removed it meanwhile. What was claimed in its place would lie for a lease, and count as stalled."""
    async with bad_line(redis_url) as line:
        job = await claimed(line, "w:1")

        def finish() -> Awaitable[FinishReply]:
            return line.bull.finish(job, returnvalue="1", retention=KEEP, claim_next=ClaimNext("w:2", 30_000))

        await line.lose(finish())
        assert await line.bull.remove(QUEUE, "a")
        again = await finish()
        assert again.settled is Settled.GONE
        assert isinstance(again.next, ClaimedJob)
        assert again.next.id == "b"
