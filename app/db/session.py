"""Short transactions against Postgres, with limits set inside each, and errors told by type.

Works behind a transaction pooler: no server-side prepared statements are kept (asyncpg's cache is off),
no session state is relied on; `SET LOCAL` ends with the transaction.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import asyncpg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from pipeline.errors import DatabaseBusy, DatabaseUnavailable

LOCK_TIMEOUT_MS = 5_000
STATEMENT_TIMEOUT_MS = 10_000
CLOSE_WITHIN_S = 3
_LIMITS = text(
    f"SELECT set_config('lock_timeout', '{LOCK_TIMEOUT_MS}', true),"
    f" set_config('statement_timeout', '{STATEMENT_TIMEOUT_MS}', true)"
)
"""Through SQLAlchemy like everything else: what is sent past it is sent before its BEGIN, and is over at once."""

_BROKEN = (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError, InterfaceError)
"""What leaves a connection in a state nobody knows. Most of these SQLAlchemy does not take for a lost connection."""

_BUSY = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
)
"""What Postgres says to one transaction while it serves all others."""

_PASSING = (
    *_BUSY,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InterfaceError,
    OSError,
    TimeoutError,
)
"""What Postgres or the way to it may say today and not tomorrow: none of it is the order's fault."""


@dataclass(frozen=True, slots=True)
class PoolSize:
    """How many connections one process may hold, and how long (seconds) a caller waits for one."""

    size: int = 5
    wait_s: float = 10.0


def asyncpg_url(url: str) -> str:
    """`postgresql://..` (as people write it) in the form SQLAlchemy wants."""
    for scheme in ("postgresql://", "postgres://"):
        if url.startswith(scheme):
            return "postgresql+asyncpg://" + url[len(scheme) :]
    return url


class Database:
    """The one pool of a process."""

    def __init__(self, url: str, pool: PoolSize | None = None) -> None:
        pool = pool or PoolSize()
        self.engine: AsyncEngine = create_async_engine(
            asyncpg_url(url),
            pool_size=pool.size,
            max_overflow=0,
            pool_timeout=pool.wait_s,
            pool_pre_ping=False,
            pool_use_lifo=True,
            connect_args={
                "timeout": 10,
                "command_timeout": STATEMENT_TIMEOUT_MS / 1000 + 5,
                "statement_cache_size": 0,
                # A pooler hands one server session to many clients: statement names must never collide.
                "prepared_statement_name_func": lambda: f"po_{secrets.token_hex(8)}",
                "server_settings": {"application_name": "po-pipeline"},
            },
        )
        self._committing = self.engine.execution_options(isolation_level="AUTOCOMMIT")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """One short transaction. Raises DatabaseUnavailable for whatever may pass by itself.

        A failure while committing leaves the outcome unknown: the caller asks the journal, never repeats blindly.
        """
        with _told_by_type():
            async with self.engine.begin() as connection, _left_whole(connection):
                await connection.execute(_LIMITS)
                yield connection

    @asynccontextmanager
    async def statements(self) -> AsyncIterator[AsyncConnection]:
        """Statements that are a transaction each: what one locks is free once it is done, however slow its sender is.

        For rows that the whole fleet asks for all the time. Raises what `transaction` does.
        """
        with _told_by_type():
            async with self._committing.connect() as connection, _left_whole(connection):
                yield connection

    async def close(self) -> None:
        """Close the pool. A server that is out of reach is not waited for: a container would be killed over it."""
        with anyio.move_on_after(CLOSE_WITHIN_S, shield=True) as limit:
            await self.engine.dispose()
        if limit.cancelled_caught:
            await self.engine.dispose(close=False)


@asynccontextmanager
async def _left_whole(connection: AsyncConnection) -> AsyncIterator[None]:
    """A broken connection does not go back to the pool: it would be the first to be handed out, and fail for ever."""
    try:
        yield
    except _BROKEN:
        await connection.invalidate()
        raise


@contextmanager
def _told_by_type() -> Iterator[None]:
    """What the driver, the pool and the network say, as our errors."""
    try:
        yield
    except PoolTimeout as error:
        raise DatabaseUnavailable("no free database connection") from error
    except DBAPIError as error:
        if _is_one_of(error, _BUSY):
            raise DatabaseBusy(_reason(error)) from error
        if is_passing(error):
            raise DatabaseUnavailable(_reason(error)) from error
        raise
    except (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError) as error:
        raise DatabaseUnavailable(_reason(error)) from error


def is_passing(error: DBAPIError) -> bool:
    """Whether the same statement may succeed later, by the driver's type and never by its text."""
    if error.connection_invalidated:
        return True
    return _is_one_of(error, _PASSING) or (isinstance(error, InterfaceError | OperationalError) and error.orig is None)


def _is_one_of(error: DBAPIError, kinds: tuple[type[BaseException], ...]) -> bool:
    """Whether the driver's error, or what caused it, is of these kinds."""
    cause: BaseException | None = error.orig
    while cause is not None:
        if isinstance(cause, kinds):
            return True
        cause = cause.__cause__
    return False


def _reason(error: Exception) -> str:
    """A driver's error without statement, parameters or address."""
    cause: Any = getattr(error, "orig", None) or error
    cause = cause.__cause__ or cause
    return f"Postgres: {type(cause).__name__}"
