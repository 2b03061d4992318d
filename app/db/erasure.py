"""Everything of one merchant, by the tables' own word: which rows are theirs follows from the foreign keys.

A table is a merchant's by its `merchant_id`, or by a row it refers to. A new table is erased without a line here, or,
if it says no such thing, a test fails until it does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Table, delete, func, or_, select, text, update

from app.db.tables import audit, merchants, metadata, purchase_orders, queue_pauses, runs, stage_runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

NOBODYS = frozenset({queue_pauses})
"""Tables that say nothing about any merchant."""

WITHIN_MS = 60_000
"""A shop with years of orders takes longer than what is asked while orders run."""

_ENDED = ("completed", "cancelled")


def owned(table: Table, merchant_id: str) -> ColumnElement[bool] | None:
    """Which rows of a table are this merchant's; None if the table does not say."""
    if table is merchants:
        return merchants.c.id == merchant_id
    if table is audit:
        return _audited(merchant_id)
    if "merchant_id" in table.c:
        return table.c.merchant_id == merchant_id
    ways = []
    for key in table.foreign_keys:
        theirs = owned(key.column.table, merchant_id)
        if theirs is not None:
            ways.append(key.parent.in_(select(key.column).where(theirs)))
    return or_(*ways) if ways else None


def _audited(merchant_id: str) -> ColumnElement[bool]:
    """The audit refers without foreign keys: a note of a person's deed outlives what it was done to."""
    return or_(
        audit.c.run_id.in_(select(runs.c.id).where(runs.c.merchant_id == merchant_id)),
        audit.c.order_id.in_(select(purchase_orders.c.id).where(purchase_orders.c.merchant_id == merchant_id)),
        audit.c.details["merchant_id"].astext == merchant_id,
    )


def tables_to_erase() -> Sequence[Table]:
    """Who refers to others goes before them; the audit first, for it finds its rows by runs and orders."""
    others = [table for table in reversed(metadata.sorted_tables) if table not in NOBODYS and table is not audit]
    return [audit, *others]


async def end_runs(connection: AsyncConnection, merchant_id: str, summary: str) -> int:
    """Cancel every run that is not over; whoever works on one loses its lease, and can write nothing more."""
    theirs = runs.c.merchant_id == merchant_id
    await connection.execute(
        update(stage_runs)
        .where(stage_runs.c.state == "open", stage_runs.c.run_id.in_(select(runs.c.id).where(theirs)))
        .values(state="lost", ended_at=func.now())
    )
    ended = await connection.execute(
        update(runs)
        .where(theirs, or_(runs.c.state.not_in(_ENDED), runs.c.due_stage.is_not(None)))
        .values(
            state="cancelled",
            due_stage=None,
            due_since=None,
            job_id=None,
            parked_at=None,
            summary=summary,
            fence=runs.c.fence + 1,
            entry=runs.c.entry + 1,
            updated_at=func.now(),
            finished_at=func.now(),
        )
    )
    return ended.rowcount


async def names_of(connection: AsyncConnection, merchant_id: str) -> tuple[frozenset[str], frozenset[str]]:
    """The ids of the merchant's runs, and of their workflows: by these they are found in Redis."""
    found = await connection.execute(select(runs.c.id, runs.c.workflow_id).where(runs.c.merchant_id == merchant_id))
    rows = found.all()
    return frozenset(row.id for row in rows), frozenset(row.workflow_id for row in rows if row.workflow_id)


async def erase(connection: AsyncConnection, merchant_id: str) -> dict[str, int]:
    """Delete every row of the merchant; how many by table."""
    await connection.execute(text(f"SELECT set_config('statement_timeout', '{WITHIN_MS}', true)"))
    await connection.execute(select(merchants.c.id).where(merchants.c.id == merchant_id).with_for_update())
    counts: dict[str, int] = {}
    for table in tables_to_erase():
        condition: Any = owned(table, merchant_id)
        if condition is not None:
            deleted = (await connection.execute(delete(table).where(condition))).rowcount
            counts |= {table.name: deleted} if deleted else {}
    return counts


async def note_erasure(connection: AsyncConnection, who: str, counts: dict[str, int], cause: str) -> None:
    """That it happened, when, why and how much of it: nothing that says to whom."""
    await connection.execute(
        audit.insert().values(who=who, action="erase a shop", details={"rows": counts, "cause": cause})
    )
