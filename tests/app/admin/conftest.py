"""The app over real servers, asked in-process; `test_server.py` asks over a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import anyio
import httpx
import pytest

from app.adapters.secrets import Seal
from app.adapters.shopify.tokens import ShopTokens
from app.adapters.shops import Shops
from app.admin.api import create_app
from app.admin.deps import AdminDeps, Health
from app.approving import Approvals
from app.connections import Connections, open_connections
from app.db.grants import Grants
from app.db.merchants import Merchants
from app.db.people import People
from app.db.session import Database, PoolSize
from app.db.shop_limits import PostgresShopLimits
from app.redis_link import ConnectionState
from pipeline.clock import SystemClock
from pipeline.queue.bull import Bull
from tests.app.db.given import Given
from tests.app.held import held
from tests.support import loopback


class Progress:
    """Remembers what was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, str, Any]] = []

    async def tell(self, run_id: str, stage: str, event: str, details: Any) -> None:
        self.told.append((run_id, stage, event, details))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, PoolSize(4))
    yield database
    await database.close()


@pytest.fixture
def given(database: Database) -> Given:
    return Given(database)


@pytest.fixture
async def connections(redis_url: str) -> AsyncIterator[Connections]:
    all_ready = anyio.Event()
    ready: set[str] = set()

    def changed(state: ConnectionState) -> None:
        if state.state == "ready":
            ready.add(state.name)
        if ready == {"commands", "leases", "events"}:
            all_ready.set()

    async with held(open_connections(redis_url, SystemClock(), on_change=changed)) as opened:
        await all_ready.wait()
        yield opened


@pytest.fixture
def bull(connections: Connections) -> Bull:
    return Bull(connections.commands)


@pytest.fixture
async def shops(database: Database) -> AsyncIterator[Shops]:
    """The merchants' shops, as the composition root opens them."""
    async with loopback() as http:
        tokens = ShopTokens(grants_of(database), http, SystemClock(), api_version="2026-10", name="test")
        async with aclosing(tokens):
            yield Shops(http, tokens.credentials, SystemClock())


def grants_of(database: Database) -> Grants:
    return Grants(database, Seal("a secret key for the tests and nothing else"))


def merchants_of(database: Database) -> Merchants:
    return Merchants(database, grants_of(database))


@pytest.fixture
def make_deps(database: Database, bull: Bull, connections: Connections, shops: Shops) -> Callable[..., AdminDeps]:
    async def nobody() -> list[str]:
        return []

    def make(**changed: Any) -> AdminDeps:
        defaults: dict[str, Any] = {
            "database": database,
            "bull": bull,
            "people": People(database),
            "shop_limits": PostgresShopLimits(database),
            "approvals": Approvals(shops, database, People(database), SystemClock()),
            "progress": Progress(),
            "clock": SystemClock(),
            "connections": connections.states,
            "health": lambda: Health(queues=("ai-parsing",)),
            "swept": lambda: None,
            "foreign": nobody,
            "version": "1.2.3",
        }
        return AdminDeps(**(defaults | changed))

    return make


@pytest.fixture
def deps(make_deps: Callable[..., AdminDeps]) -> AdminDeps:
    return make_deps()


@pytest.fixture
async def client(deps: AdminDeps) -> AsyncIterator[httpx.AsyncClient]:
    async with asking(deps) as client:
        yield client


def asking(deps: AdminDeps, base_url: str = "http://localhost:8080") -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(create_app(deps)), base_url=base_url)
