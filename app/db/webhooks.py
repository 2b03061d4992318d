"""Webhooks as rows: each is kept once, and then handled once, in the transaction of what it does.

    waiting     to be handled, from `due_at` on
    done        handled; `note` says what came of it
    stale       older than what it would have changed
    unhandled   nothing here can handle it yet, or not before a person has done something; looked at again
    refused     it could not be understood

Shopify sends the same one up to nine times (8 retries within 4 hours), under one id.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, and_, delete, func, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert

from app.db.tables import webhook_events

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.adapters.shopify.webhooks import Delivery

HELD = timedelta(seconds=60)
"""How long whoever took an event has for it, before another may."""

KEPT = timedelta(days=30)
"""Handled events are kept that long, far beyond the last retry of any."""

LATE = timedelta(minutes=15)
"""Events are handled within seconds."""

PRUNED_MAX = 1000


@dataclass(frozen=True, slots=True)
class Event:
    """One webhook of a shop we know, taken to be handled. `tries` is the fence: it grows each time it is taken."""

    shop_domain: str
    webhook_id: str
    merchant_id: str
    topic: str
    triggered_at: datetime
    facts: dict[str, Any]
    tries: int
    state: str


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of an event."""

    state: str
    note: str


async def keep(
    connection: AsyncConnection,
    delivery: Delivery,
    merchant_id: str,
    facts: dict[str, Any],
    ended: Ended | None = None,
) -> bool:
    """Store a webhook to be handled, or `ended` at once; False if it was here before."""
    made = await connection.execute(
        insert(webhook_events)
        .values(
            shop_domain=delivery.shop_domain,
            webhook_id=delivery.webhook_id,
            merchant_id=merchant_id,
            topic=delivery.topic,
            triggered_at=delivery.triggered_at or func.now(),
            facts=facts,
            state="waiting" if ended is None else ended.state,
            note="" if ended is None else ended.note,
        )
        .on_conflict_do_nothing()
    )
    return bool(made.rowcount)


async def take(connection: AsyncConnection, can_handle: Collection[str]) -> Event | None:
    """The oldest event that is due, ours for a while; None if there is none."""
    due = or_(
        webhook_events.c.state == "waiting",
        and_(webhook_events.c.state == "unhandled", webhook_events.c.topic.in_(can_handle)),
    )
    key = tuple_(webhook_events.c.shop_domain, webhook_events.c.webhook_id)
    oldest = (
        select(webhook_events.c.shop_domain, webhook_events.c.webhook_id)
        .where(due, webhook_events.c.due_at <= func.now())
        .order_by(webhook_events.c.received_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    taken = await connection.execute(
        update(webhook_events)
        .where(key.in_(oldest))
        .values(due_at=func.now() + HELD, tries=webhook_events.c.tries + 1)
        .returning(*webhook_events.c)
    )
    row = taken.one_or_none()
    return None if row is None else _event(row)


async def own(connection: AsyncConnection, event: Event) -> bool:
    """Whether the event is still ours; its row is locked until the transaction that handles it ends."""
    mine = await connection.scalar(
        select(webhook_events.c.tries).where(_is(event), webhook_events.c.tries == event.tries).with_for_update()
    )
    return mine is not None


async def end(connection: AsyncConnection, event: Event, ended: Ended) -> None:
    """Write what became of it."""
    await connection.execute(
        update(webhook_events).where(_is(event)).values(state=ended.state, note=ended.note, handled_at=func.now())
    )


async def put_off(connection: AsyncConnection, event: Event, note: str, wait: timedelta) -> None:
    """It cannot be handled now: why not, and when to look again."""
    mine = and_(_is(event), webhook_events.c.tries == event.tries)
    await connection.execute(update(webhook_events).where(mine).values(note=note, due_at=func.now() + wait))


async def is_superseded(connection: AsyncConnection, event: Event) -> bool:
    """Whether a younger one of this topic has been handled: a late retry must not undo it."""
    younger = await connection.scalar(
        select(webhook_events.c.webhook_id)
        .where(
            webhook_events.c.shop_domain == event.shop_domain,
            webhook_events.c.topic == event.topic,
            webhook_events.c.state == "done",
            webhook_events.c.triggered_at > event.triggered_at,
        )
        .limit(1)
    )
    return younger is not None


async def count_left(connection: AsyncConnection) -> dict[str, int]:
    """How many events there are that a person should look at, by why; none is the rule."""
    old = and_(webhook_events.c.state == "waiting", webhook_events.c.received_at < func.now() - LATE)
    looked_at = or_(old, webhook_events.c.state.in_(["unhandled", "refused"]))
    found = await connection.execute(
        select(webhook_events.c.topic, webhook_events.c.state, webhook_events.c.note, func.count())
        .where(looked_at)
        .group_by(webhook_events.c.topic, webhook_events.c.state, webhook_events.c.note)
        .order_by(webhook_events.c.topic)
        .limit(20)
    )
    return {f"{topic} {state}: {note or 'not looked at yet'}": int(count) for topic, state, note, count in found}


async def prune(connection: AsyncConnection) -> int:
    """Forget what was handled long ago; how many."""
    old = (
        select(webhook_events.c.shop_domain, webhook_events.c.webhook_id)
        .where(webhook_events.c.received_at < func.now() - KEPT, webhook_events.c.state != "waiting")
        .limit(PRUNED_MAX)
    )
    key = tuple_(webhook_events.c.shop_domain, webhook_events.c.webhook_id)
    return (await connection.execute(delete(webhook_events).where(key.in_(old)))).rowcount


def _is(event: Event) -> Any:
    return and_(webhook_events.c.shop_domain == event.shop_domain, webhook_events.c.webhook_id == event.webhook_id)


def _event(row: Row[Any]) -> Event:
    return Event(
        shop_domain=row.shop_domain,
        webhook_id=row.webhook_id,
        merchant_id=row.merchant_id,
        topic=row.topic,
        triggered_at=row.triggered_at,
        facts=row.facts,
        tries=row.tries,
        state=row.state,
    )
