"""What the queue's tests share: two queues' names and a clock that stands until it is moved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol

import anyio
import anyio.lowlevel

from pipeline.queue.job import ClaimedJob, RateLimit

QUEUE = "ai-parsing"
NEXT = "database-save"
BASE = f"bull:{QUEUE}:"

START = datetime(2026, 11, 23, 12, tzinfo=UTC)


class MovedClock:
    """Sleepers wake when the clock is moved past their moment."""

    def __init__(self) -> None:
        self._elapsed = 0.0
        self._moved = anyio.Event()

    def now(self) -> datetime:
        return START + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        return 1000.0 + self._elapsed

    async def sleep(self, seconds: float) -> None:
        until = self._elapsed + seconds
        while self._elapsed < until:
            await self._moved.wait()
        await anyio.lowlevel.checkpoint()

    def move(self, seconds: float) -> None:
        self._elapsed += seconds
        moved, self._moved = self._moved, anyio.Event()
        moved.set()


class Claimer(Protocol):
    """Claims the next job with a fresh token; fails the test if there is none."""

    async def __call__(self, *, lease_ms: int = 30_000, limit: RateLimit | None = None) -> ClaimedJob: ...


class Enqueuer(Protocol):
    """Enqueues jobs with these ids and empty data."""

    async def __call__(self, *ids: str) -> None: ...


class Published(Protocol):
    """What was published since the last call, as (channel without the queue's base, payload)."""

    def __call__(self) -> list[tuple[str, str]]: ...
