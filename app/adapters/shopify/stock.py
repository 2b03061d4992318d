"""What it means for stock: quantities changed by deltas, and what the shop says it holds.

Every change carries its idempotency key; `changeFromQuantity` is sent as null, because a compare would make the
variables differ on a repeat, and a repeat with other variables is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from app.adapters.shopify import operations
from app.adapters.shopify.client import ShopClient
from pipeline.ports import QuantityChange, ShopLevel

LEVELS_PAGE = 50
"""Items asked for at once; a query may request 1,000 points at most."""


class ShopifyStock:
    """The stock of one merchant's shop."""

    def __init__(self, client: ShopClient) -> None:
        self._client = client

    async def levels(self, inventory_item_ids: Sequence[str], location_id: str) -> Mapping[str, ShopLevel]:
        """Those items at that location, by id; one that was deleted is missing."""
        found: dict[str, ShopLevel] = {}
        for start in range(0, len(inventory_item_ids), LEVELS_PAGE):
            ids = list(inventory_item_ids[start : start + LEVELS_PAGE])
            data = await self._client.call(operations.LEVELS, ids=ids, locationId=location_id)
            found |= {node["id"]: _level(node) for node in data["nodes"] if node}
        return found

    async def adjust(
        self,
        *,
        key: str,
        name: str,
        reason: str,
        document: str,
        location_id: str,
        changes: Sequence[QuantityChange],
    ) -> str:
        """Change quantities of one state (`incoming`, ..) by deltas, idempotent by `key`; returns the group's id.

        A ledger document is required for every state but `available`, where it is forbidden.
        """
        ledger = {} if name == "available" else {"ledgerDocumentUri": document}
        entries = [
            {
                "inventoryItemId": change.inventory_item_id,
                "locationId": location_id,
                "delta": change.delta,
                "changeFromQuantity": None,
                **ledger,
            }
            for change in changes
        ]
        request = {"name": name, "reason": reason, "referenceDocumentUri": document, "changes": entries}
        data = await self._client.call(operations.ADJUST_QUANTITIES, key=key, input=request)
        return _group_id(data["inventoryAdjustQuantities"])

    async def move(self, *, key: str, document: str, location_id: str, changes: Sequence[QuantityChange]) -> str:
        """Move units from incoming to available in one atomic call, idempotent by `key`."""
        side = {"locationId": location_id, "changeFromQuantity": None}
        entries = [
            {
                "inventoryItemId": change.inventory_item_id,
                "quantity": change.delta,
                "from": {**side, "name": "incoming", "ledgerDocumentUri": document},
                "to": {**side, "name": "available"},
            }
            for change in changes
        ]
        request = {"reason": "movement_received", "referenceDocumentUri": document, "changes": entries}
        data = await self._client.call(operations.MOVE_QUANTITIES, key=key, input=request)
        return _group_id(data["inventoryMoveQuantities"])


def _level(node: Mapping[str, Any]) -> ShopLevel:
    """One item; at a location it was never stocked at, it has no level and none of anything."""
    level = node["inventoryLevel"] or {"quantities": []}
    quantities = {one["name"]: one["quantity"] for one in level["quantities"]}
    variants = (node["variants"] or {"nodes": []})["nodes"]
    return ShopLevel(
        name=node["sku"] or (variants[0]["displayName"] if variants else node["id"]),
        tracked=node["tracked"],
        bundle=any(one["requiresComponents"] for one in variants),
        incoming=quantities.get("incoming", 0),
        available=quantities.get("available", 0),
        history_url=node["inventoryHistoryUrl"] or "",
        created_at=datetime.fromisoformat(node["createdAt"]),
    )


def _group_id(payload: Mapping[str, Any]) -> str:
    """The adjustment group's id; empty when nothing changed (Shopify answers null without an error)."""
    group = payload["inventoryAdjustmentGroup"]
    return "" if group is None else str(group["id"])
