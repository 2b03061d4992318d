"""A shop's shared bucket, worked out by Postgres: `app.adapters.shopify.points.reserve` as one statement.

Every caller of the whole fleet asks for this one row. Were it locked while a replica computes, a replica that stands
still would hold up all others, and each that waits is one more that holds up the next. So the row is read, worked out
and written within one statement, and nobody holds it any longer than that. A test holds both to the same figures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import CTE, ColumnElement, Float, case, cast, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert

from app.adapters.shopify.points import BLOCK_S, HELD_S, SLOWER, Ask, Grant, fresh
from app.db.tables import shop_points

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

Number = ColumnElement[float]


async def reserve(connection: AsyncConnection, merchant_id: str, ask: Ask) -> Grant:
    """Take points out of the bucket, and return those that were not used. The connection commits each statement."""
    while True:
        found = await connection.execute(_reservation(merchant_id, ask))
        if (row := found.one_or_none()) is not None:
            return Grant(row.points, row.wait_s)
        new = fresh(0.0)
        await connection.execute(
            insert(shop_points)
            .values(merchant_id=merchant_id, level=new.level, size=new.size, restore_rate=new.rate, known=new.known)
            .on_conflict_do_nothing()
        )


def _reservation(merchant_id: str, ask: Ask) -> Any:
    """No row is returned where there is no bucket yet."""
    told = _told(merchant_id, ask)
    block = func.least(told.c.level / 2, BLOCK_S * told.c.rate)
    points = func.greatest(_number(ask.need), block)
    wait_s = func.greatest(0.0, (points - told.c.level) / (told.c.rate * SLOWER))
    granted = select(*told.c, points.label("points"), wait_s.label("wait_s")).cte("granted")
    refused = granted.c.wait_s > _number(ask.longest_s)
    return (
        update(shop_points)
        .where(shop_points.c.merchant_id == granted.c.merchant_id)
        .values(
            level=case((refused, granted.c.level), else_=granted.c.level - granted.c.points),
            level_at=func.to_timestamp(granted.c.at),
            size=granted.c.size,
            restore_rate=granted.c.rate,
            known=granted.c.known,
        )
        .returning(case((refused, 0.0), else_=granted.c.points).label("points"), granted.c.wait_s.label("wait_s"))
    )


def _told(merchant_id: str, ask: Ask) -> CTE:
    """The bucket as it is now: refilled, what was not used taken back, and the shop believed."""
    row = _locked(merchant_id)
    passed_s = func.greatest(0.0, row.c.now - row.c.at)
    level: Number = func.least(_full(row.c.size, row.c.rate), row.c.level + passed_s * row.c.rate * SLOWER)
    level += ask.returned
    size: Number = row.c.size
    rate: Number = row.c.rate
    known: ColumnElement[bool] = row.c.known
    if ask.seen is not None:
        free = ask.seen.available - ask.seen.held
        size, rate = _number(ask.seen.size), _number(max(1.0, ask.seen.rate))
        first = free - (size - _full(size, rate)) + func.least(0.0, level)
        level, known = case((row.c.known, func.least(level, free)), else_=first), literal(True)
    return select(
        row.c.merchant_id,
        func.least(_full(size, rate), level).label("level"),
        func.greatest(row.c.now, row.c.at).label("at"),
        size.label("size"),
        rate.label("rate"),
        known.label("known"),
    ).cte("told")


def _locked(merchant_id: str) -> CTE:
    """The row and the moment it is, once everybody who was first has written."""
    return (
        select(
            shop_points.c.merchant_id,
            shop_points.c.level,
            shop_points.c.size,
            shop_points.c.restore_rate.label("rate"),
            shop_points.c.known,
            cast(func.extract("epoch", shop_points.c.level_at), Float).label("at"),
            cast(func.extract("epoch", func.clock_timestamp()), Float).label("now"),
        )
        .where(shop_points.c.merchant_id == merchant_id)
        .with_for_update()
        .cte("locked")
    )


def _full(size: Number, rate: Number) -> Number:
    full: Number = func.greatest(size - HELD_S * rate, size / 2)
    return full


def _number(value: float) -> Number:
    """Said to be a float: Postgres would take a bare 10 for an integer, and divide it as one."""
    return cast(literal(value), Float)
