"""Lets a fixture keep a task group open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeVar

T = TypeVar("T")


@asynccontextmanager
async def held(context: AbstractAsyncContextManager[T]) -> AsyncIterator[T]:
    """Enter and leave `context` in one task of its own.

    pytest-asyncio tears a fixture down in another task than set it up, which a task group refuses.
    """
    opened: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    done = asyncio.Event()

    async def hold() -> None:
        async with context as value:
            opened.set_result(value)
            await done.wait()

    holder = asyncio.create_task(hold())
    await asyncio.wait({holder, opened}, return_when=asyncio.FIRST_COMPLETED)
    if not opened.done():
        await holder
    try:
        yield opened.result()
    finally:
        done.set()
        await holder
