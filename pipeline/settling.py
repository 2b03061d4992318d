"""Settling: Redis is told how an attempt ended, in one idempotent call that is repeated until it is answered.

Postgres knew before. Whatever is not told (we drain, the queue is broken, the process dies) is settled by the next
claim of the same job, which asks the journal first.
"""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import anyio
import structlog

from pipeline.clock import Clock
from pipeline.errors import Permanent, PipelineError, RedisUnavailable
from pipeline.hand_off import hand_off, promote
from pipeline.queue.bull import Bull
from pipeline.queue.heartbeat import Heartbeat
from pipeline.queue.job import ClaimedJob, ClaimNext, Failure, FinishReply, Retention, Settled, Successor
from pipeline.run_store import NextJob, Trouble, Turns

SHIELDED_S = 5.0
"""From record to settle nothing may cancel an attempt, but when we drain it may hold us up for no longer than this."""

SETTLE_AGAIN_S = 0.2
COMPLETED = Retention(age_s=3600)
FAILED = Retention(age_s=7 * 24 * 3600)

_log = structlog.get_logger()
T = TypeVar("T")


class Outcome(enum.Enum):
    """How an attempt was settled: a closed set."""

    FINISHED = "finished"
    RETRIED = "retried"
    DEAD = "dead"
    RELEASED = "released"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Settlement:
    """An attempt's end. `reply` is what the settling call answered if it could claim more jobs, and was heard.

    `hold`: Redis or Postgres cannot serve, so claiming more makes no sense for a while. `alone`: nothing else
    could begin meanwhile; now it may. `unstarted`: the job was put off before its stage began, and the queue's limit
    lets another start in its place.
    """

    outcome: Outcome
    reply: FinishReply | None = None
    hold: bool = False
    alone: bool = False
    unstarted: bool = False


class Slots(Protocol):
    """Which free slots the settling call may claim into; asked when it is sent."""

    def claim_into(self, queue: str) -> ClaimNext | None:
        """A claim for a free slot of that queue; None if there is none to fill."""
        ...


class NoSlots:
    """An attempt that is followed by nothing."""

    def claim_into(self, queue: str) -> ClaimNext | None:
        """No slot."""


class Settler:
    """Settles claimed jobs. From the first call on a job is renewed no more: its lease ends with the answer."""

    def __init__(self, bull: Bull, turns: Turns, heartbeat: Heartbeat, clock: Clock) -> None:
        self._bull = bull
        self._turns = turns
        self._heartbeat = heartbeat
        self._clock = clock
        self._draining = False
        self._insisting: set[anyio.CancelScope] = set()

    def drain(self) -> None:
        """From now on nobody is insisted upon for longer than SHIELDED_S."""
        self._draining = True
        for scope in self._insisting:
            scope.deadline = anyio.current_time() + SHIELDED_S

    async def finish(
        self,
        job: ClaimedJob,
        run_id: str,
        outcome: str,
        summary: str,
        following: NextJob | None,
        slots: Slots,
    ) -> FinishReply | None:
        """Finish here, enqueue there, claim here and there: one script. What it cannot do now, the reconciler will."""
        self._heartbeat.drop(job)
        claim_next = slots.claim_into(job.queue)
        successor = None
        if following is not None:
            successor = Successor(following.stage, hand_off(following), slots.claim_into(following.stage))
        returnvalue = json.dumps({"runId": run_id, "stage": job.queue, "outcome": outcome, "summary": summary})

        async def call() -> FinishReply:
            return await self._bull.finish(
                job, returnvalue=returnvalue, retention=COMPLETED, successor=successor, claim_next=claim_next
            )

        reply = await self._insist(call)
        if successor is not None and (reply is None or reply.settled is not Settled.DONE):
            # Refused after the record: the run goes on all the same, its due stage stands in Postgres.
            await self._insist(lambda: self._bull.enqueue(successor.queue, successor.job))
        return reply

    async def retry(self, job: ClaimedJob, trouble: Trouble, *, failures: int, delay_s: float) -> None:
        """Bull's own retry: counted, and due after `delay_s` seconds."""
        self._heartbeat.drop(job)
        failure = Failure(trouble.message, [trouble.stack or trouble.message])
        delay_ms = round(delay_s * 1000)
        await self._insist(lambda: self._bull.retry(job, failure=failure, attempts_made=failures, delay_ms=delay_ms))

    async def dead_letter(self, job: ClaimedJob, message: str, failures: int, stack: str) -> None:
        """The run is dead here: the job goes where people look for such."""
        self._heartbeat.drop(job)
        failure = Failure(message, [stack or message])
        await self._insist(lambda: self._bull.fail(job, failure=failure, attempts_made=failures, retention=FAILED))

    async def put_off(self, job: ClaimedJob, after_s: float, reason: str, *, unstarted: bool = False) -> Settlement:
        """Run the job later, uncounted. `unstarted`: it has called nobody, so the vendor's limit forgets it."""
        _log.info("job put off", reason=reason, delay_s=round(after_s, 3))
        self._heartbeat.drop(job)
        await self._insist(
            lambda: self._bull.snooze(job, delay_ms=round(after_s * 1000), reason=reason, unstarted=unstarted)
        )
        return Settlement(Outcome.RELEASED, unstarted=unstarted)

    async def release(self, job: ClaimedJob) -> Settlement:
        """Hand a job back to the head of its queue, uncounted."""
        self._heartbeat.drop(job)
        with anyio.CancelScope(shield=True):
            await self._insist(lambda: self._bull.release(job))
        return Settlement(Outcome.RELEASED)

    async def let_in(self, run_id: str) -> None:
        """A run has left the line: parked runs of its shop whose turn that makes it may go.

        Before its job is settled: whoever dies in between comes back to this with the same job.
        """
        with anyio.move_on_after(SHIELDED_S, shield=True):
            try:
                for turn in await self._turns.list_turns(run_id):
                    await promote(self._bull, turn)
            except PipelineError as error:
                _log.warning("nobody let in, the reconciler will", reason=str(error), run_id=run_id)

    async def _insist(self, call: Callable[[], Awaitable[T]]) -> T | None:
        """An idempotent call, repeated until Redis answers; None when we drain without it, or that queue is broken.

        However long Redis is away: a job nobody settled lies for a lease and a check, and counts as stalled.
        """
        deadline = anyio.current_time() + SHIELDED_S if self._draining else math.inf
        with anyio.CancelScope(shield=True, deadline=deadline) as scope:
            self._insisting.add(scope)
            try:
                return await self._until_answered(call)
            except Permanent as error:
                # One queue's keys, not the fleet's end: Postgres knows the outcome, the next claim settles it.
                _log.error("cannot settle", reason=str(error))
            finally:
                self._insisting.discard(scope)
        return None

    async def _until_answered(self, call: Callable[[], Awaitable[T]]) -> T:
        told = False
        while True:
            try:
                return await call()
            except RedisUnavailable as error:
                if not told:
                    _log.warning("settling again until answered", reason=str(error))
                told = True
            await self._clock.sleep(SETTLE_AGAIN_S)
