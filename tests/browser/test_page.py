"""The page in a real browser: live, usable by keyboard, and unmoved by what a document says."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import ConsoleMessage, Page, Route, async_playwright, expect
from sqlalchemy import func

from app.admin.api import create_app
from app.admin.deps import AdminDeps
from app.db import tables
from tests.app.admin.test_server import served
from tests.app.db.given import DOUBTS, Given
from tests.app.held import held
from tests.support import require

pytestmark = pytest.mark.browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
TOKEN = "a-long-token"
REDRAWN_MS = 500
"""Within this a page that draws an order anew has done so."""


@pytest.fixture(scope="session")
def chromium() -> str:
    found = next(filter(None, map(shutil.which, NAMES)), None)
    require(found, "no Chromium on PATH: install the package chromium")
    return str(found)


@pytest.fixture
async def open_page(chromium: str) -> AsyncIterator[Callable[[str], Any]]:
    """Opens pages in one browser; a page that asks any other server, or logs an error, fails its test.

    Ask for it after the server: pytest closes first what was asked for last, and a page that outlives its server looks
    for it again and logs that it is not there.
    """
    complaints: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])

        async def opened(url: str) -> Page:
            page = await browser.new_page(color_scheme="dark")
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("console", lambda said: complaints.append(said.text) if _is_complaint(said) else None)

            async def only_ours(route: Route) -> None:
                if urlsplit(route.request.url).netloc == urlsplit(url).netloc:
                    await route.continue_()
                else:
                    complaints.append(f"asked {route.request.url}")
                    await route.abort()

            await page.route("**/*", only_ours)
            await page.goto(url)
            return page

        yield opened
        await browser.close()
    assert complaints == []


def _is_complaint(said: ConsoleMessage) -> bool:
    """Chromium also reports each refusal the page asked for and shows."""
    return said.type == "error" and not said.text.startswith("Failed to load resource: the server responded")


@pytest.fixture
async def url(deps: AdminDeps) -> AsyncIterator[str]:
    async with held(served(create_app(deps))) as address:
        yield address


@pytest.mark.breaks("failed_says_why", "end_has_its_moment", reason="a run that is moved by hand, for the eye")
async def test_the_page_shows_eleven_stages_and_an_order_as_it_moves(url: str, open_page: Any, given: Given) -> None:
    page = await open_page(url)
    await expect(page.locator("#stages li")).to_have_count(11)
    await expect(page.locator("#none")).to_be_visible()
    await given.order()
    row = page.locator("tr[data-run='run-1']")
    await expect(row).to_contain_text("Acme Ltd")
    await expect(row).to_contain_text("100.00 USD")
    await expect(row).to_contain_text("completed")
    await given.run("r2", due_stage="shopify-sync")
    await expect(page.locator("li[data-queue='shopify-sync']")).to_contain_text("1 waiting")
    await given.change(
        tables.runs,
        tables.runs.c.id == "r2",
        state="failed",
        due_stage=None,
        failed_stage="shopify-sync",
        failure="no shop is connected",
        updated_at=func.clock_timestamp(),
    )
    await expect(page.locator("tr[data-run='r2']")).to_contain_text("no shop is connected")
    await expect(page.locator("li[data-queue='shopify-sync']")).to_contain_text("1 failed")


async def test_a_document_is_text_whatever_it_says(url: str, open_page: Any, given: Given) -> None:
    hostile = "<img src=x onerror=\"document.title='taken'\">"
    await given.order()
    await given.insert(tables.documents, id="d2", merchant_id="m1", upload_id="u2", name=hostile)
    await given.run("r2", document_id="d2", state="failed", failed_stage="ai-parsing", failure=hostile)
    page = await open_page(f"{url}/#r2")
    await expect(page.locator("#detail")).to_contain_text(hostile)
    assert await page.locator("main img").count() == 0
    assert await page.title() == "Orders"


async def test_an_order_is_approved_with_the_keyboard_alone(url: str, open_page: Any, given: Given) -> None:
    await given.run_in_review("r", at="database-save")
    page = await open_page(url)
    await page.locator("tr[data-run='r'] button").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("#detail-title")).to_be_focused()
    await expect(page.locator("#detail")).to_contain_text(DOUBTS[0].message)
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("button", name="approve")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("#confirm")).to_be_visible()
    await page.keyboard.press("Escape")
    assert (await given.run_row("r"))["state"] == "needs_review"
    await page.get_by_role("button", name="approve").press("Enter")
    await page.locator("#confirm button[value=yes]").press("Enter")
    await expect(page.locator("#notice")).to_have_text("approve: done")
    assert (await given.run_row("r"))["due_stage"] == "database-save"
    await expect(page.locator("tr[data-run='r']")).to_contain_text("running")


async def test_a_question_is_not_answered_by_the_end_of_the_one_before(url: str, open_page: Any, given: Given) -> None:
    await given.run_in_review("r", at="database-save")
    page = await open_page(f"{url}/#r")
    approve = page.get_by_role("button", name="approve")
    # All three before the browser tells anybody that the first dialog is closed.
    await approve.evaluate(
        "(button) => { button.click(); document.getElementById('confirm').close(); button.click(); }"
    )
    await page.locator("#confirm button[value=yes]").click()
    await expect(page.locator("#notice")).to_have_text("approve: done")


async def test_goods_are_received_in_part_and_more_is_asked_twice(url: str, open_page: Any, given: Given) -> None:
    await given.order()
    page = await open_page(f"{url}/#run-1")
    await page.get_by_label("MUG-R, accepted").fill("12")
    await page.get_by_role("button", name="receive what is counted").click()
    await page.locator("#confirm button[value=yes]").click()
    await expect(page.locator("#confirm-text")).to_contain_text("MUG-R: 12 counted, 10 open")
    await page.locator("#confirm button[value=yes]").click()
    await expect(page.locator("#notice")).to_have_text("receive: done")
    [line] = await given.rows(tables.receipt_lines)
    assert (line["draft_variant_id"], line["accepted"]) == ("v-1", 12)
    await expect(page.locator("#detail")).to_contain_text("Receipts")


async def test_a_change_takes_neither_what_was_counted_nor_the_keyboards_place(
    url: str, open_page: Any, given: Given
) -> None:
    await given.order()
    page = await open_page(f"{url}/#run-1")
    await page.get_by_label("MUG-R, accepted").fill("3")
    await page.get_by_role("button", name="receive all that is open").focus()
    await given.change(tables.runs, tables.runs.c.id == "run-1", summary="changed", updated_at=func.clock_timestamp())
    await expect(page.locator("tr[data-run='run-1']")).to_contain_text("changed")
    await page.wait_for_timeout(REDRAWN_MS)
    await expect(page.get_by_label("MUG-R, accepted")).to_have_value("3")
    await page.get_by_label("MUG-R, accepted").fill("0")
    await page.get_by_role("button", name="receive all that is open").focus()
    await given.change(tables.runs, tables.runs.c.id == "run-1", summary="again", updated_at=func.clock_timestamp())
    await expect(page.locator("#detail dl")).to_contain_text("again")
    await expect(page.get_by_role("button", name="receive all that is open")).to_be_focused()


async def test_an_order_is_closed_short(url: str, open_page: Any, given: Given) -> None:
    await given.order()
    page = await open_page(f"{url}/#run-1")
    await page.get_by_role("button", name="close", exact=True).click()
    await page.locator("#confirm button[value=yes]").click()
    await expect(page.locator("#notice")).to_have_text("close: done")
    assert [row["action"] for row in await given.rows(tables.receipts)] == ["close"]


async def test_what_a_cancelled_run_left_in_the_shop_can_be_undone(url: str, open_page: Any, given: Given) -> None:
    await given.order()
    await given.change(tables.purchase_orders, tables.purchase_orders.c.id == "order-1", state="draft")
    await given.change(tables.runs, tables.runs.c.id == "run-1", state="cancelled")
    decided = {"run_id": "run-1", "fence": 1, "state": "confirmed", "parameters": {}, "external": {}}
    await given.insert(tables.effects, key="plan:run-1:rule", **decided)
    page = await open_page(f"{url}/#run-1")
    await expect(page.locator("#detail")).to_contain_text("cancelled")
    await expect(page.get_by_role("button", name="undo")).to_have_count(0)
    await given.insert(tables.effects, key="product:p-1", **decided)
    await page.reload()
    await page.get_by_role("button", name="undo").click()
    await page.locator("#confirm button[value=yes]").click()
    await expect(page.locator("#notice")).to_have_text("undo: done")
    assert [row["action"] for row in await given.rows(tables.receipts)] == ["undo"]


async def test_a_change_leaves_the_cursor_in_its_field(url: str, open_page: Any, given: Given) -> None:
    await given.order()
    page = await open_page(f"{url}/#run-1")
    await page.get_by_label("MUG-R, rejected").focus()
    await given.change(tables.runs, tables.runs.c.id == "run-1", summary="changed", updated_at=func.clock_timestamp())
    await expect(page.locator("#detail dl")).to_contain_text("changed")
    await page.keyboard.insert_text("2")
    await expect(page.get_by_label("MUG-R, rejected")).to_have_value("2")


async def test_a_change_that_arrives_while_somebody_begins_to_count_takes_nothing_either(
    url: str, open_page: Any, given: Given
) -> None:
    """The page had asked for the order before the first figure was typed, and is answered after it."""
    await given.order()
    page = await open_page(f"{url}/#run-1")
    await expect(page.get_by_label("MUG-R, accepted")).to_be_visible()
    asked, typed = asyncio.Event(), asyncio.Event()

    async def answer_late(route: Route) -> None:
        asked.set()
        await typed.wait()
        await route.continue_()

    await page.route("**/api/orders/run-1", answer_late)
    await given.change(tables.runs, tables.runs.c.id == "run-1", summary="changed", updated_at=func.clock_timestamp())
    await asked.wait()
    await page.get_by_label("MUG-R, accepted").fill("3")
    async with page.expect_response("**/api/orders/run-1"):
        typed.set()
    await page.wait_for_timeout(REDRAWN_MS)
    await expect(page.get_by_label("MUG-R, accepted")).to_have_value("3")


async def test_a_document_is_sent_from_the_page(url: str, open_page: Any, given: Given) -> None:
    await given.merchant()
    page = await open_page(url)
    await expect(page.locator("#send option")).to_have_count(1)
    file = {"name": "po.csv", "mimeType": "text/csv", "buffer": b"sku,qty\nA,1\n"}
    await page.locator("#send input[type=file]").set_input_files(file)
    await page.locator("#send button").click()
    await expect(page.locator("#notice")).to_have_text("po.csv is on its way.")
    [document] = await given.rows(tables.documents)
    assert document["content"] == file["buffer"]


async def test_a_shop_that_holds_runs_up_is_named_with_the_reason(url: str, open_page: Any, given: Given) -> None:
    await given.merchant()
    await given.run("r", due_stage="shopify-sync")
    await given.insert(tables.shop_states, merchant_id="m1", parked_reason="<b>connect</b> the shop again")
    page = await open_page(url)
    await expect(page.locator("#shops li span")).to_have_text(
        "m1.example is parked, runs waiting: 1: <b>connect</b> the shop again"
    )


async def test_a_shop_that_is_put_right_is_called_again_from_the_page(url: str, open_page: Any, given: Given) -> None:
    await given.merchant()
    await given.insert(tables.shop_states, merchant_id="m1", parked_reason="connect it again", parked_at=func.now())
    page = await open_page(url)
    await page.get_by_role("button", name="unpark m1.example").press("Enter")
    await page.locator("#confirm button[value=yes]").press("Enter")
    await expect(page.locator("#notice")).to_contain_text("the shop of m1 is called again")
    await expect(page.locator("#shops li")).to_have_count(0)
    [note] = await given.rows(tables.audit)
    assert (note["who"], note["action"]) == ("page", "unpark")


@pytest.fixture
async def guarded_url(make_deps: Callable[..., AdminDeps]) -> AsyncIterator[str]:
    async with held(served(create_app(make_deps(token=TOKEN)))) as address:
        yield address


async def test_a_token_is_asked_for_once_per_session(guarded_url: str, open_page: Any) -> None:
    page = await open_page(guarded_url)
    await page.locator("input[name=token]").fill("guess")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("That is not the token.")).to_be_visible()
    await page.locator("input[name=token]").fill(TOKEN)
    # Not Enter: the browser may still be moving to #wrong, which takes the focus the field was just given.
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.locator("#stages li")).to_have_count(11)


async def test_the_api_is_described_without_asking_anybody_else(url: str, open_page: Any) -> None:
    page = await open_page(f"{url}/api/docs")
    await expect(page.locator("#docs")).to_contain_text("/api/orders/{name}/receipts")
