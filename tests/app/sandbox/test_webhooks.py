"""Webhooks as the sandbox sends them: signed, repeated, and in the end given up."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.app.sandbox.conftest import ShopClient

SUBSCRIBE = """
mutation ($topic: WebhookSubscriptionTopic!, $uri: String!) {
  webhookSubscriptionCreate(topic: $topic, webhookSubscription: {uri: $uri, format: JSON}) {
    webhookSubscription { id topic uri format } userErrors { field message }
  }
}
"""
LIST = "{ webhookSubscriptions(first: 10) { nodes { id topic uri } } }"
DELETE = "mutation ($id: ID!) { webhookSubscriptionDelete(id: $id) { deletedWebhookSubscriptionId } }"


class Subscriber:
    """A server that keeps what it is sent, and answers as it is told."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.uri = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = [line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line]
        headers = {name.lower(): value for name, value in lines}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.received.append((headers, body))
        status = self.statuses.pop(0) if self.statuses else 200
        writer.write(
            f"HTTP/1.1 {status} X\r\nLocation: {self.uri}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
        )
        await writer.drain()
        writer.close()


@pytest.fixture
async def subscriber() -> AsyncIterator[Subscriber]:
    subscriber = Subscriber()
    server = await asyncio.start_server(subscriber.serve, "127.0.0.1", 0)
    subscriber.uri = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/webhooks"
    async with server:
        yield subscriber


@pytest.fixture
async def app(shop: ShopClient) -> ShopClient:
    await shop.open(client_id="app-1", client_secrets=["shpss_old", "shpss_new"])
    return shop


async def subscribe(shop: ShopClient, uri: str, topic: str = "APP_UNINSTALLED") -> dict[str, Any]:
    return (await shop.data(SUBSCRIBE, topic=topic, uri=uri))["webhookSubscriptionCreate"]


async def send(shop: ShopClient, **occasion: Any) -> list[dict[str, Any]]:
    occasion = {"topic": "app/uninstalled", "payload": {"id": 1}} | occasion
    return (await shop.http.post(f"{shop.address}/shops/{shop.domain}/webhooks/send", json=occasion)).json()


async def test_a_subscriber_is_told_with_a_signature_of_the_oldest_secret(
    app: ShopClient, subscriber: Subscriber
) -> None:
    await subscribe(app, subscriber.uri)
    assert await send(app) == [{"uri": subscriber.uri, "statuses": [200]}]
    [(headers, body)] = subscriber.received
    signature = base64.b64encode(hmac.new(b"shpss_old", body, hashlib.sha256).digest()).decode()
    assert headers["x-shopify-hmac-sha256"] == signature
    assert (headers["x-shopify-topic"], headers["x-shopify-shop-domain"]) == ("app/uninstalled", app.domain)
    assert headers["x-shopify-triggered-at"].endswith("000Z")


async def test_a_failed_delivery_is_repeated_as_it_was(app: ShopClient, subscriber: Subscriber) -> None:
    subscriber.statuses = [500, 302, 404]
    assert await send(app, uri=subscriber.uri) == [{"uri": subscriber.uri, "statuses": [500, 302, 404, 200]}]
    assert len({(headers["x-shopify-webhook-id"], body) for headers, body in subscriber.received}) == 1


async def test_after_eight_retries_the_subscription_is_gone(app: ShopClient, subscriber: Subscriber) -> None:
    await subscribe(app, subscriber.uri)
    subscriber.statuses = [503] * 9
    assert (await send(app))[0]["statuses"] == [503] * 9
    assert (await app.data(LIST))["webhookSubscriptions"]["nodes"] == []
    assert await send(app) == []


async def test_a_subscription_is_made_once_and_to_https_only(app: ShopClient) -> None:
    made = await subscribe(app, "https://po.example/w")
    assert made["webhookSubscription"]["topic"] == "APP_UNINSTALLED"
    again = await subscribe(app, "https://po.example/w")
    assert again["userErrors"][0]["message"] == "Address for this topic has already been taken"
    assert (await subscribe(app, "http://po.example/w"))["userErrors"][0]["message"] == "Address is invalid"
    refused = await subscribe(app, "https://po.example/w", "INVENTORY_SHIPMENTS_RECEIVE_ITEMS")
    assert "cannot create" in refused["userErrors"][0]["message"], "its scope is not granted"
    [node] = (await app.data(LIST))["webhookSubscriptions"]["nodes"]
    await app.data(DELETE, id=node["id"])
    assert (await app.data(LIST))["webhookSubscriptions"]["nodes"] == []


async def test_uninstalling_tells_the_app_and_ends_its_subscriptions(app: ShopClient, subscriber: Subscriber) -> None:
    await subscribe(app, subscriber.uri)
    told = (await app.http.post(f"{app.address}/shops/{app.domain}/uninstall")).json()
    assert told == [{"uri": subscriber.uri, "statuses": [200]}]
    assert b'"myshopify_domain"' in subscriber.received[0][1]
    assert (await app.state())["subscriptions"] == []
