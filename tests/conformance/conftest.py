"""The same queue as seen by us and by npm bull."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import redis

from pipeline.clock import Clock, SystemClock
from pipeline.queue.bull import Bull
from tests.conformance.oracle import INTEROP, LAST_RELEASE, Node, npm_bull
from tests.conformance.twins import Twins
from tests.pipeline.queue.conftest import bull, claim, connections, enqueue, every_key_is_declared, published, raw
from tests.support import require

DELAY_MS = 60_000

__all__ = ["bull", "claim", "connections", "enqueue", "every_key_is_declared", "published", "raw"]


@pytest.fixture
def clock() -> Clock:
    return SystemClock()


@pytest.fixture(scope="session")
def node_program() -> str:
    """Node, with npm bull where our programs look for it; `npm ci` in tests/interop installs it."""
    program = shutil.which("node")
    require(program, "no node on this machine: the tests against npm bull need it")
    needed = json.loads((INTEROP / "package.json").read_text())["dependencies"]
    missing = [name for name in needed if not (INTEROP / "node_modules" / name).is_dir()]
    require(not missing, f"{', '.join(missing)} not installed: run `npm ci` in tests/interop")
    assert program is not None
    return program


@pytest.fixture(scope="session")
def node_process(
    request: pytest.FixtureRequest, node_program: str, redis_server: str, expect_children: Callable[[], None]
) -> Iterator[Node]:
    """One Node process with npm bull for all tests, 4.16.5 unless a test asks for `EVERY_RELEASE`."""
    with npm_bull(node_program, redis_server, release=getattr(request, "param", LAST_RELEASE)) as driven:
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


@pytest.fixture
async def in_every_state(twins: Twins) -> list[str]:
    """Jobs of Node, half of them brought where they are by us, half by bull; a retried one is among the delayed."""
    await twins.given_in("completed", "done", "done-too")
    await twins.given_in("failed", "dead", stackTraceLimit=2)
    await twins.given("again", attempts=3, backoff=DELAY_MS)
    await twins.claim()
    await twins.progress("again", {"percent": 40})
    await twins.fail("again", retry_in_ms=DELAY_MS)
    await twins.given("runs")
    await twins.claim()
    await twins.progress("runs", 7)
    await twins.given_log("runs", "a row")
    await twins.given("later", delay=DELAY_MS)
    await twins.given("waits")
    await twins.given("first", priority=1)
    return ["done", "done-too", "dead", "again", "runs", "later", "waits", "first"]
