"""The time-bounded right to run one job, as the holder sees it: asked before every effect, never assumed.

The deadline counts from before the last successful renewal was *sent*, minus a margin. Redis counts from
when it ran the renewal, which is later; so we always stop before anyone else may start (the trust window).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from pipeline.errors import LeaseLost
from pipeline.queue.timer import wait_until

if TYPE_CHECKING:
    from pipeline.clock import Clock

MARGIN = 0.1
"""Share of the lease kept back: time to cancel an attempt before the lock really ends."""


class Lease:
    """One claim's right to its job. Renewed and revoked by the heartbeat, read by everyone else."""

    __slots__ = ("_clock", "_deadline", "_lease_s", "_revoked", "token")

    def __init__(self, token: str, clock: Clock, *, sent_at: float, lease_s: float) -> None:
        self.token = token
        self._clock = clock
        self._lease_s = lease_s
        self._revoked = anyio.Event()
        self._deadline = sent_at + lease_s * (1 - MARGIN)

    @property
    def deadline(self) -> float:
        """The moment on the clock's `monotonic` from which the job may be someone else's."""
        return self._deadline

    @property
    def remaining_s(self) -> float:
        """Seconds left to write; 0 once lost."""
        if self._revoked.is_set():
            return 0.0
        return max(0.0, self._deadline - self._clock.monotonic())

    @property
    def lost(self) -> bool:
        """Whether writing must have stopped by now."""
        return self.remaining_s == 0

    def renewed(self, sent_at: float, lease_s: float | None = None) -> None:
        """Count anew from when the renewal that succeeded was sent. What is lost stays lost."""
        if self.lost:
            self.revoke()
            return
        self._lease_s = self._lease_s if lease_s is None else lease_s
        self._deadline = max(self._deadline, sent_at + self._lease_s * (1 - MARGIN))

    def revoke(self) -> None:
        """Redis said that the job is not ours."""
        self._revoked.set()

    def check(self) -> None:
        """Raise LeaseLost unless the job is still ours. Ask right before every effect."""
        if self.lost:
            raise LeaseLost("the lease is over or was taken away")

    async def wait_lost(self) -> None:
        """Return when the lease is lost, by refusal or by time."""
        await wait_until(self._revoked, self._clock, lambda: self.remaining_s)
