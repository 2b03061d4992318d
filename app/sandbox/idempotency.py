"""Shopify's `@idempotent(key:)`: the same key with the same variables gets the first result again.

    first attempt     the repeat, same variables                      other variables
    still running     IDEMPOTENCY_CONCURRENT_REQUEST [D]              the same: nothing is compared yet
    succeeded         the first result; nothing changes [D]           IDEMPOTENCY_KEY_PARAMETER_MISMATCH [D]
    refused           IDEMPOTENCY_PREVIOUS_ATTEMPT_FAILED [D]         IDEMPOTENCY_KEY_PARAMETER_MISMATCH
    long ago          a new call, which takes effect again            likewise

Not settled: how long a key is kept (24 hours by a third-party note; `Settings.idempotency_retention_s`), and whether
a user error counts as a failed attempt; that it does is the stricter reading, since the caller needs a new key.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from app.sandbox.call import Args, Call, Resolver, UserErrors, no
from app.sandbox.reads import find_node
from app.sandbox.state import Remembered

if TYPE_CHECKING:
    from app.sandbox.state import Shop


class Running:
    """Keys whose first request is being worked on: a slow one holds its key until it has answered."""

    def __init__(self) -> None:
        self._holders: dict[tuple[str, str], object] = {}

    @contextmanager
    def holding(self, shop: str, keys: list[str], request: object) -> Iterator[None]:
        """Hold those keys that nobody holds, for as long as the block runs."""
        mine = [(shop, key) for key in keys if self._holders.setdefault((shop, key), request) is request]
        try:
            yield
        finally:
            for name in mine:
                del self._holders[name]

    def is_anothers(self, shop: str, key: str, request: object) -> bool:
        """Whether a key is held by another request than this."""
        return self._holders.get((shop, key), request) is not request


def once(operation: str, key: str, call: Call, args: Args, perform: Resolver) -> dict[str, Any]:
    """Perform under a key, or answer from memory."""
    variables = json.dumps([operation, args], sort_keys=True, default=str)
    if call.running.is_anothers(call.shop.domain, key, call.request):
        message = "This request is currently in progress, please try again."
        raise no(None, message, "IDEMPOTENCY_CONCURRENT_REQUEST")
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
