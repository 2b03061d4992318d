"""Shopify's word reaches us over real HTTP, signed; whatever is not its word changes nothing."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.adapters.secrets import Seal
from app.adapters.shopify.webhooks import RECEIVE_ITEMS, ReceivedLine
from app.admin.api import create_app
from app.admin.deps import AdminDeps, Webhooks
from app.connections import Connections
from app.db import tables
from app.db.grants import AppClient, ClientCredentials, Grants, StaticToken
from app.db.merchants import Merchants
from app.db.session import Database
from app.db.tables import merchants, shop_grants, shop_states, webhook_events
from app.db.webhooks import count_left
from app.sandbox.server import run_sandbox
from app.webhook_inbox import TakeOver, WebhookInbox
from pipeline.clock import SystemClock
from pipeline.domain.merchant import Merchant
from pipeline.queue.bull import Bull
from tests.app.admin.conftest import asking
from tests.app.admin.test_server import served
from tests.app.db.given import Given
from tests.support import loopback

KEY = "a-key-that-was-drawn-and-not-thought-up"
DOMAIN = "acme.myshopify.com"
ACME = Merchant(id="m1", name="Acme", shop_domain=DOMAIN)
SECRET, NEW_SECRET = "shpss_old", "shpss_new"
PATH = "/webhooks/shopify"
GONE = {"id": 1, "myshopify_domain": DOMAIN}


@dataclass
class Ours:
    """Our side: what is stored, and what is handled when a test says so."""

    database: Database
    grants: Grants
    inbox: WebhookInbox
    deps: AdminDeps

    async def connect(self, access: Any = None) -> None:
        await Merchants(self.database, self.grants).add(ACME, access=access or StaticToken("shpat_x"))

    async def events(self) -> list[Any]:
        async with self.database.transaction() as connection:
            return list(await connection.execute(select(webhook_events).order_by(webhook_events.c.received_at)))

    async def states(self) -> list[tuple[str, str]]:
        return [(row.state, row.note) for row in await self.events()]

    async def handle(self) -> int:
        handled = 0
        while await self.inbox.run_once():
            handled += 1
        return handled

    async def let_pass(self, seconds: float) -> None:
        async with self.database.transaction() as connection:
            by = text(f"interval '{seconds} seconds'")
            await connection.execute(update(webhook_events).values(due_at=webhook_events.c.due_at - by))


Make = Callable[..., Ours]


@pytest.fixture
def make_ours(make_deps: Any, database: Database, bull: Bull, connections: Connections) -> Make:
    def make(take_over: TakeOver | None = None, **changed: Any) -> Ours:
        grants = Grants(database, Seal(KEY), AppClient("app-1", (NEW_SECRET, SECRET)))
        inbox = WebhookInbox(database, bull, connections.commands, SystemClock(), take_over)
        deps = make_deps(webhooks=Webhooks(grants, inbox, "po.example"), **changed)
        return Ours(database, grants, inbox, deps)

    return make


@pytest.fixture
def ours(make_ours: Make) -> Ours:
    return make_ours()


def headers_of(body: bytes, topic: str = "app/uninstalled", *, secret: str = SECRET, **changed: str) -> dict[str, str]:
    signature = base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()
    return {
        "content-type": "application/json",
        "x-shopify-topic": topic,
        "x-shopify-shop-domain": DOMAIN,
        "x-shopify-webhook-id": str(uuid4()),
        "x-shopify-triggered-at": datetime.now(UTC).isoformat(),
        "x-shopify-hmac-sha256": signature,
    } | {name.replace("_", "-"): value for name, value in changed.items()}


async def send(ours: Ours, payload: Any = GONE, topic: str = "app/uninstalled", **changed: Any) -> httpx.Response:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    async with asking(ours.deps) as http:
        return await http.post(PATH, content=body, headers=headers_of(body, topic, **changed))


# ---------------------------------------------------------------------------------- whose word it is


async def test_a_shop_tells_us_over_the_wire_and_is_answered_before_anything_is_done(ours: Ours) -> None:
    """The whole way: the app is uninstalled in the shop, our endpoint is told, the tokens are forgotten."""
    async with run_sandbox() as sandbox, loopback(timeout=30) as http, served(create_app(ours.deps)) as us:
        shop = {"domain": DOMAIN, "token": "shpat_x", "client_id": "app-1", "client_secrets": [SECRET, NEW_SECRET]}
        await http.post(f"{sandbox}/shops", json=shop)
        await ours.connect()
        told = (
            await http.post(
                f"{sandbox}/shops/{DOMAIN}/webhooks/send",
                json={"topic": "app/uninstalled", "payload": GONE, "uri": f"{us}{PATH}"},
            )
        ).json()
        assert told == [{"uri": f"{us}{PATH}", "statuses": [200]}]
        for _ in range(200):
            if [state for state, _ in await ours.states()] == ["done"]:
                break
            await SystemClock().sleep(0.02)
        held = await ours.grants.held("m1")
        assert held is not None
        assert held.token is None
        assert "the app was uninstalled" in held.trouble


@pytest.mark.parametrize("secret", [SECRET, NEW_SECRET])
async def test_while_the_secret_is_changed_both_are_believed(secret: str, ours: Ours) -> None:
    await ours.connect()
    assert (await send(ours, secret=secret)).status_code == 200


async def test_a_merchants_own_app_signs_with_its_own_secret_and_no_other_fits(ours: Ours) -> None:
    await ours.connect(ClientCredentials("own", "shpss_own"))
    assert (await send(ours, secret=SECRET)).status_code == 401
    assert (await send(ours, secret="shpss_own")).status_code == 200


@pytest.mark.parametrize(
    ("changed", "payload", "status"),
    [
        ({"secret": "shpss_forged"}, GONE, 401),
        ({"x_shopify_hmac_sha256": ""}, GONE, 401),
        ({"x_shopify_hmac_sha256": "AA=="}, GONE, 401),
        ({}, {"id": 1, "myshopify_domain": "other.myshopify.com"}, 401),
        ({}, b"[1]", 401),
        ({}, b"not json", 401),
        ({"x_shopify_topic": ""}, GONE, 400),
        ({"x_shopify_shop_domain": "x"}, GONE, 400),
        ({"x_shopify_webhook_id": "a\tb"}, GONE, 400),
        ({"content_type": "text/plain"}, GONE, 415),
        ({}, b"{" + b" " * 1_100_000 + b"}", 413),
        ({"origin": "https://evil.example"}, GONE, 403),
    ],
)
async def test_what_is_not_shopifys_word_changes_nothing(
    changed: dict[str, str], payload: Any, status: int, ours: Ours
) -> None:
    await ours.connect()
    assert (await send(ours, payload, **changed)).status_code == status
    assert await ours.events() == []
    held = await ours.grants.held("m1")
    assert held is not None
    assert held.token == "shpat_x"


async def test_without_any_secret_nobody_is_believed(make_ours: Make, database: Database) -> None:
    ours = make_ours()
    ours.deps.webhooks.grants._app = AppClient()  # type: ignore[union-attr]
    await ours.connect()
    assert (await send(ours, secret="")).status_code == 401


async def test_it_may_come_by_the_public_name_and_nothing_else_may(make_ours: Make) -> None:
    ours = make_ours(token="the admin's")
    await ours.connect()
    body = json.dumps(GONE).encode()
    async with asking(ours.deps, "https://po.example") as http:
        assert (await http.post(PATH, content=body, headers=headers_of(body))).status_code == 200
        assert (await http.get("/api/orders")).status_code == 421
        assert (await http.get("/")).status_code == 421
    async with asking(ours.deps, "https://evil.example") as http:
        assert (await http.post(PATH, content=body, headers=headers_of(body))).status_code == 421


# ---------------------------------------------------------------------------------- once, and in order


async def test_one_webhook_is_done_once_however_often_it_comes(ours: Ours) -> None:
    await ours.connect()
    again = {"x_shopify_webhook_id": "w1"}
    first, second = await send(ours, **again), await send(ours, **again)
    assert (first.json()["message"], second.json()["message"]) == ("kept", "known")
    assert await ours.handle() == 1
    await send(ours, **again)
    assert await ours.handle() == 0
    assert len(await ours.events()) == 1


async def test_a_late_retry_does_not_undo_what_a_person_did_since(ours: Ours) -> None:
    await ours.connect()
    long_ago = (datetime.now(UTC) - timedelta(hours=3)).isoformat()
    await send(ours, x_shopify_triggered_at=long_ago)
    await ours.handle()
    assert await ours.states() == [("stale", "the shop was connected again since")]
    held = await ours.grants.held("m1")
    assert held is not None
    assert (held.token, held.trouble) == ("shpat_x", "")


async def test_an_uninstalled_app_is_parked_until_somebody_connects_it_again(ours: Ours) -> None:
    await ours.connect(ClientCredentials("own", "shpss_own"))
    await send(ours, secret="shpss_own")
    await ours.handle()
    async with ours.database.transaction() as connection:
        parked = await connection.scalar(select(shop_states.c.parked_reason))
        token = await connection.scalar(select(merchants.c.shop_token_sealed))
        secret = await connection.scalar(select(shop_grants.c.client_secret_sealed))
    assert "the app was uninstalled" in str(parked)
    assert token is None
    assert secret is not None, "it proves the webhook by which the shop's data are erased, two days later"
    assert await ours.grants.claim("m1", 1, "x") is None, "and it gets no new token"
    await ours.connect()
    held = await ours.grants.held("m1")
    assert held is not None
    assert (held.token, held.trouble) == ("shpat_x", "")


async def test_scopes_are_noted_in_the_order_in_which_they_were_granted(ours: Ours) -> None:
    await ours.connect()
    async with ours.database.transaction() as connection:
        await connection.execute(
            tables.shop_states.insert().values(
                merchant_id="m1", scopes=["read_products"], parked_reason="denied", parked_operation="StageUpload"
            )
        )
    now, before = datetime.now(UTC), datetime.now(UTC) - timedelta(minutes=5)
    more = {"current": ["read_products", "write_files"]}
    await send(ours, more, "app/scopes_update", x_shopify_triggered_at=now.isoformat())
    await send(ours, {"current": []}, "app/scopes_update", x_shopify_triggered_at=before.isoformat())
    await ours.handle()
    assert [state for state, _ in await ours.states()] == ["done", "stale"]
    async with ours.database.transaction() as connection:
        row = (await connection.execute(select(shop_states))).one()
    assert (row.scopes, row.parked_reason) == (["read_products", "write_files"], "")


async def test_replicas_share_the_events(make_ours: Make) -> None:
    one, two = make_ours(), make_ours()
    await one.connect()
    for _ in range(6):
        await send(one, {"current": []}, "app/scopes_update")
    while await one.inbox.run_once() + await two.inbox.run_once():
        pass
    rows = await one.events()
    assert [(row.state, row.tries) for row in rows] == [("done", 1)] * 6


# ---------------------------------------------------------------------------------- shipments


RECEIVED = {
    "id": "gid://shopify/InventoryShipment/7",
    "status": "received",
    "items_received": [{"inventory_item_id": 11, "new_accepted_quantity": 8, "new_rejected_quantity": 1}],
}


async def test_what_was_received_in_the_admin_is_taken_over_in_one_transaction_with_its_event(
    make_ours: Make, given: Given
) -> None:
    async def take_over(
        connection: AsyncConnection, merchant_id: str, shipment_id: str, lines: Sequence[ReceivedLine]
    ) -> str | None:
        await connection.execute(
            tables.audit.insert().values(
                who=merchant_id, action="receive", details={"shipment": shipment_id, "accepted": lines[0].accepted}
            )
        )
        return "order-1"

    ours = make_ours(take_over)
    await ours.connect()
    for _ in range(2):
        await send(ours, RECEIVED, RECEIVE_ITEMS, x_shopify_webhook_id="w1")
    await ours.handle()
    [note] = await given.rows(tables.audit)
    assert note["details"] == {"shipment": "gid://shopify/InventoryShipment/7", "accepted": 8}
    assert await ours.states() == [("done", "counted as received for order order-1")]


async def test_a_process_that_cannot_take_over_leaves_it_to_one_that_can(make_ours: Make) -> None:
    async def none_of_ours(*_given: Any) -> None:
        return None

    ours = make_ours()
    await ours.connect()
    await send(ours, RECEIVED, RECEIVE_ITEMS)
    await ours.handle()
    [(state, note)] = await ours.states()
    assert (state, "cannot take over" in note) == ("unhandled", True)
    able = make_ours(none_of_ours)
    await able.let_pass(60)
    assert await ours.handle() == 0
    await able.handle()
    assert await able.states() == [("done", "the shipment carries no order of ours")]


async def test_what_fails_is_tried_again_and_keeps_nothing_else_waiting(make_ours: Make) -> None:
    async def broken(*_given: Any) -> str:
        raise ZeroDivisionError

    ours = make_ours(broken)
    await ours.connect()
    await send(ours, RECEIVED, RECEIVE_ITEMS)
    await send(ours, {"current": []}, "app/scopes_update")
    await ours.handle()
    assert [state for state, _ in await ours.states()] == ["waiting", "done"]
    assert (await ours.states())[0][1] == "failed: ZeroDivisionError; the log has it"


async def test_what_is_not_understood_is_kept_with_the_reason(ours: Ours) -> None:
    await ours.connect()
    assert (await send(ours, {"id": 7}, RECEIVE_ITEMS)).status_code == 200
    assert await ours.states() == [("refused", "the received items are not in the body")]
    async with ours.database.transaction() as connection:
        assert await count_left(connection) == {
            "inventory_shipments/receive_items refused: the received items are not in the body": 1
        }
    assert await ours.handle() == 0


# ---------------------------------------------------------------------------------- people


@pytest.mark.parametrize("topic", ["customers/data_request", "customers/redact"])
async def test_a_question_about_a_customer_is_recorded_without_the_customer(topic: str, ours: Ours) -> None:
    await ours.connect()
    payload = {"shop_domain": DOMAIN, "customer": {"id": 1, "email": "ann@example.com", "phone": "555-0100"}}
    assert (await send(ours, payload, topic)).status_code == 200
    await ours.handle()
    [event] = await ours.events()
    assert (event.state, event.note, event.facts) == ("done", "no data about customers is held here", {})
    assert "ann@" not in str(event)


async def test_a_shop_we_do_not_know_is_answered_and_not_recorded(ours: Ours) -> None:
    answer = await send(ours, {"shop_domain": DOMAIN}, "shop/redact")
    assert (answer.status_code, answer.json()["message"]) == (200, "nothing is known of this shop")
    assert await ours.events() == []


async def test_events_are_forgotten_after_a_month(ours: Ours) -> None:
    await ours.connect()
    await send(ours, {"current": []}, "app/scopes_update")
    await ours.handle()
    async with ours.database.transaction() as connection:
        await connection.execute(update(webhook_events).values(received_at=func.now() - timedelta(days=31)))
    await ours.handle()
    assert await ours.events() == []
