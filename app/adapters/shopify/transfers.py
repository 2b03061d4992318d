"""What it means for transfers: goods announced and received by Shopify's own transfers and shipments.

A transfer carries the ledger's name of its announcement in a metafield, so that it can be found again when the
reply to its creation was lost, or the database that asked for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.adapters.shopify import operations
from app.adapters.shopify.client import ShopClient
from pipeline.errors import VendorRefused
from pipeline.ports import Came, QuantityChange, ShipmentLine, ShopTransfer

MARK = {"namespace": "po_pipeline", "key": "announcement"}
OPEN = frozenset({"DRAFT", "READY_TO_SHIP", "IN_PROGRESS"})
PAGES_MAX = 4
"""Pages of transfers, newest first: one whose creation is in doubt is among the newest."""


class ShopifyTransfers:
    """The transfers of one merchant's shop."""

    def __init__(self, client: ShopClient) -> None:
        self._client = client

    async def find_transfer(self, mark: str) -> ShopTransfer | None:
        """The transfer created for that announcement, among the newest 200."""
        after: str | None = None
        for _ in range(PAGES_MAX):
            data = await self._client.call(operations.FIND_TRANSFERS, after=after, **MARK)
            page = data["inventoryTransfers"]
            for node in page["nodes"]:
                if node["metafield"] and node["metafield"]["value"] == mark:
                    return await self.transfer(node["id"])
            if not page["pageInfo"]["hasNextPage"]:
                break
            after = page["pageInfo"]["endCursor"]
        return None

    async def open_transfers(self, location_id: str, inventory_item_ids: Sequence[str]) -> Sequence[str]:
        """Names of transfers to that location that hold some of these items, and that we did not make.

        Of the newest 20, and of their first 50 lines: one that is older has long been shipped, and what is shipped
        shows as incoming. The status is looked at here, for how the search spells it is documented nowhere.
        """
        wanted = set(inventory_item_ids)
        names: list[str] = []
        after: str | None = None
        for _ in range(PAGES_MAX):
            page = (await self._client.call(operations.OPEN_TRANSFERS, after=after, **MARK))["inventoryTransfers"]
            for node in page["nodes"]:
                here = ((node["destination"] or {}).get("location") or {}).get("id") == location_id
                theirs = node["metafield"] is None and node["status"] in OPEN
                if here and theirs and wanted & {one["inventoryItem"]["id"] for one in _with_items(node["lineItems"])}:
                    names.append(node["name"])
            if not page["pageInfo"]["hasNextPage"]:
                break
            after = page["pageInfo"]["endCursor"]
        return names

    async def transfer(self, transfer_id: str) -> ShopTransfer:
        """The transfer of that id. Raises VendorRefused when it was deleted."""
        node = (await self._client.call(operations.TRANSFER, id=transfer_id))["inventoryTransfer"]
        if node is None:
            raise VendorRefused("the transfer was deleted in the shop", code="TRANSFER_NOT_FOUND")
        quantities = {one["inventoryItem"]["id"]: one["totalQuantity"] for one in _with_items(node["lineItems"])}
        return ShopTransfer(node["id"], quantities, tuple(one["id"] for one in node["shipments"]["nodes"]))

    async def create_transfer(
        self, *, key: str, mark: str, reference: str, location_id: str, changes: Sequence[QuantityChange]
    ) -> str:
        """A transfer to a location from nowhere, ready to be shipped, idempotent by `key`; returns its id."""
        wanted = {
            "destinationLocationId": location_id,
            "referenceName": reference,
            "lineItems": _lines(changes),
            "metafields": [{**MARK, "type": "single_line_text_field", "value": mark}],
        }
        data = await self._client.call(operations.CREATE_TRANSFER, key=key, input=wanted)
        return str(data["inventoryTransferCreateAsReadyToShip"]["inventoryTransfer"]["id"])

    async def ship_transfer(self, *, key: str, transfer_id: str, changes: Sequence[QuantityChange]) -> str:
        """Send a transfer's goods on their way, idempotent by `key`; returns the shipment's id."""
        wanted = {"movementId": transfer_id, "lineItems": _lines(changes)}
        data = await self._client.call(operations.SHIP_TRANSFER, key=key, input=wanted)
        return str(data["inventoryShipmentCreateInTransit"]["inventoryShipment"]["id"])

    async def shipment(self, shipment_id: str) -> Sequence[ShipmentLine]:
        """A shipment's lines; none when it was deleted."""
        node = (await self._client.call(operations.SHIPMENT, id=shipment_id))["inventoryShipment"]
        lines = _with_items(node["lineItems"]) if node else []
        return [
            ShipmentLine(
                id=one["id"],
                inventory_item_id=one["inventoryItem"]["id"],
                accepted=one["acceptedQuantity"],
                rejected=one["rejectedQuantity"],
                unreceived=one["unreceivedQuantity"],
            )
            for one in lines
        ]

    async def receive_shipment(self, *, key: str, shipment_id: str, came: Sequence[Came]) -> None:
        """Say what came of a shipment, idempotent by `key`."""
        lines = [
            {
                "shipmentLineItemId": one.line_id,
                "quantity": one.quantity,
                "reason": "ACCEPTED" if one.accepted else "REJECTED",
            }
            for one in came
        ]
        await self._client.call(operations.RECEIVE_SHIPMENT, key=key, id=shipment_id, lineItems=lines)


def _lines(changes: Sequence[QuantityChange]) -> list[dict[str, Any]]:
    return [{"inventoryItemId": one.inventory_item_id, "quantity": one.delta} for one in changes]


def _with_items(connection: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Lines whose item is still in the shop."""
    return [one for one in connection["nodes"] if one["inventoryItem"]]
