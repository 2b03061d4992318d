"""Clocks of machines that are not quite well."""

from __future__ import annotations

import anyio

from pipeline.clock import SystemClock


class Suspended(SystemClock):
    """A machine that was suspended for a while: boot time went on, the event loop's timers did not."""

    def __init__(self) -> None:
        self.suspended_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.suspended_s


class Fast(SystemClock):
    """Minutes pass in seconds, so that a test can wait for a stage's time limit."""

    def __init__(self, rate: float) -> None:
        self._rate = rate

    def monotonic(self) -> float:
        return super().monotonic() * self._rate

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds / self._rate)
