"""Transfers and shipments: goods are incoming once, and only what is on its way can be received."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from app.sandbox.state import ALL_SCOPES, TRANSFER_SCOPES
from tests.app.sandbox.conftest import ShopClient

CREATE = """
mutation ($input: InventoryTransferCreateAsReadyToShipInput!, $key: String!) {
  inventoryTransferCreateAsReadyToShip(input: $input) @idempotent(key: $key) {
    inventoryTransfer {
      id status totalQuantity
      lineItems(first: 5) { nodes { totalQuantity processableQuantity shippedQuantity inventoryItem { id } } }
    }
    userErrors { code field message }
  }
}
"""
SHIP = """
mutation ($input: InventoryShipmentCreateInput!, $key: String!) {
  inventoryShipmentCreateInTransit(input: $input) @idempotent(key: $key) {
    inventoryShipment { id status lineItems(first: 5) { nodes { id unreceivedQuantity } } }
    userErrors { code field message }
  }
}
"""
RECEIVE = """
mutation ($id: ID!, $lines: [InventoryShipmentReceiveItemInput!]!, $key: String!) {
  inventoryShipmentReceive(id: $id, lineItems: $lines) @idempotent(key: $key) {
    inventoryShipment { status totalAcceptedQuantity totalRejectedQuantity }
    userErrors { code field message }
  }
}
"""
CANCEL = """
mutation ($id: ID!, $key: String!) {
  inventoryTransferCancel(id: $id) @idempotent(key: $key) { inventoryTransfer { status } userErrors { code } }
}
"""


class Sender:
    """One shop with a shirt, and the transfers of it."""

    def __init__(self, shop: ShopClient, item: str, location: str) -> None:
        self.shop, self.item, self.location = shop, item, location

    async def create(self, quantity: int = 10, **changes: Any) -> dict[str, Any]:
        lines = [{"inventoryItemId": self.item, "quantity": quantity}]
        given = {"destinationLocationId": self.location, "lineItems": lines, **changes}
        return (await self.shop.data(CREATE, input=given, key=str(uuid4())))["inventoryTransferCreateAsReadyToShip"]

    async def ship(self, transfer_id: str, quantity: int = 10, key: str = "") -> dict[str, Any]:
        given = {"movementId": transfer_id, "lineItems": [{"inventoryItemId": self.item, "quantity": quantity}]}
        return (await self.shop.data(SHIP, input=given, key=key or str(uuid4())))["inventoryShipmentCreateInTransit"]

    async def receive(self, shipment: dict[str, Any], accepted: int, rejected: int = 0) -> dict[str, Any]:
        line = shipment["lineItems"]["nodes"][0]["id"]
        came = [(accepted, "ACCEPTED"), (rejected, "REJECTED")]
        lines = [{"shipmentLineItemId": line, "quantity": units, "reason": why} for units, why in came if units]
        variables = {"id": shipment["id"], "lines": lines, "key": str(uuid4())}
        return (await self.shop.data(RECEIVE, **variables))["inventoryShipmentReceive"]

    async def cancel(self, transfer_id: str) -> dict[str, Any]:
        return (await self.shop.data(CANCEL, id=transfer_id, key=str(uuid4())))["inventoryTransferCancel"]

    async def held(self) -> tuple[int, int]:
        held = await self.shop.quantities()
        return held["incoming"], held["available"]


async def sender(shop: ShopClient, moves_with: str = "shipment") -> Sender:
    await shop.open(scopes=[*ALL_SCOPES, *TRANSFER_SCOPES], settings={"incoming_moves_with": moves_with})
    return Sender(shop, await shop.first_item(), await shop.location())


def codes(payload: dict[str, Any]) -> list[str]:
    return [error["code"] for error in payload["userErrors"]]


@pytest.mark.parametrize(("moves_with", "created"), [("shipment", 0), ("transfer", 10)])
async def test_goods_are_incoming_once_whatever_moves_them(shop: ShopClient, moves_with: str, created: int) -> None:
    given = await sender(shop, moves_with)
    transfer = (await given.create())["inventoryTransfer"]
    assert (transfer["status"], transfer["totalQuantity"]) == ("READY_TO_SHIP", 10)
    assert await given.held() == (created, 0)
    shipment = (await given.ship(transfer["id"]))["inventoryShipment"]
    assert shipment["status"] == "IN_TRANSIT"
    assert await given.held() == (10, 0)
    received = (await given.receive(shipment, 6, 1))["inventoryShipment"]
    assert received == {"status": "PARTIALLY_RECEIVED", "totalAcceptedQuantity": 6, "totalRejectedQuantity": 1}
    assert await given.held() == (3, 6)
    assert (await given.receive(shipment, 3))["inventoryShipment"]["status"] == "RECEIVED"
    assert await given.held() == (0, 9)
    assert (await shop.state())["transfers"][0]["status"] == "TRANSFERRED"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"lineItems": []}, "ITEMS_EMPTY"),
        ({"quantity": 0}, "INVALID_QUANTITY"),
        ({"destinationLocationId": None}, "LOCATION_REQUIRED"),
        ({"destinationLocationId": "gid://shopify/Location/1"}, "LOCATION_NOT_FOUND"),
        ({"lineItems": [{"inventoryItemId": "gid://shopify/InventoryItem/1", "quantity": 1}]}, "ITEM_NOT_FOUND"),
    ],
)
async def test_each_rule_of_a_transfer_has_its_code(shop: ShopClient, changes: dict[str, Any], code: str) -> None:
    given = await sender(shop)
    assert codes(await given.create(**changes)) == [code]
    assert (await shop.state())["transfers"] == []


async def test_no_more_is_shipped_than_the_transfer_holds_nor_received_than_was_shipped(shop: ShopClient) -> None:
    given = await sender(shop)
    transfer = (await given.create())["inventoryTransfer"]["id"]
    assert codes(await given.ship(transfer, 11)) == ["INVALID_QUANTITY"]
    shipment = (await given.ship(transfer, 8))["inventoryShipment"]
    assert codes(await given.ship(transfer, 3)) == ["INVALID_QUANTITY"]
    assert codes(await given.receive(shipment, 5, 4)) == ["INVALID_QUANTITY"]
    assert await given.held() == (8, 0)
    await given.receive(shipment, 8)
    assert codes(await given.receive(shipment, 1)) == ["INVALID_SHIPMENT_STATUS"]


async def test_a_shipment_is_made_once_per_key(shop: ShopClient) -> None:
    given = await sender(shop)
    transfer = (await given.create())["inventoryTransfer"]["id"]
    first = await given.ship(transfer, 5, key="one")
    assert await given.ship(transfer, 5, key="one") == first
    assert await given.held() == (5, 0)


async def test_a_transfer_is_cancelled_only_while_nothing_was_shipped(shop: ShopClient) -> None:
    given = await sender(shop, "transfer")
    unshipped = (await given.create())["inventoryTransfer"]["id"]
    assert (await given.cancel(unshipped))["inventoryTransfer"] == {"status": "CANCELED"}
    assert await given.held() == (0, 0)
    assert codes(await given.ship(unshipped)) == ["INVALID_TRANSFER_STATUS"]
    shipped = (await given.create())["inventoryTransfer"]["id"]
    await given.ship(shipped)
    assert codes(await given.cancel(shipped)) == ["SHIPMENT_EXISTS"]


async def test_transferring_needs_scopes_of_its_own(shop: ShopClient) -> None:
    given = Sender(shop, await shop.first_item(), await shop.location())
    wanted = {
        "destinationLocationId": given.location,
        "lineItems": [{"inventoryItemId": given.item, "quantity": 1}],
    }
    envelope = await shop.ask(CREATE, input=wanted, key="k")
    assert envelope["errors"][0]["extensions"]["code"] == "ACCESS_DENIED"
