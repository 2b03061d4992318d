"""Transfers and their shipments: goods on their way to a location, and what came of them.

    transfer    READY_TO_SHIP -> IN_PROGRESS (first shipment) -> TRANSFERRED (all received); or CANCELED
    shipment    IN_TRANSIT -> PARTIALLY_RECEIVED -> RECEIVED

Not settled: whether `incoming` moves with the transfer or with the shipment [2]; `Settings.incoming_moves_with` says
which, and either way goods that were created and shipped are incoming once. That a shipment takes no more than is
left of the transfer, and a receipt no more than is left of the shipment, is the stricter reading of INVALID_QUANTITY.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.sandbox import metafields
from app.sandbox.call import Args, Call, UserErrors, connection, no, user_error
from app.sandbox.state import Shipment, ShipmentLine, Transfer, TransferLine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.sandbox.call import Resolver
    from app.sandbox.state import Shop

OWNER = "INVENTORY_TRANSFER"


def create_ready(_source: Any, call: Call, args: Args) -> dict[str, Any]:
    """Create a transfer that can be shipped at once. Shopify 2026-01: the origin may be left out [D]."""
    given = args["input"]
    shop = call.shop
    origin, destination = given.get("originLocationId"), given.get("destinationLocationId")
    if destination is None:
        raise no(["input", "destinationLocationId"], "A destination is required.", "LOCATION_REQUIRED")
    errors = _errors_of_location(shop, destination, ["input", "destinationLocationId"])
    if origin is not None:
        errors += _errors_of_location(shop, origin, ["input", "originLocationId"])
    if origin == destination:
        code = "TRANSFER_ORIGIN_CANNOT_BE_THE_SAME_AS_DESTINATION"
        errors.append(user_error(["input"], "The origin can't be the destination.", code))
    errors += _errors_of_items(shop, given["lineItems"], ["input", "lineItems"])
    for index, message in metafields.errors_of(shop, None, OWNER, given.get("metafields") or []):
        errors.append(user_error(["input", "metafields", index], message, "INVALID_METAFIELDS"))
    _raise_if(errors)
    transfer = Transfer(
        id=shop.new_id("InventoryTransfer"),
        name=f"#T{len(shop.transfers) + 1:04}",
        reference_name=given.get("referenceName"),
        note=given.get("note"),
        tags=given.get("tags") or [],
        origin_id=origin,
        destination_id=destination,
        lines=[
            TransferLine(
                id=shop.new_id("InventoryTransferLineItem"),
                inventory_item_id=one["inventoryItemId"],
                total_quantity=one["quantity"],
            )
            for one in given["lineItems"]
        ],
    )
    shop.transfers[transfer.id] = transfer
    for entry in given.get("metafields") or []:
        metafields.write(shop, transfer.id, entry)
    if shop.settings.incoming_moves_with == "transfer":
        _expect(shop, transfer, {line.inventory_item_id: line.total_quantity for line in transfer.lines})
    return {"inventoryTransfer": transfer, "userErrors": []}


def cancel(_source: Any, call: Call, args: Args) -> dict[str, Any]:
    """Shopify: SHIPMENT_EXISTS once anything was shipped; what is on its way can only be received or rejected."""
    transfer = _transfer(call.shop, args["id"], ["id"])
    if any(one.transfer_id == transfer.id for one in call.shop.shipments.values()):
        raise no(["id"], "The transfer has a shipment.", "SHIPMENT_EXISTS")
    if transfer.status == "CANCELED":
        raise no(["id"], "The transfer is canceled.", "INVALID_TRANSFER_STATUS")
    transfer.status = "CANCELED"
    if call.shop.settings.incoming_moves_with == "transfer":
        _expect(call.shop, transfer, {line.inventory_item_id: -line.total_quantity for line in transfer.lines})
    return {"inventoryTransfer": transfer, "userErrors": []}


def ship(_source: Any, call: Call, args: Args) -> dict[str, Any]:
    """Create a shipment of a transfer's goods that is on its way."""
    given = args["input"]
    shop = call.shop
    transfer = _transfer(shop, given["movementId"], ["input", "movementId"])
    if transfer.status not in {"READY_TO_SHIP", "IN_PROGRESS"}:
        raise no(["input", "movementId"], "The transfer can't be shipped.", "INVALID_TRANSFER_STATUS")
    errors = _errors_of_location(shop, transfer.destination_id, ["input", "movementId"])
    errors += _errors_of_items(shop, given["lineItems"], ["input", "lineItems"])
    lines = {line.inventory_item_id: line for line in transfer.lines}
    for index, one in enumerate(given["lineItems"]):
        line = lines.get(one["inventoryItemId"])
        if line is None:
            message = "The item is not on the transfer."
            errors.append(user_error(["input", "lineItems", index, "inventoryItemId"], message, "INVALID_ITEM"))
        elif one["quantity"] > line.total_quantity - line.shipped_quantity:
            message = "There is not so much left to ship."
            errors.append(user_error(["input", "lineItems", index, "quantity"], message, "INVALID_QUANTITY"))
    _raise_if(errors)
    shipment = Shipment(
        id=shop.new_id("InventoryShipment"),
        name=f"{transfer.name}-{sum(one.transfer_id == transfer.id for one in shop.shipments.values()) + 1}",
        transfer_id=transfer.id,
        lines=[
            ShipmentLine(
                id=shop.new_id("InventoryShipmentLineItem"),
                inventory_item_id=one["inventoryItemId"],
                quantity=one["quantity"],
            )
            for one in given["lineItems"]
        ],
    )
    shop.shipments[shipment.id] = shipment
    for one in given["lineItems"]:
        lines[one["inventoryItemId"]].shipped_quantity += one["quantity"]
    transfer.status = "IN_PROGRESS"
    if shop.settings.incoming_moves_with == "shipment":
        _expect(shop, transfer, {line.inventory_item_id: line.quantity for line in shipment.lines})
    return {"inventoryShipment": shipment, "userErrors": []}


def receive(_source: Any, call: Call, args: Args) -> dict[str, Any]:
    """What came of a shipment: accepted units become available, rejected ones are no longer expected."""
    shop = call.shop
    shipment = shop.shipments.get(args["id"])
    if shipment is None:
        raise no(["id"], "The shipment could not be found.", "SHIPMENT_NOT_FOUND")
    if shipment.status not in {"IN_TRANSIT", "PARTIALLY_RECEIVED"}:
        raise no(["id"], "The shipment can't be received.", "INVALID_SHIPMENT_STATUS")
    transfer = shop.transfers[shipment.transfer_id]
    errors = _errors_of_location(shop, transfer.destination_id, ["id"])
    lines = {line.id: line for line in shipment.lines}
    wanted: dict[str, int] = {}
    for index, one in enumerate(args.get("lineItems") or []):
        line = lines.get(one["shipmentLineItemId"])
        wanted[one["shipmentLineItemId"]] = wanted.get(one["shipmentLineItemId"], 0) + one["quantity"]
        if line is None:
            message = "The line item could not be found."
            errors.append(user_error(["lineItems", index, "shipmentLineItemId"], message, "ITEM_NOT_FOUND"))
        elif one["quantity"] <= 0 or wanted[line.id] > line.unreceived_quantity:
            message = "The quantity must be positive and not more than is unreceived."
            errors.append(user_error(["lineItems", index, "quantity"], message, "INVALID_QUANTITY"))
    _raise_if(errors)
    for one in args.get("lineItems") or []:
        line, quantity = lines[one["shipmentLineItemId"]], one["quantity"]
        item = shop.inventory_items[line.inventory_item_id]
        item.add(transfer.destination_id, "incoming", -quantity)
        if one["reason"] == "ACCEPTED":
            line.accepted_quantity += quantity
            item.add(transfer.destination_id, "available", quantity)
        else:
            line.rejected_quantity += quantity
    left = sum(line.unreceived_quantity for line in shipment.lines)
    shipment.status = "PARTIALLY_RECEIVED" if left else "RECEIVED"
    shipments = [one for one in shop.shipments.values() if one.transfer_id == transfer.id]
    shipped = all(line.shipped_quantity == line.total_quantity for line in transfer.lines)
    if shipped and all(one.status == "RECEIVED" for one in shipments):
        transfer.status = "TRANSFERRED"
    return {"inventoryShipment": shipment, "userErrors": []}


FIELDS: dict[str, dict[str, Resolver]] = {
    "InventoryTransfer": {
        "metafield": lambda transfer, call, args: call.shop.find_metafield(
            transfer.id, metafields.full_namespace(args.get("namespace")), args["key"]
        ),
        "destination": lambda transfer, call, _args: {
            "location": call.shop.locations[transfer.destination_id],
            "name": call.shop.locations[transfer.destination_id].name,
        },
        "lineItems": lambda transfer, _call, args: connection(transfer.lines, args),
        "shipments": lambda transfer, call, args: connection(
            [one for one in call.shop.shipments.values() if one.transfer_id == transfer.id], args
        ),
        "totalQuantity": lambda transfer, _call, _args: sum(line.total_quantity for line in transfer.lines),
    },
    "InventoryTransferLineItem": {
        "inventoryItem": lambda line, call, _args: call.shop.inventory_items.get(line.inventory_item_id),
        "processableQuantity": lambda line, _call, _args: line.total_quantity - line.shipped_quantity,
        "shippableQuantity": lambda line, _call, _args: line.total_quantity - line.shipped_quantity,
    },
    "InventoryShipment": {
        "lineItems": lambda shipment, _call, args: connection(shipment.lines, args),
        "lineItemTotalQuantity": lambda shipment, _call, _args: sum(line.quantity for line in shipment.lines),
        "totalAcceptedQuantity": lambda shipment, _call, _args: sum(line.accepted_quantity for line in shipment.lines),
        "totalRejectedQuantity": lambda shipment, _call, _args: sum(line.rejected_quantity for line in shipment.lines),
    },
    "InventoryShipmentLineItem": {
        "inventoryItem": lambda line, call, _args: call.shop.inventory_items.get(line.inventory_item_id),
    },
}


def _transfer(shop: Shop, transfer_id: str, path: list[str]) -> Transfer:
    found = shop.transfers.get(transfer_id)
    if found is None:
        raise no(path, "The transfer could not be found.", "TRANSFER_NOT_FOUND")
    return found


def _expect(shop: Shop, transfer: Transfer, units: dict[str, int]) -> None:
    for item_id, quantity in units.items():
        shop.inventory_items[item_id].add(transfer.destination_id, "incoming", quantity)


def _errors_of_location(shop: Shop, location_id: str, path: list[str]) -> list[dict[str, Any]]:
    location = shop.locations.get(location_id)
    if location is None:
        return [user_error(path, "The location could not be found.", "LOCATION_NOT_FOUND")]
    return [] if location.is_active else [user_error(path, "The location is not active.", "LOCATION_NOT_ACTIVE")]


def _errors_of_items(shop: Shop, lines: Sequence[Args], path: list[str]) -> list[dict[str, Any]]:
    if not lines:
        return [user_error(path, "There must be at least one item.", "ITEMS_EMPTY")]
    errors = []
    seen: set[str] = set()
    for index, one in enumerate(lines):
        item = shop.inventory_items.get(one["inventoryItemId"])
        at: list[str | int] = [*path, index, "inventoryItemId"]
        if item is None:
            errors.append(user_error(at, "The item could not be found.", "ITEM_NOT_FOUND"))
        elif item.is_bundle:
            errors.append(user_error(at, "A bundle can't be transferred.", "BUNDLED_ITEM"))
        elif not item.tracked:
            errors.append(user_error(at, "The item is not tracked.", "UNTRACKED_ITEM"))
        if one["inventoryItemId"] in seen:
            errors.append(user_error(at, "The item is named twice.", "DUPLICATE_ITEM"))
        seen.add(one["inventoryItemId"])
        if one["quantity"] <= 0:  # domain.md 2: quantity 0 is refused outside DRAFT
            errors.append(user_error([*path, index, "quantity"], "The quantity must be positive.", "INVALID_QUANTITY"))
    return errors


def _raise_if(errors: list[dict[str, Any]]) -> None:
    if errors:
        raise UserErrors(errors)
