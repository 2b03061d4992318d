"""Quantities change once per idempotency key, all or nothing, and only as Shopify 2026-10 allows."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from tests.app.sandbox.conftest import ADJUST, ShopClient

MOVE = """
mutation ($input: InventoryMoveQuantitiesInput!, $key: String!) {
  inventoryMoveQuantities(input: $input) @idempotent(key: $key) {
    inventoryAdjustmentGroup { changes { name delta } } userErrors { code field message }
  }
}
"""
SET = """
mutation ($input: InventorySetQuantitiesInput!, $key: String!) {
  inventorySetQuantities(input: $input) @idempotent(key: $key) {
    inventoryAdjustmentGroup { changes { name delta } } userErrors { code field message }
  }
}
"""
LEDGER = "gid://po-pipeline/PurchaseOrder/1"


async def test_announced_goods_are_incoming_and_not_for_sale(shop: ShopClient) -> None:
    item = await shop.first_item()
    await shop.adjust(item, 10)
    held = await shop.quantities()
    assert (held["incoming"], held["available"], held["on_hand"]) == (10, 0, 0)


async def test_the_same_key_and_variables_get_the_first_result_and_change_nothing(shop: ShopClient) -> None:
    item = await shop.first_item()
    key = str(uuid4())
    first = await shop.adjust(item, 10, key=key)
    assert await shop.adjust(item, 10, key=key) == first
    assert (await shop.quantities())["incoming"] == 10


async def test_the_same_key_with_other_variables_is_a_mismatch(shop: ShopClient) -> None:
    item = await shop.first_item()
    key = str(uuid4())
    await shop.adjust(item, 10, key=key)
    refused = await shop.adjust(item, 11, key=key)
    assert refused["userErrors"][0]["code"] == "IDEMPOTENCY_KEY_PARAMETER_MISMATCH"
    assert (await shop.quantities())["incoming"] == 10


async def test_a_refused_attempt_spends_its_key(shop: ShopClient) -> None:
    item = await shop.first_item()
    key = str(uuid4())
    await shop.adjust(item, 10, key=key, reason="because")
    again = await shop.adjust(item, 10, key=key, reason="because")
    assert again["userErrors"][0]["code"] == "IDEMPOTENCY_PREVIOUS_ATTEMPT_FAILED"


async def test_a_key_whose_first_request_is_at_work_is_refused_until_that_has_answered(shop: ShopClient) -> None:
    item = await shop.first_item()
    key = str(uuid4())
    await shop.order("slow", "inventoryAdjustQuantities", seconds=0.3)
    told = await asyncio.gather(*(shop.adjust(item, 10, key=key) for _ in range(2)))
    (first,) = [answer for answer in told if answer["inventoryAdjustmentGroup"]]
    (other,) = [answer for answer in told if answer is not first]
    assert [error["code"] for error in other["userErrors"]] == ["IDEMPOTENCY_CONCURRENT_REQUEST"]
    assert await shop.adjust(item, 10, key=key) == first
    assert (await shop.quantities())["incoming"] == 10


async def test_past_its_retention_a_key_protects_no_more(shop: ShopClient) -> None:
    await shop.open(settings={"idempotency_retention_s": 0})
    item = await shop.first_item()
    for _ in range(2):
        await shop.adjust(item, 10, key="one key")
    assert (await shop.quantities())["incoming"] == 20


async def test_without_the_directive_the_mutation_is_a_bad_request(shop: ShopClient) -> None:
    item = await shop.first_item()
    bare = ADJUST.replace(" @idempotent(key: $key)", "").replace(", $key: String!", "")
    envelope = await shop.ask(bare, input=await shop.adjustment(item, 1))
    assert envelope["errors"][0]["extensions"]["code"] == "BAD_REQUEST"
    assert envelope["data"] == {"inventoryAdjustQuantities": None}


async def test_change_from_quantity_must_be_sent_even_as_null(shop: ShopClient) -> None:
    item = await shop.first_item()
    given = await shop.adjustment(item, 1)
    del given["changes"][0]["changeFromQuantity"]
    envelope = await shop.ask(ADJUST, input=given, key="k")
    assert envelope["errors"][0]["extensions"]["code"] == "INVALID_FIELD_ARGUMENTS"
    assert (await shop.quantities())["incoming"] == 0


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"reason": "delivered"}, "INVALID_REASON"),
        ({"name": "on_hand"}, "INVALID_QUANTITY_NAME"),
        ({"ledgerDocumentUri": None}, "INVALID_QUANTITY_DOCUMENT"),
        ({"name": "available"}, "INVALID_AVAILABLE_DOCUMENT"),
        ({"ledgerDocumentUri": "gid://shopify/Order/1"}, "INTERNAL_LEDGER_DOCUMENT"),
        ({"ledgerDocumentUri": "order 1"}, "INVALID_LEDGER_DOCUMENT"),
        ({"referenceDocumentUri": "order 1"}, "INVALID_REFERENCE_DOCUMENT"),
        ({"changeFromQuantity": 3}, "CHANGE_FROM_QUANTITY_STALE"),
        ({"delta": 2_000_000_001}, "INVALID_QUANTITY_TOO_HIGH"),
        ({"inventoryItemId": "gid://shopify/InventoryItem/1"}, "INVALID_INVENTORY_ITEM"),
        ({"locationId": "gid://shopify/Location/1"}, "INVALID_LOCATION"),
    ],
)
async def test_each_rule_of_an_adjustment_has_its_code(shop: ShopClient, changes: dict[str, Any], code: str) -> None:
    item = await shop.first_item()
    refused = await shop.adjust(item, **{"delta": 1, **changes})
    assert [error["code"] for error in refused["userErrors"]] == [code]
    assert refused["inventoryAdjustmentGroup"] is None
    assert set((await shop.quantities()).values()) == {0}


async def test_one_call_names_one_ledger_document(shop: ShopClient) -> None:
    item = await shop.first_item()
    given = await shop.adjustment(item, 1)
    given["changes"].append({**given["changes"][0], "ledgerDocumentUri": "po://2"})
    payload = (await shop.data(ADJUST, input=given, key="k"))["inventoryAdjustQuantities"]
    assert payload["userErrors"][0]["code"] == "MAX_ONE_LEDGER_DOCUMENT"


async def test_a_zero_delta_makes_no_group_and_no_error(shop: ShopClient) -> None:
    item = await shop.first_item()
    assert await shop.adjust(item, 0) == {"inventoryAdjustmentGroup": None, "userErrors": []}


async def test_available_moves_on_hand_with_it(shop: ShopClient) -> None:
    item = await shop.first_item()
    payload = await shop.adjust(item, 4, name="available", reason="received", ledgerDocumentUri=None)
    rows = {row["name"]: row["quantityAfterChange"] for row in payload["inventoryAdjustmentGroup"]["changes"]}
    assert rows == {"available": 4, "on_hand": 4}


async def _move(shop: ShopClient, item: str, quantity: int, **target: Any) -> dict[str, Any]:
    place = {"locationId": await shop.location(), "changeFromQuantity": None}
    change = {
        "inventoryItemId": item,
        "quantity": quantity,
        "from": {**place, "name": "incoming", "ledgerDocumentUri": LEDGER},
        "to": {**place, "name": "available", **target},
    }
    given = {"reason": "movement_received", "referenceDocumentUri": LEDGER, "changes": [change]}
    return (await shop.data(MOVE, input=given, key=str(uuid4())))["inventoryMoveQuantities"]


async def test_a_receipt_moves_incoming_to_available_in_one_call(shop: ShopClient) -> None:
    item = await shop.first_item()
    await shop.adjust(item, 10)
    payload = await _move(shop, item, 8)
    rows = {row["name"]: row["delta"] for row in payload["inventoryAdjustmentGroup"]["changes"]}
    assert rows == {"incoming": -8, "available": 8, "on_hand": 8}
    held = await shop.quantities()
    assert (held["incoming"], held["available"], held["on_hand"]) == (2, 8, 8)


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ({"ledgerDocumentUri": LEDGER}, "INVALID_AVAILABLE_DOCUMENT"),
        ({"name": "incoming", "ledgerDocumentUri": LEDGER}, "SAME_QUANTITY_NAME"),
        ({"locationId": "gid://shopify/Location/1"}, "DIFFERENT_LOCATIONS"),
    ],
)
async def test_each_rule_of_a_move_has_its_code(shop: ShopClient, target: dict[str, Any], code: str) -> None:
    item = await shop.first_item()
    await shop.adjust(item, 10)
    assert [error["code"] for error in (await _move(shop, item, 8, **target))["userErrors"]] == [code]
    assert (await shop.quantities())["incoming"] == 10


async def test_setting_on_hand_changes_available_by_the_difference(shop: ShopClient) -> None:
    item = await shop.first_item()
    entry = {"inventoryItemId": item, "locationId": await shop.location(), "quantity": 6, "changeFromQuantity": 0}
    given = {"name": "on_hand", "reason": "correction", "quantities": [entry]}
    await shop.data(SET, input=given, key="first")
    assert (await shop.quantities())["available"] == 6
    stale = (await shop.data(SET, input=given, key="second"))["inventorySetQuantities"]["userErrors"][0]
    assert (stale["code"], stale["field"]) == (
        "CHANGE_FROM_QUANTITY_STALE",
        ["input", "quantities", "0", "changeFromQuantity"],
    )
