"""Shops' limits for the whole fleet: the shared bucket of points, and whether a shop may be called at all.

Short transactions, by Postgres' clock (replicas' own differ), no lock held while a vendor is called.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any

import structlog
from sqlalchemy import RowMapping, and_, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.adapters.shopify.limits import PARKED_S, PROBE_S, Admission, Closed, cool_down_s
from app.adapters.shopify.points import Ask, Grant
from app.db.session import Database
from app.db.shop_points import reserve
from app.db.tables import audit, shop_states

_log = structlog.get_logger(__name__)

_CLEAR: dict[str, Any] = {"tripped_reason": "", "tripped_at": None, "trips": 0}
_FREE: dict[str, Any] = {"parked_reason": "", "parked_operation": "", "parked_at": None, "ask_at": None, **_CLEAR}


async def park(connection: AsyncConnection, merchant_id: str, reason: str, operation: str = "") -> None:
    """Nobody calls this merchant's shop any more, until `unpark` or until a rare probe finds it well.

    Its runs wait at their stage with this reason, uncounted and for as long as it takes. `operation`: the one
    operation that was denied, which a probe must then see work; empty when the whole shop is shut.
    """
    values: dict[str, Any] = {
        "parked_reason": reason,
        "parked_operation": operation,
        "parked_at": func.coalesce(shop_states.c.parked_at, func.now()),
        "ask_at": func.now() + timedelta(seconds=PARKED_S),
    }
    first = values | {"merchant_id": merchant_id, "parked_at": func.now()}
    await connection.execute(
        insert(shop_states).values(first).on_conflict_do_update(index_elements=["merchant_id"], set_=values)
    )


async def unpark(connection: AsyncConnection, merchant_id: str) -> bool:
    """A person has put the shop right: its runs may go on. False if nothing held them up."""
    held = or_(shop_states.c.parked_reason != "", shop_states.c.tripped_reason != "")
    done = await connection.execute(
        update(shop_states).where(shop_states.c.merchant_id == merchant_id, held).values(**_FREE)
    )
    return bool(done.rowcount)


class PostgresShopLimits:
    """Implements `app.adapters.shopify.limits.ShopLimits`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # ----------------------------------------------------------------------------------------- points

    async def reserve(self, merchant_id: str, ask: Ask) -> Grant:
        """Take points out of the shop's bucket, and return those that were not used."""
        async with self._database.statements() as connection:
            return await reserve(connection, merchant_id, ask)

    # ------------------------------------------------------------------------- whether it may be called

    async def admit(self, merchant_id: str) -> Admission:
        """May the shop be called? Of all who ask when its time has come, one is the probe."""
        async with self._database.transaction() as connection:
            found = await connection.execute(_closed_row(merchant_id))
            row = found.mappings().one_or_none()
            if row is None or not (row["parked_reason"] or row["tripped_reason"]):
                return Admission()
            closed, at = _closed(row)
            if closed.ask_at > at:
                return closed.admission(at)
            again_s = PARKED_S if closed.parked else PROBE_S
            mine = await connection.execute(
                update(shop_states)
                .where(shop_states.c.merchant_id == merchant_id, shop_states.c.ask_at == row["ask_at"])
                .values(ask_at=func.now() + timedelta(seconds=again_s))
            )
            if mine.rowcount:
                return Admission(probe=True)
        return Admission(closed.parked or closed.tripped, again_s, bool(closed.parked))

    async def trip(self, merchant_id: str, reason: str, *, hold_s: float | None = None, probe: bool = False) -> float:
        """Nobody calls the shop for `hold_s`, by default longer each time in a row; seconds until somebody may."""
        async with self._database.transaction() as connection:
            await connection.execute(insert(shop_states).values(merchant_id=merchant_id).on_conflict_do_nothing())
            found = await connection.execute(_closed_row(merchant_id).with_for_update())
            closed, at = _closed(found.mappings().one())
            if closed.ask_at > at and not probe:
                return closed.ask_at - at  # somebody found it before us
            hold_s = cool_down_s(closed.trips) if hold_s is None else hold_s
            await connection.execute(
                update(shop_states)
                .where(shop_states.c.merchant_id == merchant_id)
                .values(
                    tripped_reason=reason,
                    tripped_at=func.coalesce(shop_states.c.tripped_at, func.now()),
                    trips=shop_states.c.trips + 1,
                    ask_at=func.now() + timedelta(seconds=hold_s),
                )
            )
        if not closed.tripped:
            _log.warning("shop circuit opened", merchant_id=merchant_id, reason=reason, hold_s=round(hold_s, 1))
        return hold_s

    async def park(self, merchant_id: str, reason: str, *, operation: str = "") -> float:
        """Nobody calls the shop until a person says so or a probe finds it well; seconds until a probe may."""
        async with self._database.transaction() as connection:
            before = await connection.scalar(
                select(shop_states.c.parked_reason).where(shop_states.c.merchant_id == merchant_id)
            )
            await park(connection, merchant_id, reason, operation)
        if before != reason:
            _log.warning("shop parked", merchant_id=merchant_id, reason=reason)
        return PARKED_S

    async def answered(self, merchant_id: str, operation: str, *, probe: bool) -> bool:
        """The shop answered well: it is no longer tripped, and not parked either if a probe did what was denied."""
        is_parked = shop_states.c.parked_reason != ""
        is_proof = and_(literal(probe), shop_states.c.parked_operation.in_(["", operation]))
        mine = shop_states.c.merchant_id == merchant_id
        async with self._database.transaction() as connection:
            freed = await connection.execute(
                update(shop_states)
                .where(mine, or_(~is_parked, is_proof), shop_states.c.ask_at.is_not(None))
                .values(**_FREE)
            )
            await connection.execute(update(shop_states).where(mine, shop_states.c.trips > 0).values(**_CLEAR))
            still = await connection.scalar(select(shop_states.c.merchant_id).where(mine, is_parked))
        if freed.rowcount:
            _log.info("shop answers again", merchant_id=merchant_id)
        return still is None

    async def unpark(self, merchant_id: str, who: str) -> bool:
        """A person has put the shop right. False if nothing held its runs up."""
        async with self._database.transaction() as connection:
            freed = await unpark(connection, merchant_id)
            if freed:
                await connection.execute(
                    insert(audit).values(who=who, action="unpark", details={"merchant_id": merchant_id})
                )
        if freed:
            _log.info("shop unparked", merchant_id=merchant_id)
        return freed

    # -------------------------------------------------------------------------- what it says of itself

    async def served(self, merchant_id: str, *, asked: str, served: str) -> bool:
        """Write down which version was asked for and served; whether that is news."""
        return await self._write_if_new(merchant_id, version_asked=asked, version_served=served)

    async def granted(self, merchant_id: str, scopes: Collection[str]) -> bool:
        """Write down the scopes the shop granted; whether that is news."""
        is_news = await self._write_if_new(merchant_id, scopes=sorted(scopes))
        async with self._database.transaction() as connection:
            await connection.execute(
                update(shop_states).where(shop_states.c.merchant_id == merchant_id).values(scopes_at=func.now())
            )
        return is_news

    async def _write_if_new(self, merchant_id: str, **values: Any) -> bool:
        differs = or_(*(shop_states.c[name].is_distinct_from(value) for name, value in values.items()))
        async with self._database.transaction() as connection:
            done = await connection.execute(
                insert(shop_states)
                .values(merchant_id=merchant_id, **values)
                .on_conflict_do_update(index_elements=["merchant_id"], set_=values, where=differs)
            )
        return bool(done.rowcount)


def _closed_row(merchant_id: str) -> Any:
    return select(
        shop_states.c.parked_reason,
        shop_states.c.parked_operation,
        shop_states.c.tripped_reason,
        shop_states.c.trips,
        shop_states.c.ask_at,
        func.now().label("at"),
    ).where(shop_states.c.merchant_id == merchant_id)


def _closed(row: RowMapping) -> tuple[Closed, float]:
    """The row as a value, and the moment it is."""
    closed = Closed(
        parked=row["parked_reason"],
        operation=row["parked_operation"],
        tripped=row["tripped_reason"],
        trips=row["trips"],
        ask_at=0.0 if row["ask_at"] is None else row["ask_at"].timestamp(),
    )
    return closed, row["at"].timestamp()
