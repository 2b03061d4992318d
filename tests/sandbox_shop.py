"""A shop in the sandbox on a real port, the adapter pointed at it, and the stores a stage reads, in memory."""

# ruff: noqa: ARG002  the stores in memory have the ports' signatures and answer for one run

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import httpx
import pytest

from app.adapters.shopify.client import ShopCredentials
from app.adapters.shops import Shops
from app.sandbox.server import run_sandbox
from app.sandbox.state import Settings, new_shop
from pipeline.clock import SystemClock
from pipeline.contract import Run, StageInput
from pipeline.domain.merchant import Merchant, MerchantSettings
from pipeline.domain.results import Draft, DraftVariant, PlannedProduct, PlannedVariant
from pipeline.domain.standing import OrderStanding, VariantStanding
from pipeline.domain.undo import Creation
from pipeline.errors import AnothersTurn
from pipeline.ports import (
    ApprovedPlan,
    Effect,
    Incoming,
    ReceiptLine,
    ReceiptRecord,
    StoredDraft,
    StoredImage,
    StoredVariant,
)
from pipeline.shopkeeping.pictures import sent_file
from pipeline.shopkeeping.products import CREATE
from tests.support import loopback

DOMAIN = "demo.myshopify.com"
TOKEN = "shpat_secret-of-the-sandbox"


@dataclass
class SandboxShop:
    """What a test may do to the shop behind the adapter's back."""

    address: str
    http: httpx.AsyncClient

    @property
    def endpoint(self) -> str:
        return f"{self.address}/shops/{DOMAIN}/admin/api/2026-10/graphql.json"

    async def state(self) -> dict[str, Any]:
        return dict((await self.http.get(f"{self.address}/shops/{DOMAIN}/state")).json())

    async def fail(self, operation: str, kind: str, count: int = 1, seconds: float = 0.0) -> None:
        fault = {"operation": operation, "kind": kind, "count": count, "seconds": seconds}
        (await self.http.post(f"{self.address}/shops/{DOMAIN}/faults", json=fault)).raise_for_status()

    async def edit(self, do: str, **given: Any) -> str:
        """The merchant edits something in the admin; the id of what was touched."""
        response = await self.http.post(f"{self.address}/shops/{DOMAIN}/edits", json={"do": do, **given})
        response.raise_for_status()
        return str(response.json()["ids"][0])

    async def change(self, **shop: Any) -> None:
        """Set the token, the scopes or the settings of the shop."""
        body = {"domain": DOMAIN, "token": TOKEN, "settings": {"processing_s": 0.05}} | shop
        (await self.http.post(f"{self.address}/shops", json=body)).raise_for_status()

    async def do(self, document: str, **variables: Any) -> Any:
        """Speak to the shop as the merchant would in the admin."""
        response = await self.http.post(
            self.endpoint,
            json={"query": document, "variables": variables},
            headers={"X-Shopify-Access-Token": TOKEN},
        )
        answer = response.json()
        assert "errors" not in answer, answer
        return answer["data"]

    async def quantities(self, name: str) -> dict[str, int]:
        """Units in one state, by SKU."""
        products = (await self.state())["products"]
        return {one["sku"]: one["quantities"][name] for product in products for one in product["variants"]}


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """The HTTP client the composition root would hand in."""
    async with loopback() as client:
        yield client


@pytest.fixture
async def sandbox(http: httpx.AsyncClient, tmp_path: Path) -> AsyncIterator[SandboxShop]:
    """An empty shop with one location, behind real HTTP."""
    shop = new_shop(DOMAIN, TOKEN, settings=Settings(processing_s=0.05))
    async with run_sandbox(state_path=tmp_path / "shop.sqlite", shops=[shop]) as address:
        yield SandboxShop(address, http)


@pytest.fixture
def shops(sandbox: SandboxShop, http: httpx.AsyncClient) -> Shops:
    """The adapter, pointed at the sandbox as it would be at Shopify."""
    return shops_of(sandbox, http)


def shops_of(sandbox: SandboxShop, http: httpx.AsyncClient) -> Shops:
    """The adapter for a shop of the test's own."""

    async def credentials(_merchant: Merchant) -> ShopCredentials | None:
        return ShopCredentials(sandbox.endpoint, TOKEN)

    return Shops(http, credentials, SystemClock())


class Killed(BaseException):
    """The process is gone: nothing after this line runs."""


@dataclass
class Killer:
    """Dies at the n-th gap of the ledger it reaches; 0 lives."""

    at: int = 0
    reached: list[str] = field(default_factory=list)

    def __call__(self, gap: str) -> None:
        self.reached.append(gap)
        if len(self.reached) == self.at:
            raise Killed(gap)


@dataclass
class Effects:
    """The ledger's table in memory; it outlives the worker, as Postgres does. One merchant's runs, and none stops."""

    rows: dict[str, Effect] = field(default_factory=dict)
    runs: dict[str, str] = field(default_factory=dict)

    async def find(self, key: str) -> Effect | None:
        return replace(self.rows[key], fresh=False) if key in self.rows else None

    async def intend(self, run: str, fence: int, key: str, parameters: Mapping[str, Any]) -> Effect:
        if key in self.rows:
            return replace(self.rows[key], fresh=False)
        if "looked_at" in parameters and parameters["by"] == CREATE:
            self._refuse_among_rivals(run, parameters)
        self.runs[key] = run
        self.rows[key] = Effect(key, "intent", parameters, {}, datetime.now(UTC), fresh=True)
        return self.rows[key]

    async def confirm(self, run: str, fence: int, key: str, external: Mapping[str, Any]) -> None:
        self.rows[key] = replace(self.rows[key], state="confirmed", external=external)

    def _refuse_among_rivals(self, run: str, parameters: Mapping[str, Any]) -> None:
        for key, one in self.rows.items():
            shared = set(one.parameters.get("gtins", ())) & set(parameters["gtins"])
            if not shared or self.runs.get(key) == run or "refused" in one.external:
                continue
            if one.external.get("product_id") not in parameters["looked_at"]:
                raise AnothersTurn(f"run {self.runs.get(key)} is creating it", retry_after_s=2, patient=True)

    def age(self, by: timedelta) -> None:
        self.rows = {key: replace(one, intended_at=one.intended_at - by) for key, one in self.rows.items()}


@dataclass
class Books:
    """Drafts, orders, receipts, pictures and plans as Postgres would hold them; one object implements the ports."""

    drafts: list[StoredDraft] = field(default_factory=list)
    standings: dict[str, VariantStanding] = field(default_factory=dict)
    location_id: str = ""
    revision: int = 0
    lines: list[ReceiptLine] = field(default_factory=list)
    action: str = "receive"
    state: str = ""
    shipments: list[str] = field(default_factory=list)
    images: list[StoredImage] = field(default_factory=list)
    effects: Effects = field(default_factory=Effects)
    hung: dict[str, list[str]] = field(default_factory=dict)
    plan: ApprovedPlan | None = None
    creations: list[Creation] = field(default_factory=list)

    async def of_order(self, order_id: str) -> Sequence[Creation]:
        return self.creations

    async def approved(self, run_id: str) -> ApprovedPlan | None:
        return self.plan

    async def standing(self, order_id: str) -> OrderStanding:
        return OrderStanding(self.location_id, self.standings, self.revision, self.state, tuple(self.shipments))

    async def incoming(
        self, merchant_id: str, location_id: str, inventory_item_ids: Sequence[str], draft_variant_ids: Sequence[str]
    ) -> Mapping[str, Incoming]:
        told: Counter[str] = Counter()
        for effect in self.effects.rows.values():
            if effect.key.startswith("announce:") and "refused" not in effect.external:
                for _, item, units in effect.parameters.get("units", ()):
                    told[item] += units
        told.subtract({one.inventory_item_id: one.taken for one in self.standings.values()})
        return {item: Incoming(0, units) for item, units in told.items()}  # what is under way is not known here

    async def receipt(self, receipt_id: str) -> ReceiptRecord:
        return ReceiptRecord(self.action, tuple(self.lines))


@dataclass
class DraftsOf:
    books: Books

    async def of_run(self, run_id: str) -> Sequence[StoredDraft]:
        return self.books.drafts


@dataclass
class ImagesOf:
    books: Books
    effects: Effects = field(default_factory=Effects)

    async def of_run(self, run_id: str) -> Sequence[StoredImage]:
        uploads = [one for key, one in self.effects.rows.items() if key.startswith("upload:") and "at" in one.external]
        sent = {one.parameters["image_id"]: sent_file(one.key, one.external) for one in uploads}
        return [replace(one, sent=sent.get(one.id)) for one in self.books.images]

    async def hung(self, merchant_id: str, product_ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
        return self.books.hung


def make_draft(name: str, quantities: Mapping[str, int], *, cost: str | None = "4.50", option: str = "Size") -> Draft:
    """A draft whose variants are `quantities` by option value; the empty value is a product without options."""
    draft_id = str(uuid5(NAMESPACE_URL, name))
    variants = tuple(
        DraftVariant(
            id=str(uuid5(NAMESPACE_URL, f"{name}/{value}")),
            plan=PlannedVariant(
                variant_key=value or name,
                positions=(position,),
                sku=f"{name}-{value}".strip("-"),
                gtin="",
                options={option: value} if value else {},
                quantity=quantity,
                unit_cost=None if cost is None else Decimal(cost),
                price=Decimal("9.99"),
            ),
        )
        for position, (value, quantity) in enumerate(quantities.items(), start=1)
    )
    plan = PlannedProduct(
        product_key=name,
        title=name.title(),
        description_html="<p>As printed.</p>",
        vendor="Acme",
        product_type="Mugs",
        tags=("new",),
        option_names=() if "" in quantities else (option,),
        variants=tuple(one.plan for one in variants),
    )
    return Draft(id=draft_id, plan=plan, variants=variants)


def unplaced(draft: Draft) -> StoredDraft:
    """The draft as stored before the shop has seen it."""
    variants = tuple(StoredVariant(one.id, one.plan.variant_key, "", "") for one in draft.variants)
    return StoredDraft(draft, "", variants)


def make_given(stage: str, **settings: Any) -> StageInput:
    """An approved order's run at one stage."""
    merchant = Merchant(
        id="merchant-1", name="Demo", shop_domain=DOMAIN, settings=MerchantSettings.model_validate(settings)
    )
    run = Run(
        id="run-1",
        kind="order",
        merchant=merchant,
        entry=0,
        fence=1,
        workflow_id="w",
        upload_id="u",
        order_id="order-1",
        order_revision=1,
        approved_by="demo",
    )
    return StageInput(run=run, stage=stage, attempt=1, earlier={}, still_ours=lambda: None)
