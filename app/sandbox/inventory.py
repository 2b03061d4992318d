"""Quantities: adjust by a delta, move between states, set to a count, activate at a location.

Every mutation checks all of its input before its first change: Shopify applies all of it or none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from app.sandbox.call import Args, Call, UserErrors, no, refused, user_error
from app.sandbox.reads import Level
from app.sandbox.state import ON_HAND_PARTS, AdjustmentGroup, Change, InventoryItem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.sandbox.state import Shop

REASONS = {
    "correction", "cycle_count_available", "damaged", "movement_created", "movement_updated",
    "movement_received", "movement_canceled", "other", "promotion", "quality_control", "received",
    "reservation_created", "reservation_updated", "reservation_deleted", "restock", "safety_stock", "shrinkage",
}  # fmt: skip
"""Shopify: anything else is INVALID_REASON."""

ADJUSTABLE = {"available", "damaged", "incoming", "quality_control", "reserved", "safety_stock"}
SETTABLE = {"available", "on_hand"}
ADJUST_MAX = 2_000_000_000
SET_MAX = 1_000_000_000

Errors = list[dict[str, Any]]
Path = list[str | int]


@dataclass(frozen=True)
class Step:
    """One stored number that will change."""

    item: InventoryItem
    location_id: str
    name: str
    delta: int
    ledger_document_uri: str | None = None


def adjust(_source: Any, call: Call, args: Args) -> dict[str, Any]:
    """Add a delta to one state of each item named."""
    given = args["input"]
    _require_change_from(given["changes"], "InventoryChangeInput")
    name = given["name"]
    errors = _errors_of_group(given)
    if name not in ADJUSTABLE:
        message = f"The quantity name must be one of {sorted(ADJUSTABLE)}."
        raise no(["input", "name"], message, "INVALID_QUANTITY_NAME")
    ledgers = {change.get("ledgerDocumentUri") for change in given["changes"]} - {None}
    if len(ledgers) > 1:
        message = "All changes must have the same ledger document URI."
        errors.append(user_error(["input", "changes"], message, "MAX_ONE_LEDGER_DOCUMENT"))
    for index, change in enumerate(given["changes"]):
        path: Path = ["input", "changes", index]
        errors += _errors_of_place(call.shop, change["inventoryItemId"], change["locationId"], path)
        errors += _errors_of_ledger(name, change.get("ledgerDocumentUri"), path)
        errors += _errors_of_delta(change["delta"], path)
    _raise_if(errors)
    steps = [
        Step(
            call.shop.inventory_items[change["inventoryItemId"]],
            change["locationId"],
            name,
            change["delta"],
            change.get("ledgerDocumentUri"),
        )
        for change in given["changes"]
    ]
    _compare(steps, [change["changeFromQuantity"] for change in given["changes"]], ["input", "changes"])
    return _apply(call, given, steps)


def move(_source: Any, call: Call, args: Args) -> dict[str, Any]:
    """Take a quantity out of one state and put it into another, at one location, atomically."""
    given = args["input"]
    terminals = [change[side] for change in given["changes"] for side in ("from", "to")]
    _require_change_from(terminals, "InventoryMoveQuantityTerminalInput")
    errors = _errors_of_group(given)
    if call.shop.settings.refuses_moves:
        # Not settled: no move of this kind was seen live. The code is the one domain.md 2 names as the trap.
        message = "A ledger document URI is not allowed when adjusting available."
        errors.append(user_error(["input", "changes", 0, "to"], message, "INVALID_AVAILABLE_DOCUMENT"))
    for index, change in enumerate(given["changes"]):
        errors += _errors_of_move(call.shop, change, ["input", "changes", index])
    _raise_if(errors)
    steps = []
    for change in given["changes"]:
        item = call.shop.inventory_items[change["inventoryItemId"]]
        for side, sign in (("from", -1), ("to", 1)):
            terminal = change[side]
            delta = sign * change["quantity"]
            ledger = terminal.get("ledgerDocumentUri")
            steps.append(Step(item, terminal["locationId"], terminal["name"], delta, ledger))
    _compare(steps, [terminal["changeFromQuantity"] for terminal in terminals], ["input", "changes"])
    return _apply(call, given, steps)


def set_quantities(_source: Any, call: Call, args: Args) -> dict[str, Any]:
    """Set a count; setting on_hand changes available by the difference."""
    given = args["input"]
    _require_change_from(given["quantities"], "InventoryQuantityInput")
    if given["name"] not in SETTABLE:
        message = "The quantity name must be either 'available' or 'on_hand'."
        raise no(["input", "name"], message, "INVALID_NAME")
    errors = _errors_of_group(given)
    seen: set[tuple[str, str]] = set()
    for index, entry in enumerate(given["quantities"]):
        path: Path = ["input", "quantities", index]
        place = (entry["inventoryItemId"], entry["locationId"])
        errors += _errors_of_place(call.shop, *place, path)
        if place in seen:
            message = "The combination of inventoryItemId and locationId must be unique."
            code = "NO_DUPLICATE_INVENTORY_ITEM_ID_GROUP_ID_PAIR"
            errors.append(user_error([*path, "locationId"], message, code))
        seen.add(place)
        if not -SET_MAX <= entry["quantity"] <= SET_MAX:
            too_much = entry["quantity"] > 0
            code = "INVALID_QUANTITY_TOO_HIGH" if too_much else "INVALID_QUANTITY_TOO_LOW"
            errors.append(user_error([*path, "quantity"], f"The quantity must lie within {SET_MAX}.", code))
    _raise_if(errors)
    steps = []
    for index, entry in enumerate(given["quantities"]):
        item = call.shop.inventory_items[entry["inventoryItemId"]]
        held = item.quantity(entry["locationId"], given["name"])
        if entry["changeFromQuantity"] not in {None, held}:
            raise _stale(["input", "quantities", index])
        steps.append(Step(item, entry["locationId"], "available", entry["quantity"] - held))
    return _apply(call, given, steps)


def activate(_source: Any, call: Call, args: Args) -> dict[str, Any]:
    """Begin to stock an item at a location; it is no error when it already is."""
    shop = call.shop
    _raise_if(_errors_of_place(shop, args["inventoryItemId"], args["locationId"], []))
    item = shop.inventory_items[args["inventoryItemId"]]
    location_id = args["locationId"]
    if location_id in item.levels and (args.get("available") or args.get("onHand")):
        raise no(["available"], "Not allowed to set available quantity when the item is already active.")
    item.add(location_id, "available", args.get("available") or args.get("onHand") or 0)
    return {"inventoryLevel": Level(item, location_id), "userErrors": []}


def _require_change_from(entries: Sequence[Args], input_name: str) -> None:
    """Shopify 2026-04: `changeFromQuantity` must be sent explicitly, even as null (null skips the check)."""
    if any("changeFromQuantity" not in entry for entry in entries):
        message = f"{input_name} must include the following argument: changeFromQuantity."
        raise refused(message, "INVALID_FIELD_ARGUMENTS")


def _errors_of_group(given: Args) -> Errors:
    errors = []
    if given["reason"] not in REASONS:
        errors.append(user_error(["input", "reason"], "The specified reason is invalid.", "INVALID_REASON"))
    reference = given.get("referenceDocumentUri")
    if reference is not None and not _is_uri(reference):
        message = "The specified reference document is invalid."
        errors.append(user_error(["input", "referenceDocumentUri"], message, "INVALID_REFERENCE_DOCUMENT"))
    return errors


def _errors_of_place(shop: Shop, item_id: str, location_id: str, path: Path) -> Errors:
    errors = []
    if item_id not in shop.inventory_items:
        message = "The specified inventory item could not be found."
        errors.append(user_error([*path, "inventoryItemId"], message, "INVALID_INVENTORY_ITEM"))
    location = shop.locations.get(location_id)
    if location is None or not location.is_active:
        message = "The specified location could not be found."
        errors.append(user_error([*path, "locationId"], message, "INVALID_LOCATION"))
    return errors


def _errors_of_ledger(name: str, ledger: str | None, path: Path) -> Errors:
    """Shopify: a ledger document is required for every state but available, and forbidden there."""
    field = [*path, "ledgerDocumentUri"]
    if name == "available":
        message = "A ledger document URI is not allowed when adjusting available."
        return [user_error(field, message, "INVALID_AVAILABLE_DOCUMENT")] if ledger is not None else []
    if ledger is None:
        message = "A ledger document URI is required except when adjusting available."
        return [user_error(field, message, "INVALID_QUANTITY_DOCUMENT")]
    if ledger.startswith("gid://shopify/"):
        message = "Internal (gid://shopify/) ledger documents are not allowed to be adjusted via API."
        return [user_error(field, message, "INTERNAL_LEDGER_DOCUMENT")]
    if not _is_uri(ledger):
        return [user_error(field, "The specified ledger document is invalid.", "INVALID_LEDGER_DOCUMENT")]
    return []


def _errors_of_delta(delta: int, path: Path) -> Errors:
    if abs(delta) <= ADJUST_MAX:
        return []
    side, code = ("higher", "INVALID_QUANTITY_TOO_HIGH") if delta > 0 else ("lower", "INVALID_QUANTITY_TOO_LOW")
    return [user_error([*path, "delta"], f"The quantity can't be {side} than {ADJUST_MAX:,}.", code)]


def _errors_of_move(shop: Shop, change: Args, path: Path) -> Errors:
    origin, target = change["from"], change["to"]
    errors = _errors_of_place(shop, change["inventoryItemId"], origin["locationId"], path)
    if change["quantity"] < 0:
        message = "The quantity can't be negative."
        errors.append(user_error([*path, "quantity"], message, "INVALID_QUANTITY_NEGATIVE"))
    if origin["locationId"] != target["locationId"]:
        message = "The quantities can't be moved between different locations."
        errors.append(user_error([*path, "to", "locationId"], message, "DIFFERENT_LOCATIONS"))
    if origin["name"] == target["name"]:
        message = "The quantity names for each change can't be the same."
        errors.append(user_error([*path, "to", "name"], message, "SAME_QUANTITY_NAME"))
    for side, terminal in (("from", origin), ("to", target)):
        if terminal["name"] not in ADJUSTABLE:
            message = "The specified quantity name is invalid."
            errors.append(user_error([*path, side, "name"], message, "INVALID_QUANTITY_NAME"))
            continue
        errors += _errors_of_ledger(terminal["name"], terminal.get("ledgerDocumentUri"), [*path, side])
    return errors


def _compare(steps: list[Step], expected: list[int | None], path: Path) -> None:
    for index, (step, quantity) in enumerate(zip(steps, expected, strict=True)):
        if quantity is not None and quantity != step.item.quantity(step.location_id, step.name):
            raise _stale([*path, index])


def _stale(path: Path) -> UserErrors:
    message = "The changeFromQuantity argument no longer matches the persisted quantity."
    return no([*path, "changeFromQuantity"], message, "CHANGE_FROM_QUANTITY_STALE")


def _apply(call: Call, given: Args, steps: list[Step]) -> dict[str, Any]:
    """Write all steps as one group; a call that changes nothing makes no group (Shopify answers null)."""
    if not any(step.delta for step in steps):
        return {"inventoryAdjustmentGroup": None, "userErrors": []}
    changes: list[Change] = []
    on_hand: dict[tuple[str, str], int] = {}
    for step in steps:
        step.item.add(step.location_id, step.name, step.delta)
        changes.append(_change(step.item, step.location_id, step.name, step.delta, step.ledger_document_uri))
        if step.name in ON_HAND_PARTS:
            place = (step.item.id, step.location_id)
            on_hand[place] = on_hand.get(place, 0) + step.delta
    for (item_id, location_id), delta in on_hand.items():
        if delta:
            changes.append(_change(call.shop.inventory_items[item_id], location_id, "on_hand", delta))
    group = AdjustmentGroup(
        id=call.shop.new_id("InventoryAdjustmentGroup"),
        reason=given["reason"],
        reference_document_uri=given.get("referenceDocumentUri"),
        changes=changes,
    )
    call.shop.adjustments[group.id] = group
    return {"inventoryAdjustmentGroup": group, "userErrors": []}


def _change(item: InventoryItem, location_id: str, name: str, delta: int, ledger: str | None = None) -> Change:
    return Change(
        name=name,
        delta=delta,
        inventory_item_id=item.id,
        location_id=location_id,
        quantity_after_change=item.quantity(location_id, name),
        ledger_document_uri=ledger,
    )


def _is_uri(text: str) -> bool:
    parts = urlsplit(text)
    return bool(parts.scheme and (parts.netloc or parts.path))


def _raise_if(errors: Errors) -> None:
    if errors:
        raise UserErrors(errors)
