"""What Redis is asked: client commands of an idle fleet a minute, and of a busy worker a hop.

    .venv/bin/python -m bench.cost [IDLE_MINUTES] [ORDERS]

Idle: three worker processes with the default settings, nothing to do, their health asked every 15 s as a container's
is. Busy: one of them takes orders through all stages. Commands are those clients sent, seen by MONITOR: keeping
sockets alive is counted, what scripts do inside the server is not, as the vendor's bill for a hosted Redis has it.
Telling upstream's page how far an order is ("progress") is counted apart. Prints; asserts nothing.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import httpx
import redis.asyncio

from app import logs
from app.core import Core, open_core
from app.db import migrate
from app.embedded import open_home, start_postgres, start_redis
from app.embedded.sandbox import start_sandbox
from app.settings import Settings
from pipeline import flow
from pipeline.queue import scripts
from tests.shop import DOMAIN, TOKEN, articles, connect_merchant, csv_of, settings_for, settled, submit
from tests.support import loopback
from tests.walkthrough.test_4_three_connections import worker_process

REPLICAS = 3
HEALTH_EVERY_S = 15.0
DEFAULTS = {
    name: Settings.model_fields[name].default
    for name in (
        *("lease_seconds", "heartbeat_seconds", "stalled_seconds", "guard_seconds", "reconcile_seconds"),
        *("retry_delay_seconds", "rate_limit", "shutdown_grace_seconds"),
    )
}
_LINE = re.compile(r'^[\d.]+ \[\d+ ([^\]]+)\] "(\w+)"(?: "((?:[^"\\]|\\.)*)")?(?: "((?:[^"\\]|\\.)*)")?')
_VERBS = {scripts.load(name).sha: name for name in scripts.names()}


class Tally:
    """Counts what clients other than the harness send."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.ignored: set[str] = set()

    async def watch(self, url: str, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        client = redis.asyncio.Redis.from_url(url, decode_responses=True, socket_timeout=None)
        async with client, client.monitor() as monitor:
            task_status.started()
            while True:
                line = await monitor.connection.read_response()
                self._count(line)

    def _count(self, line: str) -> None:
        match = _LINE.match(line)
        if match is None or match[1] == "lua" or match[1] in self.ignored:
            return
        command, first = match[2].lower(), match[3] or ""
        self.seen[_VERBS.get(first, command) if command == "evalsha" else _kind(command, first)] += 1

    async def ignore(self, client: redis.asyncio.Redis, name: str) -> None:
        """Do not count the connections that begin with this name."""
        self.ignored |= {one["addr"] for one in await client.client_list() if one["name"].startswith(name)}


def _kind(command: str, first: str) -> str:
    return "progress" if first.startswith(("workflow:", "merchant:")) else command


async def main_async(redis_url: str, database_url: str, sandbox: str, minutes: float, orders: int) -> None:
    settings = settings_for(redis_url, database_url, sandbox, **DEFAULTS, http_port=0)
    tally = Tally()
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(redis.asyncio.Redis.from_url(redis_url, decode_responses=True))
        core = await stack.enter_async_context(open_core(settings))
        await connect_merchant(core, sandbox)
        await tally.ignore(client, f"po:{core.name}")
        tally.ignored |= {one["addr"] for one in await client.client_list() if not one["name"].startswith("po:")}
        async with anyio.create_task_group() as tasks:
            await tasks.start(tally.watch, redis_url)
            async with workers(settings, REPLICAS):
                await _idle(tally, minutes)
            async with workers(settings.model_copy(update={"rate_limit": "off"}), 1):
                await _busy(tally, core, orders)
            tasks.cancel_scope.cancel()


@asynccontextmanager
async def workers(settings: Settings, count: int) -> AsyncIterator[None]:
    """Worker processes whose health somebody asks for."""
    async with AsyncExitStack() as stack:
        ports = []
        for number in range(count):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            port = 18_700 + os.getpid() % 1000 + number
            given = settings.model_copy(update={"http_port": port})
            await stack.enter_async_context(worker_process(given, folder))
            ports.append(port)
        async with loopback() as http, anyio.create_task_group() as tasks:
            await _all_ready(http, ports)
            tasks.start_soon(_ask_for_health, http, ports)
            yield
            tasks.cancel_scope.cancel()


async def _all_ready(http: httpx.AsyncClient, ports: list[int]) -> None:
    """What starting costs is not what being there costs."""
    with anyio.fail_after(60):
        for port in ports:
            while not await _is_ready(http, port):
                await anyio.sleep(0.5)
    await anyio.sleep(2)  # the first claims of all queues are through


async def _is_ready(http: httpx.AsyncClient, port: int) -> bool:
    try:
        return (await http.get(f"http://127.0.0.1:{port}/ready")).is_success
    except httpx.TransportError:
        return False


async def _ask_for_health(http: httpx.AsyncClient, ports: list[int]) -> None:
    while True:
        for port in ports:
            await _is_ready(http, port)
        await anyio.sleep(HEALTH_EVERY_S)


async def _idle(tally: Tally, minutes: float) -> None:
    tally.seen.clear()
    await anyio.sleep(minutes * 60)
    total = sum(tally.seen.values()) / minutes
    print(f"idle, {REPLICAS} replicas, {minutes:g} min: {total:.1f} commands a minute  {_shares(tally.seen)}")


async def _busy(tally: Tally, core: Core, orders: int) -> None:
    tally.seen.clear()
    began = time.perf_counter()
    for number in range(orders):
        await submit(core, f"order-{number}.csv", csv_of(f"PO-{number}", articles(number)))
    await settled(core, orders, within_s=600)
    hops = orders * len(flow.NAMES)
    progress = tally.seen.pop("progress", 0)
    rest = sum(tally.seen.values())
    print(f"busy, 1 replica, {orders} orders, {hops} hops in {time.perf_counter() - began:.0f} s:")
    print(f"  {rest / hops:.2f} commands a hop  {_shares(tally.seen)}")
    print(f"  {progress / hops:.2f} for progress")


def _shares(seen: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in seen.most_common())


def main(minutes: float, orders: int) -> None:
    with (
        open_home(None) as home,
        start_redis(home) as redis_url,
        start_postgres(home) as database_url,
        start_sandbox(home, {DOMAIN: TOKEN}, state=home.path / "shop.db") as sandbox,
    ):
        migrate.upgrade(database_url)
        logs.configure("text", file=home.log("bench"))
        anyio.run(main_async, redis_url, database_url, sandbox, minutes, orders)


if __name__ == "__main__":
    given = [*map(float, sys.argv[1:]), *(10.0, 50.0)[len(sys.argv) - 1 :]]
    main(given[0], int(given[1]))
