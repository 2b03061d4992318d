"""Periodically renews all leases of the process in one call, so that no job is taken away while it runs.

Only Redis' definite refusal, or a lease's own deadline, is a loss. An error means only that we do not know: it
is tried again quickly, for as long as the deadlines allow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import structlog

from pipeline.errors import Temporary
from pipeline.queue.hindrance import HINDRANCES, Hindrance
from pipeline.queue.job import ClaimedJob, Held
from pipeline.queue.timer import wait_until

if TYPE_CHECKING:
    from pipeline.clock import Clock
    from pipeline.queue.bull import Bull

AGAIN_S = 1.0
"""After an error: soon enough for many tries within one lease."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Beat:
    """What one round of renewing did."""

    renewed: int
    lost: int


class Heartbeat:
    """Holds the leases of what runs here. The worker starts it first and stops it last."""

    def __init__(self, bull: Bull, clock: Clock, *, every_s: float, lease_s: float) -> None:
        self._bull = bull
        self._clock = clock
        self.every_s = every_s
        self._lease_s = lease_s
        self._jobs: dict[str, ClaimedJob] = {}
        self.rounds = 0
        """Rounds that ended, with an answer or an error: a heartbeat whose count stands still hangs."""
        self.answered_at = clock.monotonic()
        """When a round last ended well: Redis renewed, or there was nothing to renew."""
        self._nudged = anyio.Event()
        self.hindrance = Hindrance(role="heartbeat")

    def hold(self, job: ClaimedJob) -> None:
        """Renew this job's lease from now on."""
        self._jobs[job.token] = job

    def drop(self, job: ClaimedJob) -> None:
        """Stop renewing: the job is settled, or was lost."""
        self._jobs.pop(job.token, None)

    async def run_once(self) -> Beat:
        """Renew everything held; revoke what Redis says is not ours."""
        jobs = dict(self._jobs)
        sent_at = self._clock.monotonic()
        held = [Held(job.queue, job.id, token) for token, job in jobs.items()]
        lost = await self._bull.renew(held, round(self._lease_s * 1000))
        for token, job in jobs.items():
            if token not in lost:
                job.lease.renewed(sent_at, self._lease_s)
            elif self._jobs.pop(token, None) is not None:
                job.lease.revoke()
                _log.warning("lease lost", queue=job.queue, job_id=job.id, token=token)
        self.answered_at = self._clock.monotonic()
        return Beat(renewed=len(jobs) - len(lost), lost=len(lost))

    def nudge(self) -> None:
        """Beat now: a connection is back, and with it perhaps another server."""
        self._nudged.set()

    async def run(self) -> None:
        """Beat for ever."""
        while True:
            self._nudged = anyio.Event()
            pause_s = self.every_s
            try:
                await self.run_once()
            except HINDRANCES as error:
                self.hindrance.met(error)
                if isinstance(error, Temporary):
                    pause_s = min(AGAIN_S, self.every_s)
            else:
                self.hindrance.over()
            self.rounds += 1
            await self._pause(pause_s)

    async def _pause(self, seconds: float) -> None:
        until = self._clock.monotonic() + seconds
        await wait_until(self._nudged, self._clock, lambda: until - self._clock.monotonic())
