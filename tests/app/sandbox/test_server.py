"""The process: what a client was told survives a kill, and a person can see what is there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from app.sandbox.server import run_sandbox
from app.sandbox.state import new_shop
from tests.app.sandbox.conftest import SET_PRODUCT, TOKEN, ShopClient, shirt

DOMAIN = "kept.myshopify.com"


@contextmanager
def _process(state: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "app.sandbox", "--state", str(state), "--shop", f"{DOMAIN}:{TOKEN}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().removeprefix("listening on ").strip()
        finally:  # a test that fails must not wait for a server that nobody ends
            process.terminate()


async def kept(client: ShopClient) -> dict[str, Any]:
    """The shop as it stands in its file; the points it took are counted from the process' start."""
    state = await client.state()
    return {name: value for name, value in state.items() if name != "points_used"}


async def test_what_was_answered_survives_sigkill(tmp_path: Path, http: httpx.AsyncClient) -> None:
    with _process(tmp_path / "state") as (process, address):
        client = ShopClient(http, address, DOMAIN)
        item = await client.first_item()
        first = await client.adjust(item, 10, key="k")
        before = await kept(client)
        process.kill()
    with _process(tmp_path / "state") as (process, address):
        client = ShopClient(http, address, DOMAIN)
        assert await kept(client) == before
        assert await client.adjust(item, 10, key="k") == first
        assert (await client.quantities())["incoming"] == 10
        process.terminate()
        assert process.wait(5) == 0


async def test_it_serves_inside_another_program_and_on_loopback_only(http: httpx.AsyncClient) -> None:
    async with run_sandbox(shops=[new_shop(DOMAIN, TOKEN)]) as address:
        assert address.startswith("http://127.0.0.1:")
        assert (await ShopClient(http, address, DOMAIN).state())["products"] == []


async def test_shops_do_not_see_each_other(shop: ShopClient) -> None:
    await shop.data(SET_PRODUCT, input=shirt())
    other = ShopClient(shop.http, shop.address, f"other-{shop.domain}", token="other")
    await other.open()
    assert (await other.state())["products"] == []
    other.token = shop.token
    assert (await other.post("{ shop { name } }")).status_code == 401


async def test_the_page_shows_the_goods_and_says_that_it_is_not_shopify(shop: ShopClient) -> None:
    await shop.define_draft_id()
    await shop.set_product(title="<b>Linen</b>")
    page = (await shop.http.get(f"{shop.address}/")).text
    assert "Sandbox: not Shopify." in page
    assert "&lt;b&gt;Linen&lt;/b&gt;" in page
    assert "LS-S" in page


async def test_opening_a_shop_again_changes_its_settings_and_keeps_its_goods(shop: ShopClient) -> None:
    await shop.data(SET_PRODUCT, input=shirt())
    await shop.open(scopes=["read_products"])
    state = await shop.state()
    assert (len(state["products"]), state["scopes"]) == (1, ["read_products"])
