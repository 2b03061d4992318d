"""Real servers for the tests that ask for them; the others pay nothing.

    redis_url      an empty Redis (Valkey, or REDIS_PROGRAM), checked afterwards: queues in order, no key nobody expects
    database_url   a database of the test's own, migrated, dropped afterwards

One pair of servers serves one pytest process, so workers of pytest-xdist never meet.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
import redis

from app.embedded import Home, open_home, start_postgres, start_redis
from app.settings import Settings
from pipeline.queue.invariants import Violation
from tests.invariants import fail_on, list_pages, list_run_violations, list_violations

pytest_plugins = ["tests.leaks"]

TEMPLATE = "po_template"
DATABASE_USES = 50
"""Nobody vacuums: the rows of so many tests are no burden yet."""

SHAPE = """
    SELECT md5(string_agg(concat_ws(' ', attrelid, attname, atttypid, attnotnull), ',' ORDER BY attrelid, attnum))
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    WHERE relnamespace = 'po'::regnamespace AND attnum > 0
"""
"""Which tables and columns there are: a test may have changed them."""

EMPTY = """
    DO $$ DECLARE name text; BEGIN
        PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid();
        SET LOCAL session_replication_role = replica;  -- foreign keys ask for no order
        FOR name IN SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
            WHERE schemaname = 'po' AND tablename <> 'alembic_version'
        LOOP EXECUTE 'DELETE FROM ' || name; END LOOP;
        PERFORM setval(format('%I.%I', schemaname, sequencename)::regclass, start_value, false)
            FROM pg_sequences WHERE schemaname = 'po';
    END $$
"""


@pytest.fixture(autouse=True, scope="session")
def _nothing_of_the_users() -> Iterator[None]:
    """Neither a developer's `.env` nor a key in the environment reaches a test: no vendor may be called by one."""
    with pytest.MonkeyPatch.context() as patch:
        for name in Settings.model_fields:
            patch.delenv(name.upper(), raising=False)
        patch.setitem(Settings.model_config, "env_file", None)
        yield


@pytest.fixture(scope="session")
def servers_home() -> Iterator[Home]:
    """The directory this process's servers share."""
    with open_home(None) as home:
        yield home


@pytest.fixture(scope="session")
def redis_server(servers_home: Home, expect_children: Callable[[], None]) -> Iterator[str]:
    """The URL of this process's Redis; tests take `redis_url`."""
    program = os.environ.get("REDIS_PROGRAM")
    with start_redis(servers_home, durable=False, program=Path(program) if program else None) as url:
        expect_children()
        yield url


@pytest.fixture(scope="session")
def redis_admin(redis_server: str) -> Iterator[redis.Redis]:
    """A connection of the harness, not of the code under test."""
    with redis.Redis.from_url(redis_server, decode_responses=True, encoding_errors="replace") as client:
        yield client


@pytest.fixture
def allowed_key_patterns() -> tuple[str, ...]:
    """Keys that may remain in Redis after a test: the queues, upstream's names, and ours. Override to widen."""
    return ("bull:*", "{bull}:*", "workflow:*", "po:*")


@pytest.fixture
def redis_url(
    request: pytest.FixtureRequest,
    redis_server: str,
    redis_admin: redis.Redis,
    allowed_key_patterns: tuple[str, ...],
) -> Iterator[str]:
    """An empty Redis; a queue left out of order in it, or a key outside `allowed_key_patterns`, fails the test."""
    redis_admin.flushall()
    yield redis_server
    fail_on(list_violations(list_pages(redis_admin)), request)
    leaked = [
        key
        for key in redis_admin.scan_iter(count=1000)
        if not any(fnmatchcase(key, pattern) for pattern in allowed_key_patterns)
    ]
    if leaked:
        pytest.fail(f"keys left in Redis by this test: {sorted(leaked)}", pytrace=False)


@dataclass(frozen=True, slots=True)
class DatabaseAdmin:
    """One connection of the harness, on an event loop of its own, that creates and drops databases."""

    runner: asyncio.Runner
    connection: asyncpg.Connection
    server_url: str

    def execute(self, statement: str) -> None:
        self.runner.run(_execute(self.connection, statement))

    def url_of(self, database: str) -> str:
        return urlsplit(self.server_url)._replace(path=f"/{database}").geturl()


@pytest.fixture(scope="session")
def database_admin(servers_home: Home, expect_children: Callable[[], None]) -> Iterator[DatabaseAdmin]:
    """This process's PostgreSQL, with the migrated template made; tests take `database_url`."""
    from app.db.migrate import upgrade  # the others need not wait for SQLAlchemy and Alembic

    with (
        start_postgres(servers_home, durable=False) as url,
        asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner,
    ):
        expect_children()
        connection = runner.run(asyncpg.connect(url))
        try:
            admin = DatabaseAdmin(runner, connection, url)
            admin.execute(f"CREATE DATABASE {TEMPLATE}")
            upgrade(admin.url_of(TEMPLATE))
            yield admin
        finally:
            runner.run(connection.close())


@pytest.fixture(scope="session")
def make_database(database_admin: DatabaseAdmin) -> Callable[[], str]:
    """Creates one more migrated database and returns its URL; for tests that need two, or a session's own."""
    numbers = count(1)

    def make() -> str:
        name = f"test_{next(numbers)}"
        # Three times faster than the default strategy, for it need not pass through the log.
        database_admin.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY file_copy")
        return database_admin.url_of(name)

    return make


class Databases:
    """Databases that are used again: emptying one takes milliseconds, making one a checkpoint."""

    def __init__(self, admin: DatabaseAdmin, make: Callable[[], str]) -> None:
        self._admin = admin
        self._make = make
        self._clean: list[str] = []
        self._uses: Counter[str] = Counter()
        self._shape = ""

    def take(self) -> str:
        url = self._clean.pop() if self._clean else self._make()
        self._shape = self._shape or self._admin.runner.run(_shape(url))
        self._uses[url] += 1
        return url

    def give_back(self, url: str) -> None:
        """Empty it for the next test; one that is worn, locked or of another shape is dropped."""
        if self._uses[url] < DATABASE_USES and self._admin.runner.run(_emptied(url, self._shape)):
            self._clean.append(url)
        else:
            self._admin.execute(f"DROP DATABASE {urlsplit(url).path[1:]} WITH (FORCE)")


@pytest.fixture(scope="session")
def databases(database_admin: DatabaseAdmin, make_database: Callable[[], str]) -> Databases:
    """What `database_url` takes from."""
    return Databases(database_admin, make_database)


@pytest.fixture
def database_url(request: pytest.FixtureRequest, database_admin: DatabaseAdmin, databases: Databases) -> Iterator[str]:
    """A migrated, empty database for this test alone; with a Redis beside it, runs left out of order fail the test."""
    url = databases.take()
    yield url
    try:
        if "redis_url" in request.fixturenames:
            raw = request.getfixturevalue("redis_admin")
            fail_on(database_admin.runner.run(_left_out_of_order(url, raw)), request)
    finally:
        databases.give_back(url)


async def _emptied(url: str, shape: str) -> bool:
    try:
        connection = await asyncpg.connect(url, server_settings={"lock_timeout": "2000"})
    except (asyncpg.PostgresError, OSError):  # the test left it so that nobody comes in
        return False
    try:
        if await connection.fetchval(SHAPE) != shape:
            return False
        await connection.execute(EMPTY)
    except asyncpg.PostgresError:
        return False
    else:
        return True
    finally:
        await connection.close()


async def _shape(url: str) -> str:
    connection = await asyncpg.connect(url)
    try:
        return str(await connection.fetchval(SHAPE))
    finally:
        await connection.close()


async def _left_out_of_order(url: str, raw: redis.Redis) -> list[Violation]:
    connection = await asyncpg.connect(url)
    try:
        return await list_run_violations(connection, list_pages(raw))
    finally:
        await connection.close()


async def _execute(connection: asyncpg.Connection, statement: str) -> None:
    await connection.execute(statement)
