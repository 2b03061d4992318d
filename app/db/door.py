"""The door to the line: how many orders of one shop may be under way, and whose turn is next.

A shop that sends a thousand orders must not keep every other shop behind them. An order is accepted whatever the
number, so it cannot be lost; but it joins the line only while fewer than `open_runs` of its shop are in it, counting
those that came before it and wait. The others are parked: their jobs sleep in delayed, hold no slot, and are
promoted, the oldest first, when a run of the shop leaves the line.

What people set going (receipts, approvals, retries) is never parked, but it is in the line and counts there.

Locks are taken in this order: the run's row, then its merchant's. Nobody who holds a merchant's asks for a run's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import ScalarSelect, Select, and_, func, select, tuple_, update

from app.db.tables import runs
from pipeline import flow
from pipeline.run_store import DueRun, Later, NextJob, Ticket

if TYPE_CHECKING:
    from sqlalchemy import RowMapping
    from sqlalchemy.ext.asyncio import AsyncConnection

ASK_AGAIN_S = 600.0
APART_S = 1.0
"""A parked job is promoted when its turn comes. Should that be forgotten it asks again by itself, after ten minutes
and a second more for each run before it: a thousand of them cost the fleet one claim a second, not seventeen."""

IN_LINE = and_(runs.c.state == "running", runs.c.fence > 0)
"""Runs under way: somebody took them (`load` raises the fence, and so do people) and they have not ended."""


def is_at_the_door(ticket: Ticket, run: RowMapping) -> bool:
    """Whether this job would bring the run into the line: nobody has taken it before, and no person sent it back."""
    return ticket.stage == flow.FIRST and run["fence"] == 0 and run["entry"] == 0


async def ask_turn(connection: AsyncConnection, ticket: Ticket, run: RowMapping, open_runs: int) -> Later | None:
    """Whether a run at the door must wait there; then it is parked, and this job is its job of record.

    The caller has locked the merchant's row: two replicas that count at once would both take the last place.
    """
    counted = await connection.execute(
        select(_under_way(run["merchant_id"]), _before(run["merchant_id"], run["created_at"], run["id"]))
    )
    under_way, before = counted.one()
    if under_way + before < open_runs:
        return None
    reason = f"waits for its turn: of one shop at most {open_runs} orders are under way at a time"
    await connection.execute(
        update(runs)
        .where(runs.c.id == run["id"])
        .values(
            parked_at=func.coalesce(runs.c.parked_at, func.now()),
            job_id=ticket.ref,
            summary=reason,
            updated_at=func.now(),
        )
    )
    return Later(reason, ASK_AGAIN_S + before * APART_S)


async def turns_after(connection: AsyncConnection, run_id: str, open_runs: int) -> list[DueRun]:
    """Parked runs whose turn it is now that this one has left the line. Ask in a transaction of its own.

    In the one that ends the run, two that end at once would each not see the other go, and leave a place empty.
    """
    merchant = select(runs.c.merchant_id).where(runs.c.id == run_id).scalar_subquery()
    return await _turns(connection, merchant, open_runs)


async def turns_of_all(connection: AsyncConnection, open_runs: int) -> list[DueRun]:
    """The same for every shop with runs at the door: for what a crash made us forget, or a larger `open_runs`."""
    shops = await connection.scalars(select(runs.c.merchant_id).where(runs.c.parked_at.is_not(None)).distinct())
    return [turn for shop in shops.all() for turn in await _turns(connection, shop, open_runs)]


async def _turns(connection: AsyncConnection, merchant: str | ScalarSelect[Any], open_runs: int) -> list[DueRun]:
    """As many of the oldest as there are places. Some may be on their way already: promoting is idempotent."""
    places = func.greatest(open_runs - _under_way(merchant), 0)
    found = await connection.execute(_parked(merchant).order_by(runs.c.created_at, runs.c.id).limit(places))
    return [
        DueRun(NextJob(run_id, flow.FIRST, entry, workflow_id), job_id) for run_id, entry, workflow_id, job_id in found
    ]


def _parked(merchant: str | ScalarSelect[Any]) -> Select[Any]:
    return select(runs.c.id, runs.c.entry, runs.c.workflow_id, runs.c.job_id).where(
        runs.c.merchant_id == merchant, runs.c.parked_at.is_not(None)
    )


def _under_way(merchant: str | ScalarSelect[Any]) -> ScalarSelect[int]:
    return select(func.count()).select_from(runs).where(runs.c.merchant_id == merchant, IN_LINE).scalar_subquery()


def _before(merchant_id: str, created_at: Any, run_id: str) -> ScalarSelect[int]:
    return (
        select(func.count())
        .select_from(runs)
        .where(
            runs.c.merchant_id == merchant_id,
            runs.c.parked_at.is_not(None),
            tuple_(runs.c.created_at, runs.c.id) < tuple_(created_at, run_id),
        )
        .scalar_subquery()
    )
