"""A Node process that was not told to stop: its bull workers are named, each with its queue, by those who look."""

from __future__ import annotations

import re
from collections.abc import Iterator

import anyio
import pytest

from app.admin.server import serve_admin
from app.bootstrap import open_worker
from app.core import Core, open_core
from app.doctor import examine
from pipeline import flow
from tests.conformance.oracle import Node, npm_bull
from tests.shop import settings_for
from tests.support import eventually, loopback

pytestmark = pytest.mark.interop

NOBODY = "http://127.0.0.1:9"
"""Where a shop would be: nothing is sent to one here."""


@pytest.fixture(params=["bull", "{bull}"])
def prefix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def upstream(node_program: str, redis_url: str, prefix: str) -> Iterator[Node]:
    """A Node process of its own, which ends with the test."""
    with npm_bull(node_program, redis_url, prefix=prefix) as driven:
        yield driven


async def test_workers_of_bull_are_named_by_the_doctor_and_by_ready(
    upstream: Node, redis_url: str, database_url: str, prefix: str
) -> None:
    """On all eleven queues at once, and each of them alone; a queue that only begins like ours is not ours."""
    settings = settings_for(redis_url, database_url, NOBODY, queue_prefix=prefix)
    async with open_core(settings) as core:
        assert await named_by_the_doctor(core) == []
        for count, queue in enumerate(flow.NAMES, start=1):
            await upstream.process(f"{queue}-of-others")
            await upstream.process(queue)

            async def it_is_named(expected: tuple[str, ...] = flow.NAMES[:count]) -> bool:
                return await named_by_the_doctor(core) == sorted(expected)

            await eventually(it_is_named)
        assert await named_by_ready(core) == sorted(flow.NAMES)
        assert await upstream.forget() == []

        async def nobody_is_left() -> bool:
            return await named_by_the_doctor(core) == []

        await eventually(nobody_is_left)


async def named_by_the_doctor(core: Core) -> list[str]:
    checks = [check for check in await examine(core) if check.what == "consumers"]
    assert {check.level for check in checks} in ({"ok"}, {"fail"})
    return sorted(queue_of(check.text) for check in checks if check.level == "fail")


async def named_by_ready(core: Core) -> list[str]:
    """Ask the page's server, as a probe does."""
    pages: list[str] = []
    served = anyio.Event()

    def note(page: str) -> None:
        pages.append(page)
        served.set()

    async with open_worker(core) as worker, anyio.create_task_group() as tasks, loopback() as http:
        tasks.start_soon(lambda: serve_admin(core, worker, started=note))
        await served.wait()
        body = (await http.get(f"{pages[0]}/ready", timeout=10)).json()
        tasks.cancel_scope.cancel()
    return sorted(map(queue_of, body["foreignConsumers"]))


def queue_of(sentence: str) -> str:
    found = re.match(r"(\S+) is consumed by a bull worker at 127\.0\.0\.1:\d+", sentence)
    assert found, sentence
    return found[1]
