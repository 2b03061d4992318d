"""Whether it is Shopify's word, and what of it is kept."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.adapters.shopify.webhooks import (
    RECEIVE_ITEMS,
    SCOPES_UPDATE,
    Delivery,
    ReceivedLine,
    ReceivedShipment,
    UnreadableWebhookError,
    delivery_of,
    facts_of,
    is_signed,
    payload_of,
    shipment_of,
)

SECRET = "shpss_0123456789"
HEADERS = {
    "x-shopify-shop-domain": "acme.myshopify.com",
    "x-shopify-topic": "app/uninstalled",
    "x-shopify-webhook-id": "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043",
    "x-shopify-triggered-at": "2026-11-26T00:00:27.877041743Z",
}
DELIVERY = delivery_of(HEADERS)


def signed(body: bytes, secret: str = SECRET) -> str:
    return base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()


@given(st.binary(max_size=200))
def test_what_the_secret_signed_is_believed_and_nothing_else(body: bytes) -> None:
    assert is_signed(body, signed(body), ["another", SECRET])
    assert not is_signed(body + b" ", signed(body), [SECRET])
    assert not is_signed(body, signed(body, "another"), [SECRET])
    assert not is_signed(body, signed(body), [])


@pytest.mark.parametrize("signature", ["", "x", "====", "é", signed(b"{}")[:-2], signed(b"{}").lower()])
def test_what_is_no_signature_is_none(signature: str) -> None:
    assert not is_signed(b"{}", signature, [SECRET])


def test_the_headers_say_which_shop_what_and_when() -> None:
    at = datetime(2026, 11, 26, 0, 0, 27, 877041, UTC)
    assert Delivery("acme.myshopify.com", "app/uninstalled", HEADERS["x-shopify-webhook-id"], at) == DELIVERY
    assert delivery_of(HEADERS | {"x-shopify-triggered-at": "yesterday"}).triggered_at is None


@pytest.mark.parametrize(
    "changed",
    [
        {"x-shopify-shop-domain": "acme"},
        {"x-shopify-shop-domain": "acme.myshopify.com/../x"},
        {"x-shopify-topic": "app"},
        {"x-shopify-topic": "app/" + "x" * 100},
        {"x-shopify-webhook-id": ""},
        {"x-shopify-webhook-id": "a b"},
        {"x-shopify-webhook-id": "x" * 101},
    ],
)
def test_headers_that_are_not_a_webhooks_are_refused(changed: dict[str, str]) -> None:
    with pytest.raises(UnreadableWebhookError):
        delivery_of(HEADERS | changed)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"myshopify_domain": "other.myshopify.com"}', b'{"id": 1}'],
)
def test_a_body_about_another_shop_or_about_none_is_refused(body: bytes) -> None:
    """The header is not signed: a body signed for one shop must not be turned on another."""
    with pytest.raises(UnreadableWebhookError):
        payload_of(body, DELIVERY)


RECEIVED = {
    "id": "gid://shopify/InventoryShipment/7",
    "status": "partially_received",
    "inventory_transfer_id": 3,
    "happened_at": "2026-11-26T00:00:00Z",
    "items_received": [
        {
            "inventory_item_id": 11,
            "old_accepted_quantity": 2,
            "new_accepted_quantity": 8,
            "old_rejected_quantity": 0,
            "new_rejected_quantity": 1,
            "new_canceled_quantity": 0,
        },
        {"inventory_item_id": "gid://shopify/InventoryItem/12", "accepted_quantity": 3, "rejected_quantity": 0},
    ],
}


def test_a_received_shipment_is_read_as_totals() -> None:
    facts = json.loads(json.dumps(facts_of(RECEIVE_ITEMS, RECEIVED)))
    item = "gid://shopify/InventoryItem/{}".format
    lines = (ReceivedLine(item(11), 8, 1), ReceivedLine(item(12), 3, 0))
    assert shipment_of(facts) == ReceivedShipment("gid://shopify/InventoryShipment/7", lines)
    assert facts_of(RECEIVE_ITEMS, RECEIVED | {"id": 7})["shipment_id"] == "gid://shopify/InventoryShipment/7"


@pytest.mark.parametrize(
    "changed",
    [
        {"items_received": None},
        {"items_received": ["x"]},
        {"items_received": [{"inventory_item_id": 1, "accepted_quantity": -1, "rejected_quantity": 0}]},
        {"items_received": [{"inventory_item_id": 1, "accepted_quantity": True, "rejected_quantity": 0}]},
        {"items_received": [{"inventory_item_id": 1, "accepted_quantity": 1}]},
        {"items_received": [{"accepted_quantity": 1, "rejected_quantity": 0}]},
        {"id": "gid://shopify/Product/7"},
        {"id": "7; DROP"},
    ],
)
def test_a_shipment_that_cannot_be_counted_is_refused_whole(changed: dict[str, Any]) -> None:
    with pytest.raises(UnreadableWebhookError):
        facts_of(RECEIVE_ITEMS, RECEIVED | changed)


def test_of_a_customer_nothing_is_kept() -> None:
    payload = {"customer": {"email": "ann@example.com", "phone": "555"}, "orders_requested": [1]}
    assert facts_of("customers/data_request", payload) == facts_of("customers/redact", payload) == {}
    assert facts_of(SCOPES_UPDATE, {"current": ["write_products"], "previous": []}) == {"scopes": ["write_products"]}
    with pytest.raises(UnreadableWebhookError):
        facts_of(SCOPES_UPDATE, {"current": ["write products"]})
