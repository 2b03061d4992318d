"""The machine's clock: what sleeps on it wakes when the machine was suspended past its moment."""

from __future__ import annotations

import anyio

from pipeline.clock import SystemClock
from tests.pipeline.clocks import Suspended


async def test_who_slept_through_a_suspension_wakes_soon_after_it() -> None:
    """Else a lease that ended meanwhile would be believed in for as long again as was left of it."""
    clock = Suspended()
    awake = anyio.Event()

    async def sleep() -> None:
        await clock.sleep(600)
        awake.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sleep)
        await anyio.wait_all_tasks_blocked()
        clock.suspended_s = 900
        with anyio.fail_after(20):
            await awake.wait()


async def test_a_sleep_of_nothing_still_lets_others_run() -> None:
    ran = anyio.Event()
    async with anyio.create_task_group() as tasks:

        async def other() -> None:
            ran.set()

        tasks.start_soon(other)
        await SystemClock().sleep(0)
        assert ran.is_set()
