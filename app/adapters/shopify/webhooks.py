"""What Shopify tells us unasked: whether it is really Shopify's word, and what it says. Pure.

The signature is over the raw body and nothing else, so it is checked before the body is read, and what the headers
claim about the shop is compared with what the signed body says. Source: shopify.dev, "Deliver webhooks through HTTPS".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

BODY_MAX = 1024 * 1024
"""Bytes; the longest of the topics below lists a shipment's lines."""

LINES_MAX = 10_000
"""Shopify: a shipment has at most that many line items."""

UNINSTALLED = "app/uninstalled"
SCOPES_UPDATE = "app/scopes_update"
RECEIVE_ITEMS = "inventory_shipments/receive_items"
DATA_REQUEST = "customers/data_request"
REDACT_CUSTOMER = "customers/redact"
REDACT_SHOP = "shop/redact"

SUBSCRIBED = {
    "APP_UNINSTALLED": UNINSTALLED,
    "APP_SCOPES_UPDATE": SCOPES_UPDATE,
    "INVENTORY_SHIPMENTS_RECEIVE_ITEMS": RECEIVE_ITEMS,
}
"""What each shop is asked to tell us: GraphQL's name of the topic, and its name on the wire."""

MANDATORY = (DATA_REQUEST, REDACT_CUSTOMER, REDACT_SHOP)
"""Cannot be subscribed to: they are set in the app's configuration, and every public app must answer them."""

_DOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+")
_TOPIC = re.compile(r"[a-z_]{1,60}/[a-z_]{1,60}")
_ID = re.compile(r"[\x21-\x7e]{1,100}")
_SCOPE = re.compile(r"[a-z_]{1,100}")
_GID = re.compile(r"gid://shopify/[A-Za-z]+/[0-9]+")


class UnreadableWebhookError(ValueError):
    """What came is no webhook we understand; the message is for the log and repeats nothing of it."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What the headers say. None of it is signed."""

    shop_domain: str
    topic: str
    webhook_id: str
    triggered_at: datetime | None


@dataclass(frozen=True, slots=True)
class ReceivedLine:
    """What has come of one item of a shipment in all, whoever received it."""

    inventory_item_id: str
    accepted: int
    rejected: int


@dataclass(frozen=True, slots=True)
class ReceivedShipment:
    """A shipment of which a person has received something in the shop's admin."""

    shipment_id: str
    lines: tuple[ReceivedLine, ...]


def delivery_of(headers: Mapping[str, str]) -> Delivery:
    """Read the headers. Raises UnreadableWebhookError."""
    domain = headers.get("x-shopify-shop-domain", "").lower()
    topic = headers.get("x-shopify-topic", "").lower()
    webhook_id = headers.get("x-shopify-webhook-id", "")
    if not (_DOMAIN.fullmatch(domain) and _TOPIC.fullmatch(topic) and _ID.fullmatch(webhook_id)):
        raise UnreadableWebhookError("the headers of a webhook are missing")
    return Delivery(domain, topic, webhook_id, _instant(headers.get("x-shopify-triggered-at", "")))


def is_signed(body: bytes, signature: str, secrets: Iterable[str]) -> bool:
    """Whether one of these client secrets signed this body. Takes the same time whichever did, or none."""
    try:
        given = base64.b64decode(signature, validate=True)
    except (ValueError, binascii.Error):
        given = b""
    fits = [hmac.compare_digest(hmac.digest(secret.encode(), body, hashlib.sha256), given) for secret in secrets]
    return any(fits)


def payload_of(body: bytes, delivery: Delivery) -> dict[str, Any]:
    """The signed body, which must be about the shop that the headers name. Raises UnreadableWebhookError."""
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        payload = None
    if not isinstance(payload, dict):
        raise UnreadableWebhookError("the body of a webhook is no object")
    said = payload.get("shop_domain") or payload.get("myshopify_domain") or delivery.shop_domain
    if said != delivery.shop_domain:
        raise UnreadableWebhookError("the body of a webhook is about another shop than its header")
    if delivery.topic in {REDACT_SHOP, UNINSTALLED} and said not in (
        payload.get("shop_domain"),
        payload.get("myshopify_domain"),
    ):
        raise UnreadableWebhookError("the body of a webhook does not say which shop it is about")
    return payload


def facts_of(topic: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    """All that is kept of a body: what its topic is handled by, and never anything about a person.

    Raises UnreadableWebhookError where that is not in it.
    """
    read = _FACTS.get(topic)
    return {} if read is None else read(payload)


def shipment_of(facts: Mapping[str, Any]) -> ReceivedShipment:
    """The facts of RECEIVE_ITEMS as a value again."""
    return ReceivedShipment(facts["shipment_id"], tuple(ReceivedLine(*line) for line in facts["lines"]))


def _scopes(payload: Mapping[str, Any]) -> dict[str, Any]:
    scopes = payload.get("current")
    if not isinstance(scopes, list) or not all(isinstance(one, str) and _SCOPE.fullmatch(one) for one in scopes):
        raise UnreadableWebhookError("the scopes are not in the body")
    return {"scopes": sorted(scopes)}


def _shipment(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The shipment and its lines' totals.

    Documented: `id`, `status`, `items_received`, and for an item the quantities before and after (2026-10 names
    `old_canceled_quantity` and `new_canceled_quantity`). Not settled: how an item is named; both ways are read.
    """
    items = payload.get("items_received")
    if not isinstance(items, list) or len(items) > LINES_MAX:
        raise UnreadableWebhookError("the received items are not in the body")
    shipment = _gid(payload.get("admin_graphql_api_id", payload.get("id")), "InventoryShipment")
    return {"shipment_id": shipment, "lines": [_line(item) for item in items]}


def _line(item: Any) -> tuple[str, int, int]:
    if not isinstance(item, dict):
        raise UnreadableWebhookError("a received item is no object")
    return (
        _gid(item.get("inventory_item_id"), "InventoryItem"),
        _units(item, ("new_accepted_quantity", "accepted_quantity")),
        _units(item, ("new_rejected_quantity", "rejected_quantity")),
    )


def _units(item: Mapping[str, Any], names: Sequence[str]) -> int:
    found = next((item[name] for name in names if name in item), None)
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found <= 10**9:
        raise UnreadableWebhookError("a received item has no total")
    return found


def _gid(value: Any, kind: str) -> str:
    """A global id, from one or from the number in it."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return f"gid://shopify/{kind}/{value}"
    if isinstance(value, str) and _GID.fullmatch(value) and value.split("/")[3] == kind:
        return value
    raise UnreadableWebhookError(f"there is no {kind} in the body")


def _instant(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


_FACTS: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    SCOPES_UPDATE: _scopes,
    RECEIVE_ITEMS: _shipment,
}
