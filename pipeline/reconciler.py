"""Periodically gives every open run without a live job its job again, so that no order is lost with Redis.

Postgres says which stage is due; Redis says whether a job for it is live. Where both are right, nothing is
done. Ids are derived from the run, so two replicas that reconcile at once add one job.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import structlog

from pipeline.clock import Clock
from pipeline.errors import BrokenQueue
from pipeline.hand_off import LIVE, hand_off, promote
from pipeline.queue.bull import Bull
from pipeline.queue.hindrance import HINDRANCES, Hindrance
from pipeline.run_store import DueRun, DueRuns, job_ref

PAGE = 200

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What one round did."""

    looked_at: int
    added: int
    promoted: int = 0


class Reconciler:
    """Runs at start, every `every_s`, and at once when Redis turns out to be empty."""

    def __init__(self, bull: Bull, due: DueRuns, clock: Clock, *, every_s: float, quiet_s: float) -> None:
        self._bull = bull
        self._due = due
        self._clock = clock
        self._every_s = every_s
        self._quiet = timedelta(seconds=quiet_s)
        self.rounds = 0
        """Pages looked at and rounds that ended: a reconciler whose count stands still hangs."""
        self.hindrance = Hindrance(role="reconciler")

    async def run_once(self, *, redis_was_emptied: bool = False) -> Reconciled:
        """Look at every open run (those quiet for a while, or all of them) and add the jobs that are missing."""
        quiet = timedelta(0) if redis_was_emptied else self._quiet
        since = await self._bull.restoring_since() if redis_was_emptied else ""
        looked_at = added = 0
        after = ""
        while page := await self._due.list_due(quiet_for=quiet, after=after, limit=PAGE):
            for run in page:
                added += await self._restore(run)
            looked_at += len(page)
            self.rounds += 1
            after = page[-1].next.run_id
        turns = await self._due.list_turns()
        promoted = 0
        for run in turns:
            if await self._promote(run):
                promoted += 1
            else:
                added += await self._restore(run)
        # Only now: if we die before, the next replica finds the epoch missing and does it again.
        if redis_was_emptied and not await self._bull.mark_epoch(since):
            _log.warning("Redis was emptied again while jobs were given back")  # the next sweep finds no epoch
        if added:
            _log.warning("runs without a job got one", added=added, redis_was_emptied=redis_was_emptied)
        if promoted:
            _log.info("parked runs were let in", promoted=promoted)
        return Reconciled(looked_at, added, promoted)

    async def _restore(self, run: DueRun) -> bool:
        stage, job_id = run.next.stage, run.next.job_id
        try:
            if run.ref not in (None, job_id) and await self._is_live(stage, str(run.ref)):
                return False
            state = await self._bull.state(stage, job_id)
            if state in LIVE:
                return False
            if not await self._due.is_due(run.next):
                # Its stage ended since we read the page. Asked after Redis, because a result is recorded first.
                return False
            if state is not None:
                # A dead hash under our id would make the add a duplicate: the run is open, so it means nothing.
                await self._bull.remove(stage, job_id)
            return (await self._bull.enqueue(stage, hand_off(run.next))).created
        except BrokenQueue as error:
            _log.error("queue is broken, run waits", queue=stage, run_id=run.next.run_id, reason=str(error))
            return False

    async def _promote(self, run: DueRun) -> bool:
        """Nobody is forgotten at the door: who ends a run promotes the next, unless it dies first."""
        try:
            return await promote(self._bull, run)
        except BrokenQueue:
            return False  # restoring says so

    async def _is_live(self, stage: str, ref: str) -> bool:
        job_id = ref.partition("@")[0]
        found = await self._bull.job(stage, job_id)
        if found is None or job_ref(job_id, found.timestamp_ms) != ref:
            return False
        return await self._bull.state(stage, job_id) in LIVE

    async def run(self) -> None:
        """Reconcile for ever, at once to begin with."""
        while True:
            try:
                await self.run_once()
            except HINDRANCES as error:
                self.hindrance.met(error)
            else:
                self.hindrance.over()
            self.rounds += 1
            await self._clock.sleep(self._every_s)
