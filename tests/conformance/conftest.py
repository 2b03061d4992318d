"""The same queue as seen by us and by npm bull."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator

import pytest

from pipeline.clock import Clock, SystemClock
from tests.conformance.oracle import INTEROP, Node, npm_bull
from tests.pipeline.queue.conftest import bull, claim, connections, enqueue, raw
from tests.support import require

__all__ = ["bull", "claim", "connections", "enqueue", "raw"]


@pytest.fixture
def clock() -> Clock:
    return SystemClock()


@pytest.fixture
async def node(redis_url: str) -> AsyncIterator[Node]:
    """A Node process with npm bull on the test's Redis; `npm ci` in tests/interop installs it."""
    program = shutil.which("node")
    require(program, "no node on this machine: the tests against npm bull need it")
    require((INTEROP / "node_modules" / "bull").is_dir(), "npm bull is not installed: run `npm ci` in tests/interop")
    assert program is not None
    started: asyncio.Future[Node] = asyncio.get_running_loop().create_future()
    done = asyncio.Event()

    async def hold_open() -> None:
        async with npm_bull(program, redis_url) as driven:
            started.set_result(driven)
            await done.wait()

    holding = asyncio.create_task(hold_open())
    yield await started
    done.set()
    await holding
