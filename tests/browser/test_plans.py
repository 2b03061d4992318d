"""Plans on the page: read before the button, approved as shown, and shown again when the shop has changed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from app.admin.api import create_app
from app.admin.deps import AdminDeps
from app.db import tables
from app.db.grants import StaticToken
from app.db.journal import dump
from app.db.session import Database
from app.sandbox.server import run_sandbox
from app.sandbox.state import new_shop
from pipeline.domain.merchant import Merchant, MerchantSettings
from tests.app.admin.conftest import merchants_of
from tests.app.admin.test_server import served
from tests.app.db.given import Given, drafts
from tests.app.held import held
from tests.browser.test_page import chromium, open_page
from tests.support import loopback

__all__ = ["chromium", "open_page"]

pytestmark = pytest.mark.browser

DOMAIN = "mugs.sandbox"
TOKEN = "a token"
HOSTILE = "<img src=x onerror=\"document.title='taken'\">"


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[str]:
    async with run_sandbox(state_path=tmp_path / "shop.sqlite", shops=[new_shop(DOMAIN, TOKEN)]) as address:
        yield address


@pytest.fixture
async def url(deps: AdminDeps, given: Given, database: Database, sandbox: str) -> AsyncIterator[str]:
    """A page whose one order waits at the end of the line, with a hostile title."""
    await given.order()
    await merchants_of(database).add(
        Merchant(id="m1", name="Shop", shop_domain=DOMAIN, settings=MerchantSettings()),
        endpoint=f"{sandbox}/shops/{DOMAIN}/admin/api/2026-10/graphql.json",
        access=StaticToken(TOKEN),
    )
    planned = drafts()
    named = planned.drafts[0].plan.model_copy(update={"title": HOSTILE})
    content = dump(planned.model_copy(update={"drafts": (planned.drafts[0].model_copy(update={"plan": named}),)}))
    await given.change(tables.stage_runs, tables.stage_runs.c.run_id == "run-1", output=content)
    await given.change(tables.product_drafts, tables.product_drafts.c.id == "p-1", product_id="", title=HOSTILE)
    await given.change(tables.draft_variants, tables.draft_variants.c.draft_id == "p-1", variant_id="")
    await given.change(tables.order_variants, tables.order_variants.c.order_id == "order-1", announced=0)
    await given.change(
        tables.runs,
        tables.runs.c.id == "run-1",
        state="needs_review",
        review_stage="image-attachment",
        summary="Look.",
    )
    async with held(served(create_app(deps))) as address:
        yield address


async def approve(page: Page) -> None:
    await page.get_by_role("button", name="approve", exact=True).click()
    await page.locator("#confirm button[value=yes]").click()


async def test_the_plan_stands_before_the_button_and_is_approved_as_shown(
    url: str, open_page: Any, given: Given, sandbox: str
) -> None:
    page = await open_page(f"{url}/#run-1")
    plan = page.locator("#plan")
    said = "Creates 1 draft product (2 variants), announces 20 units at Warehouse, publishes nothing."
    await expect(plan).to_contain_text(said)
    await expect(plan.locator("details ul").first).not_to_be_visible()
    await plan.locator("summary").focus()
    await page.keyboard.press("Enter")
    await expect(plan.locator("details")).to_contain_text(f"{HOSTILE} is created as a draft with 2 variants")
    await expect(plan.locator("details")).to_contain_text("MUG-R (MUG-R): new, 10 units announced")
    assert await page.locator("main img").count() == 0
    assert await page.title() == "Orders"
    await page.get_by_role("button", name="approve", exact=True).click()
    await expect(page.locator("#confirm-text")).to_contain_text(said)
    await page.locator("#confirm button[value=yes]").click()
    await expect(page.locator("#notice")).to_have_text("approve: done")
    [row] = await given.rows(tables.plans)
    assert (row["run_id"], row["approved_by"]) == ("run-1", "page")
    await expect(page.locator("#detail", has_text="Approvals")).to_contain_text(f"{said}")
    await expect(page.locator("#detail li", has_text="page, ")).to_have_count(1)
    assert await page.locator("main img").count() == 0


async def test_an_order_that_is_over_is_undone_from_the_page_after_a_question(
    url: str, open_page: Any, given: Given
) -> None:
    done = {"state": "completed", "review_stage": "", "due_stage": None}
    await given.change(tables.runs, tables.runs.c.id == "run-1", **done)
    page = await open_page(f"{url}/#run-1")
    await page.get_by_role("button", name="undo").click()
    await expect(page.locator("#confirm-text")).to_contain_text("What was edited or received stays")
    await page.keyboard.press("Escape")
    assert await given.rows(tables.receipts) == []
    await page.get_by_role("button", name="undo").click()
    await page.locator("#confirm button[value=yes]").click()
    await expect(page.locator("#notice")).to_have_text("undo: done")
    [receipt] = await given.rows(tables.receipts)
    assert (receipt["action"], receipt["entered_by"]) == ("undo", "page")
    await expect(page.get_by_role("button", name="undo")).to_have_count(0)
    await expect(page.locator("#detail", has_text="Receipts")).to_contain_text("undo")


async def test_a_shop_that_changed_since_is_shown_again_and_nothing_is_approved(
    url: str, open_page: Any, given: Given, sandbox: str
) -> None:
    page = await open_page(f"{url}/#run-1")
    await expect(page.locator("#plan")).to_contain_text("announces 20 units")
    scopes = ["read_products", "write_products", "read_locations"]
    await _change_shop(sandbox, scopes=scopes)
    await approve(page)
    await expect(page.locator("#notice")).to_contain_text("the shop has changed since you looked")
    await expect(page.locator("#plan")).to_contain_text("announces nothing, publishes nothing")
    await expect(page.locator("#plan")).to_contain_text("may not change stock in this shop")
    assert (await given.run_row("run-1"))["state"] == "needs_review"
    await approve(page)
    await expect(page.locator("#notice")).to_have_text("approve: done")


async def test_a_shop_that_cannot_be_read_says_so_and_offers_no_plain_approve(
    url: str, open_page: Any, given: Given, sandbox: str
) -> None:
    async with loopback() as http:
        # Twice: an event may draw the order anew while it is read for the first time.
        fault = {"operation": "*", "kind": "internal_error", "count": 2}
        (await http.post(f"{sandbox}/shops/{DOMAIN}/faults", json=fault)).raise_for_status()
        page = await open_page(f"{url}/#run-1")
        await expect(page.locator("#plan")).to_contain_text("try again")
        await expect(page.get_by_role("button", name="approve", exact=True)).to_have_count(0)
        (await http.post(f"{sandbox}/shops/{DOMAIN}/faults", json=[])).raise_for_status()
    await page.get_by_role("button", name="read the plan again").click()
    await expect(page.locator("#plan")).to_contain_text("announces 20 units")
    await expect(page.get_by_role("button", name="approve", exact=True)).to_have_count(1)


async def _change_shop(sandbox: str, **changed: Any) -> None:
    async with loopback() as http:
        body = {"domain": DOMAIN, "token": TOKEN} | changed
        (await http.post(f"{sandbox}/shops", json=body)).raise_for_status()


async def test_what_nobody_could_place_is_said_on_the_page(url: str, open_page: Any, given: Given) -> None:
    gone = "gid://shopify/Product/999"
    await given.change(tables.product_drafts, tables.product_drafts.c.id == "p-1", choice=gone)
    page = await open_page(f"{url}/#run-1")
    choice = page.locator("#plan form.choice")
    await expect(choice).to_contain_text("is not in the shop")
    await choice.get_by_role("textbox").fill("no number")
    await choice.get_by_role("button", name="it is this product").click()
    await page.locator("#confirm button[value=yes]").click()
    await expect(page.locator("#notice")).to_contain_text("no number is no product")
    await choice.get_by_role("button", name="it is a new product").click()
    await page.locator("#confirm button[value=yes]").click()
    await expect(page.locator("#notice")).to_have_text("match: done")
    await expect(page.locator("#plan")).to_contain_text("Creates 1 draft product")
    await expect(choice).to_have_count(0)
    assert [row["action"] for row in await given.rows(tables.audit)] == ["match"]
