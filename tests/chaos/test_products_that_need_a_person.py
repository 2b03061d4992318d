"""A product nobody can place: the rest is done, a person says what it is, and it is known from then on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from sqlalchemy import select

from app.core import Core
from app.db import order_view
from app.db.tables import audit, supplier_items
from app.enqueue import enqueue_next
from tests.chaos.test_killed_products import csv, gtin_of
from tests.chaos.watching import quantities, rows, run_of
from tests.shop import DOMAIN, TOKEN, connect_merchant, settings_for, settled, shop_state, submit, working
from tests.support import loopback

Edit = Callable[..., Awaitable[str]]


def merchant_at(sandbox: str, http: httpx.AsyncClient) -> Edit:
    async def edit(do: str, **given: Any) -> str:
        response = await http.post(f"{sandbox}/shops/{DOMAIN}/edits", json={"do": do, **given})
        response.raise_for_status()
        return str(response.json()["ids"][0])

    return edit


async def approve(core: Core, upload: str) -> None:
    await enqueue_next(core.bull, await core.people.approve((await run_of(core, upload))["id"], "ann"))


async def test_the_rest_is_done_a_person_says_which_and_the_next_order_goes_straight_through(
    redis_url: str, database_url: str, sandbox: str
) -> None:
    async with (
        loopback() as http,
        working(settings_for(redis_url, database_url, sandbox)) as (core, _),
    ):
        await connect_merchant(core, sandbox)
        edit = merchant_at(sandbox, http)
        bowl = {"options": {"Size": "S"}, "barcode": gtin_of(1)}
        right = await edit("add_product", title="Schale", vendor="Harbor", variants=[bowl | {"sku": "own"}])
        await edit("add_product", title="Schale (alt)", vendor="Harbor", variants=[bowl | {"sku": "old"}])
        lines = [("CUP-S", "", "Cup", "S", 5), ("BOWL-S", gtin_of(1), "Bowl", "S", 7)]
        upload = await submit(core, "first.csv", csv("PO-1", lines))
        (row,) = await settled(core, 1)

        assert row.state == "needs_review"
        assert row.summary.startswith("In the shop: 1 product (1 variant), 5 units announced as incoming")
        assert f"barcode {gtin_of(1)} fits 2 variants" in row.summary
        found = await order_view.find_run(core.database, row.run_id)
        assert found is not None
        assert [(doubt.code, doubt.line) for doubt in found.run.review] == [("several_matches", 2)]
        assert await quantities(sandbox) == {"CUP-S": (5, 0, 0), "own": (0, 0, 0), "old": (0, 0, 0)}

        await approve(core, upload)  # nothing was mended: the same question, and nothing twice
        (row,) = await settled(core, 1)
        assert row.state == "needs_review"

        await core.people.match(row.run_id, "ann", "BOWL-S", right)
        await approve(core, upload)
        (row,) = await settled(core, 1)
        assert (row.state, await quantities(sandbox)) == (
            "completed",
            {"CUP-S": (5, 0, 0), "own": (7, 0, 0), "old": (0, 0, 0)},
        )
        confirmed = await rows(core, select(supplier_items.c.sku, supplier_items.c.confirmed_by))
        assert {(one["sku"], one["confirmed_by"]) for one in confirmed} == {("CUP-S", "ann"), ("BOWL-S", "ann")}

        await edit("edit_product", product_id=right, changes={"title": "Salatschale"})
        await submit(core, "second.csv", csv("PO-2", [("BOWL-S", gtin_of(1), "Bowl", "S", 10)]))
        ended = await settled(core, 2)
        assert {one.state for one in ended} == {"completed"}
        assert (await quantities(sandbox))["own"] == (17, 0, 0)
        state = await shop_state(sandbox)
        assert (state["products_created"], state["calls"]["productSet"]) == (1, 1)
        assert "match" in {one["action"] for one in await rows(core, select(audit.c.action))}


async def test_a_product_deleted_in_the_shop_is_made_again_when_a_person_says_new(
    redis_url: str, database_url: str, sandbox: str
) -> None:
    async with (
        loopback() as http,
        working(settings_for(redis_url, database_url, sandbox)) as (core, _),
    ):
        await connect_merchant(core, sandbox, stock_on_approve="record")
        edit = merchant_at(sandbox, http)
        await submit(core, "first.csv", csv("PO-1", [("CUP-S", "", "Cup", "S", 5)]))
        await settled(core, 1)
        (product,) = (await shop_state(sandbox))["products"]
        await edit("delete_product", product_id=product["id"])
        upload = await submit(core, "second.csv", csv("PO-2", [("CUP-S", "", "Cup", "S", 3)]))
        await settled(core, 2)
        run = await run_of(core, upload)
        assert (run["state"], [one["code"] for one in run["review"]]) == ("needs_review", ["product_deleted"])
        await approve(core, upload)
        await settled(core, 2)
        assert (await shop_state(sandbox))["products"] == []

        await core.people.match(run["id"], "ann", "Cup", "new")
        await approve(core, upload)
        await settled(core, 2)
        (product,) = (await shop_state(sandbox))["products"]
        assert [one["sku"] for one in product["variants"]] == ["CUP-S"]
        assert (await run_of(core, upload))["state"] == "completed"


async def test_two_suppliers_of_one_article_share_its_product_although_the_index_lags(
    redis_url: str, database_url: str, sandbox: str
) -> None:
    """And the picture that the second one's paper names is not hung on a product that was there before."""
    async with (
        loopback() as http,
        working(settings_for(redis_url, database_url, sandbox)) as (core, _),
    ):
        await connect_merchant(core, sandbox)
        body = {"domain": DOMAIN, "token": TOKEN, "settings": {"search_lag_s": 3600, "processing_s": 0.01}}
        (await http.post(f"{sandbox}/shops", json=body)).raise_for_status()
        await submit(core, "first.csv", csv("PO-1", [("CUP-S", gtin_of(2), "Cup", "S", 5)]))
        await settled(core, 1)
        second = (
            csv("PO-2", [("T-77", gtin_of(2), "Tasse", "Klein", 3)]).decode().replace("Juniper Ceramics Co.", "Tonware")
        )
        head, line = second.splitlines()
        pictured = f"{head},Image URL\n{line},https://images.example/tasse.jpg"
        await submit(core, "second.csv", pictured.encode())
        ended = await settled(core, 2)
        assert {one.state for one in ended} == {"completed"}
        assert await quantities(sandbox) == {"CUP-S": (8, 0, 0)}
        (product,) = (await shop_state(sandbox))["products"]
        assert product["media"] == []
