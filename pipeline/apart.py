"""Runs work in a task of its own, so that whoever waits for it can stop waiting.

Cancelling asks, it does not force: code may swallow the request, or sit behind a thread nobody can interrupt. Who
awaits such code directly waits as long as it pleases, under a lease that is renewed all the while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

import anyio

from pipeline.clock import Clock
from pipeline.queue.timer import wait_until

ASKS = 5
ASK_AGAIN_S = 1.0
"""Asked so often, and so long apart: once is not enough where a library loses a cancellation in a race."""

T = TypeVar("T")


class Apart(Generic[T]):
    """One coroutine, begun at once. `ended` is set when it is over."""

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self.ended = anyio.Event()
        self._task = asyncio.create_task(work)
        self._task.add_done_callback(self._over)

    async def end(self, clock: Clock) -> bool:
        """Ask it to end and wait for that, for a while; whether it did. Whoever is cancelled meanwhile still waits."""
        with anyio.CancelScope(shield=True):
            for _ in range(ASKS):
                if not self._task.cancel():
                    break
                until = clock.monotonic() + ASK_AGAIN_S
                await wait_until(self.ended, clock, lambda until=until: until - clock.monotonic())  # type: ignore[misc]
        return self._task.done()

    def result(self) -> T | Exception | None:
        """What it returned or raised once it is over; None if it was cancelled."""
        if self._task.cancelled():
            return None
        error = self._task.exception()
        if error is None:
            return self._task.result()
        if isinstance(error, Exception):
            return error
        raise error

    def when_ended(self, call: Callable[[], None]) -> None:
        """Call when it is over after all."""
        self._task.add_done_callback(lambda _task: call())

    def _over(self, task: asyncio.Task[T]) -> None:
        self.ended.set()
        if not task.cancelled():
            task.exception()  # asked, so that one nobody waits for any more is not reported as forgotten
