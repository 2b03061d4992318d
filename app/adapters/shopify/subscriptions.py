"""Asks a shop to tell us what happens in it; looks first, so that asking again asks for nothing twice.

Shopify removes a subscription after 8 deliveries in a row that failed, so it is looked at again by `doctor`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.adapters.shopify import operations
from app.adapters.shopify.webhooks import SUBSCRIBED
from pipeline.errors import VendorRefused

if TYPE_CHECKING:
    from app.adapters.shopify.client import ShopClient


@dataclass(frozen=True, slots=True)
class Subscriptions:
    """Topics, by the names they have on the wire: those we are told of, and why not of the others."""

    there: tuple[str, ...]
    refused: dict[str, str]

    @property
    def missing(self) -> tuple[str, ...]:
        """Topics nobody tells us of."""
        return tuple(topic for topic in SUBSCRIBED.values() if topic not in self.there)


async def find_subscriptions(client: ShopClient, uri: str) -> Subscriptions:
    """What this address is told of."""
    data = await client.call(operations.SUBSCRIPTIONS, topics=list(SUBSCRIBED))
    found = {node["topic"] for node in data["webhookSubscriptions"]["nodes"] if node["uri"] == uri}
    return Subscriptions(tuple(topic for name, topic in SUBSCRIBED.items() if name in found), {})


async def subscribe(client: ShopClient, uri: str) -> Subscriptions:
    """Ask for every topic that is missing; what the shop refuses is said, and keeps nothing else from being asked."""
    found = await find_subscriptions(client, uri)
    there, refused = list(found.there), {}
    for name, topic in SUBSCRIBED.items():
        if topic in found.missing:
            try:
                await client.call(operations.SUBSCRIBE, topic=name, webhookSubscription={"uri": uri, "format": "JSON"})
                there.append(topic)
            except VendorRefused as error:
                refused[topic] = str(error)
    return Subscriptions(tuple(there), refused)
