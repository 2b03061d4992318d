"""Periodically sweeps all queues, so that due jobs run, stalled ones return and no wake-up is missed for long.

Signals are an optimisation, the sweep is the truth: Bull publishes nothing when it retries at once or in bulk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from pipeline.queue.hindrance import HINDRANCES, Hindrance
from pipeline.queue.timer import wait_until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from pipeline.clock import Clock
    from pipeline.queue.backoff import Random
    from pipeline.queue.bull import Bull
    from pipeline.queue.job import SweepReport

SPREAD = 0.1
"""Share of a pause left to chance, so that replicas started together do not sweep together."""

PASSES = 2
"""Guard periods that may go by between two sweeps that look for stalled jobs: a replica that found the guard held
comes again after a whole one, and the one that held it may have died."""


class Sweeper:
    """Every `guard_s` while anything waits, runs or is delayed, else every `idle_s`, and at each due time."""

    def __init__(
        self,
        bull: Bull,
        clock: Clock,
        queues: Sequence[str],
        *,
        on_report: Callable[[SweepReport], Awaitable[None]],
        random: Random,
        guard_s: float = 5,
        idle_s: float = 45,
        stalled_s: float = 60,
    ) -> None:
        self._bull = bull
        self._clock = clock
        self._queues = tuple(queues)
        self._on_report = on_report
        self._random = random
        self._guard_s = guard_s
        self._idle_s = idle_s
        self._stalled_s = stalled_s
        self._next_at = clock.monotonic()
        self._redis_ahead_s = 0.0
        self._nudged = anyio.Event()
        self.rounds = 0
        """Rounds that ended, with an answer or an error: a sweeper whose count stands still hangs."""
        self.hindrance = Hindrance(role="sweep")

    async def run_once(self) -> SweepReport:
        """Sweep, report, and decide when to sweep next."""
        # The guard ends before our own next sweep, or we should find it held by ourselves every other time. And a
        # check is due early, so that the sweep that makes it comes at `stalled_s` at the latest: what crashed runs
        # again within its lease and that time.
        report = await self._bull.sweep(
            self._queues,
            guard_ms=round(self._guard_s * (1 - SPREAD) * 1000),
            stalled_interval_ms=round(max(self._stalled_s - PASSES * self._guard_s, self._stalled_s / 2) * 1000),
        )
        now = self._clock.monotonic()
        self._redis_ahead_s = report.now_ms / 1000 - now
        busy = any(queue.busy for queue in report.queues.values())
        pause = self._guard_s if busy else self._idle_s
        self._next_at = now + pause * (1 - SPREAD * self._random())
        if report.next_due_ms is not None:
            self.due_at(report.next_due_ms)
        await self._on_report(report)
        return report

    @property
    def next_in_s(self) -> float:
        """Seconds until the next sweep."""
        return max(0.0, self._next_at - self._clock.monotonic())

    def due_at(self, due_ms: int) -> None:
        """Sweep no later than this instant of Redis' clock: a delayed job is due."""
        due_at = due_ms / 1000 - self._redis_ahead_s
        if due_at < self._next_at:
            self._next_at = due_at
            self._nudged.set()

    def nudge(self) -> None:
        """Sweep now: signals may have been missed."""
        self._next_at = self._clock.monotonic()
        self._nudged.set()

    async def run(self) -> None:
        """Sweep for ever, at once to begin with."""
        while True:
            self._nudged = anyio.Event()
            try:
                await self.run_once()
            except HINDRANCES as error:
                self.hindrance.met(error)
                self._next_at = self._clock.monotonic() + self._guard_s * (1 - SPREAD * self._random())
            else:
                self.hindrance.over()
            self.rounds += 1
            while self.next_in_s > 0:
                self._nudged = anyio.Event()
                await wait_until(self._nudged, self._clock, lambda: self.next_in_s)
