"""Over a real socket: events flow, bounded; and the server is gone when it is told to go."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import anyio
import httpx
import pytest
from fastapi import FastAPI

from app.admin.api import create_app
from app.admin.deps import AdminDeps
from app.admin.events import LISTENERS_MAX, Feed
from app.admin.server import CannotServeError, serve
from app.db import tables
from pipeline.clock import SystemClock
from tests.app.db.given import Given
from tests.support import loopback


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[str]:
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve, app, "127.0.0.1", 0, address.set_result)
        yield await address
        tasks.cancel_scope.cancel()


async def events(stream: httpx.Response) -> AsyncIterator[tuple[str, Any]]:
    name = ""
    async for line in stream.aiter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


async def test_a_page_hears_the_totals_and_then_each_change(deps: AdminDeps, given: Given) -> None:
    async with (
        served(create_app(deps)) as url,
        loopback(base_url=url, timeout=10) as client,
        client.stream("GET", "/api/events") as stream,
    ):
        assert stream.headers["content-type"].startswith("text/event-stream")
        heard = events(stream)
        name, totals = await anext(heard)
        assert (name, len(totals["stages"])) == ("totals", 11)
        await given.run("r", due_stage="shopify-sync", failure="line\n\nevent: totals\ndata: forged")
        told = dict([await anext(heard), await anext(heard)])
        assert told["run"]["run_id"] == "r"
        [stage] = [stage for stage in told["totals"]["stages"] if stage["queue"] == "shopify-sync"]
        assert stage["waiting"] == 1


async def test_an_open_page_does_not_hold_up_a_stop(deps: AdminDeps) -> None:
    before = anyio.current_time()
    async with loopback(timeout=10) as client:
        async with served(create_app(deps)) as url:
            stream = await client.send(client.build_request("GET", f"{url}/api/events"), stream=True)
        await stream.aclose()
    assert anyio.current_time() - before < 5


async def test_serving_leaves_the_signals_to_the_process(deps: AdminDeps) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    async with served(create_app(deps)):
        assert {number: signal.getsignal(number) for number in before} == before


async def test_a_taken_port_is_a_sentence(deps: AdminDeps) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotServeError, match=f"port {port} .*set HTTP_PORT"):
            await serve(create_app(deps), "127.0.0.1", port)


async def test_listeners_are_bounded_and_one_that_sleeps_is_let_go(
    make_deps: Callable[..., AdminDeps], given: Given
) -> None:
    feed = Feed(given.database, SystemClock())
    listeners = [feed.listen() for _ in range(LISTENERS_MAX)]
    for listener in listeners:
        await anext(listener)
    assert feed.full
    for number in range(12):
        await given.run(f"a{number}")
    await feed.run_once()
    for number in range(12):
        await given.run(f"b{number}")
    await feed.run_once()
    assert not feed.full
    for listener in listeners:
        await listener.aclose()


async def test_a_change_is_told_once_and_a_later_one_again(given: Given) -> None:
    feed = Feed(given.database, SystemClock())
    listener = feed.listen()
    await anext(listener)
    await given.run("r")
    assert await feed.run_once() == 1
    assert await feed.run_once() == 0
    await given.change(
        tables.runs, tables.runs.c.id == "r", summary="x", updated_at=tables.runs.c.updated_at + timedelta(seconds=1)
    )
    assert await feed.run_once() == 1
    await listener.aclose()
