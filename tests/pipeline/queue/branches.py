"""Every verb on a queue, run in all its branches: one function per script, named as it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import count

import redis

from pipeline.queue.bull import Bull
from pipeline.queue.job import ClaimedJob, ClaimNext, Failure, Held, NewJob, RateLimit, Retention, Successor
from pipeline.queue.snapshot import read_pages
from tests.pipeline.queue.support import NEXT, QUEUE

KEEP = Retention(age_s=3600)
ONE = Retention(count=1)
LIMIT = RateLimit(100, 60_000)


class Given:
    """A queue and quick ways to have jobs in every state of it."""

    def __init__(self, bull: Bull, raw: redis.Redis) -> None:
        self.bull = bull
        self.raw = raw
        self.base = bull.keys.base(QUEUE)
        self._numbers = count(1)

    async def waiting(self, **opts: object) -> str:
        job_id = f"job-{next(self._numbers)}"
        await self.bull.enqueue(QUEUE, NewJob(id=job_id, data="{}", opts=opts))
        return job_id

    async def delayed(self) -> str:
        job_id = f"job-{next(self._numbers)}"
        await self.bull.enqueue(QUEUE, NewJob(id=job_id, data="{}", delay_ms=60_000))
        return job_id

    async def active(self, **opts: object) -> ClaimedJob:
        job_id = await self.waiting(**opts)
        self.raw.hset(self.base + job_id, "deid", f"debounced-{job_id}")
        self.raw.set(f"{self.base}de:debounced-{job_id}", job_id)
        return await self.claimed()

    async def claimed(self) -> ClaimedJob:
        job = await self.bull.claim(QUEUE, token=f"w:{next(self._numbers)}", lease_ms=30_000)
        assert isinstance(job, ClaimedJob), job
        return job

    async def failed(self) -> ClaimedJob:
        job = await self.active()
        await self.bull.fail(job, failure=Failure("boom"), attempts_made=1, retention=KEEP)
        return job

    def limited(self, job_id: str, group: str = "") -> None:
        """As Bull's limiter leaves a job it has moved to delayed."""
        key = f"{self.base}limiter:{group}limited"
        self.raw.sadd(key, job_id)
        self.raw.hset(self.base + "limiter:index", job_id, key)


async def adopt(given: Given) -> None:
    job = await given.active()
    await given.bull.adopt(QUEUE, job.token)
    given.raw.delete(given.base + "active")
    await given.bull.adopt(QUEUE, "nobody", job.id)


async def claim(given: Given) -> None:
    await given.waiting(priority=1)
    await given.bull.claim(QUEUE, token="w", lease_ms=1000, limit=LIMIT)


async def clean(given: Given) -> None:
    for group in ("", "shop-1:"):
        job = await given.failed()
        given.limited(job.id, group)
        await given.bull.clean(QUEUE, "failed", -1)
    job = await given.active()
    given.raw.delete(f"{given.base}{job.id}:lock")
    await given.bull.clean(QUEUE, "active", -1)


async def counts(given: Given) -> None:
    await given.bull.counts(QUEUE)


async def enqueue(given: Given) -> None:
    await given.bull.enqueue(QUEUE, NewJob(id=None, data="{}"))
    await given.waiting(priority=2)
    await given.waiting(priority=1)
    await given.delayed()
    await given.bull.enqueue(QUEUE, NewJob(id="job-1", data="{}"))  # exists
    for _ in range(2):
        await given.waiting(debounce={"id": "x"})


async def fail(given: Given) -> None:
    for _ in range(2):
        job = await given.active()
        await given.bull.fail(job, failure=Failure("boom"), attempts_made=1, retention=ONE)


async def finish(given: Given) -> None:
    successors = (NewJob(id="next-1", data="{}"), NewJob(id=None, data="{}", opts={"debounce": {"id": "x"}}))
    for number, successor in enumerate(successors):
        job = await given.active()
        await given.waiting()
        for _ in range(2):  # the second time as after a lost reply
            await given.bull.finish(
                job,
                returnvalue="1",
                retention=ONE,
                successor=Successor(NEXT, successor, ClaimNext(f"through:{number}", 30_000, LIMIT)),
                claim_next=ClaimNext(f"next:{number}", 30_000, LIMIT),
            )


async def list_jobs(given: Given) -> None:
    await given.waiting()
    await given.bull.list_jobs(QUEUE, "waiting")
    await given.bull.list_jobs(QUEUE, "completed")


async def obliterate(given: Given) -> None:
    await given.failed()
    held = await given.active()
    await given.delayed()
    await given.bull.obliterate(QUEUE)
    await given.bull.release(held)
    await given.bull.obliterate(QUEUE, force=True)


async def pause(given: Given) -> None:
    await given.waiting()
    await given.bull.pause(QUEUE)
    given.raw.lpush(given.base + "wait", "foreign")
    await given.bull.pause(QUEUE)


async def progress(given: Given) -> None:
    await given.bull.progress(QUEUE, await given.waiting(), 50)


async def promote(given: Given) -> None:
    await given.bull.promote(QUEUE, await given.delayed())


async def release(given: Given) -> None:
    await given.bull.release(await given.active())
    held = await given.claimed()
    await given.bull.pause(QUEUE)
    await given.bull.release(held)


async def remove(given: Given) -> None:
    for group in ("", "shop-1:"):
        job = await given.failed()
        given.limited(job.id, group)
        await given.bull.remove(QUEUE, job.id)


async def renew(given: Given) -> None:
    job = await given.active()
    for token in (job.token, "somebody else's"):
        await given.bull.renew([Held(QUEUE, job.id, token)], 60_000)


async def replay(given: Given) -> None:
    await given.bull.replay(QUEUE, (await given.failed()).id)


async def replay_all(given: Given) -> None:
    for _ in range(2):
        await given.failed()
        await given.bull.replay_all(QUEUE)
        await given.bull.pause(QUEUE)
        await given.bull.replay_all(QUEUE)
        await given.bull.resume(QUEUE)
        await given.claimed()


async def resume(given: Given) -> None:
    await pause(given)
    await given.bull.resume(QUEUE)


async def retry(given: Given) -> None:
    for delay_ms in (0, 60_000):
        job = await given.active(priority=1)
        await given.bull.retry(job, failure=Failure("boom"), attempts_made=1, delay_ms=delay_ms)
    held = await given.active()
    await given.bull.pause(QUEUE)
    await given.bull.retry(held, failure=Failure("boom"), attempts_made=1, delay_ms=0)


async def schedule(given: Given) -> None:
    job = await given.active(repeat={"every": 60_000})
    given.raw.zadd(given.base + "repeat", {"__default__:::60000": 1})
    for _ in range(2):  # the second time as after a lost reply
        assert await given.bull.schedule_next(job)


async def snooze(given: Given) -> None:
    await given.bull.snooze(await given.active(), delay_ms=60_000, reason="the vendor is away")


async def snapshot(given: Given) -> None:
    await given.failed()
    await given.bull.snooze(await given.active(), delay_ms=60_000, reason="the vendor is away")
    lost = await given.waiting()
    given.raw.lrem(given.base + "wait", 0, lost)
    async for page in read_pages(given.bull._commands, given.bull.keys, QUEUE, [lost]):
        assert page.jobs[lost].state == "stuck"


async def state(given: Given) -> None:
    job_id = await given.waiting()
    given.raw.delete(given.base + "wait")
    assert await given.bull.state(QUEUE, job_id) == "stuck"


async def sweep(given: Given) -> None:
    await given.delayed()
    given.raw.zadd(given.base + "delayed", {"job-1": 4096})
    await given.waiting()
    stalled = await given.claimed()
    given.raw.delete(f"{given.base}{stalled.id}:lock")
    for _ in range(2):
        await given.bull.sweep([QUEUE], guard_ms=1, stalled_interval_ms=1)
        given.raw.delete(given.base + "stalled-check", given.bull.keys.guard)


BRANCHES: dict[str, Callable[[Given], Awaitable[None]]] = {
    function.__name__.replace("list_jobs", "list"): function
    for function in (
        *(adopt, claim, clean, counts, enqueue, fail, finish, list_jobs, obliterate, pause, progress, promote),
        *(release, remove, renew, replay, replay_all, resume, retry, schedule, snapshot, snooze, state, sweep),
    )
}
