"""Tells subscribers what happened, as Shopify does; and keeps who subscribed to what.

Shopify: a delivery is signed with the oldest client secret that is not revoked, over the raw body; 1 s to connect and
5 s in all; anything but 2xx, a redirect too, is tried again up to 8 times within 4 hours (here at once) with the same
body, id and time; after 8 failures in a row a subscription made by the API is removed [D]. The compliance topics are
configured on the app, so whoever sends them here says where to.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

import httpx
from pydantic import BaseModel, Field

from app.sandbox.call import Args, Call, connection, no
from app.sandbox.state import Shop, Subscription, now

TRIES = 9
FAILURES_MAX = 8
CONNECT_S = 1.0
TOTAL_S = 5.0

API_VERSION = "2026-10"
"""Shopify: the version of webhooks is set on the app, not per subscription."""

TOPIC_SCOPES = {"INVENTORY_SHIPMENTS_RECEIVE_ITEMS": "read_inventory_shipments_received_items"}
"""Topics that need a scope, of those anybody asks for here [D]."""

_LOOPBACK = "http://127.0.0.1:"


class Occasion(BaseModel):
    """The body of `POST /shops/{shop}/webhooks/send`: what happened, and whom to tell but for the subscribers."""

    topic: str
    payload: dict[str, Any] = {}
    uri: str = ""
    webhook_id: str = Field(default_factory=lambda: str(uuid4()))
    triggered_at: datetime = Field(default_factory=now)
    tries: int = Field(default=TRIES, ge=1, le=TRIES)
    secret: str = ""
    """Signs instead of the app's, for a sender that is not Shopify."""


@dataclass(frozen=True)
class Told:
    """One subscriber and what it answered, try by try; 0 where it did not."""

    uri: str
    statuses: list[int]

    @property
    def failed(self) -> bool:
        """Whether the last try failed too."""
        return not 200 <= self.statuses[-1] < 300  # noqa: PLR2004  HTTP's success


async def tell(http: httpx.AsyncClient, shop: Shop, occasion: Occasion) -> list[Told]:
    """Deliver to the address given, or to every subscriber of the topic."""
    subscribers = [one for one in shop.subscriptions.values() if wire_name(one.topic) == occasion.topic]
    addresses = [occasion.uri] if occasion.uri else [one.uri for one in subscribers]
    told = [Told(uri, await _deliver(http, shop, occasion, uri)) for uri in addresses]
    failed = {one.uri for one in told if one.failed and len(one.statuses) > FAILURES_MAX}
    for one in subscribers:
        if one.uri in failed:
            del shop.subscriptions[one.id]
    return told


async def _deliver(http: httpx.AsyncClient, shop: Shop, occasion: Occasion, uri: str) -> list[int]:
    body = json.dumps(occasion.payload, separators=(",", ":")).encode()
    secret = occasion.secret or next(iter(shop.oauth.client_secrets), "")
    headers = {
        "Content-Type": "application/json",
        "X-Shopify-Topic": occasion.topic,
        "X-Shopify-Shop-Domain": shop.domain,
        "X-Shopify-Webhook-Id": occasion.webhook_id,
        "X-Shopify-Event-Id": str(uuid4()),
        "X-Shopify-Triggered-At": f"{occasion.triggered_at:%Y-%m-%dT%H:%M:%S.%f}000Z",
        "X-Shopify-API-Version": API_VERSION,
        "X-Shopify-Hmac-SHA256": base64.b64encode(hmac.digest(secret.encode(), body, hashlib.sha256)).decode(),
    }
    statuses: list[int] = []
    while len(statuses) < occasion.tries:
        try:
            limits = httpx.Timeout(TOTAL_S, connect=CONNECT_S)
            answer = await http.post(uri, content=body, headers=headers, timeout=limits, follow_redirects=False)
            statuses.append(answer.status_code)
        except httpx.TransportError:
            statuses.append(0)
        if 200 <= statuses[-1] < 300:  # noqa: PLR2004  HTTP's success
            break
    return statuses


def wire_name(topic: str) -> str:
    """`APP_UNINSTALLED` -> `app/uninstalled`: a resource and what happened to it."""
    for resource in ("inventory_shipments", "inventory_transfers", "inventory_levels", "inventory_items"):
        if topic.lower().startswith(f"{resource}_"):
            return f"{resource}/{topic.lower().removeprefix(f'{resource}_')}"
    resource, _, event = topic.lower().partition("_")
    return f"{resource}/{event}"


def subscriptions(_source: Any, call: Call, args: Args) -> dict[str, Any]:
    """The app's subscriptions, of some topics if asked so."""
    found = list(call.shop.subscriptions.values())
    if args.get("topics"):
        found = [one for one in found if one.topic in args["topics"]]
    if args.get("uri"):
        found = [one for one in found if one.uri == args["uri"]]
    return connection(found, args)


def subscription_create(_source: Any, call: Call, args: Args) -> dict[str, Any]:
    """Subscribe an address to a topic; once."""
    topic, given = args["topic"], args["webhookSubscription"]
    uri = given.get("uri") or given.get("callbackUrl") or ""
    if not uri.startswith(("https://", _LOOPBACK)):
        # Shopify takes https only; the sandbox's own machine is the exception.
        raise no(["webhookSubscription", "uri"], "Address is invalid")
    scope = TOPIC_SCOPES.get(topic)
    if scope is not None and not {scope, scope.replace("read_", "write_")} & set(call.shop.scopes):
        raise no(["topic"], "You cannot create a webhook subscription with the specified topic")
    if any((one.topic, one.uri) == (topic, uri) for one in call.shop.subscriptions.values()):
        raise no(["webhookSubscription", "uri"], "Address for this topic has already been taken")
    made = Subscription(
        id=call.shop.new_id("WebhookSubscription"), topic=topic, uri=uri, format=given.get("format") or "JSON"
    )
    call.shop.subscriptions[made.id] = made
    return {"webhookSubscription": made, "userErrors": []}


def subscription_delete(_source: Any, call: Call, args: Args) -> dict[str, Any]:
    """End a subscription."""
    if call.shop.subscriptions.pop(args["id"], None) is None:
        raise no(["id"], "Webhook subscription does not exist")
    return {"deletedWebhookSubscriptionId": args["id"], "userErrors": []}


def told_as_json(told: Sequence[Told]) -> list[dict[str, Any]]:
    """For the answer of the control endpoint."""
    return [{"uri": one.uri, "statuses": one.statuses} for one in told]
