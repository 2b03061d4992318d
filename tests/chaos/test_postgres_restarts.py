"""Postgres restarted, refused, deadlocked and out of connections, under load: nothing lost, doubled or counted."""

from __future__ import annotations

import os
import random
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import asyncpg
import psutil
import pytest

from app.core import Core, open_core
from app.db.migrate import upgrade
from app.embedded import Home, open_home, start_postgres
from pipeline import flow
from pipeline.errors import DatabaseUnavailable
from tests.chaos.watching import check_nothing_counted, impatient
from tests.shop import Article, articles, check_once, connect_merchant, csv_of, settings_for, settled, submit, working
from tests.support import CHAOS_IN_FULL

ORDERS = 36 if CHAOS_IN_FULL else 5
RESTARTS = 12 if CHAOS_IN_FULL else 3
UP_S = (4.5, 39.0) if CHAOS_IN_FULL else (0.0, 0.0)
SEED = 20261125


# ------------------------------------------------------------------------------------- a server of its own


class OwnPostgres:
    """A durable server on one port, stopped and started again while others work with it.

    Durable, because after an immediate shutdown whatever was committed must be there.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._port = _port_for_keeps()
        self._running = ExitStack()
        self.url = ""

    def start(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("app.embedded.launch._find_free_port", lambda: self._port)
            self.url = self._running.enter_context(start_postgres(self._home))

    def stop(self, how: signal.Signals) -> None:
        """SIGINT: fast, sessions are ended and told so. SIGQUIT: immediate, as in a crash; recovery follows."""
        postmaster = psutil.Process(self._postmaster)
        os.kill(postmaster.pid, how)
        psutil.wait_procs([postmaster], timeout=10)
        self._running.close()

    @property
    def _postmaster(self) -> int:
        pid_file = (self._home.path / "postgres").resolve() / "data" / "postmaster.pid"
        return int(pid_file.read_text().splitlines()[0])

    def close(self) -> None:
        self._running.close()


@pytest.fixture
def own_postgres() -> Iterator[OwnPostgres]:
    with open_home(None) as home:
        server = OwnPostgres(home)
        try:
            server.start()
            upgrade(server.url)
            yield server
        finally:
            server.close()


def _port_for_keeps() -> int:
    """Below those the system gives away by itself: it must be free again after each restart."""
    chance = random.Random()
    while True:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port := chance.randrange(20_000, 30_000)))
            except OSError:
                continue
            return port


async def test_a_postgres_that_restarts_again_and_again_costs_no_order_an_attempt(
    redis_url: str, own_postgres: OwnPostgres, sandbox: str
) -> None:
    """Orders arrive before each restart, so that every one of them happens in the middle of commits."""
    chance = random.Random(SEED)
    async with working(settings_for(redis_url, own_postgres.url, sandbox)) as (core, _):
        await connect_merchant(core, sandbox)
        orders: list[list[Article]] = []
        for number in range(RESTARTS):
            await anyio.sleep(chance.uniform(*UP_S))
            orders += await _submit(core, max(2, ORDERS // RESTARTS), first=len(orders))
            await anyio.sleep(chance.uniform(0.2, 1.0))
            how = (signal.SIGQUIT, signal.SIGINT)[number % 2]
            await anyio.to_thread.run_sync(own_postgres.stop, how)
            await anyio.sleep(chance.uniform(0.0, 0.3))
            await anyio.to_thread.run_sync(own_postgres.start)
        await _all_well(core, sandbox, orders)


# ------------------------------------------------------------------------------------ on the shared server


async def test_sessions_that_are_terminated_at_random_cost_no_order_an_attempt(
    redis_url: str, database_url: str, sandbox: str
) -> None:
    settings = settings_for(redis_url, database_url, sandbox)
    async with working(settings) as (core, _):
        await connect_merchant(core, sandbox)
        orders = await _submit(core, ORDERS)
        async with _administrator(database_url) as administrator:
            ended = 0
            for _ in range(40 * (10 if CHAOS_IN_FULL else 1)):
                ended += await administrator.fetchval(
                    "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity"
                    " WHERE application_name = 'po-pipeline' AND datname = current_database()"
                    " ORDER BY random() LIMIT 1) AS one"
                )
                await anyio.sleep(0.05)
        assert ended > 0
        async with open_core(settings) as fresh:  # connections of ours were ended that we would meet only now
            await _all_well(fresh, sandbox, orders)


async def test_real_deadlocks_cost_no_order_an_attempt(redis_url: str, database_url: str, sandbox: str) -> None:
    """Somebody locks an order and then its run, while we lock the run and then its order."""
    async with _administrator(database_url) as administrator:
        name = urlsplit(database_url).path[1:]
        await administrator.execute(f"ALTER DATABASE {name} SET deadlock_timeout = '20ms'")
    async with working(settings_for(redis_url, database_url, sandbox)) as (core, _):
        await connect_merchant(core, sandbox)
        orders = await _submit(core, ORDERS)
        async with anyio.create_task_group() as tasks, _administrator(database_url) as administrator:
            for _ in range(3):
                tasks.start_soon(_lock_the_other_way_round, database_url)
            async with impatient(core, *flow.NAMES):
                await settled(core, ORDERS)
            tasks.cancel_scope.cancel()
        async with _administrator(database_url) as administrator:
            await administrator.execute("SELECT pg_stat_force_next_flush()")
            deadlocks = await administrator.fetchval(
                "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
            )
        assert deadlocks > 0
        await _all_well(core, sandbox, orders)


async def _lock_the_other_way_round(url: str) -> None:
    async with _administrator(url) as connection:
        while True:
            await anyio.sleep(0.005)
            try:
                async with connection.transaction():
                    run_id = await connection.fetchval(
                        "SELECT runs.id FROM po.purchase_orders AS o JOIN po.runs ON runs.order_id = o.id"
                        " WHERE due_stage IS NOT NULL ORDER BY random() LIMIT 1 FOR UPDATE OF o"
                    )
                    await anyio.sleep(0.01)
                    await connection.execute("SELECT FROM po.runs WHERE id = $1 FOR UPDATE", run_id)
            except asyncpg.DeadlockDetectedError:
                continue


async def test_a_pool_of_two_that_others_hold_for_long_costs_no_order_an_attempt(
    redis_url: str, database_url: str, sandbox: str
) -> None:
    async with working(settings_for(redis_url, database_url, sandbox, database_pool_size=2)) as (core, _):
        await connect_merchant(core, sandbox)
        orders = await _submit(core, ORDERS)
        pool = core.database.engine.pool
        patience_s, pool._timeout = pool._timeout, 0.15  # type: ignore[attr-defined]
        refused = 0
        for _ in range(6):
            async with anyio.create_task_group() as holders:
                for _ in range(2):
                    holders.start_soon(_gets_one, core, 0.4)
                await anyio.sleep(0.1)
                refused += not await _gets_one(core, 0)
        pool._timeout = patience_s  # type: ignore[attr-defined]
        assert refused > 0
        await _all_well(core, sandbox, orders)


async def _gets_one(core: Core, for_s: float) -> bool:
    """Whether the pool had a connection for us, which we then keep from everybody else."""
    try:
        async with core.database.transaction():
            await anyio.sleep(for_s)
    except DatabaseUnavailable:
        return False
    return True


# ------------------------------------------------------------------------------------------------ the pieces


@asynccontextmanager
async def _administrator(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        connection.terminate()


async def _submit(core: Core, count: int, *, first: int = 0) -> list[list[Article]]:
    orders = [articles(number) for number in range(first, first + count)]
    for number, lines in enumerate(orders, start=first):
        await submit(core, f"order-{number}.csv", csv_of(f"PO-{number}", lines))
    return orders


async def _all_well(core: Core, sandbox: str, orders: list[list[Article]]) -> None:
    async with impatient(core, *flow.NAMES):
        await settled(core, len(orders), within_s=120)
    await check_nothing_counted(core)
    await check_once(core, sandbox, orders)
