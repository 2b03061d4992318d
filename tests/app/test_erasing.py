"""shop/redact: of the shop nothing is left, of all others everything, and whoever works on it stops."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest
import redis
from sqlalchemy import func, select, update

from app.adapters.shopify.webhooks import REDACT_SHOP, Delivery
from app.core import Core
from app.db import views
from app.db.erasure import NOBODYS, owned
from app.db.grants import ClientCredentials, StaticToken
from app.db.tables import audit, metadata, runs, webhook_events
from app.db.uploads import create_upload
from app.enqueue import enqueue_next, enqueue_upload
from app.sandbox.server import run_sandbox
from app.webhook_inbox import WebhookInbox
from pipeline import flow
from pipeline.domain.merchant import Merchant, MerchantSettings
from pipeline.queue.job import NewJob
from tests.shop import articles, csv_of, settings_for, working
from tests.support import loopback

ERASED = ("shop-canary-1", "canary-and-co.myshopify.com")
KEPT = ("shop-kept-2", "kept.myshopify.com")
TOKEN = "shpat_x"


@pytest.fixture
async def sandbox() -> AsyncIterator[str]:
    async with run_sandbox() as address:
        async with loopback() as http:
            for _, domain in (ERASED, KEPT):
                wanted = {"domain": domain, "token": TOKEN, "client_id": "a", "client_secrets": ["canary-secret"]}
                await http.post(f"{address}/shops", json=wanted | {"settings": {"processing_s": 0.05}})
        yield address


async def connect(core: Core, sandbox: str, shop: tuple[str, str], *, approve: bool = True) -> None:
    merchant_id, domain = shop
    rules = MerchantSettings(auto_approve=approve, image_hosts=("images.example",), names=(f"Owner of {domain}",))
    await core.merchants.add(
        Merchant(id=merchant_id, name=f"Owner of {domain}", shop_domain=domain, settings=rules),
        endpoint=f"{sandbox}/shops/{domain}/admin/api/2026-10/graphql.json",
        access=StaticToken(TOKEN) if shop is KEPT else ClientCredentials("a", "canary-secret"),
    )


async def submit(core: Core, shop: tuple[str, str], name: str, content: bytes) -> str:
    upload = await create_upload(
        core.database, merchant_id=shop[0], name=f"{name}-{shop[0]}.csv", mime="text/csv", content=content,
        at=datetime.now(UTC),
    )  # fmt: skip
    await enqueue_upload(core.bull, upload)
    return upload.first.run_id


async def settled(core: Core, count: int) -> list[views.RunRow]:
    rows: list[views.RunRow] = []
    with anyio.move_on_after(60):
        while True:
            rows = await views.list_runs(core.database, limit=200)
            if len(rows) >= count and all(row.stage is None for row in rows):
                return rows
            await anyio.sleep(0.05)
    raise AssertionError([(row.kind, row.state, row.stage, row.failure or row.summary) for row in rows])


def inbox_of(core: Core) -> WebhookInbox:
    return WebhookInbox(core.database, core.bull, core.connections.commands, core.clock)


async def redact(core: Core, *, at: datetime | None = None) -> None:
    """What Shopify sends two days after the app was uninstalled."""
    delivery = Delivery(ERASED[1], REDACT_SHOP, "w-redact", at or datetime.now(UTC) + timedelta(days=2))
    await inbox_of(core).keep(delivery, ERASED[0], {"shop_id": 1, "shop_domain": ERASED[1]})


async def due_now(core: Core) -> None:
    async with core.database.transaction() as connection:
        await connection.execute(update(webhook_events).values(due_at=func.now()))


async def test_of_an_erased_shop_nothing_is_left_anywhere_and_of_the_others_everything(
    sandbox: str,
    redis_url: str,
    database_url: str,
    redis_admin: redis.Redis,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    async with working(settings_for(redis_url, database_url, sandbox)) as (core, _):
        for shop in (ERASED, KEPT):
            await connect(core, sandbox, shop)
            for number in range(2):
                await submit(core, shop, f"po-{number}", csv_of(f"PO-10{number}", articles(number)))
            await submit(core, shop, "broken", b"\x00\x01 this is no order")
        for row in [one for one in await settled(core, 6) if one.state == "completed"]:
            _, job = await core.people.receive(str(row.order_id), "ann", "all")
            await enqueue_next(core.bull, job)
        await settled(core, 10)
        await connect(core, sandbox, ERASED, approve=False)
        waiting = await submit(core, ERASED, "po-3", csv_of("PO-103", articles(3)))
        await settled(core, 11)
        await core.people.pause_queue("image-attachment", "ann")
        await core.bull.pause("image-attachment")
        await enqueue_next(core.bull, await core.people.approve(waiting, "ann"))
        await core.bull.enqueue("ai-parsing", NewJob("upstreams-77", _upstream(ERASED[0]), delay_ms=3_600_000))

        canaries = await names(core, ERASED)
        before = await rows_of(database_url, await names(core, KEPT))
        assert len(found(redis_admin, canaries)) > 20
        assert len(await rows_of(database_url, canaries)) > 60
        await redact(core)
        while await inbox_of(core).run_once():
            await due_now(core)
        assert await rows_of(database_url, canaries) == []
        assert found(redis_admin, canaries) == []
        assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240  an empty directory
        assert await rows_of(database_url, await names(core, KEPT)) == before
        async with core.database.transaction() as connection:
            [note] = (await connection.execute(select(audit).where(audit.c.action == "erase a shop"))).all()
        assert (note.who, note.details["cause"]) == ("Shopify", "shop/redact w-redact")
        assert note.details["rows"]["documents"] == 4
        await core.people.resume_queue("image-attachment", "ann")
        await core.bull.resume("image-attachment")
        assert (await core.merchants.get(KEPT[0])).shop_domain == KEPT[1]


async def test_whoever_works_on_the_shop_loses_its_lease_and_writes_nothing(
    sandbox: str, redis_url: str, database_url: str, redis_admin: redis.Redis
) -> None:
    async with working(settings_for(redis_url, database_url, sandbox)) as (core, _):
        await connect(core, sandbox, ERASED)
        async with loopback() as http:
            fault = {"operation": "productSet", "kind": "slow", "seconds": 1.5}
            await http.post(f"{sandbox}/shops/{ERASED[1]}/faults", json=fault)
        await submit(core, ERASED, "po-1", csv_of("PO-1", articles(1)))
        await until_active(core, flow.SYNC)
        canaries = await names(core, ERASED)
        await redact(core)
        assert await inbox_of(core).run_once() == 1
        async with core.database.transaction() as connection:
            event = (await connection.execute(select(webhook_events))).one()
            [run] = (await connection.execute(select(runs.c.state, runs.c.due_stage))).all()
        assert (event.state, event.note) == ("waiting", "waits until nobody works on this shop's orders")
        assert tuple(run) == ("cancelled", None)
        with anyio.fail_after(30):
            while await rows_of(database_url, canaries):
                await due_now(core)
                await inbox_of(core).run_once()
                await anyio.sleep(0.1)
        await anyio.sleep(0.5)  # for whatever the worker might still write
        assert found(redis_admin, canaries) == []
        assert await rows_of(database_url, canaries) == []


async def test_a_shop_that_was_connected_again_is_not_erased_by_a_late_message(
    sandbox: str, redis_url: str, database_url: str
) -> None:
    async with working(settings_for(redis_url, database_url, sandbox)) as (core, _):
        await connect(core, sandbox, ERASED)
        await redact(core, at=datetime.now(UTC) - timedelta(minutes=1))
        await inbox_of(core).run_once()
        async with core.database.transaction() as connection:
            event = (await connection.execute(select(webhook_events))).one()
        assert (event.state, "connected again since" in event.note) == ("stale", True)
        assert (await core.merchants.get(ERASED[0])).shop_domain == ERASED[1]


@pytest.mark.parametrize("table", metadata.sorted_tables, ids=lambda table: table.name)
def test_every_table_says_whose_its_rows_are(table: Any) -> None:
    """A new one that does not would survive its shop."""
    assert (owned(table, "m1") is not None) != (table in NOBODYS)


def _upstream(merchant_id: str) -> str:
    return f'{{"stage":"ai_parsing","workflowId":"wf-x","data":{{"merchantId":"{merchant_id}","uploadId":"u-canary"}}}}'


async def until_active(core: Core, queue: str) -> None:
    with anyio.fail_after(30):
        while (await core.bull.counts(queue)).active == 0:
            await anyio.sleep(0.02)
        await anyio.sleep(0.3)


async def names(core: Core, shop: tuple[str, str]) -> list[str]:
    """Everything by which a shop could be recognised in what is left."""
    async with core.database.transaction() as connection:
        rows = (await connection.execute(select(runs).where(runs.c.merchant_id == shop[0]))).all()
    ids = {getattr(row, name) for row in rows for name in ("id", "workflow_id", "upload_id", "order_id", "receipt_id")}
    return [*shop, *(one for one in ids if one), *(["canary"] if shop is ERASED else [])]


def found(raw: redis.Redis, canaries: Iterable[str]) -> list[str]:
    told = [f"{key} {_value(raw, key)}" for key in raw.scan_iter(count=1000)]
    return [text for text in told if any(one in text for one in canaries)]


def _value(raw: redis.Redis, key: str) -> Any:
    match raw.type(key):
        case "string":
            return raw.get(key)
        case "hash":
            return raw.hgetall(key)
        case "list":
            return raw.lrange(key, 0, -1)
        case "set":
            return raw.smembers(key)
        case "zset":
            return raw.zrange(key, 0, -1)
    return ""


async def rows_of(url: str, canaries: list[str]) -> list[str]:
    """Every row of every table there is, whatever it is called, that holds one of these; bytes are read as well."""
    connection = await asyncpg.connect(url)
    forms = [*canaries, *(one.encode().hex() for one in canaries)]
    try:
        rows = []
        for (table,) in await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'po'"):
            told = await connection.fetch(f'SELECT t::text FROM po."{table}" t')
            rows += [f"{table} {text}" for (text,) in told if any(one in text for one in forms)]
        return sorted(rows)
    finally:
        await connection.close()
