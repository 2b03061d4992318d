"""What every process opens, and people's commands need no more than: Postgres, Redis, and what stands directly on them.

Kept apart from `app.bootstrap` because that imports everything a stage may need, which takes a second.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from app.adapters.secrets import Seal, WeakKeyError
from app.connections import Connections, open_connections
from app.db.grants import AppClient, Grants
from app.db.merchants import Merchants
from app.db.people import People
from app.db.runs import PostgresRuns
from app.db.session import Database, PoolSize
from app.db.shop_limits import PostgresShopLimits
from app.settings import Settings, SettingsError
from pipeline.clock import Clock, SystemClock
from pipeline.queue.bull import Bull
from pipeline.queue.keys import Keys


@dataclass(frozen=True, slots=True)
class Core:
    """What every part of the service needs: the two stores, and what stands directly on them."""

    settings: Settings
    clock: Clock
    database: Database
    connections: Connections
    bull: Bull
    runs: PostgresRuns
    merchants: Merchants
    grants: Grants
    shop_limits: PostgresShopLimits
    people: People
    name: str


@asynccontextmanager
async def open_core(settings: Settings, clock: Clock | None = None) -> AsyncIterator[Core]:
    """Open the pool and the three connections for as long as the block runs."""
    clock = clock or SystemClock()
    redis_url, database_url = _addresses(settings)
    # Unique per process, not only per host: a restarted container keeps its name and gets pid 1 again.
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    database = Database(database_url, PoolSize(settings.database_pool_size))
    grants = Grants(database, _seal(settings), app_client_of(settings))
    try:
        async with open_connections(
            redis_url,
            clock,
            connect_timeout_s=settings.redis_connect_timeout_seconds,
            name=f"po:{name}",
            slot=Keys(settings.queue_prefix).slot,
        ) as connections:
            yield Core(
                settings=settings,
                clock=clock,
                database=database,
                connections=connections,
                bull=Bull(connections.commands, prefix=settings.queue_prefix, leases=connections.leases, clock=clock),
                runs=PostgresRuns(database, max_stalls=settings.max_stalls, open_runs=settings.shop_open_runs),
                merchants=Merchants(database, grants),
                grants=grants,
                shop_limits=PostgresShopLimits(database),
                people=People(database, open_runs=settings.shop_open_runs),
                name=name,
            )
    finally:
        await database.close()


def _addresses(settings: Settings) -> tuple[str, str]:
    missing = [name.upper() for name in ("redis_url", "database_url") if getattr(settings, name) is None]
    if settings.redis_url is None or settings.database_url is None:
        raise SettingsError(f"{' and '.join(missing)} must be set; `python3 run.py serve` brings its own")
    return settings.redis_url.get_secret_value(), settings.database_url.get_secret_value()


def app_client_of(settings: Settings) -> AppClient:
    """The public app's id and secrets; a secret that is being changed is given as two, by comma, the new one first."""
    given = settings.shopify_client_secret
    secrets_given = () if given is None else given.get_secret_value().split(",")
    return AppClient(settings.shopify_client_id, tuple(part.strip() for part in secrets_given if part.strip()))


def _seal(settings: Settings) -> Seal | None:
    if settings.secret_key is None:
        return None
    try:
        return Seal(settings.secret_key.get_secret_value())
    except WeakKeyError as error:
        raise SettingsError(str(error)) from None
