"""A person receives goods in the shop's own admin, before, after and while others receive them here."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from app.db.receiving import ReceivedInAdmin, Units, take_over_shipment
from app.sandbox.state import ALL_SCOPES, TRANSFER_SCOPES
from pipeline.domain.merchant import Merchant
from tests.app.db.given import MERCHANT
from tests.chaos.lives import Shopkeeper, order, shopkeeping
from tests.sandbox_shop import DOMAIN, SandboxShop, http, sandbox

__all__ = ["http", "sandbox"]

RECEIVE = """
mutation ($id: ID!, $l: [InventoryShipmentReceiveItemInput!]!, $key: String!) {
  inventoryShipmentReceive(id: $id, lineItems: $l) @idempotent(key: $key) { userErrors { message } }
}
"""


@pytest.fixture
async def shopkeeper(database_url: str, sandbox: SandboxShop) -> AsyncIterator[Shopkeeper]:
    """An order of ten red and four blue mugs, announced by a shipment."""
    await sandbox.change(scopes=[*ALL_SCOPES, *TRANSFER_SCOPES])
    async with shopkeeping(database_url, sandbox) as shopkeeper:
        await order(shopkeeper.given, {"MUG-R": 10, "MUG-B": 4})
        await shopkeeper.work("run-1")
        yield shopkeeper


async def receive_in_the_admin(sandbox: SandboxShop, accepted: int, rejected: int) -> str:
    """Red mugs, by hand; returns the shipment."""
    (shipment,) = (await sandbox.state())["shipments"]
    line = shipment["lines"][0]["id"]
    came = [
        {"shipmentLineItemId": line, "quantity": units, "reason": why}
        for units, why in ((accepted, "ACCEPTED"), (rejected, "REJECTED"))
        if units
    ]
    answer = await sandbox.do(RECEIVE, id=shipment["id"], l=came, key=f"by hand {accepted} {rejected}")
    assert answer["inventoryShipmentReceive"]["userErrors"] == []
    return str(shipment["id"])


async def hear_of_it(shopkeeper: Shopkeeper, shipment_id: str) -> None:
    """What the webhook's reader does: ask the shop what came of the shipment in all, and count what is new."""
    shop = await shopkeeper.shops.of(Merchant(id=MERCHANT, name="Shop", shop_domain=DOMAIN))
    lines = [
        ReceivedInAdmin(one.inventory_item_id, one.accepted, one.rejected) for one in await shop.shipment(shipment_id)
    ]
    async with shopkeeper.database.transaction() as connection:
        assert await take_over_shipment(connection, MERCHANT, shipment_id, lines) == "order-1"


async def receive(shopkeeper: Shopkeeper, units: Units) -> str:
    _, job = await shopkeeper.people.receive("order-1", "ann", {"MUG-R": units})
    return job.run_id


async def test_what_the_admin_received_is_counted_and_the_rest_received_here(
    shopkeeper: Shopkeeper, sandbox: SandboxShop
) -> None:
    shipment_id = await receive_in_the_admin(sandbox, 3, 1)
    for _ in range(2):
        await hear_of_it(shopkeeper, shipment_id)
    assert (await shopkeeper.books())["MUG-R"] == (10, 3, 1, 0)
    assert await shopkeeper.order_state() == "partially_received"

    await shopkeeper.work(await receive(shopkeeper, Units(5)))
    await hear_of_it(shopkeeper, shipment_id)  # the shop tells of our own receipt too
    assert (await shopkeeper.books())["MUG-R"] == (10, 8, 1, 0)
    assert await sandbox.quantities("available") == {"MUG-R": 8, "MUG-B": 0}
    assert await sandbox.quantities("incoming") == {"MUG-R": 1, "MUG-B": 4}


async def test_goods_received_there_are_not_received_here_before_the_books_have_heard_of_them(
    shopkeeper: Shopkeeper, sandbox: SandboxShop
) -> None:
    shipment_id = await receive_in_the_admin(sandbox, 9, 0)
    run_id = await receive(shopkeeper, Units(9))
    await shopkeeper.work(run_id)
    run = await shopkeeper.given.run_row(run_id)
    assert (run["state"], run["review"][0]["code"]) == ("needs_review", "received_elsewhere")
    await shopkeeper.people.cancel(run_id, "ann")
    await hear_of_it(shopkeeper, shipment_id)
    await shopkeeper.work(await receive(shopkeeper, Units(1)))
    assert (await shopkeeper.books())["MUG-R"] == (10, 10, 0, 0)
    assert await sandbox.quantities("available") == {"MUG-R": 10, "MUG-B": 0}


async def test_a_message_that_overtakes_the_record_of_our_own_receipt_counts_nothing(
    shopkeeper: Shopkeeper, sandbox: SandboxShop
) -> None:
    """The shop has our receipt, its worker is dead, and the shop's message about it comes first."""
    run_id = await receive(shopkeeper, Units(5, rejected=1))
    await shopkeeper.die(run_id, "record", 0)
    (shipment,) = (await sandbox.state())["shipments"]
    await hear_of_it(shopkeeper, shipment["id"])
    assert (await shopkeeper.books())["MUG-R"] == (10, 0, 0, 0)
    await shopkeeper.work(run_id)
    await hear_of_it(shopkeeper, shipment["id"])
    assert (await shopkeeper.books())["MUG-R"] == (10, 5, 1, 0)


async def test_units_taken_back_by_ending_the_order_are_no_rejections_of_the_admins(
    shopkeeper: Shopkeeper, sandbox: SandboxShop
) -> None:
    _, job = await shopkeeper.people.end_order("order-1", "ann", "cancel")
    await shopkeeper.work(job.run_id)
    (shipment,) = (await sandbox.state())["shipments"]
    await hear_of_it(shopkeeper, shipment["id"])
    assert (await shopkeeper.books())["MUG-R"] == (0, 0, 0, 0)
    assert await shopkeeper.order_state() == "cancelled"
    assert await sandbox.quantities("incoming") == {"MUG-R": 0, "MUG-B": 0}
