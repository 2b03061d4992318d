"""A person receives a shipment in the shop's admin before the run that made it is recorded; or one of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from sqlalchemy import select, text, update
from structlog.testing import capture_logs

from app.adapters.shopify.webhooks import RECEIVE_ITEMS, Delivery
from app.connections import Connections
from app.db.tables import effects, runs, webhook_events
from app.db.webhooks import count_left
from app.sandbox.state import ALL_SCOPES, TRANSFER_SCOPES
from app.webhook_inbox import WebhookInbox, take_over
from pipeline import flow
from pipeline.clock import SystemClock
from pipeline.queue.bull import Bull
from tests.app.admin.conftest import bull, connections
from tests.app.db.given import MERCHANT
from tests.chaos.lives import Shopkeeper, order, revise, shopkeeping
from tests.chaos.test_received_in_the_admin import receive_in_the_admin
from tests.sandbox_shop import DOMAIN, SandboxShop, http, sandbox

__all__ = ["bull", "connections", "http", "sandbox"]

THEIRS = "gid://shopify/InventoryShipment/77"
OTHER_GOODS = "gid://shopify/InventoryItem/77"
SHIPS = effects.c.key.like("announce:%:ship:%")


@dataclass
class Shop:
    """A shop with an order of ten red and four blue mugs at its door, and the inbox its messages come to."""

    keeper: Shopkeeper
    sandbox: SandboxShop
    inbox: WebhookInbox

    async def receive(self) -> tuple[str, str]:
        """Three red mugs are received in the admin and one is rejected; the shipment, and the mugs' item."""
        shipment_id = await receive_in_the_admin(self.sandbox, 3, 1)
        (shipment,) = (await self.sandbox.state())["shipments"]
        return shipment_id, str(shipment["lines"][0]["inventory_item_id"])

    async def hear(self, shipment_id: str, items: Sequence[str], accepted: int = 3, rejected: int = 1) -> None:
        came = [
            {"inventory_item_id": item, "new_accepted_quantity": accepted, "new_rejected_quantity": rejected}
            for item in items
        ]
        said = Delivery(DOMAIN, RECEIVE_ITEMS, str(uuid4()), None)
        assert await self.inbox.keep(said, MERCHANT, {"id": shipment_id, "items_received": came})

    async def look(self) -> list[tuple[str, str]]:
        """Handle what is due and whatever waits: the events' states and notes, oldest first."""
        async with self.keeper.database.transaction() as connection:
            await connection.execute(update(webhook_events).values(due_at=text("now()")))
        while await self.inbox.run_once():
            pass
        async with self.keeper.database.transaction() as connection:
            found = await connection.execute(select(webhook_events).order_by(webhook_events.c.received_at))
            return [(row.state, row.note) for row in found]

    async def red(self) -> tuple[int, int, int, int]:
        return (await self.keeper.books())["MUG-R"]


@pytest.fixture
async def shop(database_url: str, sandbox: SandboxShop, bull: Bull, connections: Connections) -> AsyncIterator[Shop]:
    await sandbox.change(scopes=[*ALL_SCOPES, *TRANSFER_SCOPES])
    async with shopkeeping(database_url, sandbox) as keeper:
        await order(keeper.given, {"MUG-R": 10, "MUG-B": 4})
        await keeper.given.change(runs, runs.c.id == "run-1", due_since=datetime.now(UTC))
        inbox = WebhookInbox(keeper.database, bull, connections.commands, SystemClock(), take_over)
        yield Shop(keeper, sandbox, inbox)


@pytest.mark.parametrize(("gap", "passes"), [("answered", 1), ("record", 0)])
async def test_it_waits_until_the_books_are_written_and_is_counted_once(shop: Shop, gap: str, passes: int) -> None:
    """The worker dies on the shop's answer, its intent open; or with the shipment confirmed, and not recorded."""
    await shop.keeper.die("run-1", gap, passes)
    [(state, _)] = {(row["state"], row["key"]) for row in await shop.keeper.given.rows(effects, SHIPS)}
    assert state == ("intent" if gap == "answered" else "confirmed")
    shipment_id, item = await shop.receive()
    await shop.hear(shipment_id, [item])
    for _ in range(2):
        [(state, note)] = await shop.look()
        assert (state, "by run run-1, which is not recorded yet" in note) == ("waiting", True)
    await shop.keeper.work("run-1")
    for _ in range(2):
        assert await shop.look() == [("done", "counted as received for order order-1")]
    assert await shop.red() == (10, 3, 1, 0)


async def test_a_shipment_of_the_merchants_own_is_ended_at_its_first_look(shop: Shop) -> None:
    """Whatever is under way here: a shop that receives its own shipments all day fills no inbox."""
    await shop.keeper.die("run-1", "answered", 1)
    _, item = await shop.receive()
    for items in ([OTHER_GOODS], [item, OTHER_GOODS]):
        await shop.hear(THEIRS, items)
    assert await shop.look() == [("done", "the shipment carries no order of ours")] * 2
    rows = await shop.keeper.given.rows(webhook_events)
    assert [row["tries"] for row in rows] == [1, 1]


async def test_one_of_the_same_goods_is_theirs_as_soon_as_the_shop_has_said_which_is_ours(shop: Shop) -> None:
    await shop.keeper.die("run-1", "answered", 1)
    _, item = await shop.receive()
    await shop.hear(THEIRS, [item])
    [(state, note)] = await shop.look()
    assert (state, "may be announced by run run-1" in note) == ("waiting", True)
    await shop.keeper.die("run-1", "record", 0)
    assert await shop.look() == [("done", "the shipment carries no order of ours")]


async def test_another_merchants_open_intent_holds_up_nothing(shop: Shop) -> None:
    await shop.keeper.die("run-1", "answered", 1)
    _, item = await shop.receive()
    await shop.keeper.given.merchant("m2")
    await shop.keeper.given.change(runs, runs.c.id == "run-1", merchant_id="m2")
    await shop.hear(THEIRS, [item])
    assert await shop.look() == [("done", "the shipment carries no order of ours")]
    await shop.keeper.given.change(runs, runs.c.id == "run-1", merchant_id=MERCHANT)


async def test_what_a_cancelled_run_made_is_said_and_counted_when_its_document_comes_again(shop: Shop) -> None:
    await shop.keeper.die("run-1", "record", 0)
    await shop.keeper.people.cancel("run-1", "ann")
    shipment_id, item = await shop.receive()
    await shop.hear(shipment_id, [item])
    with capture_logs() as logs:
        for _ in range(2):
            [(state, note)] = await shop.look()
    assert state == "unhandled"
    assert "counted nowhere: the shipment is announced by run run-1, which was cancelled; send its document" in note
    assert [one["reason"] for one in logs if one["event"] == "received goods not counted"] == [note]
    async with shop.keeper.database.transaction() as connection:
        assert await count_left(connection) == {f"{RECEIVE_ITEMS} unhandled: {note}": 1}, "which the doctor says"

    await shop.keeper.work(await revise(shop.keeper.given, 2, {"MUG-R": 10, "MUG-B": 4}))
    assert await shop.look() == [("done", "counted as received for order order-1")]
    assert await shop.red() == (10, 3, 1, 0)


async def test_a_run_that_waits_for_a_person_is_named_with_what_to_do(shop: Shop) -> None:
    await shop.keeper.die("run-1", "record", 0)
    shipment_id, item = await shop.receive()
    await shop.hear(shipment_id, [item])
    run = runs.c.id == "run-1"
    why = {"failed_stage": flow.SYNC, "failure_code": "by_test", "failure": "by the test"}
    await shop.keeper.given.change(runs, run, state="failed", due_stage=None, due_since=None, **why)
    [(state, note)] = await shop.look()
    assert (state, note.endswith("by run run-1, which failed; retry it")) == ("unhandled", True)
    await shop.keeper.people.retry("run-1", "ann")
    await shop.keeper.work("run-1", entry=1)
    assert await shop.look() == [("done", "counted as received for order order-1")]
    assert await shop.red() == (10, 3, 1, 0)


async def test_an_event_that_waits_is_looked_at_ever_more_rarely(shop: Shop) -> None:
    await shop.keeper.die("run-1", "record", 0)
    shipment_id, item = await shop.receive()
    await shop.hear(shipment_id, [item])
    waits = []
    for _ in range(42):
        await shop.look()
        async with shop.keeper.database.transaction() as connection:
            wait = text("extract(epoch FROM due_at - now())")
            waits.append(round(float(await connection.scalar(select(wait).select_from(webhook_events)) or 0), -1))
    assert waits[:4] == [10, 30, 40, 60]
    assert waits[-2:] == [600, 600]
