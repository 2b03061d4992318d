"""Goods that a person received in the shop's admin are counted here once, whoever else receives meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from app.db import tables
from app.db.people import People
from app.db.receiving import ReceivedInAdmin, Units, take_over_shipment
from app.db.session import Database, PoolSize
from tests.app.db.given import MERCHANT, Given

SHIPMENT = "gid://shopify/InventoryShipment/1"
RED = "gid://shopify/InventoryItem/1"


@pytest.fixture
async def given(database_url: str) -> AsyncIterator[Given]:
    """An order of ten red and ten blue mugs, announced by a shipment."""
    database = Database(database_url, PoolSize(4))
    given = Given(database)
    await given.order()
    for number in (1, 2):
        item = f"gid://shopify/InventoryItem/{number}"
        await given.change(tables.draft_variants, tables.draft_variants.c.id == f"v-{number}", inventory_item_id=item)
    await given.insert(tables.shipments, id=SHIPMENT, order_id="order-1", transfer_id="t")
    await given.insert(tables.shipment_lines, shipment_id=SHIPMENT, inventory_item_id=RED, shipped=10)
    yield given
    await database.close()


async def take_over(given: Given, accepted: int, rejected: int = 0, **other: str) -> str | None:
    async with given.database.transaction() as connection:
        return await take_over_shipment(
            connection,
            other.get("merchant", MERCHANT),
            other.get("shipment", SHIPMENT),
            [ReceivedInAdmin(other.get("item", RED), accepted, rejected)],
        )


async def books(given: Given) -> tuple[int, int, int, int]:
    """(announced, received, rejected, surplus) of the red mugs."""
    [row] = await given.rows(tables.order_variants, tables.order_variants.c.draft_variant_id == "v-1")
    return (row["announced"], row["received"], row["rejected"], row["surplus"])


async def test_what_the_admin_received_is_counted_once_however_often_it_is_said(given: Given) -> None:
    for _ in range(3):
        assert await take_over(given, 6, 1) == "order-1"
    assert await books(given) == (10, 6, 1, 0)
    await take_over(given, 8, 1)
    assert await books(given) == (10, 8, 1, 0)
    await take_over(given, 6, 1)  # an older message that comes late
    assert await books(given) == (10, 8, 1, 0)
    [order] = await given.rows(tables.purchase_orders)
    assert order["state"] == "partially_received"
    notes = await given.rows(tables.audit)
    assert [(note["who"], note["order_id"]) for note in notes] == [("the shop's admin", "order-1")] * 2


async def test_more_than_was_announced_is_surplus(given: Given) -> None:
    await take_over(given, 11, 2)
    assert await books(given) == (10, 11, 2, 3)


async def test_what_a_receipt_under_way_receives_is_left_to_it(given: Given) -> None:
    _, job = await People(given.database).receive("order-1", "ann", {"MUG-R": Units(4)})
    run = await given.run_row(job.run_id)
    plan = {"location_id": "l", "shares": [["v-1", RED, 4, 0, 0, 0]], "shipments": [[SHIPMENT, RED, 4, 0]]}
    key = f"plan:{run['receipt_id']}"
    await given.insert(tables.effects, key=key, run_id=job.run_id, fence=1, state="confirmed", parameters=plan)
    await take_over(given, 4)
    assert await books(given) == (10, 0, 0, 0)
    await take_over(given, 6)
    assert await books(given) == (10, 2, 0, 0)


@pytest.mark.parametrize("other", [{"merchant": "m2"}, {"shipment": "gid://shopify/InventoryShipment/2"}])
async def test_a_shipment_that_is_none_of_ours_is_left_alone(given: Given, other: dict[str, str]) -> None:
    assert await take_over(given, 6, **other) is None
    assert await books(given) == (10, 0, 0, 0)


async def test_an_item_we_did_not_ship_counts_nothing(given: Given) -> None:
    assert await take_over(given, 6, item="gid://shopify/InventoryItem/9") == "order-1"
    assert await books(given) == (10, 0, 0, 0)
