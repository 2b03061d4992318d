"""Saying over HTTP what a product is in the shop."""

from __future__ import annotations

import httpx

from app.db import tables
from tests.app.db.given import Given


async def test_what_a_product_is_can_be_said_and_nonsense_is_refused(client: httpx.AsyncClient, given: Given) -> None:
    await given.order(run_id="r")
    await given.change(tables.runs, tables.runs.c.id == "r", state="needs_review", review_stage="shopify-sync")
    await given.change(tables.product_drafts, tables.product_drafts.c.id == "p-1", product_id="")
    answer = await client.post("/api/orders/r/match", json={"draft": "MUG-R", "product": "77", "who": "ann"})
    assert (answer.status_code, answer.json()["choice"]) == (200, "gid://shopify/Product/77")
    for draft, product, status in (("MUG-R", "red", 422), ("nothing", "new", 404)):
        answer = await client.post("/api/orders/r/match", json={"draft": draft, "product": product})
        assert (answer.status_code, answer.json()["success"]) == (status, False)
