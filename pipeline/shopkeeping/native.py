"""Announcing and receiving by the shop's own transfers and shipments, where it lets us.

A step that announces more is a transfer of its own that is shipped at once: what is on its way can no longer be
set to another quantity, only received, so a revision that raises an order ships the difference, and one that
lowers it, or ends it, receives the difference as rejected. A transfer bears the name of its step: unlike a changed
quantity it can be looked up, so it is looked up before one is created, however old the question is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.contract import LeaseCheck, Reject
from pipeline.effects import Answer
from pipeline.errors import VendorRefused
from pipeline.ports import Came, QuantityChange, Shop

TRANSFER = "transfer"
"""As a state of `Telling`: units are announced by transfers."""

MISMATCH = "IDEMPOTENCY_KEY_PARAMETER_MISMATCH"
"""The shop knows this key, or we this name, for something else."""

SCOPES = frozenset(
    {"write_inventory_transfers", "write_inventory_shipments", "write_inventory_shipments_received_items"}
)
"""All three or none: a transfer that could not be received later would be a dead end."""

READ_TRANSFERS = frozenset({"read_inventory_transfers", "write_inventory_transfers"})
"""Either lets us see the shop's own transfers."""


async def find(shop: Shop, mark: str, items: Mapping[str, int]) -> str | None:
    """The transfer made for that step, if any. Raises VendorRefused when it holds other goods than these."""
    found = await shop.find_transfer(mark)
    if found is not None and dict(found.quantities) != dict(items):
        raise VendorRefused(f"transfer {found.id} is for the same step and holds other goods", code=MISMATCH)
    return None if found is None else found.id


async def announce(
    shop: Shop, key: str, mark: str, items: Mapping[str, int], first: Mapping[str, Any], still_ours: LeaseCheck
) -> Answer:
    """Create the transfer of a step, unless it is there."""
    found = await find(shop, mark, items)
    if found is not None:
        return {"transfer": found}
    still_ours()
    transfer_id = await shop.create_transfer(
        key=key,
        mark=mark,
        reference=first["reference"],
        location_id=first["location_id"],
        changes=[QuantityChange(item, quantity) for item, quantity in items.items()],
    )
    return {"transfer": transfer_id}


async def ship(shop: Shop, key: str, first: Mapping[str, Any], still_ours: LeaseCheck) -> Answer:
    """Ship a transfer, unless that was done."""
    known = await shop.transfer(first["transfer"])
    if known.shipment_ids:
        return {"shipment": known.shipment_ids[0]}
    changes = [QuantityChange(item, quantity) for item, quantity in first["items"]]
    still_ours()
    return {"shipment": await shop.ship_transfer(key=key, transfer_id=first["transfer"], changes=changes)}


async def receive(shop: Shop, key: str, first: Mapping[str, Any]) -> Answer:
    """Say what came of one shipment: lines of [line, accepted, rejected]."""
    came = [Came(line, accepted, accepted=True) for line, accepted, _ in first["lines"] if accepted]
    came += [Came(line, rejected, accepted=False) for line, _, rejected in first["lines"] if rejected]
    await shop.receive_shipment(key=key, shipment_id=first["shipment"], came=came)
    return {"shipment": first["shipment"]}


async def part(
    shop: Shop, shipment_ids: Sequence[str], wanted: Mapping[str, tuple[int, int]]
) -> list[tuple[str, str, str, int, int]]:
    """Which lines of which shipments units are received of: (shipment, line, item, accepted, rejected).

    `wanted` is (accepted, rejected) by item. Raises Reject when the shop expects fewer by its shipments.
    """
    left = dict(wanted)
    found: list[tuple[str, str, str, int, int]] = []
    for shipment_id in shipment_ids:
        if not any(map(sum, left.values())):
            break
        for line in await shop.shipment(shipment_id):
            accepted, rejected = left.get(line.inventory_item_id, (0, 0))
            some = min(accepted, line.unreceived)
            others = min(rejected, line.unreceived - some)
            if some or others:
                found.append((shipment_id, line.id, line.inventory_item_id, some, others))
                left[line.inventory_item_id] = (accepted - some, rejected - others)
    if any(map(sum, left.values())):
        message = (
            "the shipments of this order hold fewer goods than are to be received: some were received in Shopify, "
            "or a shipment was deleted there; compare the order's transfers in the shop"
        )
        raise Reject("received_elsewhere", message)
    return found
