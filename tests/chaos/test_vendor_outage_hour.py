"""The model is away for an hour: no order is dead, none has lost an attempt, and all of them finish.

The adapter is the real one against a real server, and every way of being away has its turn. The hour is handed in:
see `time_machine`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import cycle
from random import Random
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select

from app.core import Core
from app.db.tables import runs, stage_runs
from app.sandbox.server import MODEL_KEY
from app.settings import Settings
from pipeline import flow
from pipeline.runner import AFTERMATH, Runner
from tests.app.adapters.test_model import LINE, NOBODY, said
from tests.app.redis_proxy import Proxy, proxy_to
from tests.chaos.time_machine import pass_time
from tests.chaos.watching import check_nothing_counted, impatient, plain_csv, rows, until
from tests.pipeline.line import open_line
from tests.shop import (
    connect_merchant,
    doubled_results,
    settings_for,
    settled,
    shop_state,
    submit,
    variants_by_sku,
    working,
)
from tests.support import CHAOS_IN_FULL, loopback

ORDERS = 200 if CHAOS_IN_FULL else 12
STEP = timedelta(minutes=10)
HOUR = timedelta(hours=1)
SEED = 20261127
WITHIN_S = 900.0 if CHAOS_IN_FULL else 300.0
AT_ONCE = 20
ASKING = (flow.FIRST, "ai-enrichment")


def letter(number: int) -> tuple[str, dict[str, Any]]:
    """An order in prose, which only a model can read, and what it should say."""
    sku, name, printed = f"LAMP{number}-S", f"Lamp {number}", f"LET-{number:03d}"
    text = (
        f"PURCHASE ORDER\n\nDear Harbor & Pine,\nthis is order {printed} of Juniper Ceramics Co.\n"
        f"We send 10 pieces of {name} small, {sku}, at 4.00 USD each, together 40.00 USD.\n"
    )
    line = {"sku": sku, "description": f"{name} small", "product_name": name, "quantity": "10", "unit_cost": "4.00"}
    order = {
        "kind": "purchase_order",
        "number": printed,
        "order_date": None,
        "currency": "USD",
        "supplier": NOBODY | {"name": "Juniper Ceramics Co."},
        "buyer": NOBODY | {"name": "Harbor & Pine"},
        "lines": [LINE | line | {"line_total": "40.00", "options": []}],
        "subtotal": None,
        "total": "40.00",
    }
    return text, {"contains": f"this is order {printed}", "text": said(**order)}


@dataclass
class Vendor:
    """The sandbox's model behind a line that can be cut: what it says, and in which way it is away."""

    sandbox: str
    line: Proxy
    http: httpx.AsyncClient
    answers: list[dict[str, Any]] = field(default_factory=list)

    async def is_back(self) -> None:
        self.line.refusing = self.line.frozen = False
        self.line.cut()
        await self._say([])
        await self._say([{"text": json.dumps({"lines": []})}, *self.answers])

    async def is_away(self, way: str) -> None:
        await self.is_back()
        match way:
            case "fails":
                await self._say([{"kind": "error", "status": 503}])
            case "throttles":
                await self._say([{"kind": "error", "status": 429, "code": "rate_limit_exceeded", "retry_after_s": 20}])
            case "refuses":
                self.line.refusing = True
            case "hangs":
                self.line.frozen = True
        self.line.cut()

    async def _say(self, answers: list[dict[str, Any]]) -> None:
        (await self.http.post(f"{self.sandbox}/model/answers", json=answers)).raise_for_status()


@pytest.fixture(autouse=True)
def _many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A round in which the vendor hangs costs one time limit, not one per order."""
    for name in ASKING:
        monkeypatch.setitem(flow.BY_NAME, name, replace(flow.BY_NAME[name], concurrency=AT_ONCE))


@asynccontextmanager
async def vendor_at(sandbox: str) -> AsyncIterator[Vendor]:
    async with proxy_to(sandbox) as line, loopback(timeout=10) as http:
        yield Vendor(sandbox, line, http)


def settings_with(vendor: Vendor, redis_url: str, database_url: str) -> Settings:
    return settings_for(
        redis_url,
        database_url,
        vendor.sandbox,
        openai_base_url=vendor.line.url("http") + "/v1",
        openai_api_key=MODEL_KEY,
        model_timeout_seconds=3,
    )


async def submit_orders(core: Core, vendor: Vendor, count: int) -> None:
    """Half of them need the model to be read, half for their words only."""
    for number in range(count):
        if number % 2:
            text, answer = letter(number)
            vendor.answers.append(answer)
            await submit(core, f"letter-{number}.txt", text.encode())
        else:
            await submit(core, f"order-{number}.csv", plain_csv(f"PO-{number}", {f"CUP{number}-S": 10}))


async def all_miss_it(core: Core, count: int) -> None:
    """Wait until every order has asked for the vendor from now on, and missed it."""
    (clock,) = await rows(core, select(func.now().label("now")))
    last = select(func.max(stage_runs.c.ended_at).label("at")).where(stage_runs.c.state == "waited")

    async def they_did() -> bool:
        found = [row["at"] for row in await rows(core, last.group_by(stage_runs.c.run_id))]
        return len(found) == count and min(found) >= clock["now"]

    await until(they_did, within_s=WITHIN_S)


async def waited(core: Core) -> timedelta:
    """Since the first order missed the vendor, by Postgres' clock."""
    since = select((func.now() - func.min(stage_runs.c.ended_at)).label("since")).where(stage_runs.c.state == "waited")
    since_then: timedelta = (await rows(core, since))[0]["since"]
    return since_then


async def test_an_hour_without_the_model_costs_no_order_its_life_or_an_attempt(
    redis_url: str, database_url: str, sandbox: str
) -> None:
    async with vendor_at(sandbox) as vendor:
        await vendor.is_away("fails")
        async with working(settings_with(vendor, redis_url, database_url)) as (core, _):
            await connect_merchant(core, sandbox, enrich=True)
            await submit_orders(core, vendor, ORDERS)
            await all_miss_it(core, ORDERS)
            ways = cycle(("throttles", "refuses", "fails", "hangs", "fails"))
            while (left := HOUR - await waited(core)) > timedelta(0):
                await vendor.is_away(next(ways) if left > STEP else "fails")
                await pass_time(core, min(STEP, left))
                await all_miss_it(core, ORDERS)
            await vendor.is_back()
            async with impatient(core, *ASKING):
                await settled(core, ORDERS, within_s=WITHIN_S)
            await check_nothing_counted(core)
            assert await doubled_results(core) == []
            by_sku = variants_by_sku(await shop_state(sandbox))
            assert {sku: len(variants) for sku, variants in by_sku.items()} == dict.fromkeys(_skus(), 1)


def _skus() -> list[str]:
    return [f"{'LAMP' if number % 2 else 'CUP'}{number}-S" for number in range(ORDERS)]


async def test_an_outage_longer_than_patience_ends_in_just_that_reason(
    redis_url: str, database_url: str, sandbox: str
) -> None:
    async with vendor_at(sandbox) as vendor:
        await vendor.is_away("fails")
        async with working(settings_with(vendor, redis_url, database_url)) as (core, _):
            await connect_merchant(core, sandbox, enrich=True)
            await submit_orders(core, vendor, 2)
            await all_miss_it(core, 2)
            await pass_time(core, HOUR)
            await all_miss_it(core, 2)
            await pass_time(core, AFTERMATH)
            await settled(core, 2)
            found = await rows(core, select(runs.c.state, runs.c.failed_stage, runs.c.failure_code, runs.c.failure))
            assert {row["failed_stage"] for row in found} == {flow.FIRST, "ai-enrichment"}
            for row in found:
                assert (row["state"], row["failure_code"]) == ("failed", "vendor_unavailable")
                assert row["failure"].startswith("the model's vendor answered HTTP 503 (waited 1:05:")


async def test_an_order_asks_a_vendor_that_is_away_about_twice_a_minute(redis_url: str, database_url: str) -> None:
    """So the outage of an hour costs some 110 calls an order, and the rate limit bounds what all of them cost."""
    async with open_line(redis_url, database_url) as line:
        line.runner._random = Random(SEED).random
        asked = [_asks_within(line.runner, HOUR) for _ in range(100)]
    assert min(asked) >= 80
    assert max(asked) <= 150


def _asks_within(runner: Runner, limit: timedelta) -> int:
    asks, passed_s = 0, 0.0
    while passed_s < limit.total_seconds():
        asks += 1
        passed_s += runner._wait_s(asks)
    return asks
