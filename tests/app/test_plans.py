"""From plan to shop and back, over HTTP and the command line, with real servers and the sandbox shop."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.to_thread
import httpx
import pytest
import structlog
from click.testing import Result
from typer.testing import CliRunner

from app import logs
from app.adapters.progress import UpstreamProgress
from app.admin.deps import AdminDeps, Health
from app.approving import Approvals, PlanChangedError, open_approvals
from app.cli import app
from app.core import Core, open_core
from app.db import tables
from app.db.errors import ConflictError
from app.enqueue import enqueue_next
from app.sandbox.server import run_sandbox
from app.sandbox.state import Settings as ShopSettings
from app.sandbox.state import new_shop
from app.settings import Settings
from pipeline import flow
from pipeline.domain.plan import Plan, summary
from pipeline.errors import VendorUnavailable
from tests.app.admin.conftest import asking
from tests.app.db.given import Given
from tests.app.held import held
from tests.chaos.watching import order_faults, plain_csv, quantities
from tests.shop import DOMAIN, TOKEN, connect_merchant, settings_for, settled, shop_state, submit, working
from tests.support import loopback

BEFORE_THE_SHOP = ",".join((*flow.NAMES[: flow.NAMES.index(flow.SYNC)], flow.STATUS))
SAMPLES = Path(__file__).resolve().parents[2] / "samples"
SECRETS = ("REDIS_URL", "DATABASE_URL", "SECRET_KEY")
REPRICE = """
mutation($id: ID!, $v: [ProductVariantsBulkInput!]!) {
  productVariantsBulkUpdate(productId: $id, variants: $v) { userErrors { message } }
}
"""


@dataclass
class Office:
    """A merchant who looks at every order, and a worker that stops before the shop unless it is let."""

    core: Core
    settings: Settings
    sandbox: str
    approvals: Approvals

    @property
    def given(self) -> Given:
        return Given(self.core.database)

    async def receive(self, number: str, units: dict[str, int]) -> str:
        """An order comes in and waits at the end of the line; its run."""
        return await self.receive_file(number, plain_csv(number, units))

    async def receive_file(self, number: str, content: bytes) -> str:
        """The same, of any content."""
        rows = await self.given.rows(tables.runs)
        async with working(self.settings.model_copy(update={"stages": BEFORE_THE_SHOP})):
            upload = await submit(self.core, f"{number}.csv", content)
            await settled(self.core, len(rows) + 1)
        [run] = await self.given.rows(tables.runs, tables.runs.c.upload_id == upload)
        assert (run["state"], run["review_stage"]) == ("needs_review", "image-attachment")
        return str(run["id"])

    async def approve(self, run_id: str, **choices: Any) -> None:
        approved = await self.approvals.approve(run_id, "ann", **choices)
        await enqueue_next(self.core.bull, approved.next)

    async def work(self) -> None:
        """A worker does all there is to do."""
        rows = await self.given.rows(tables.runs)
        async with working(self.settings):
            await settled(self.core, len(rows))

    async def do(self, document: str, **variables: Any) -> None:
        """The merchant, in the shop's admin."""
        async with loopback(timeout=10) as http:
            answer = await http.post(
                f"{self.sandbox}/shops/{DOMAIN}/admin/api/2026-10/graphql.json",
                json={"query": document, "variables": variables},
                headers={"X-Shopify-Access-Token": TOKEN},
            )
        assert "errors" not in answer.json(), answer.text

    async def reprice(self, price: str) -> None:
        product = (await shop_state(self.sandbox))["products"][0]
        await self.do(REPRICE, id=product["id"], v=[{"id": product["variants"][0]["id"], "price": price}])

    @asynccontextmanager
    async def page(self) -> AsyncIterator[httpx.AsyncClient]:
        core = self.core

        async def nobody() -> list[str]:
            return []

        deps = AdminDeps(
            database=core.database,
            bull=core.bull,
            people=core.people,
            shop_limits=core.shop_limits,
            approvals=self.approvals,
            progress=UpstreamProgress(core.connections.commands, core.database, core.clock),
            clock=core.clock,
            connections=core.connections.states,
            health=Health,
            swept=lambda: None,
            foreign=nobody,
            version="1",
        )
        async with asking(deps) as client:
            yield client


@pytest.fixture
async def office(redis_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[Office]:
    shop = new_shop(DOMAIN, TOKEN, settings=ShopSettings(processing_s=0.05))
    async with run_sandbox(state_path=tmp_path / "shop.sqlite", shops=[shop]) as sandbox:
        settings = settings_for(redis_url, database_url, sandbox)
        async with held(open_core(settings)) as core, open_approvals(core) as approvals:
            await connect_merchant(core, sandbox, auto_approve=False, cost_on_approve="latest")
            yield Office(core, settings, sandbox, approvals)


async def test_a_person_reads_the_plan_approves_it_and_finds_exactly_that_in_the_shop(office: Office) -> None:
    run_id = await office.receive("PO-1", {"CUP-S": 10, "CUP-L": 4})
    async with office.page() as client:
        plan = (await client.get(f"/api/orders/{run_id}/plan")).json()["plan"]
        assert plan["summary"] == (
            "Creates 1 draft product (2 variants), announces 14 units at Warehouse, publishes nothing."
        )
        assert [item["title"] for item in plan["items"]] == ["CUP"]
        shown = (await client.get(f"/api/orders/{run_id}")).json()["order"]
        assert shown["has_plan"] is True
        assert (await shop_state(office.sandbox))["products"] == []
        answer = await client.post(f"/api/orders/{run_id}/approve", json={"who": "ann", "plan": plan["digest"]})
        assert (answer.status_code, answer.json()["plan"]["digest"]) == (200, plan["digest"])
    await office.work()
    assert await quantities(office.sandbox) == {"CUP-S": (10, 0, 0), "CUP-L": (4, 0, 0)}
    [row] = await office.given.rows(tables.plans)
    assert (row["run_id"], row["approved_by"], row["digest"]) == (run_id, "ann", plan["digest"])
    assert summary(Plan.model_validate(row["content"])) == plan["summary"]
    async with office.page() as client:
        shown = (await client.get(f"/api/orders/{run_id}")).json()["order"]
    [approval] = shown["approvals"]
    assert (approval["approved_by"], approval["digest"]) == ("ann", plan["digest"])
    assert (approval["summary"], approval["items"]) == (plan["summary"], plan["items"])
    assert [(one["expected"], one["received"], one["open"]) for one in shown["variants"]] == [(4, 0, 4), (10, 0, 10)]
    assert all(one["product_id"].startswith("gid://shopify/Product/") for one in shown["variants"])
    assert shown["has_plan"] is False
    [note] = await office.given.rows(tables.audit)
    assert (note["details"]["plan"], note["details"]["summary"]) == (plan["digest"], plan["summary"])


async def test_a_shop_that_changed_since_the_look_is_shown_again_instead_of_approved(office: Office) -> None:
    await office.approve(await office.receive("PO-1", {"CUP-S": 10}))
    await office.work()
    run_id = await office.receive("PO-2", {"CUP-S": 5})
    seen = (await office.approvals.read(run_id, "ann")).plan
    assert summary(seen) == "Announces 5 units at Warehouse, publishes nothing."
    await office.reprice("77.00")
    with pytest.raises(PlanChangedError):
        await office.approvals.approve(run_id, "ann", seen=seen.digest)
    assert (await office.given.run_row(run_id))["state"] == "needs_review"
    await office.approve(run_id, seen=(await office.approvals.read(run_id, "ann")).plan.digest)
    await office.work()
    assert (await office.given.run_row(run_id))["state"] == "completed"


async def test_a_shop_that_changed_after_the_approval_sends_the_order_back_and_it_can_be_approved_again(
    office: Office,
) -> None:
    await office.approve(await office.receive("PO-1", {"CUP-S": 10}))
    await office.work()
    run_id = await office.receive("PO-2", {"CUP-S": 5, "CUP-L": 2})
    await office.approve(run_id)
    await office.reprice("77.00")
    await office.work()
    run = await office.given.run_row(run_id)
    assert (run["state"], run["review_stage"]) == ("needs_review", flow.SYNC)
    assert "the price is 77.00 now, not 8.99" in run["summary"]
    assert await quantities(office.sandbox) == {"CUP-S": (10, 0, 0)}
    await office.approve(run_id)
    await office.work()
    assert (await office.given.run_row(run_id))["state"] == "completed"
    assert await quantities(office.sandbox) == {"CUP-S": (15, 0, 0), "CUP-L": (2, 0, 0)}
    approved = await office.given.rows(tables.plans, tables.plans.c.run_id == run_id)
    assert len({row["digest"] for row in approved}) == len(approved) == 2


async def test_approving_without_a_plan_asks_no_shop_and_drops_the_plan_approved_before(office: Office) -> None:
    await office.approve(await office.receive("PO-1", {"CUP-S": 10}))
    await office.work()
    run_id = await office.receive("PO-2", {"CUP-S": 5})
    await office.approve(run_id)
    await office.reprice("77.00")
    await office.work()
    assert (await office.given.run_row(run_id))["state"] == "needs_review"
    await office.approve(run_id, without_plan=True)
    await office.work()
    assert (await office.given.run_row(run_id))["state"] == "completed"
    assert await quantities(office.sandbox) == {"CUP-S": (15, 0, 0)}
    async with office.page() as client:
        shown = (await client.get(f"/api/orders/{run_id}")).json()["order"]["approvals"]
    assert [one["approved_by"] for one in shown] == ["ann", "ann"]
    assert shown[0]["summary"] == shown[1]["summary"] == "Announces 5 units at Warehouse, publishes nothing."


async def test_a_shop_that_is_away_is_said_and_approves_nothing(office: Office) -> None:
    run_id = await office.receive("PO-1", {"CUP-S": 10})
    await order_faults(office.sandbox, [{"operation": "*", "kind": "http_500", "count": 99}])
    async with office.page() as client:
        read = await client.get(f"/api/orders/{run_id}/plan")
        assert (read.status_code, read.json()["error"]) == (503, "unavailable")
        assert "the shop answered HTTP 500" in read.json()["message"]
        approve = await client.post(f"/api/orders/{run_id}/approve", json={})
        assert approve.status_code == 503
    with pytest.raises(VendorUnavailable):
        await office.approvals.approve(run_id, "ann")
    assert (await office.given.run_row(run_id))["state"] == "needs_review"


async def test_what_must_be_put_right_first_is_said_and_cannot_be_approved(office: Office) -> None:
    run_id = await office.receive("PO-1", {"CUP-S": 10})
    await connect_merchant(office.core, office.sandbox, auto_approve=False, currency="EUR")
    read = await office.approvals.read(run_id, "ann")
    assert [stop.code for stop in read.plan.stops] == ["currency_mismatch"]
    with pytest.raises(ConflictError, match="sells in USD but the settings say EUR"):
        await office.approvals.approve(run_id, "ann")


async def test_a_run_that_waits_earlier_has_no_plan_and_is_approved_as_ever(office: Office) -> None:
    await office.given.run_in_review("r", at="ai-parsing", merchant_id="merchant-1")
    with pytest.raises(ConflictError, match="waits at ai-parsing"):
        await office.approvals.read("r", "ann")
    approved = await office.approvals.approve("r", "ann")
    assert (approved.next.stage, approved.read) == ("ai-parsing", None)
    assert await office.given.rows(tables.plans) == []
    await office.core.people.cancel("r", "ann")


async def test_a_plan_of_a_run_that_moved_on_since_approves_nothing(office: Office) -> None:
    run_id = await office.receive("PO-1", {"CUP-S": 10})
    read = await office.approvals.read(run_id, "ann")
    await office.given.change(tables.runs, tables.runs.c.id == run_id, entry=7)
    with pytest.raises(ConflictError, match="read it again"):
        await office.core.people.approve(run_id, "ann", read)
    assert await office.given.rows(tables.plans) == []


async def test_what_a_rule_approves_keeps_the_plan_that_the_stage_read(office: Office) -> None:
    await connect_merchant(office.core, office.sandbox)
    async with working(office.settings):
        await submit(office.core, "auto.csv", plain_csv("PO-1", {"CUP-S": 10}))
        [row] = await settled(office.core, 1)
    assert row.state == "completed"
    [plan] = await office.given.rows(tables.plans)
    assert (plan["run_id"], plan["approved_by"]) == (row.run_id, "")
    assert summary(Plan.model_validate(plan["content"])) == (
        "Creates 1 draft product (1 variant), announces 10 units at Warehouse, publishes nothing."
    )


async def test_over_the_sample_orders_what_is_planned_is_what_is_done(office: Office) -> None:
    """Products, variants, units and costs, counted in the shop before and after each order that can be approved."""
    files = [path for path in sorted(SAMPLES.iterdir()) if path.suffix in {".csv", ".xlsx", ".pdf", ".edi", ".xml"}]
    async with working(office.settings.model_copy(update={"stages": BEFORE_THE_SHOP})):
        for path in files:
            await submit(office.core, path.name, path.read_bytes())
        await settled(office.core, len(files))
    waiting = await office.given.rows(tables.runs, tables.runs.c.review_stage == flow.LAST_REVIEWABLE)
    planned_products = 0
    for run in waiting:
        read = await office.approvals.read(run["id"], "ann")
        before = _counts(await shop_state(office.sandbox))
        await office.approve(run["id"], seen=read.plan.digest)
        await office.work()
        assert (await office.given.run_row(run["id"]))["state"] == "completed"
        done = _counts(await shop_state(office.sandbox)) - before
        assert done == _planned(read.plan), summary(read.plan)
        planned_products += _planned(read.plan)["products"]
    assert len(waiting) >= 8
    assert planned_products >= 20


def _planned(plan: Plan) -> Counter[str]:
    variants = [one for product in plan.products for one in product.variants]
    found = Counter(
        products=sum(not product.product_id for product in plan.products),
        variants=sum(not one.variant_id for one in variants),
        incoming=sum(one.units for one in (*variants, *plan.dropped)),
    )
    return +found


def _counts(state: dict[str, Any]) -> Counter[str]:
    variants = [one for product in state["products"] for one in product["variants"]]
    assert {product["status"] for product in state["products"]} <= {"DRAFT"}
    assert [product["published_on"] for product in state["products"] if product["published_on"]] == []
    return Counter(
        products=len(state["products"]),
        variants=len(variants),
        incoming=sum(one["quantities"]["incoming"] for one in variants),
        available=sum(one["quantities"]["available"] for one in variants),
    )


async def test_the_command_line_shows_the_plan_and_approves_with_it(
    office: Office, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logs, "configure", lambda *_, **__: None)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    run_id = await office.receive("PO-1", {"CUP-S": 10})
    env = {name: str(getattr(office.settings, name.lower()).get_secret_value()) for name in SECRETS}

    async def cli(*arguments: str) -> Result:
        return await anyio.to_thread.run_sync(lambda: CliRunner().invoke(app, list(arguments), env=env))

    shown = await cli("plan", run_id)
    assert "Creates 1 draft product (1 variant), announces 10 units at Warehouse, publishes nothing." in shown.output
    assert "CUP-S (S): new, price 8.99, cost 4.00, 10 units announced" in shown.output
    plan = json.loads((await cli("plan", run_id, "--json")).stdout)
    stale = await cli("approve", run_id, "--plan", "0" * 64)
    assert (stale.exit_code, "read the plan again" in stale.stderr) == (1, True)
    approved = await cli("approve", run_id, "--plan", plan["digest"])
    assert (approved.exit_code, f"run {run_id} goes on at shopify-sync" in approved.output) == (0, True)
    assert plan["digest"] in approved.output
    again = await cli("plan", run_id)
    structlog.reset_defaults()
    assert (again.exit_code, "is running: only one that needs review has a plan" in again.stderr) == (1, True)
    await office.work()
