"""Dying at every gap of stage 9 while the merchant works on: products, variants, metafields are those of one run."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
from sqlalchemy import select, update
from stdnum import ean

from app.core import Core, open_core
from app.db.tables import effects, runs
from app.enqueue import enqueue_next
from pipeline import flow
from pipeline.contract import Done
from pipeline.errors import VendorUnavailable
from pipeline.shopkeeping import bulk
from tests.chaos.stage_alone import Died, DiesOncePerEffect, attempt, finish
from tests.chaos.watching import all_due_at, order_faults, rows, run_of, until
from tests.conftest import DatabaseAdmin
from tests.shop import DOMAIN, TOKEN, connect_merchant, settings_for, settled, shop_state, submit, working
from tests.support import CHAOS_IN_FULL, loopback

KILLS = 200 if CHAOS_IN_FULL else 6
"""Per gap. An order has six effects on the shop, so it dies six times."""

HEAD = "PO Number,Supplier,Currency,PO Total,SKU,EAN,Product,Size,Qty,Unit Cost,Line Total"
MUTATIONS = (
    "productSet",
    "productSet",
    "metafieldsSet",
    "productVariantsBulkCreate",
    "productVariantsBulkCreate",
    "inventoryAdjustQuantities",
)
"""What one order sends: two new products, a link, variants for two existing ones, the announcement."""


def gtin_of(number: int) -> str:
    body = f"40000000{number:04}"
    return body + ean.calc_check_digit(body)


def csv(number: str, lines: list[tuple[str, str, str, str, int]]) -> bytes:
    """Lines are (SKU, GTIN, product, size, units), four a piece."""
    total = sum(units for *_, units in lines) * 4
    text = [HEAD]
    for at, (sku, gtin, product, size, units) in enumerate(lines):
        head = f"{number},Juniper Ceramics Co.,USD,{total}.00" if at == 0 else ",,,"
        text.append(f"{head},{sku},{gtin},{product},{size},{units},4.00,{units * 4}.00")
    return "\n".join(text).encode()


def earlier(n: int) -> bytes:
    """An order of weeks ago: made the dish in one size."""
    return csv(f"OLD-{n}", [(f"DISH{n}-S", "", f"Dish {n}", "S", 1)])


def order(n: int, units: int = 3) -> bytes:
    """Two new products, one the merchant has (by GTIN, a size is missing), one of ours that gets another size."""
    return csv(
        f"PO-{n}",
        [
            (f"CUP{n}-S", "", f"Cup {n}", "S", units),
            (f"CUP{n}-M", "", f"Cup {n}", "M", units),
            (f"JUG{n}-S", "", f"Jug {n}", "S", units),
            (f"BOWL{n}-S", gtin_of(n), f"Bowl {n}", "S", units),
            (f"BOWL{n}-M", "", f"Bowl {n}", "M", units),
            (f"DISH{n}-S", "", f"Dish {n}", "S", units),
            (f"DISH{n}-M", "", f"Dish {n}", "M", units),
        ],
    )


LATER = [("TRAY-S", "", "Tray", "S", 3), ("DISH0-L", "", "Dish 0", "L", 3)]
"""One more new product, one more size of a known one."""


@dataclass(frozen=True)
class Backup:
    """A copy of the whole database, taken and put back by the server itself, while nobody is connected."""

    server_url: str
    name: str

    async def take(self) -> None:
        await self._do(f"CREATE DATABASE {self.name}_backup TEMPLATE {self.name}")

    async def restore(self) -> None:
        await self._do(f"DROP DATABASE {self.name} WITH (FORCE)")
        await self._do(f"ALTER DATABASE {self.name}_backup RENAME TO {self.name}")

    async def _do(self, statement: str) -> None:
        connection = await asyncpg.connect(self.server_url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@dataclass
class Merchant:
    """Edits some product after each death; knows what must still stand at the end."""

    sandbox: str
    http: httpx.AsyncClient
    dice: random.Random = field(default_factory=lambda: random.Random(4))
    titles: dict[str, str] = field(default_factory=dict)
    extra: dict[str, str] = field(default_factory=dict)

    async def edit(self, do: str, **given: Any) -> str:
        response = await self.http.post(f"{self.sandbox}/shops/{DOMAIN}/edits", json={"do": do, **given})
        response.raise_for_status()
        return str(response.json()["ids"][0])

    async def works_on(self) -> None:
        """Renames a product that is there, and sometimes gives one a metafield."""
        products = (await shop_state(self.sandbox))["products"]
        product = self.dice.choice(products)
        title = f"{product['title'].rstrip('!')}!{'!' * self.dice.randrange(3)}"
        await self.edit("edit_product", product_id=product["id"], changes={"title": title, "tags": ["mine"]})
        self.titles[product["id"]] = title
        if self.dice.random() < 0.3:
            value = str(self.dice.random())
            await self.edit("set_metafield", owner_id=product["id"], namespace="custom", key="note", value=value)
            self.extra[product["id"]] = value

    async def check(self) -> None:
        """Every word of theirs still stands."""
        products = {one["id"]: one for one in (await shop_state(self.sandbox))["products"]}
        assert {name: products[name]["title"] for name in self.titles} == self.titles
        assert {name: products[name]["metafields"]["custom.note"] for name in self.extra} == self.extra
        assert all(products[name]["tags"] == ["mine"] for name in self.titles)


@dataclass(frozen=True)
class Place:
    """Where a test's servers are."""

    redis_url: str
    database_url: str
    sandbox: str

    @asynccontextmanager
    async def open(self) -> AsyncIterator[tuple[Core, Merchant]]:
        """The service and the merchant. Points without end: how fast is another file's question."""
        async with loopback() as http:
            settings = {"bucket_size": 1e9, "restore_rate": 1e6, "processing_s": 0.01}
            body = {"domain": DOMAIN, "token": TOKEN, "settings": settings}
            (await http.post(f"{self.sandbox}/shops", json=body)).raise_for_status()
            async with open_core(settings_for(self.redis_url, self.database_url, self.sandbox)) as core:
                await connect_merchant(core, self.sandbox)
                yield core, Merchant(self.sandbox, http)


@pytest.fixture
def place(redis_url: str, database_url: str, sandbox: str) -> Place:
    return Place(redis_url, database_url, sandbox)


async def due_at_the_shop(core: Core, merchant: Merchant, count: int) -> list[str]:
    """Orders that wait for stage 9; what they meet in the shop is there. Returns their runs."""
    for n in range(count):
        await submit(core, f"old-{n}.csv", earlier(n))
        bowl = {"options": {"Size": "S"}, "sku": f"own-{n}", "barcode": gtin_of(n), "price": "70.00"}
        await merchant.edit("add_product", title=f"Schale {n}", vendor="Harbor", variants=[bowl])
    async with working(core.settings):
        await settled(core, count)
    before = core.settings.model_copy(update={"stages": ",".join(flow.NAMES[: flow.NAMES.index(flow.SYNC)])})
    async with working(before):
        uploads = [await submit(core, f"order-{n}.csv", order(n)) for n in range(count)]
        await all_due_at(core, flow.SYNC, count)
    return [str((await run_of(core, upload))["id"]) for upload in uploads]


async def check_as_of_one_run(core: Core, merchant: Merchant, count: int, *, later: bool = False) -> None:
    """Each product and variant once, each link once, each mutation sent once, each edit of the merchant's there.

    `later`: and the same of the order that came after it.
    """
    await merchant.check()
    state = await shop_state(merchant.sandbox)
    variants = {(p["id"], v["sku"]): v for p in state["products"] for v in p["variants"]}
    skus = sorted(sku for _, sku in variants)
    wanted = ("CUP{}-S", "CUP{}-M", "JUG{}-S", "DISH{}-S", "DISH{}-M", "BOWL{}-M", "own-{}")
    extra = [sku for sku, *_ in LATER] if later else []
    assert skus == sorted([*(sku.format(n) for n in range(count) for sku in wanted), *extra])
    assert (len(state["products"]), state["products_created"]) == (4 * count + later, 3 * count + later)
    links = [product["metafields"]["po_pipeline.draft_id"] for product in state["products"]]
    assert len(set(links)) == 4 * count + later
    calls = state["calls"]
    assert calls["productSet"] == 3 * count + later  # the dish of the earlier order among them
    assert calls["productVariantsBulkCreate"] == 2 * count + later
    incoming = {sku: variant["quantities"]["incoming"] for (_, sku), variant in variants.items()}
    assert {sku: units for sku, units in incoming.items() if units != 3} == {f"DISH{n}-S": 4 for n in range(count)}
    bowls = [product for product in state["products"] if product["vendor"] == "Harbor"]
    assert {(one["variants"][0]["price"], one["status"]) for one in bowls} == {("70.00", "ACTIVE")}
    found = await rows(core, select(effects.c.key).where(effects.c.state != "confirmed"))
    assert found == []


@pytest.mark.parametrize("gap", ["intent", "vendor-call", "confirm"])
async def test_dying_at_a_gap_of_every_effect_leaves_what_one_run_leaves(gap: str, place: Place) -> None:
    """Intent written and nothing sent; answered and not confirmed; confirmed and nothing after it."""
    async with place.open() as (core, merchant):
        count = -(-KILLS // len(MUTATIONS))
        kills = 0
        for run_id in await due_at_the_shop(core, merchant, count):
            doom = DiesOncePerEffect(gap)
            while True:
                try:
                    await attempt(core, run_id, doom)
                except Died:
                    kills += 1
                    await merchant.works_on()
                    continue
                break
            assert len(doom.killed) == len(MUTATIONS)
            assert isinstance(await finish(core, run_id), Done)
        assert kills >= KILLS
        async with working(core.settings):
            await settled(core, 2 * count)
        await check_as_of_one_run(core, merchant, count)


@pytest.mark.parametrize("kind", ["timeout_after_success", "error_502_after_success"])
async def test_a_lost_response_is_asked_after_never_sent_again(kind: str, place: Place) -> None:
    """The shop has done it and nobody heard; the process dies with what it was about to think of it."""
    async with place.open() as (core, merchant):
        count = -(-KILLS // len(MUTATIONS))
        kills = 0
        for run_id in await due_at_the_shop(core, merchant, count):
            for mutation in MUTATIONS:
                await order_faults(merchant.sandbox, [{"operation": mutation, "kind": kind}])
                with pytest.raises(VendorUnavailable):
                    await attempt(core, run_id)
                kills += 1
                await merchant.works_on()
            assert isinstance(await finish(core, run_id), Done)
        assert kills >= KILLS
        async with working(core.settings):
            await settled(core, 2 * count)
        await check_as_of_one_run(core, merchant, count)


async def test_a_request_that_lands_after_its_sender_died_is_found_and_not_repeated(place: Place) -> None:
    """The process dies with the request on the wire; the shop takes its time and does it all the same."""
    async with place.open() as (core, merchant):
        count = -(-KILLS // len(MUTATIONS))
        kills = 0
        for run_id in await due_at_the_shop(core, merchant, count):
            for mutation in MUTATIONS:
                landed_before = (await shop_state(merchant.sandbox))["calls"].get(mutation, 0)
                await order_faults(merchant.sandbox, [{"operation": mutation, "kind": "slow", "seconds": 0.05}])
                await _die_on_the_wire(core, run_id)

                async def landed(mutation: str = mutation, before: int = landed_before) -> bool:
                    return int((await shop_state(merchant.sandbox))["calls"].get(mutation, 0)) > before

                await until(landed, every_s=0.01)
                kills += 1
                await merchant.works_on()
            assert isinstance(await finish(core, run_id), Done)
        assert kills >= KILLS
        async with working(core.settings):
            await settled(core, 2 * count)
        await check_as_of_one_run(core, merchant, count)


async def _die_on_the_wire(core: Core, run_id: str) -> None:
    """Cut the attempt off as soon as its next mutation is out: all earlier ones are confirmed by now."""
    sent = asyncio.Event()
    task = asyncio.create_task(attempt(core, run_id, on_send=sent.set))
    await asyncio.wait_for(sent.wait(), timeout=30)
    await asyncio.sleep(0.02)  # from the hook to the socket; the shop answers no sooner than after 0.05 s
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("gap", ["intent", "vendor-call", "confirm"])
async def test_a_large_order_that_dies_at_every_gap_starts_one_operation(
    gap: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its products' intents are written before the operation's and confirmed after it; a lease runs out each time."""
    monkeypatch.setattr(bulk, "PRODUCTS_MIN", 3)
    monkeypatch.setattr(bulk, "POLL_S", 0.02)
    names = [f"Plate {n}" for n in range(5)]
    async with place.open() as (core, merchant):
        before = core.settings.model_copy(update={"stages": ",".join(flow.NAMES[: flow.NAMES.index(flow.SYNC)])})
        async with working(before):
            lines = [(f"PLATE{n}-S", "", name, "S", 3) for n, name in enumerate(names)]
            upload = await submit(core, "large.csv", csv("PO-900", lines))
            await all_due_at(core, flow.SYNC, 1)
        run_id = str((await run_of(core, upload))["id"])
        doom = DiesOncePerEffect(gap)
        while True:
            try:
                await attempt(core, run_id, doom)
            except Died:
                async with core.database.transaction() as connection:
                    earlier = effects.c.intended_at - timedelta(minutes=2)
                    await connection.execute(update(effects).values(intended_at=earlier))
                continue
            break
        assert len(doom.killed) == 1 + len(names) + 1  # the operation, the products, the announcement
        assert isinstance(await finish(core, run_id), Done)
        async with working(core.settings):
            await settled(core, 1)
        state = await shop_state(merchant.sandbox)
        assert sorted(one["title"] for one in state["products"]) == names
        counted = state["calls"]
        assert (counted["bulkOperationRunMutation"], counted["productSet"]) == (1, len(names))
        assert await rows(core, select(effects.c.key).where(effects.c.state != "confirmed")) == []


async def test_an_order_replayed_five_times_is_an_order(place: Place) -> None:
    """New entries by people's commands, the same upload again, and every job of the run once more."""
    async with place.open() as (core, merchant):
        (run_id,) = await due_at_the_shop(core, merchant, 1)
        async with working(core.settings):
            await settled(core, 2)
            await check_as_of_one_run(core, merchant, 1)
            for _ in range(5):
                await merchant.works_on()
                await _back_to_the_shop(core, run_id)
                await enqueue_next(core.bull, await core.people.retry(run_id, "ann"))
                await settled(core, 2)
                await submit(core, "again.csv", order(0))
                await until(lambda: _all_ended(core))
        await check_as_of_one_run(core, merchant, 1)


async def _back_to_the_shop(core: Core, run_id: str) -> None:
    """As if the run had failed right after stage 9: the only way a person sends a whole order there again."""
    async with core.database.transaction() as connection:
        failed = {"state": "failed", "failed_stage": flow.SYNC, "failure_code": "test", "failure": "again"}
        await connection.execute(update(runs).where(runs.c.id == run_id).values(**failed, due_stage=None))


async def _all_ended(core: Core) -> bool:
    return all(row["due_stage"] is None for row in await rows(core, select(runs.c.due_stage)))


async def test_an_hour_old_backup_doubles_no_product(place: Place, database_admin: DatabaseAdmin) -> None:
    """The database forgets an hour: what became of two orders in the shop. Upstream sends the younger one again."""
    async with place.open() as (core, merchant):
        (run_id,) = await due_at_the_shop(core, merchant, 1)
    backup = Backup(database_admin.server_url, urlsplit(place.database_url).path[1:])
    await backup.take()

    async with place.open() as (core, merchant):
        async with working(core.settings):
            await settled(core, 2)
            await submit(core, "later.csv", csv("PO-901", LATER))
            assert {one.state for one in await settled(core, 3)} == {"completed"}
        await check_as_of_one_run(core, merchant, 1, later=True)
        for _ in range(4):
            await merchant.works_on()
    await backup.restore()

    async with place.open() as (core, other):
        merchant.http = other.http
        async with working(core.settings) as (_, worker):
            await worker._reconciler.run_once(redis_was_emptied=True)
            await settled(core, 2)
            await submit(core, "later.csv", csv("PO-901", LATER))
            await settled(core, 3)
        # Among its goods are some the shop had before: that they are expected already may be anybody's doing.
        (run,) = await rows(core, select(runs.c.state, runs.c.review).where(runs.c.id == run_id))
        assert (run["state"], [doubt["code"] for doubt in run["review"]]) == ("needs_review", ["expected_elsewhere"])
        await check_as_of_one_run(core, merchant, 1, later=True)
