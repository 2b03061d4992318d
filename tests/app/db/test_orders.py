"""What all orders have in `incoming`: exact while nothing is under way, within bounds while something is."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from app.db import tables
from app.db.orders import PostgresOrders
from app.db.people import People
from app.db.receiving import Units
from app.db.session import Database, PoolSize
from pipeline.ports import Incoming
from tests.app.db.given import MERCHANT, Given

RED, HERE = "gid://shopify/InventoryItem/1", "gid://shopify/Location/1"


@pytest.fixture
async def given(database_url: str) -> AsyncIterator[Given]:
    """An order that announced ten red mugs."""
    database = Database(database_url, PoolSize(4))
    given = Given(database)
    await given.order()
    await given.change(tables.draft_variants, tables.draft_variants.c.id == "v-1", inventory_item_id=RED)
    await tell(given, 0, 10)
    yield given
    await database.close()


async def tell(given: Given, step: int, units: int, *, state: str = "confirmed", **external: str) -> None:
    parameters = {"location_id": HERE, "units": [["v-1", RED, units]]}
    key = f"announce:order-1:{step}"
    row = {"key": key, "run_id": "run-1", "fence": 1, "state": state, "parameters": parameters, "external": external}
    await given.insert(tables.effects, **row)


async def incoming(given: Given, *, merchant: str = MERCHANT, where: str = HERE) -> Incoming | None:
    found = await PostgresOrders(given.database).incoming(merchant, where, [RED], ["v-1"])
    return found.get(RED)


async def test_what_was_announced_and_has_not_come_is_expected(given: Given) -> None:
    assert await incoming(given) == Incoming(10, 10)
    here = tables.order_variants.c.draft_variant_id == "v-1"
    await given.change(tables.order_variants, here, received=7, rejected=1, surplus=2)
    assert await incoming(given) == Incoming(4, 4)


async def test_another_merchants_and_another_locations_goods_are_not(given: Given) -> None:
    assert await incoming(given, merchant="m2") is None
    assert await incoming(given, where="gid://shopify/Location/2") is None


async def test_what_is_told_and_not_recorded_may_be_expected(given: Given) -> None:
    await tell(given, 1, 5)
    await tell(given, 2, 3, state="intent")
    await tell(given, 3, -4, state="intent")
    await tell(given, 4, 100, refused="INVALID_LOCATION")
    assert await incoming(given) == Incoming(10, 18)


async def test_goods_of_an_order_so_new_that_its_items_are_unwritten_count_too(given: Given) -> None:
    await given.change(tables.draft_variants, tables.draft_variants.c.id == "v-1", inventory_item_id="")
    assert await incoming(given) == Incoming(10, 10)


async def test_what_a_receipt_under_way_is_about_to_take_may_have_come(given: Given) -> None:
    _, job = await People(given.database).receive("order-1", "ann", {"MUG-R": Units(4, 1)})
    receipt_id = (await given.run_row(job.run_id))["receipt_id"]
    plan = {"location_id": HERE, "shares": [["v-1", RED, 4, 0, 1, 0]]}
    row = {"key": f"plan:{receipt_id}", "run_id": job.run_id, "fence": 1, "state": "confirmed", "parameters": plan}
    await given.insert(tables.effects, **row)
    assert await incoming(given) == Incoming(5, 10)
