"""Waiting for what must become true, and no longer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from app.core import Core
from app.db import views
from tests.shop import ENOUGH_S


async def until(condition: Callable[[], Awaitable[bool]], *, within_s: float = ENOUGH_S) -> None:
    """Ask until the answer is yes; a timeout fails the test."""
    with anyio.fail_after(within_s):
        while not await condition():
            await anyio.sleep(0.05)


async def all_due_at(core: Core, stage: str, count: int) -> None:
    """Wait until that many runs have come as far as `stage` and no further."""

    async def arrived() -> bool:
        rows = await views.list_runs(core.database, limit=200)
        return len(rows) == count and all(row.stage == stage for row in rows)

    await until(arrived)
