"""When a claimer asks, and what becomes of what its calls claimed: real Redis, many replicas, scripted attempts."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
import redis

from app.connections import open_connections
from pipeline import flow
from pipeline.claimer import Claimer, Gate, Offers
from pipeline.clock import SystemClock
from pipeline.errors import RedisUnavailable, ReplyLost
from pipeline.queue.bull import Bull
from pipeline.queue.job import Claim, ClaimedJob, FinishReply, NewJob, RateLimit, Retention, Settled, Successor
from pipeline.queue.ledger import IdLedger
from pipeline.queue.notifier import Notifier
from pipeline.settling import Outcome, Settlement, Slots
from pipeline.solitude import Solitude
from tests.support import eventually

FIRST, SECOND = flow.NAMES[0], flow.NAMES[1]
KEEP = Retention(age_s=3600)


class CountingBull(Bull):
    """Counts the calls that claim."""

    asked = 0

    async def claim(self, queue: str, *, token: str, lease_ms: int, limit: RateLimit | None = None) -> Claim:
        self.asked += 1
        return await super().claim(queue, token=token, lease_ms=lease_ms, limit=limit)


@dataclass
class Replica:
    """What a process claims with; its attempts end at once, and are handed on to the second queue if it says so."""

    bull: CountingBull
    gate: Gate
    ran: list[ClaimedJob] = field(default_factory=list)
    released: list[ClaimedJob] = field(default_factory=list)
    hands_on: bool = False
    unheard: bool = False
    claimers: dict[str, Claimer] = field(default_factory=dict)
    before: Callable[[], Awaitable[None]] | None = None

    async def attempt(self, job: ClaimedJob, slots: Slots | None = None) -> Settlement:
        assert slots is not None
        if self.before is not None:
            await self.before()
        self.ran.append(job)
        claim_next = slots.claim_into(job.queue)
        successor = None
        if self.hands_on and job.queue == FIRST:
            successor = Successor(SECOND, NewJob(id=f"after-{job.id}", data="{}"), slots.claim_into(SECOND))
        reply: FinishReply | None = await self.bull.finish(
            job, returnvalue="1", retention=KEEP, successor=successor, claim_next=claim_next
        )
        if self.unheard:
            reply = None
        return Settlement(Outcome.FINISHED, reply)

    async def release(self, job: ClaimedJob) -> Settlement:
        self.released.append(job)
        assert await self.bull.release(job) is Settled.DONE
        return Settlement(Outcome.RELEASED)

    def stop(self) -> None:
        self.gate.closing.set()
        for claimer in self.claimers.values():
            claimer.wake()


@asynccontextmanager
async def replica(redis_url: str, name: str, *, limit: RateLimit | None = None) -> AsyncIterator[Replica]:
    clock = SystemClock()
    async with open_connections(redis_url, clock, name=name) as connections:
        bull = CountingBull(connections.commands, leases=connections.leases, clock=clock)
        limits = {} if limit is None else {FIRST: limit}
        gate = Gate(clock, Solitude(), name=name, lease_s=60, hold_s=0.1, limits=limits)
        one = Replica(bull, gate)
        ledger = IdLedger(flow.NAMES)
        for queue in (FIRST, SECOND):
            one.claimers[queue] = Claimer(
                queue,
                bull=bull,
                runner=one,  # type: ignore[arg-type]
                gate=gate,
                ledger=ledger,
                clock=clock,
                random=random.Random(name).random,
                observe=lambda *_: None,
                of=one.claimers,
                pause_s=0.1,
            )

        def waiting(queue: str, job_id: str) -> None:
            ledger.announced(queue, job_id)
            if queue in one.claimers:
                one.claimers[queue].wake()

        listening = anyio.Event()
        notifier = Notifier(
            connections.events,
            bull.keys,
            flow.NAMES,
            on_waiting=waiting,
            on_taken=ledger.taken,
            on_resumed=lambda queue: one.claimers[queue].doubt(),
            on_delayed=lambda *_: None,
            on_resubscribed=listening.set,
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(notifier.run)
            await listening.wait()
            for claimer in one.claimers.values():
                tasks.start_soon(claimer.run, tasks)
            yield one
            one.stop()
            await eventually(lambda: _idle(one))
            for claimer in one.claimers.values():
                await claimer.hand_back_unanswered()
            tasks.cancel_scope.cancel()


async def _idle(one: Replica) -> bool:
    return not any(claimer.taken for claimer in one.claimers.values())


async def completed(bull: Bull, queue: str, count: int) -> bool:
    return (await bull.counts(queue)).completed >= count


async def test_ten_idle_replicas_make_at_most_two_claims_a_job_between_them(redis_url: str) -> None:
    """Without the ledger each of the ten asks for every job."""
    jobs = 60
    async with AsyncExitStack() as stack:
        fleet = [await stack.enter_async_context(replica(redis_url, f"r{number}")) for number in range(10)]
        bull = fleet[0].bull
        await eventually(lambda: _asked_once(fleet))  # at start nobody knows what waits
        before = sum(one.bull.asked for one in fleet)
        for number in range(jobs):
            await bull.enqueue(FIRST, NewJob(id=f"job-{number}", data="{}"))
            await eventually(lambda number=number: completed(bull, FIRST, number + 1))
        asked = sum(one.bull.asked for one in fleet) - before
        ran = [job.id for one in fleet for job in one.ran]
    assert sorted(ran) == sorted(f"job-{number}" for number in range(jobs))
    assert asked <= 2 * jobs


async def _asked_once(fleet: list[Replica]) -> bool:
    return all(one.bull.asked >= 2 for one in fleet)


async def test_a_lone_replica_asks_once_for_each_job(redis_url: str) -> None:
    async with replica(redis_url, "alone") as one:
        await eventually(lambda: _asked_once([one]))
        before = one.bull.asked
        for number in range(20):
            await one.bull.enqueue(FIRST, NewJob(id=f"job-{number}", data="{}"))
            await eventually(lambda number=number: completed(one.bull, FIRST, number + 1))
        assert one.bull.asked - before == 20


async def test_a_job_that_runs_through_is_never_asked_for(redis_url: str) -> None:
    async with replica(redis_url, "alone") as one:
        one.hands_on = True
        await eventually(lambda: _asked_once([one]))
        before = one.bull.asked
        for number in range(20):
            await one.bull.enqueue(FIRST, NewJob(id=f"job-{number}", data="{}"))
            await eventually(lambda number=number: completed(one.bull, SECOND, number + 1))
        assert one.bull.asked - before == 20  # for the first queue's
        assert [job.queue for job in one.ran].count(SECOND) == 20


async def test_slots_are_never_overbooked_by_jobs_that_run_through(redis_url: str) -> None:
    """A burst in both queues: what is claimed by signal, by settling and by running through shares the same slots."""
    most = {FIRST: 0, SECOND: 0}
    async with replica(redis_url, "alone") as one:
        one.hands_on = True

        async def look() -> None:
            for queue, claimer in one.claimers.items():
                most[queue] = max(most[queue], (await one.bull.counts(queue)).active)
                assert claimer.taken <= flow.BY_NAME[queue].concurrency

        one.before = look
        for number in range(40):
            await one.bull.enqueue(FIRST, NewJob(id=f"job-{number}", data="{}"))
            await one.bull.enqueue(SECOND, NewJob(id=f"own-{number}", data="{}"))
        await eventually(lambda: completed(one.bull, SECOND, 80))
    assert most[FIRST] <= flow.BY_NAME[FIRST].concurrency
    assert most[SECOND] <= flow.BY_NAME[SECOND].concurrency


async def test_what_a_settling_call_claimed_unheard_is_asked_for_and_runs(redis_url: str) -> None:
    """Its reply never came: both jobs it claimed lie in active under tokens only we know."""
    async with replica(redis_url, "alone") as one:
        one.hands_on = one.unheard = True
        for number in range(6):
            await one.bull.enqueue(FIRST, NewJob(id=f"job-{number}", data="{}"))
        await eventually(lambda: completed(one.bull, SECOND, 6))
    assert len({job.token for job in one.ran}) == len(one.ran) == 12


async def test_a_claim_that_never_ran_makes_no_queue_look_empty(redis_url: str) -> None:
    """Its answer was lost, and asked for there is none: that the job still waits must not be forgotten."""
    async with replica(redis_url, "alone") as one:
        await eventually(lambda: _asked_once([one]))
        claim, lost = one.bull.claim, iter([True])

        async def never_ran(queue: str, **given: Any) -> Claim:
            if next(lost, False):
                raise ReplyLost("the connection ended")
            return await claim(queue, **given)

        one.bull.claim = never_ran  # type: ignore[method-assign]
        await one.bull.enqueue(FIRST, NewJob(id="a", data="{}"))
        await eventually(lambda: completed(one.bull, FIRST, 1), within_s=5)


async def test_a_stopping_replica_hands_back_what_it_never_heard_of(redis_url: str, redis_admin: redis.Redis) -> None:
    async with replica(redis_url, "stops") as one:
        claim, away = one.bull.claim, itertools.repeat(None, 3)

        async def unheard(queue: str, **given: Any) -> Claim:
            found = await claim(queue, **given)
            if isinstance(found, ClaimedJob):
                one.stop()
                raise ReplyLost("the connection ended")
            return found

        adopt = one.bull.adopt

        async def unreachable(queue: str, token: str, job_id: str | None = None) -> Any:
            if next(away, 1) is None:
                raise RedisUnavailable("not connected")
            return await adopt(queue, token, job_id)

        one.bull.claim = unheard  # type: ignore[method-assign]
        one.bull.adopt = unreachable  # type: ignore[method-assign]
        await one.bull.enqueue(FIRST, NewJob(id="a", data="{}"))
        await eventually(lambda: _stopped(one))
    assert [job.id for job in one.released] == ["a"]
    assert one.ran == []
    assert redis_admin.lrange(f"bull:{FIRST}:wait", 0, -1) == ["a"]


async def _stopped(one: Replica) -> bool:
    return one.gate.closing.is_set()


@pytest.mark.parametrize("shut", ["closing", "paused", "held"])
async def test_a_job_whose_claim_met_a_closing_gate_goes_back_unrun(
    redis_url: str, redis_admin: redis.Redis, shut: str
) -> None:
    async with replica(redis_url, "one") as one:
        claim = one.bull.claim

        async def shut_meanwhile(queue: str, **given: Any) -> Claim:
            found = await claim(queue, **given)
            if isinstance(found, ClaimedJob) and not one.released:
                match shut:
                    case "closing":
                        one.stop()
                    case "paused":
                        one.gate.paused = frozenset({FIRST})
                    case "held":
                        one.gate.hold()
            return found

        one.bull.claim = shut_meanwhile  # type: ignore[method-assign]
        await one.bull.enqueue(FIRST, NewJob(id="a", data="{}"))
        await eventually(lambda: _released(one))
        assert not redis_admin.hexists(f"bull:{FIRST}:a", "attemptsMade")
        if shut == "held":
            await eventually(lambda: completed(one.bull, FIRST, 1))
    assert [job.id for job in one.released] == ["a"]


async def _released(one: Replica) -> bool:
    return bool(one.released)


async def test_an_attempt_that_broke_gives_its_offers_back(redis_url: str) -> None:
    async with replica(redis_url, "one") as one:
        claimer, all_slots = one.claimers[SECOND], flow.BY_NAME[SECOND].concurrency
        offers = [Offers(one.claimers[FIRST], one.claimers) for _ in range(all_slots + 1)]
        made = [offer.claim_into(SECOND) for offer in offers]
        assert [claim is None for claim in made] == [False] * all_slots + [True]
        assert offers[0].claim_into("no queue of ours") is None
        for offer in offers:
            offer.close()
        assert claimer.taken == 0
        await one.bull.enqueue(SECOND, NewJob(id="a", data="{}"))
        await eventually(lambda: completed(one.bull, SECOND, 1))
