"""The number that took the old service down: sockets to Redis. One worker has three, whatever happens to them."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import psutil
import pytest
import redis
from pydantic import SecretStr
from sqlalchemy import select

from app.core import Core, open_core
from app.db import views
from app.db.tables import stage_runs
from app.settings import Settings
from pipeline import flow
from tests.conformance.oracle import Node
from tests.shop import check_once, connect_merchant, settled
from tests.walkthrough.upstream import Upstream, small_order
from tests.walkthrough.waiting import until

pytestmark = [pytest.mark.interop, pytest.mark.chaos]

ROOT = Path(__file__).parents[2]
ORDERS = 50
KILL_AT = (2, 8, 15, 22, 30, 40)
"""A connection is killed when so many orders are completed."""
ROLES = ("commands", "events", "leases")
CLOSED = {psutil.CONN_NONE, psutil.CONN_LISTEN}


async def test_fifty_orders_never_use_a_fourth_socket_while_connections_are_killed(
    settings: Settings, sandbox: str, upstream: Upstream, node: Node, redis_admin: redis.Redis, tmp_path: Path
) -> None:
    orders = [small_order(number) for number in range(ORDERS)]
    port = urlsplit(str(settings.redis_url and settings.redis_url.get_secret_value())).port
    async with open_core(settings) as core:
        await connect_merchant(core, sandbox)
        async with worker_process(settings, tmp_path) as worker, anyio.create_task_group() as tasks:
            samples = Samples(worker, port, redis_admin, ours=core.name)
            tasks.start_soon(samples.take)
            await until(samples.are_three_named)
            await upstream.enqueue(*(upstream.store(number, lines) for number, lines in enumerate(orders)))
            killed = await _kill_connections(core, samples, redis_admin)
            rows = await settled(core, ORDERS, within_s=120)
            await until(samples.are_three_named)
            tasks.cancel_scope.cancel()
        assert {row.state for row in rows} == {"completed"}
        assert await _attempts(core, "failed") == []
        await check_once(core, sandbox, orders)
    assert set(killed) == set(ROLES)
    assert max(samples.sockets) == 3
    assert len(samples.sockets) > 50
    for queue in flow.NAMES:
        jobs = await node.queue(queue, "getJobs", ["completed", "failed"])
        assert [job.get("returnvalue", {}).get("outcome") for job in jobs] == ["finished"] * ORDERS, queue


class Samples:
    """Counts a process's sockets to Redis every 100 ms, its children's too; knows them by name on the server."""

    def __init__(self, worker: psutil.Process, port: int | None, admin: redis.Redis, *, ours: str) -> None:
        self.sockets: list[int] = []
        self._worker = worker
        self._port = port
        self._admin = admin
        self._ours = f"po:{ours}:"

    async def take(self) -> None:
        while True:
            self.sockets.append(sum(map(self._count, [self._worker, *self._worker.children(recursive=True)])))
            await anyio.sleep(0.1)

    def _count(self, process: psutil.Process) -> int:
        try:
            found = process.net_connections("tcp")
        except psutil.NoSuchProcess:
            return 0  # a reading child that has just been replaced
        return sum(bool(one.raddr) and one.raddr.port == self._port and one.status not in CLOSED for one in found)

    def clients(self) -> dict[str, Any]:
        """The worker's connections as the server names them: role -> client id."""
        named = [client for client in self._admin.client_list() if client["name"].startswith("po:")]
        worker = [client for client in named if not client["name"].startswith(self._ours)]
        assert len({client["name"] for client in worker}) == len(worker) <= len(ROLES)
        return {client["name"].rpartition(":")[2]: client["id"] for client in worker}

    async def are_three_named(self) -> bool:
        return set(self.clients()) == set(ROLES)


async def _kill_connections(core: Core, samples: Samples, admin: redis.Redis) -> list[str]:
    """Kill one connection at a time, in no order but each of them, once the last is back; returns which."""
    chance = random.Random(20261123)
    roles = [*chance.sample(ROLES, 3), *chance.sample(ROLES, 3)]
    for completed, role in zip(KILL_AT, roles, strict=True):

        async def due(completed: int = completed) -> bool:
            rows = await views.list_runs(core.database, limit=200)
            return sum(row.stage is None for row in rows) >= completed

        await until(due)
        await until(samples.are_three_named)
        admin.client_kill_filter(_id=samples.clients()[role])
    return roles


async def _attempts(core: Core, state: str) -> list[tuple[str, str]]:
    async with core.database.transaction() as connection:
        found = await connection.execute(
            select(stage_runs.c.stage, stage_runs.c.error).where(stage_runs.c.state == state)
        )
        return [(stage, error) for stage, error in found]


@asynccontextmanager
async def worker_process(settings: Settings, folder: Path) -> AsyncIterator[psutil.Process]:
    """`python -m app worker`, as a container runs it; stopped by SIGTERM, and then it must exit with 0."""
    environment = environment_of(settings) | {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    with (folder / "worker.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "app", "worker", cwd=folder, env=environment, stdout=log, stderr=log
        )
        try:
            yield psutil.Process(process.pid)
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            code = await process.wait()
    assert code == 0, (folder / "worker.log").read_text()[-2000:]


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment that says the same as these settings."""
    return {name.upper(): _spelled(value) for name, value in settings.model_dump(exclude_none=True).items()}


def _spelled(value: Any) -> str:
    match value:
        case SecretStr():
            return value.get_secret_value()
        case tuple():
            return ",".join(value)
        case dict():
            return json.dumps(value)
        case _:
            return str(value)
