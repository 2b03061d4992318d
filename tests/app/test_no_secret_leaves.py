"""Whatever goes wrong, what opens a shop stands sealed in two columns and nowhere else."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from typing import Any

import asyncpg
import httpx
import pytest
import redis
from structlog.testing import capture_logs

from app.adapters.shopify import limits, tokens
from app.admin.api import create_app
from app.admin.deps import AdminDeps, Health
from app.admin.metrics import Metrics
from app.approving import open_approvals
from app.core import Core
from app.db.grants import Access, ClientCredentials, OfflineToken, StaticToken
from app.sandbox.server import run_sandbox
from app.settings import Settings, redacted
from pipeline import flow
from pipeline.domain.merchant import Merchant, MerchantSettings
from pipeline.ports import Progress
from pipeline.shopkeeping import pictures
from tests.chaos.watching import impatient
from tests.shop import DOMAIN, MERCHANT, TOKEN, articles, csv_of, settings_for, submit, working
from tests.support import loopback

SECRET = "shpss_5ecret-canary"
ADMIN_TOKEN = "admin-token-canary"
APP_SECRET = "shpss_of-the-app-canary"

FAULTS: tuple[tuple[str, str], ...] = (
    ("accessToken", "http_500"),
    ("accessToken", "http_429"),
    ("accessToken", "timeout_after_success"),
    ("shop", "unauthorized"),
    ("shop", "http_500"),
    ("productSet", "timeout_after_success"),
    ("productSet", "error_502_after_success"),
    ("inventoryAdjustQuantities", "throttled"),
    ("*", "http_429"),
)


@pytest.fixture
async def sandbox() -> AsyncIterator[str]:
    async with run_sandbox() as address:
        yield address


async def opened(sandbox: str, http: httpx.AsyncClient) -> None:
    wanted = {"domain": DOMAIN, "token": TOKEN, "client_id": "app-1", "client_secrets": [SECRET, APP_SECRET]}
    (await http.post(f"{sandbox}/shops", json=wanted | {"settings": {"processing_s": 0.05}})).raise_for_status()


async def connect(core: Core, sandbox: str, access: Access) -> None:
    rules = MerchantSettings(auto_approve=True, image_hosts=("images.example",), names=("Harbor & Pine",))
    await core.merchants.add(
        Merchant(id=MERCHANT, name="Harbor & Pine", shop_domain=DOMAIN, settings=rules),
        endpoint=f"{sandbox}/shops/{DOMAIN}/admin/api/2026-10/graphql.json",
        access=access,
    )


async def test_no_failure_of_any_kind_shows_what_opens_a_shop(
    sandbox: str,
    redis_url: str,
    database_url: str,
    redis_admin: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(tokens, "QUIET_IF_SPENT", timedelta(seconds=0.1))
    monkeypatch.setattr(limits, "COOL_DOWN_S", 0.1)
    monkeypatch.setattr(limits, "PROBE_S", 0.1)
    monkeypatch.setattr(pictures, "UNDER_WAY_S", 1.0)  # nothing is carried out here after its caller has gone
    settings = settings_for(
        redis_url,
        database_url,
        sandbox,
        admin_token=ADMIN_TOKEN,
        shopify_client_id="app-1",
        shopify_client_secret=APP_SECRET,
    )
    secrets = {SECRET, APP_SECRET, ADMIN_TOKEN, settings.secret_key.get_secret_value()}  # type: ignore[union-attr]
    said: list[str] = []
    async with loopback() as http:
        await opened(sandbox, http)
        installed = (await http.post(f"{sandbox}/shops/{DOMAIN}/install")).json()
        ways: tuple[Access, ...] = (
            ClientCredentials("app-1", SECRET),
            OfflineToken(installed["refresh_token"], installed["access_token"], 1.0),
            StaticToken("shpat_never-known-canary", SECRET),
            ClientCredentials("app-1", "shpss_never-known-canary"),
        )
        secrets |= {installed["refresh_token"], installed["access_token"], "never-known-canary"}
        with capture_logs() as logs:
            async with working(settings) as (core, _), impatient(core, *flow.NAMES):
                for orders, access in enumerate(ways):
                    await connect(core, sandbox, access)
                    for operation, kind in FAULTS:
                        fault = {"operation": operation, "kind": kind, "seconds": 0.05}
                        await http.post(f"{sandbox}/shops/{DOMAIN}/faults", json=fault)
                    await submit(core, f"order-{orders}.csv", csv_of(f"PO-{orders}", articles(orders)))
                    await moved(core, orders + 1)
                    held = await core.grants.held(MERCHANT)
                    secrets |= {held.token} if held is not None and held.token else set()
                said += [text async for text in asked(core, settings)]
        said += [_logged(event) for event in logs]
    said += [record.getMessage() + _trace(record.exc_info) for record in caplog.records]
    said += [*capfd.readouterr(), json.dumps(redacted(settings), default=str), repr(settings)]
    in_redis = list(_in_redis(redis_admin))
    in_postgres = [row async for row in _in_postgres(database_url)]
    assert len(in_redis) > 10
    assert len(in_postgres) > 50
    assert len(logs) > 5
    assert any("token" in text for text in said), "the failures were about tokens"
    for secret in secrets:
        forms = (secret, secret.encode().hex())
        assert not [text for text in (*said, *in_redis, *in_postgres) if any(form in text for form in forms)]
    assert len(secrets) > 8


async def moved(core: Core, orders: int) -> None:
    """Wait until nothing moves that could; what waits for a person to connect the shop does not."""
    from app.db import views

    for _ in range(1200):
        rows = await views.list_runs(core.database, limit=50)
        if len(rows) == orders and all(row.stage is None for row in rows):
            return
        if len(rows) == orders and (await core.shop_limits.admit(MERCHANT)).parked:
            return
        await core.clock.sleep(0.05)
    raise AssertionError([(row.state, row.stage, row.summary, row.failure) for row in rows])


async def asked(core: Core, settings: Settings) -> AsyncIterator[str]:
    """What the endpoints say about all of it."""

    class Silent(Progress):
        async def tell(self, *_given: Any) -> None:
            pass

    async def nobody() -> list[str]:
        return []

    async with open_approvals(core) as approvals:
        deps = AdminDeps(
            database=core.database,
            bull=core.bull,
            people=core.people,
            shop_limits=core.shop_limits,
            approvals=approvals,
            progress=Silent(),
            clock=core.clock,
            connections=core.connections.states,
            health=lambda: Health(queues=("ai-parsing",)),
            swept=lambda: None,
            foreign=nobody,
            version="1",
            token=ADMIN_TOKEN,
            metrics=Metrics(),
        )
        transport = httpx.ASGITransport(create_app(deps))
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8080", headers=headers) as http:
            orders = (await http.get("/api/orders")).json()["orders"]
            paths = [f"/api/orders/{row['run_id']}" for row in orders]
            fixed = ("/api/orders", "/api/merchants", "/api/queue-admin/status", "/api/queue-admin/failed-jobs")
            for path in (*fixed, *paths, "/ready", "/metrics", "/api/openapi.json"):
                answer = await http.get(path)
                assert answer.status_code in {200, 503}, (path, answer.text)
                yield answer.text


def _logged(event: Any) -> str:
    return f"{event!r}{_trace(event.get('exc_info'))}"


def _trace(exc_info: Any) -> str:
    error = exc_info[1] if isinstance(exc_info, tuple) else exc_info
    return "".join(traceback.format_exception(error)) if isinstance(error, BaseException) else ""


def _in_redis(raw: redis.Redis) -> Iterable[str]:
    for key in raw.scan_iter(count=1000):
        match raw.type(key):
            case "string":
                yield f"{key} {raw.get(key)}"
            case "hash":
                yield f"{key} {raw.hgetall(key)}"
            case "list":
                yield f"{key} {raw.lrange(key, 0, -1)}"
            case "set":
                yield f"{key} {raw.smembers(key)}"
            case _:
                yield f"{key} {raw.zrange(key, 0, -1)}"


async def _in_postgres(url: str) -> AsyncIterator[str]:
    connection = await asyncpg.connect(url)
    try:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'po'")
        for (table,) in tables:
            for (row,) in await connection.fetch(f'SELECT t::text FROM po."{table}" t'):
                yield row
    finally:
        await connection.close()
