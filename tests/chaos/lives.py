"""Workers' lives without a queue: load, run and record against real Postgres and a sandbox on a real port.

A life ends where it is told to: at a gap of the ledger, between a request and its answer, or before its result is
recorded. Nothing of it is left but what Postgres and the shop hold, as after kill -9; and it costs milliseconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from sqlalchemy import update

from app.adapters.shops import Shops
from app.db.creations import PostgresCreations
from app.db.drafts import PostgresDrafts
from app.db.effects import PostgresEffects
from app.db.journal import dump
from app.db.orders import PostgresOrders
from app.db.people import People
from app.db.plans import PostgresPlans
from app.db.runs import PostgresRuns
from app.db.session import Database, PoolSize
from app.db.tables import (
    draft_variants,
    order_revisions,
    order_variants,
    product_drafts,
    purchase_orders,
    runs,
    stage_runs,
)
from pipeline import flow
from pipeline.clock import SystemClock
from pipeline.contract import Stage, StageInput
from pipeline.domain.intake import HandOff
from pipeline.domain.results import Drafts
from pipeline.effects import Ledger
from pipeline.errors import VendorUnavailable
from pipeline.run_store import NextJob, Ready, Ticket
from pipeline.stages.shopify_sync import ShopifySync
from pipeline.stages.status_update import StatusUpdate
from tests.app.db.given import Given, drafts
from tests.sandbox_shop import Killed, SandboxShop, shops_of

RECORD = "record"
"""The gap between a stage's result and its being written."""

LIVES_MAX = 200


@dataclass
class Fate:
    """Where the next life ends: at the n-th `gap` it reaches, or never if that is empty."""

    gap: str = ""
    left: int = 0
    deaths: int = 0

    def reach(self, here: str) -> None:
        if here != self.gap:
            return
        if self.left == 0:
            self.gap = ""
            self.deaths += 1
            raise Killed(here)
        self.left -= 1


@dataclass
class Wire(httpx.AsyncBaseTransport):
    """The way to the shop. A process may die when a mutation is on it, or when its answer is."""

    fate: Fate
    inner: httpx.AsyncHTTPTransport = field(default_factory=httpx.AsyncHTTPTransport)
    orphans: set[asyncio.Task[None]] = field(default_factory=set)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if b"@idempotent" not in request.content:
            return await self.inner.handle_async_request(request)
        sent = asyncio.Event()

        async def trace(event: str, _info: Any) -> None:
            if event == "http11.send_request_body.complete":
                sent.set()

        request.extensions = {**request.extensions, "trace": trace}
        call = asyncio.create_task(self.inner.handle_async_request(request))
        await sent.wait()
        try:
            self.fate.reach("sent")
        except Killed:
            self.orphans.add(asyncio.create_task(_let_end(call)))
            raise
        response = await call
        try:
            self.fate.reach("answered")
        except Killed:
            await response.aclose()  # the connection ends with its process
            raise
        return response

    async def aclose(self) -> None:
        await asyncio.gather(*self.orphans)
        await self.inner.aclose()


async def _let_end(call: asyncio.Task[httpx.Response]) -> None:
    """The process that asked is gone, and the shop still at work on it; the answer reaches nobody."""
    await (await call).aclose()


@dataclass
class Shopkeeper:
    """One order, the shop it is announced in, and the workers that come and go."""

    database: Database
    sandbox: SandboxShop
    shops: Shops
    fate: Fate
    given: Given
    lives: int = 0

    @property
    def people(self) -> People:
        return People(self.database)

    async def live(self, run_id: str, entry: int = 0) -> bool:
        """One life of a worker with this run; whether the run waits for nobody at its end."""
        self.lives += 1
        store = PostgresRuns(self.database, max_stalls=3)
        orders = PostgresOrders(self.database)
        ledger = Ledger(PostgresEffects(self.database), self.fate.reach)
        sync = ShopifySync(
            self.shops,
            PostgresDrafts(self.database),
            orders,
            orders,
            ledger,
            SystemClock(),
            PostgresPlans(self.database),
            PostgresCreations(self.database),
        )
        stages: dict[str, Stage] = {flow.SYNC: sync, flow.STATUS: StatusUpdate()}
        for stage_name, stage in stages.items():
            request = HandOff(run_id=run_id, entry=entry, flow_version=flow.FLOW_VERSION)
            job_id = NextJob(run_id, stage_name, entry, "").job_id
            ready = await store.load(Ticket(stage_name, job_id, 0, 0, 0, f"worker-{self.lives}", request))
            if not isinstance(ready, Ready):
                continue
            given = StageInput(ready.run, stage_name, ready.attempt, ready.earlier, lambda: None, ready.review)
            try:
                result = await stage.run(given)
            except VendorUnavailable:
                return False  # a real worker would write that it waits; the next life closes the attempt just so
            self.fate.reach(RECORD)
            await store.record(ready, result)
        return (await self.given.run_row(run_id))["due_stage"] in {None, flow.IMAGES}

    async def work(self, run_id: str, entry: int = 0) -> None:
        """As many lives as the run needs."""
        for _ in range(LIVES_MAX):
            try:
                if await self.live(run_id, entry):
                    return
            except Killed:
                continue
        raise AssertionError(f"run {run_id} did not end in {LIVES_MAX} lives")

    async def die(self, run_id: str, gap: str, passes: int) -> None:
        """A life that ends at a gap after passing it so often; those before it only found the shop busy."""
        self.fate.gap, self.fate.left = gap, passes
        for _ in range(LIVES_MAX):
            try:
                ended = await self.live(run_id)
            except Killed:
                return
            assert not ended, f"run {run_id} never reached {gap} after {passes} passes"
        raise AssertionError(f"run {run_id} neither ended nor died in {LIVES_MAX} lives")

    async def books(self) -> dict[str, tuple[int, int, int, int]]:
        """(announced, received, rejected, surplus) by SKU."""
        variants = {row["id"]: row["sku"] for row in await self.given.rows(draft_variants)}
        return {
            variants[row["draft_variant_id"]]: (row["announced"], row["received"], row["rejected"], row["surplus"])
            for row in await self.given.rows(order_variants)
        }

    async def order_state(self) -> str:
        [row] = await self.given.rows(purchase_orders)
        return str(row["state"])


@asynccontextmanager
async def shopkeeping(database_url: str, sandbox: SandboxShop) -> AsyncIterator[Shopkeeper]:
    """Workers and people who know what that database holds."""
    fate = Fate()
    database = Database(database_url, PoolSize(4))
    async with httpx.AsyncClient(transport=Wire(fate), trust_env=False) as http:
        yield Shopkeeper(database, sandbox, shops_of(sandbox, http), fate, Given(database))
    await database.close()


async def order(given: Given, expected: dict[str, int]) -> None:
    """An approved order of `MUG-R` and `MUG-B`, that many units each, which the shop has not heard of."""
    await given.order(announced=0)
    await expect(given, "run-1", expected)
    async with given.database.transaction() as connection:
        await connection.execute(update(product_drafts).values(product_id=""))
        await connection.execute(update(draft_variants).values(variant_id=""))


async def revise(given: Given, revision: int, expected: dict[str, int]) -> str:
    """The next document of the order, at the door of the shop; returns its run."""
    run_id = f"run-{revision}"
    (first,) = await given.rows(stage_runs, (stage_runs.c.run_id == "run-1") & (stage_runs.c.output_type == "Drafts"))
    await given.run(run_id, order_id="order-1", order_revision=revision, supplier_id="s1", due_stage=flow.SYNC)
    await given.insert(order_revisions, order_id="order-1", revision=revision, run_id=run_id, content_hash=run_id)
    await given.insert(stage_runs, **{**first, "run_id": run_id})
    await expect(given, run_id, expected)
    return run_id


async def expect(given: Given, run_id: str, expected: dict[str, int]) -> None:
    """Bring the order's run to the door of the shop, with a draft that expects so many units."""
    draft = drafts().drafts[0]
    variants = tuple(
        one.model_copy(update={"plan": one.plan.model_copy(update={"quantity": expected[one.plan.sku]})})
        for one in draft.variants
    )
    output = Drafts(drafts=(draft.model_copy(update={"variants": variants}),))
    where = (stage_runs.c.run_id == run_id) & (stage_runs.c.output_type == "Drafts")
    await given.change(stage_runs, where, output=dump(output))
    await given.change(runs, runs.c.id == run_id, state="running", due_stage=flow.SYNC, finished_at=None)
