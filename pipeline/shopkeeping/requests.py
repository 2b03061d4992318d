"""The request of one step: built from what is missing, sent from what was stored, and asked about when in doubt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.contract import LeaseCheck
from pipeline.domain.purchase_order import Doubt
from pipeline.effects import Answer
from pipeline.ports import QuantityChange, Shop
from pipeline.shopkeeping import native
from pipeline.shopkeeping.native import TRANSFER

RECEIVED = "received"
"""As a state of `Telling`: units move from incoming to available in one atomic call."""

CHANGES_MAX = 250
"""Shopify takes at most 250 entries in a list."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Units of one draft variant: how many, and which inventory item they are."""

    draft_variant_id: str
    inventory_item_id: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Telling:
    """One total the shop is brought to: under which name its steps are numbered, and how a step is sent.

    `state` is the shop's quantity that changes, or RECEIVED, or TRANSFER. The first step of a series fixes its state
    and its location for good: what was announced at one place as incoming is taken back there and as incoming.
    `reference` is the order's number, for people.
    """

    series: str
    state: str
    reason: str
    document: str
    location_id: str
    revision: int = 0
    reference: str = ""


@dataclass(slots=True)
class Shipment:
    """A shipment that announced units, by inventory item, and how many of them were taken back since."""

    id: str
    transfer_id: str
    items: Mapping[str, int]
    taken_back: Counter[str] = field(default_factory=Counter)


async def build_request(
    shop: Shop, telling: Telling, units: Sequence[Unit], shipments: Mapping[str, Shipment]
) -> dict[str, Any]:
    """All a repeat needs to send the very same request again, as JSON. Lists, because JSONB reorders objects.

    One request of a transfer only adds or only takes back, and takes back of one shipment: other steps do the rest.
    """
    common = {
        "state": telling.state,
        "reason": telling.reason,
        "document": telling.document,
        "location_id": telling.location_id,
        "revision": telling.revision,
        "reference": telling.reference,
    }
    if telling.state == TRANSFER:
        more = [unit for unit in units if unit.quantity > 0]
        if not more:
            return {**common, **await _taking_back(shop, units, shipments)}
        units = more
    return {**common, "units": [[unit.draft_variant_id, unit.inventory_item_id, unit.quantity] for unit in units]}


async def _taking_back(shop: Shop, units: Sequence[Unit], shipments: Mapping[str, Shipment]) -> dict[str, Any]:
    """What is rejected of the newest shipment that still holds some of these units, and whose units those are."""
    items: Counter[str] = Counter()
    for unit in units:
        items[unit.inventory_item_id] -= unit.quantity
    parted = await native.part(shop, list(shipments)[::-1], {item: (0, by) for item, by in items.items()})
    shipment_id = parted[0][0]
    lines = [(line, item, rejected) for where, line, item, _, rejected in parted if where == shipment_id]
    left = Counter({item: rejected for _, item, rejected in lines})
    taken: list[list[Any]] = []
    for unit in units:
        by = min(-unit.quantity, left[unit.inventory_item_id])
        left[unit.inventory_item_id] -= by
        if by:
            taken.append([unit.draft_variant_id, unit.inventory_item_id, -by])
    return {"units": taken, "shipment": shipment_id, "lines": [[line, 0, rejected] for line, _, rejected in lines]}


def is_new_transfer(parameters: Mapping[str, Any]) -> bool:
    """Whether the request is a transfer to be made; the others of that state reject goods of a shipment."""
    return bool(parameters["state"] == TRANSFER and "shipment" not in parameters)


async def send_request(
    shop: Shop, key: str, mark: str, parameters: Mapping[str, Any], still_ours: LeaseCheck
) -> Answer:
    """One request, built from stored parameters only. Two variants of one inventory item are one change."""
    items = units_by_item(parameters)
    if is_new_transfer(parameters):
        return await native.announce(shop, key, mark, items, parameters, still_ours)
    if parameters["state"] == TRANSFER:
        return await native.receive(shop, key, parameters)
    changes = [QuantityChange(item, quantity) for item, quantity in items.items()]
    document, location_id = parameters["document"], parameters["location_id"]
    if parameters["state"] == RECEIVED:
        return {"group": await shop.move(key=key, document=document, location_id=location_id, changes=changes)}
    group = await shop.adjust(
        key=key,
        name=parameters["state"],
        reason=parameters["reason"],
        document=document,
        location_id=location_id,
        changes=changes,
    )
    return {"group": group}


def units_by_item(parameters: Mapping[str, Any]) -> dict[str, int]:
    """The units of a request, or of what a step has told, by inventory item."""
    items: dict[str, int] = {}
    for _, item, quantity in parameters["units"]:
        items[item] = items.get(item, 0) + quantity
    return items


async def question_about(shop: Shop, parameters: Mapping[str, Any]) -> Doubt:
    """The question in words, with the page of the shop's admin where the answer stands."""
    items = units_by_item(parameters)
    levels = await shop.levels(list(items), parameters["location_id"])
    what = "from incoming to available" if parameters["state"] == RECEIVED else f"in “{parameters['state']}”"
    changes = [
        f"{quantity:+} of {levels[item].name} ({levels[item].history_url})" if item in levels else f"{quantity:+}"
        for item, quantity in items.items()
    ]
    shown = ", ".join(changes[:_CHANGES_SHOWN]) + (
        f" and {more} more" if (more := len(items) - _CHANGES_SHOWN) > 0 else ""
    )
    message = (
        f"A change of stock {what} may or may not have reached the shop, and it is too late to ask it: {shown}. "
        "Look at the inventory history; if the change is not there, make it by hand in the shop. "
        "Then approve: it counts as done, and nothing is sent again."
    )
    return Doubt(code="stock_outcome_unknown", message=message)


_CHANGES_SHOWN = 3
