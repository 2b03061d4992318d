"""The same queue as seen by us and by npm bull."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import redis

from pipeline.clock import Clock, SystemClock
from pipeline.queue.bull import Bull
from tests.conformance.oracle import INTEROP, Node, npm_bull
from tests.conformance.twins import Twins
from tests.pipeline.queue.conftest import bull, claim, connections, enqueue, every_key_is_declared, published, raw
from tests.support import require

__all__ = ["bull", "claim", "connections", "enqueue", "every_key_is_declared", "published", "raw"]


@pytest.fixture
def clock() -> Clock:
    return SystemClock()


@pytest.fixture(scope="session")
def node_process(redis_server: str, expect_children: Callable[[], None]) -> Iterator[Node]:
    """One Node process with npm bull for all tests; `npm ci` in tests/interop installs it."""
    program = shutil.which("node")
    require(program, "no node on this machine: the tests against npm bull need it")
    require((INTEROP / "node_modules" / "bull").is_dir(), "npm bull is not installed: run `npm ci` in tests/interop")
    assert program is not None
    with npm_bull(program, redis_server) as driven:
        expect_children()
        yield driven


@pytest.fixture
async def node(node_process: Node, redis_url: str) -> AsyncIterator[Node]:
    """npm bull on the test's Redis."""
    yield node_process
    assert await node_process.forget() == []


@pytest.fixture
def twins(bull: Bull, node: Node, raw: redis.Redis) -> Iterator[Twins]:
    with raw.pubsub() as listener:
        listener.psubscribe("bull:*")
        listener.get_message(timeout=5)
        yield Twins(bull, node, raw, listener)
