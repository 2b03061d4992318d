"""The sandbox's page in a real browser: products with their pictures, stock and history, fresh when it is asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import expect

from app.sandbox.server import run_sandbox
from app.sandbox.state import Settings, new_shop
from tests.app.sandbox.conftest import ShopClient
from tests.browser.test_page import chromium, open_page
from tests.support import loopback

__all__ = ["chromium", "open_page"]

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=\"document.title='taken'\">"
STAGE = """
mutation ($input: [StagedUploadInput!]!) {
  stagedUploadsCreate(input: $input) { stagedTargets { url resourceUrl parameters { name value } } }
}
"""
ATTACH = """
mutation ($p: ProductUpdateInput!, $m: [CreateMediaInput!]!) {
  productUpdate(product: $p, media: $m) { userErrors { message } }
}
"""
UPDATE = "mutation ($p: ProductUpdateInput!) { productUpdate(product: $p) { userErrors { message } } }"


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[ShopClient]:
    opened = new_shop("mugs.sandbox", "token-of-demo", settings=Settings(processing_s=0))
    async with (
        run_sandbox(state_path=tmp_path / "shop.sqlite", shops=[opened]) as address,
        loopback(timeout=10) as http,
    ):
        yield ShopClient(http, address, "mugs.sandbox")


async def upload(shop: ShopClient, name: str) -> str:
    """A photo of the sandbox's own, uploaded as the product would be; where it may be taken from."""
    photo = (await shop.http.get(f"{shop.address}/images/mug.jpg")).content
    wanted = {"resource": "IMAGE", "filename": name, "mimeType": "image/jpeg", "httpMethod": "POST"}
    [target] = (await shop.data(STAGE, input=[wanted]))["stagedUploadsCreate"]["stagedTargets"]
    form = [(one["name"], (None, one["value"])) for one in target["parameters"]]
    answer = await shop.http.post(target["url"], files=[*form, ("file", (name, photo, "image/jpeg"))])
    assert answer.status_code == 201, answer.text
    return str(target["resourceUrl"])


async def test_a_person_sees_what_was_created_and_what_brought_it_there(shop: ShopClient, open_page: Any) -> None:
    page = await open_page(f"{shop.address}/")
    await expect(page.locator("body")).to_contain_text("No products.")

    item = await shop.first_item()
    product_id = (await shop.state())["products"][0]["id"]
    await shop.adjust(item, 7, referenceDocumentUri="gid://po-pipeline/PurchaseOrder/9")
    source = await upload(shop, "mug.jpg")
    await upload(shop, "orphan.jpg")
    picture = {"originalSource": source, "alt": "A mug", "mediaContentType": "IMAGE"}
    await shop.data(ATTACH, p={"id": product_id}, m=[picture])
    await page.get_by_role("link", name="Refresh", exact=True).click()

    row = page.locator("tbody tr", has_text="LS-S")
    await expect(row.first).to_contain_text("Linen Shirt")
    await expect(row.first).to_contain_text("Warehouse: 7 incoming")
    await expect(row.first).to_contain_text("draft = d1")
    shown = page.get_by_role("img", name="A mug")
    await expect(shown).to_be_visible()
    assert await shown.evaluate("image => image.naturalWidth") > 0
    await expect(page.locator("details", has_text="Adjustments")).to_contain_text("LS-S: +7 incoming at Warehouse")
    await expect(page.locator("details", has_text="Adjustments")).to_contain_text("gid://po-pipeline/PurchaseOrder/9")
    uploads = page.locator("details", has_text="Uploads (2)")
    await expect(uploads.locator("table")).not_to_be_visible()
    await uploads.locator("summary").focus()
    await page.keyboard.press("Enter")
    await expect(uploads.locator("tr", has_text="orphan.jpg")).to_contain_text("in use by nothing")
    await expect(uploads.locator("tr", has_text="mug.jpg").first).to_contain_text("in use")

    await shop.data(UPDATE, p={"id": product_id, "title": HOSTILE, "status": "ARCHIVED"})
    await page.get_by_role("link", name="Refresh", exact=True).click()
    await expect(row.first).to_contain_text(HOSTILE)
    await expect(row.first).to_contain_text("archived")
    assert await page.title() == "Sandbox shops"


async def test_the_page_loads_itself_anew_when_asked_to(shop: ShopClient, open_page: Any) -> None:
    page = await open_page(f"{shop.address}/?every=1")
    await expect(page.locator("body")).to_contain_text("No products.")
    await shop.first_item()
    await expect(page.locator("body")).to_contain_text("Linen Shirt")
    await page.get_by_role("link", name="stand still").click()
    await expect(page.get_by_role("link", name="refresh every 5 s")).to_be_visible()
