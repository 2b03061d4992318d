"""The sandbox's page: what stands in a shop and what brought it there, and no text of a document is markup."""

from __future__ import annotations

import re
from html import unescape

import pytest

from app.sandbox.page import EVERY_S_MAX, seconds
from tests.app.sandbox.conftest import ShopClient

HOSTILE = "<script>alert(1)</script>\"'&"


async def section(shop: ShopClient) -> str:
    """The shop's part of the page; other tests' shops stand beside it."""
    page = (await shop.http.get(f"{shop.address}/")).text
    [found] = [part for part in page.split("<section>")[1:] if shop.domain in part]
    return found


def text(html: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html)))


async def test_an_empty_shop_says_so(shop: ShopClient) -> None:
    said = text(await section(shop))
    assert "0 products, 0 created" in said
    assert "No products." in said
    assert "Adjustments (0)" in said


async def test_a_product_shows_its_variants_prices_metafields_and_stock_by_state_and_location(shop: ShopClient) -> None:
    item = await shop.first_item()
    await shop.adjust(item, 7)
    await shop.adjust(item, 2, name="available", reason="received", ledgerDocumentUri=None)
    said = text(await section(shop))
    assert "1 product, 1 created" in said
    assert "Linen Shirt gid://shopify/Product/" in said
    assert "not published" in said
    assert "draft = d1" in said
    assert re.search(r"draft S LS-S 49\.90 21\.50 Warehouse: 2 available, 7 incoming, 2 on hand", said), said
    assert "M LS-M 49.90 21.50 Warehouse: nothing" in said


async def test_the_history_names_each_change_and_its_documents(shop: ShopClient) -> None:
    item = await shop.first_item()
    await shop.adjust(item, 7, referenceDocumentUri="gid://po-pipeline/PurchaseOrder/9")
    said = text(await section(shop))
    assert "Adjustments (1)" in said
    assert "movement created gid://po-pipeline/PurchaseOrder/9 LS-S: +7 incoming at Warehouse" in said
    assert "ledger gid://po-pipeline/PurchaseOrder/1" in said
    assert re.search(r"inventoryAdjustQuantities 1\b", said)


async def test_what_a_document_said_is_text(shop: ShopClient) -> None:
    await shop.define_draft_id()
    await shop.set_product(HOSTILE, title=HOSTILE, vendor=HOSTILE, tags=[HOSTILE])
    html = await section(shop)
    assert "<script>" not in html
    assert text(html).count("<script>alert(1)</script>") >= 4


@pytest.mark.parametrize(
    ("asked", "every"),
    [("5", 5), ("60", 60), ("0", 0), ("61", 0), ("-1", 0), ("1e3", 0), ("", 0), ("²", 0), ('5"><script>', 0)],
)
async def test_the_page_loads_itself_anew_only_as_often_as_is_sensible(
    shop: ShopClient, asked: str, every: int
) -> None:
    page = (await shop.http.get(f"{shop.address}/", params={"every": asked})).text
    assert seconds(asked) == every <= EVERY_S_MAX
    assert (f'<meta http-equiv="refresh" content="{every}">' in page) == bool(every)
