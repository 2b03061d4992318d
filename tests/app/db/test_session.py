"""What holds inside every transaction, and what becomes of a connection that broke."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest
from sqlalchemy import select, text

from app.db.session import CLOSE_WITHIN_S, LOCK_TIMEOUT_MS, STATEMENT_TIMEOUT_MS, Database, PoolSize
from pipeline.errors import DatabaseUnavailable
from tests.app.redis_proxy import proxy_to


async def test_every_transaction_has_its_limits_and_they_end_with_it(database_url: str) -> None:
    database = Database(database_url, PoolSize(1))
    limits = text("SELECT current_setting('lock_timeout'), current_setting('statement_timeout')")
    async with database.transaction() as connection:
        (inside,) = await connection.execute(limits)
    async with database.engine.connect() as connection:
        (outside,) = await connection.execute(limits)
    await database.close()
    assert tuple(inside) == (f"{LOCK_TIMEOUT_MS // 1000}s", f"{STATEMENT_TIMEOUT_MS // 1000}s")
    assert tuple(outside) == ("0", "0")


async def test_a_connection_that_broke_is_not_handed_out_again(database_url: str) -> None:
    """Cut between two transactions, and again in the middle of one: each costs one caller, not all that follow."""
    async with proxy_to(database_url) as proxy:
        database = Database(proxy.url("postgresql"), PoolSize(1))
        await _ask(database)
        proxy.cut()
        with pytest.raises(DatabaseUnavailable):
            await _ask(database)
        await _ask(database)
        with pytest.raises(DatabaseUnavailable):
            await _ask(database, first=proxy.cut)
        await _ask(database)
        await database.close()


async def _ask(database: Database, first: Callable[[], None] = lambda: None) -> None:
    async with database.transaction() as connection:
        first()
        assert await connection.scalar(select(1)) == 1


async def test_closing_does_not_wait_for_a_server_that_fell_silent(database_url: str) -> None:
    async with proxy_to(database_url) as proxy:
        database = Database(proxy.url("postgresql"), PoolSize(1))
        await _ask(database)
        proxy.frozen = True
        with anyio.fail_after(CLOSE_WITHIN_S + 3):
            await database.close()
