"""A whole installation for tests: real servers, the sandbox shop as its own process, one merchant, many orders."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import anyio
from sqlalchemy import func, select

from app.bootstrap import open_worker
from app.core import Core, open_core
from app.db import views
from app.db.grants import StaticToken
from app.db.tables import effects, stage_runs
from app.db.uploads import create_upload
from app.enqueue import enqueue_upload
from app.settings import Settings, load_settings
from pipeline.domain.merchant import Merchant, MerchantSettings
from pipeline.worker import Worker
from tests.support import loopback

DOMAIN = "harbor-and-pine.sandbox"
TOKEN = "sandbox-token-for-tests"
MERCHANT = "merchant-1"
ENOUGH_S = 180.0


def settings_for(redis_url: str, database_url: str, sandbox: str, **changed: Any) -> Settings:
    """Quick leases and sweeps; nothing from the environment or a `.env`."""
    quick: dict[str, Any] = {
        "redis_url": redis_url,
        "database_url": database_url,
        "secret_key": "a secret key for the tests and nothing else",
        "image_host_map": {"images.example": f"{sandbox}/images"},
        "rate_limit": "off",
        "shop_open_runs": 1000,  # one merchant stands for all the shops of a fleet
        "http_port": 0,
        "lease_seconds": 3,
        "heartbeat_seconds": 0.7,
        "stalled_seconds": 1,
        "guard_seconds": 0.5,
        "reconcile_seconds": 5,
        "retry_delay_seconds": 0.2,
        "shutdown_grace_seconds": 5,
    }
    return load_settings(**(quick | changed))


@dataclass(frozen=True, slots=True)
class Article:
    """One line of a made-up order; without a picture where `image` is empty."""

    sku: str
    product: str
    color: str
    quantity: int
    cost: str
    image: str


def articles(order: int, *, quantity: int = 10) -> list[Article]:
    """Two products, three variants, two pictures; nothing another order has."""
    return [
        Article(f"MUG-{order}-R", f"Mug {order}", "Red", quantity, "4.00", f"mug-{order}.jpg"),
        Article(f"MUG-{order}-B", f"Mug {order}", "Blue", quantity + 1, "4.00", f"mug-{order}.jpg"),
        Article(f"VASE-{order}", f"Vase {order}", "", quantity + 2, "9.00", f"vase-{order}.jpg"),
    ]


def csv_of(number: str, lines: Sequence[Article]) -> bytes:
    """A purchase order as a supplier would send it."""
    total = sum(line.quantity * float(line.cost) for line in lines)
    rows = ["PO Number,Supplier,Currency,PO Total,SKU,Product,Color,Qty,Unit Cost,Line Total,Image URL"]
    for position, line in enumerate(lines):
        head = f"{number},Juniper Ceramics Co.,USD,{total:.2f}" if position == 0 else ",,,"
        image = f"https://images.example/{line.image}" if line.image else ""
        line_total = line.quantity * float(line.cost)
        rows.append(
            f"{head},{line.sku},{line.product},{line.color},{line.quantity},{line.cost},{line_total:.2f},{image}"
        )
    return "\n".join(rows).encode()


async def connect_merchant(core: Core, sandbox: str, **changed: Any) -> None:
    """The merchant of the tests; approves automatically unless told otherwise."""
    rules = {"auto_approve": True, "image_hosts": ("images.example",), "names": ("Harbor & Pine",)} | changed
    await core.merchants.add(
        Merchant(id=MERCHANT, name="Harbor & Pine", shop_domain=DOMAIN, settings=MerchantSettings(**rules)),
        endpoint=f"{sandbox}/shops/{DOMAIN}/admin/api/2026-10/graphql.json",
        access=StaticToken(TOKEN),
    )


async def submit(core: Core, name: str, content: bytes) -> str:
    """Send a document in as upstream does; returns the upload's id."""
    upload = await create_upload(
        core.database, merchant_id=MERCHANT, name=name, mime="text/csv", content=content, at=datetime.now(UTC)
    )
    await enqueue_upload(core.bull, upload)
    return upload.upload_id


@asynccontextmanager
async def working(settings: Settings, **given: Any) -> AsyncIterator[tuple[Core, Worker]]:
    """One worker at work in this process; stopped, and everything handed back, when the block ends."""
    async with open_core(settings) as core, open_worker(core, **given) as worker, anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        try:
            yield core, worker
        finally:
            worker.stop()


async def settled(core: Core, count: int, *, within_s: float = ENOUGH_S) -> list[views.RunRow]:
    """Wait until that many runs wait for nothing more; returns them."""
    with anyio.fail_after(within_s):
        while True:
            rows = await views.list_runs(core.database, limit=200)
            if len(rows) >= count and all(row.stage is None for row in rows):
                return rows
            await anyio.sleep(0.05)


async def shop_state(sandbox: str) -> dict[str, Any]:
    """Everything the sandbox knows, from its own mouth."""
    async with loopback(timeout=10) as http:
        state: dict[str, Any] = (await http.get(f"{sandbox}/shops/{DOMAIN}/state")).json()
        return state


def variants_by_sku(state: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The shop's variants; a list longer than one is a doubled variant."""
    found: dict[str, list[dict[str, Any]]] = {}
    for product in state["products"]:
        for variant in product["variants"]:
            found.setdefault(variant["sku"], []).append(variant)
    return found


async def check_once(core: Core, sandbox: str, orders: Iterable[Sequence[Article]]) -> None:
    """Each product, variant, picture and quantity stands in the shop once; journal and ledger agree with it."""
    state = await shop_state(sandbox)
    lines = [line for order in orders for line in order]
    by_sku = variants_by_sku(state)
    wanted, found = {line.sku for line in lines}, set(by_sku)
    assert wanted == found, f"missing: {sorted(wanted - found)}, unasked: {sorted(found - wanted)}"
    for line in lines:
        (variant,) = by_sku[line.sku]
        quantities = variant["quantities"]
        assert (quantities["incoming"], quantities["available"]) == (line.quantity, 0), line.sku
    titles = {line.product for line in lines}
    pictured = {line.product for line in lines if line.image}
    assert sorted(product["title"] for product in state["products"]) == sorted(titles)
    assert state["products_created"] == len(titles)
    for product in state["products"]:
        expected = ["READY"] if product["title"] in pictured else []
        assert [media["status"] for media in product["media"]] == expected, product["title"]
    assert await doubled_results(core) == []
    async with core.database.transaction() as connection:
        open_intents = await connection.scalar(
            select(func.count()).select_from(effects).where(effects.c.state != "confirmed")
        )
        created = await connection.scalar(
            select(func.count()).select_from(effects).where(effects.c.key.like("product:%"))
        )
    assert (open_intents, created) == (0, len(titles))


async def doubled_results(core: Core) -> list[Any]:
    """Stages with more than one recorded result for an entry: there must be none."""
    async with core.database.transaction() as connection:
        found = await connection.execute(
            select(stage_runs.c.run_id, stage_runs.c.stage)
            .where(stage_runs.c.state == "finished")
            .group_by(stage_runs.c.run_id, stage_runs.c.stage, stage_runs.c.entry)
            .having(func.count() > 1)
        )
        return list(found)
