"""Waiting for an event or a moment, whichever is first, on a clock that was handed in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.clock import Clock


async def wait_until(event: anyio.Event, clock: Clock, remaining_s: Callable[[], float]) -> bool:
    """Return True when `event` is set, False when no time remains.

    `remaining_s` is asked again whenever it seemed to be over, so the moment may be moved meanwhile.
    """

    async def watch_clock(scope: anyio.CancelScope) -> None:
        while (left := remaining_s()) > 0:
            await clock.sleep(left)
        scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch_clock, tasks.cancel_scope)
        await event.wait()
        tasks.cancel_scope.cancel()
    return event.is_set()
