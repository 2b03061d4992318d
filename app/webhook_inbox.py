"""Periodically handles the webhooks that were stored, so that Shopify is answered at once and nothing is done twice.

What a webhook does and that it was done are one transaction. One that is older than what it would change changes
nothing: Shopify repeats for four hours, and the shop may have been connected again meanwhile.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import anyio
import structlog
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.adapters.shopify import webhooks as said
from app.adapters.shopify.webhooks import Delivery, ReceivedLine, UnreadableWebhookError, facts_of, shipment_of
from app.db.grants import connected_since, disconnect
from app.db.receiving import ReceivedInAdmin, take_over_shipment
from app.db.shop_limits import unpark
from app.db.tables import shop_states
from app.db.unbooked import Unbooked
from app.db.webhooks import Ended, Event, end, is_superseded, keep, own, prune, put_off, take
from app.erasing import StillBusyError, erase_merchant
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from app.db.session import Database
    from pipeline.clock import Clock
    from pipeline.queue.bull import Bull, Commands

EVERY_S = 15.0
BUSY_WAIT = timedelta(seconds=5)
AGAIN = timedelta(seconds=15)
"""After a failure; an event is never given up, for whoever sent it was told that we have it."""

AGAIN_MAX = timedelta(minutes=10)
"""An event that waits is looked at after 15 s, then 30 s later, 45 s, and so on up to this: 150 looks a day at most."""

TakeOver = Callable[[AsyncConnection, str, str, Sequence[ReceivedLine]], Awaitable[str | Unbooked | None]]
"""Counts what came of a shipment as received: (connection, merchant, shipment, lines' totals) -> the order, if ours."""


async def take_over(
    connection: AsyncConnection, merchant_id: str, shipment_id: str, lines: Sequence[ReceivedLine]
) -> str | Unbooked | None:
    """The books' own way: see `app.db.receiving`."""
    came = [ReceivedInAdmin(line.inventory_item_id, line.accepted, line.rejected) for line in lines]
    return await take_over_shipment(connection, merchant_id, shipment_id, came)


NO_CUSTOMERS = "no data about customers is held here"

_log = structlog.get_logger()


class WebhookInbox:
    """One per process that serves the endpoint; they share the work."""

    def __init__(
        self, database: Database, bull: Bull, commands: Commands, clock: Clock, take_over: TakeOver | None = None
    ) -> None:
        self._database = database
        self._bull = bull
        self._commands = commands
        self._clock = clock
        self._take_over = take_over
        self._news = anyio.Event()

    async def keep(self, delivery: Delivery, merchant_id: str, payload: dict[str, object]) -> bool:
        """Store a webhook of a shop we know; False if it was here before. From this commit on it is not lost."""
        facts: dict[str, object] = {}
        ended = None
        try:
            facts = facts_of(delivery.topic, payload)
        except UnreadableWebhookError as error:
            ended = Ended("refused", str(error))
            _log.warning("webhook not understood", topic=delivery.topic, merchant_id=merchant_id, reason=str(error))
        async with self._database.transaction() as connection:
            new = await keep(connection, delivery, merchant_id, facts, ended)
        if new:
            self._news.set()
        return new

    async def run(self) -> None:
        """Handle what is due, at once when something comes, until cancelled."""
        while True:
            self._news = anyio.Event()
            try:
                while await self.run_once():
                    pass
            except PipelineError as error:
                _log.warning("webhooks not handled", reason=str(error))
            except Exception as error:  # noqa: BLE001  the page beside it must not end over a database without tables
                _log.error("webhooks not handled", exc_info=error)
            with anyio.move_on_after(EVERY_S):
                await self._news.wait()

    async def run_once(self) -> int:
        """Handle one event; how many there were."""
        handles = [said.RECEIVE_ITEMS] if self._take_over is not None else []
        async with self._database.transaction() as connection:
            event = await take(connection, handles)
            if event is None:
                await prune(connection)
                return 0
        try:
            ended = await (self._erase(event) if event.topic == said.REDACT_SHOP else self._handle(event))
        except PipelineError:
            raise
        except Exception as error:  # noqa: BLE001  one that cannot be handled must not keep the others waiting
            ended = None
            _log.error("webhook failed", topic=event.topic, merchant_id=event.merchant_id, exc_info=error)
            async with self._database.transaction() as connection:
                await put_off(connection, event, f"failed: {type(error).__name__}; the log has it", AGAIN)
        if ended is not None:
            _log.info("webhook handled", topic=event.topic, state=ended.state, note=ended.note)
        return 1

    async def _handle(self, event: Event) -> Ended | None:
        """Do what the event means and write that it was done; None if somebody else has it by now."""
        async with self._database.transaction() as connection:
            if not await own(connection, event):
                return None
            ended = await self._effect(connection, event)
            if isinstance(ended, Ended):
                await end(connection, event, ended)
                return ended
            await self._wait_for_books(connection, event, ended)
            return None

    async def _effect(self, connection: AsyncConnection, event: Event) -> Ended | Unbooked:
        match event.topic:
            case said.DATA_REQUEST | said.REDACT_CUSTOMER:
                return Ended("done", NO_CUSTOMERS)
            case said.UNINSTALLED:
                return await _uninstalled(connection, event)
            case said.SCOPES_UPDATE:
                return await _scopes(connection, event)
            case said.RECEIVE_ITEMS:
                return await self._received(connection, event)
        return Ended("done", "nothing here depends on it")

    async def _received(self, connection: AsyncConnection, event: Event) -> Ended | Unbooked:
        """Units a person received in the admin are in the shop already: only our books must learn of them."""
        if self._take_over is None:
            return Ended("unhandled", "this release cannot take over what was received in the shop's admin")
        shipment = shipment_of(event.facts)
        found = await self._take_over(connection, event.merchant_id, shipment.shipment_id, shipment.lines)
        match found:
            case None:
                return Ended("done", "the shipment carries no order of ours")
            case Unbooked():
                return found
        return Ended("done", f"counted as received for order {found}")

    async def _wait_for_books(self, connection: AsyncConnection, event: Event, unbooked: Unbooked) -> None:
        """Goods came of a shipment that no books hold yet: later, and where a person must help first, that is said.

        It is said once in the log, and by the doctor for as long as it is so. A merchant's own shipments do not gather
        here: one waits only while a shipment of ours with all of its goods is asked for and not answered.
        """
        if not unbooked.is_coming:
            if event.state == "waiting":
                _log.warning("received goods not counted", merchant_id=event.merchant_id, reason=str(unbooked))
            await end(connection, event, Ended("unhandled", str(unbooked)))
        await put_off(connection, event, str(unbooked), min(AGAIN * event.tries, AGAIN_MAX))

    async def _erase(self, event: Event) -> Ended | None:
        """The last webhook of a shop: its own row goes with all the others."""

        async def still_wanted(connection: AsyncConnection) -> bool:
            return await own(connection, event)

        async with self._database.transaction() as connection:
            if not await own(connection, event):
                return None
            if await connected_since(connection, event.merchant_id, event.triggered_at):
                stale = Ended("stale", "the shop was connected again since; `merchants erase` erases it all the same")
                await end(connection, event, stale)
                return stale
        try:
            erased = await erase_merchant(
                self._database,
                self._bull,
                self._commands,
                event.merchant_id,
                who="Shopify",
                cause=f"shop/redact {event.webhook_id}",
                still_wanted=still_wanted,
            )
        except StillBusyError:
            async with self._database.transaction() as connection:
                await put_off(connection, event, "waits until nobody works on this shop's orders", BUSY_WAIT)
            return None
        return None if erased is None else Ended("done", f"rows erased: {sum(erased.values())}")


async def _uninstalled(connection: AsyncConnection, event: Event) -> Ended:
    if await connected_since(connection, event.merchant_id, event.triggered_at):
        return Ended("stale", "the shop was connected again since")
    await disconnect(connection, event.merchant_id, "the app was uninstalled: install it and connect the shop again")
    return Ended("done", "tokens forgotten, shop parked")


async def _scopes(connection: AsyncConnection, event: Event) -> Ended:
    """A merchant who grants more may have answered what an order waits for: it is tried again."""
    if await is_superseded(connection, event):
        return Ended("stale", "a younger one was handled before")
    mine = shop_states.c.merchant_id == event.merchant_id
    row = (await connection.execute(select(shop_states).where(mine))).one_or_none()
    more = row is not None and set(event.facts["scopes"]) - set(row.scopes)
    await connection.execute(update(shop_states).where(mine).values(scopes=event.facts["scopes"]))
    if row is not None and row.parked_operation and more:
        await unpark(connection, event.merchant_id)
        return Ended("done", "scopes noted, and what waited for them is tried again")
    return Ended("done", "scopes noted")
