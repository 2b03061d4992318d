"""Time, handed in: everything that waits or dates something takes a `Clock`, so tests decide what time it is."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

import anyio

LOOK_S = 1.0
"""How long a suspended machine may be awake again before whoever sleeps on its clock notices."""


class Clock(Protocol):
    """Two kinds of time: `now` for people and tables, `monotonic` for measuring how long."""

    def now(self) -> datetime:
        """The instant, timezone-aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that only grow and keep counting while the machine sleeps."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` of this clock."""
        ...


class SystemClock:
    """The machine's clock.

    A lease must not survive a suspended laptop or a frozen virtual machine, so `monotonic` is
    CLOCK_BOOTTIME where the platform has it (clock_gettime(2): includes time suspended).
    """

    def now(self) -> datetime:
        """The instant in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since boot, suspension included where the platform can tell."""
        boottime = getattr(time, "CLOCK_BOOTTIME", None)
        return time.monotonic() if boottime is None else time.clock_gettime(boottime)

    async def sleep(self, seconds: float) -> None:
        """Sleep on the event loop, whose timers stand still while the machine does: so ask again now and then."""
        end = self.monotonic() + seconds
        left = seconds
        while True:
            await anyio.sleep(min(left, LOOK_S))
            left = end - self.monotonic()
            if left <= 0:
                return
