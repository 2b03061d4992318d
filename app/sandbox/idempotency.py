"""Shopify's `@idempotent(key:)`: the same key with the same variables gets the first result again."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from app.sandbox.call import Args, Call, Resolver, UserErrors, no
from app.sandbox.reads import find_node
from app.sandbox.state import Remembered

if TYPE_CHECKING:
    from app.sandbox.state import Shop


def once(operation: str, key: str, call: Call, args: Args, perform: Resolver) -> dict[str, Any]:
    """Perform under a key, or answer from memory."""
    variables = json.dumps([operation, args], sort_keys=True, default=str)
    first = _find(call, key)
    if first is not None:
        return _replay(call.shop, first, variables)
    try:
        payload: dict[str, Any] = perform(None, call, args)
    except UserErrors as refusal:
        call.shop.remembered[key] = Remembered(
            operation=operation, variables=variables, node_ids={}, user_errors=refusal.errors
        )
        raise
    node_ids = {name: node and node.id for name, node in payload.items() if name != "userErrors"}
    call.shop.remembered[key] = Remembered(operation=operation, variables=variables, node_ids=node_ids, user_errors=[])
    return payload


def _find(call: Call, key: str) -> Remembered | None:
    """Keys are kept for a limited window; past it the same call is a new one and takes effect again."""
    first = call.shop.remembered.get(key)
    retention = timedelta(seconds=call.shop.settings.idempotency_retention_s)
    return None if first is None or call.at - first.at > retention else first


def _replay(shop: Shop, first: Remembered, variables: str) -> dict[str, Any]:
    if first.variables != variables:
        message = "The idempotency key was used with different parameters."
        raise no(None, message, "IDEMPOTENCY_KEY_PARAMETER_MISMATCH")
    if first.user_errors:
        # A refused attempt spends its key (Shopify: IDEMPOTENCY_PREVIOUS_ATTEMPT_FAILED needs a new key);
        # that a user error counts as a failed attempt is the stricter reading.
        message = "The previous attempt with this idempotency key failed."
        raise no(None, message, "IDEMPOTENCY_PREVIOUS_ATTEMPT_FAILED")
    nodes = {name: node_id and find_node(shop, node_id) for name, node_id in first.node_ids.items()}
    return {**nodes, "userErrors": []}
