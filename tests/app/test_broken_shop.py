"""One shop breaks: its orders wait and nothing is counted, it is hardly called, and other shops' orders pass."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import anyio
import pytest
from sqlalchemy import func, select

from app.adapters.shopify import circuit
from app.adapters.shopify.circuit import FAILURES_MAX
from app.core import Core
from app.db import views
from app.db.grants import StaticToken
from app.db.shop_views import list_waiting
from app.db.tables import stage_runs
from app.db.uploads import create_upload
from app.enqueue import enqueue_upload, try_promote
from app.sandbox.server import run_sandbox
from app.sandbox.state import Settings, new_shop
from pipeline import flow
from pipeline.domain.merchant import Merchant, MerchantSettings
from tests.app.held import held
from tests.shop import ENOUGH_S, articles, csv_of, settings_for, working
from tests.support import eventually, loopback

BROKEN, WELL = "broken", "well"
ORDERS = 8
TOKEN = "shpat_of-the-broken-shop"


def domain(merchant: str) -> str:
    return f"{merchant}.sandbox"


@pytest.fixture
async def sandbox() -> AsyncIterator[str]:
    quick = Settings(processing_s=0.05)
    async with run_sandbox(shops=[new_shop(domain(one), TOKEN, settings=quick) for one in (BROKEN, WELL)]) as address:
        yield address


@pytest.fixture
async def core(redis_url: str, database_url: str, sandbox: str) -> AsyncIterator[Core]:
    settings = settings_for(redis_url, database_url, sandbox)
    async with held(working(settings)) as (core, _worker):
        await connect(core, sandbox)
        yield core


async def connect(core: Core, sandbox: str) -> None:
    rules = MerchantSettings(auto_approve=True, image_hosts=("images.example",))
    for one in (BROKEN, WELL):
        await core.merchants.add(
            Merchant(id=one, name=one, shop_domain=domain(one), settings=rules),
            endpoint=f"{sandbox}/shops/{domain(one)}/admin/api/2026-10/graphql.json",
            access=StaticToken(TOKEN),
        )


async def break_shop(sandbox: str, kind: str, *, seconds: float = 0.0) -> None:
    fault = [{"kind": kind, "count": 10_000, "seconds": seconds}] if kind else []
    async with loopback() as http:
        (await http.post(f"{sandbox}/shops/{domain(BROKEN)}/faults", json=fault)).raise_for_status()


async def faults_met(sandbox: str) -> int:
    async with loopback() as http:
        state = (await http.get(f"{sandbox}/shops/{domain(BROKEN)}/meter")).json()
    return int(state["faults_met"])


async def send(core: Core, merchant: str, orders: range) -> None:
    for number in orders:
        content = csv_of(f"PO-{number}", articles(number))
        name = f"{merchant}-{number}.csv"
        upload = await create_upload(
            core.database, merchant_id=merchant, name=name, mime="text/csv", content=content, at=datetime.now(UTC)
        )
        await enqueue_upload(core.bull, upload)


async def are(
    core: Core, merchant: str, *, stage: str | None, summary: str = "", count: int = ORDERS
) -> list[views.RunRow]:
    """Wait until all that merchant's runs are there."""
    with anyio.fail_after(ENOUGH_S):
        while True:
            rows = await views.list_runs(core.database, merchant_id=merchant)
            if len(rows) == count and all(row.stage == stage and summary in row.summary for row in rows):
                return rows
            await anyio.sleep(0.1)


async def attempts(core: Core, state: str) -> int:
    async with core.database.transaction() as connection:
        found = select(func.count()).where(stage_runs.c.stage == flow.SYNC, stage_runs.c.state == state)
        return int(await connection.scalar(found) or 0)


@pytest.mark.parametrize(
    ("kind", "says", "parked"),
    [("http_502", "HTTP 502", False), ("unauthorized", "connect the shop again", True)],
)
async def test_others_pass_while_a_broken_shops_orders_wait(
    core: Core, sandbox: str, kind: str, says: str, parked: bool
) -> None:
    await break_shop(sandbox, kind)
    await send(core, BROKEN, range(ORDERS))
    await send(core, WELL, range(100, 100 + ORDERS))

    assert {row.state for row in await are(core, WELL, stage=None)} == {"completed"}
    waiting = await are(core, BROKEN, stage=flow.SYNC, summary=says)
    assert {row.state for row in waiting} == {"running"}
    assert await attempts(core, "failed") == 0
    # The last of the failures that trip it may have company in the other slots of the stage.
    at_once = flow.BY_NAME[flow.SYNC].concurrency
    assert await faults_met(sandbox) <= (1 if parked else FAILURES_MAX) + at_once - 1
    [shop] = (await views.totals(core.database)).shops
    assert (shop.merchant_id, shop.parked, shop.waiting) == (BROKEN, parked, ORDERS)

    await break_shop(sandbox, "")
    assert await core.shop_limits.unpark(BROKEN, "ann")
    await try_promote(core.bull, await list_waiting(core.database, BROKEN))
    assert {row.state for row in await are(core, BROKEN, stage=None)} == {"completed"}
    assert await attempts(core, "failed") == 0


async def test_a_shop_that_hangs_leaves_a_slot_to_others(
    monkeypatch: pytest.MonkeyPatch, redis_url: str, database_url: str, sandbox: str
) -> None:
    """As long as nobody knows that it does: its calls are not even cut off while the other's order passes."""
    monkeypatch.setattr(circuit, "CALL_S", 2 * ENOUGH_S)
    monkeypatch.setattr(circuit, "CROWDED_S", 2 * ENOUGH_S)
    settings = settings_for(
        redis_url, database_url, sandbox, shop_open_runs=flow.SHOP_SHARE, shutdown_grace_seconds=0.1
    )
    async with working(settings) as (core, _worker):
        await connect(core, sandbox)
        await break_shop(sandbox, "hang", seconds=2 * ENOUGH_S)
        await send(core, BROKEN, range(ORDERS))
        await eventually(lambda: hanging(sandbox, flow.SHOP_SHARE))
        await send(core, WELL, range(100, 101))
        assert [row.state for row in await are(core, WELL, stage=None, count=1)] == ["completed"]
        assert await faults_met(sandbox) == flow.SHOP_SHARE


async def hanging(sandbox: str, calls: int) -> bool:
    return await faults_met(sandbox) >= calls
