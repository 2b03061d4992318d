"""Shipments that stand in no order's books and may be ours all the same: which run made them, and who still books them.

A shipment is in the shop before the run that made it is recorded, and a person may receive it there in between. Its
intent was in the ledger before it was in the shop, so what the ledger does not know is not ours. While an intent has
no answer, a shipment of nothing but its goods may be the one it made.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import and_, case, false, func, or_, select

from app.db.tables import effects, runs
from pipeline import flow

if TYPE_CHECKING:
    from sqlalchemy import RowMapping
    from sqlalchemy.ext.asyncio import AsyncConnection

_SHIPS = "announce:%:ship:%"
"""The ledger's keys of shipments; `pipeline.shopkeeping.steps` spells them."""

_UP_TO_BOOKS = flow.NAMES[: flow.NAMES.index(flow.SYNC) + 1]
_WAY_OUT = {
    "needs_review": "is to be reviewed; approve it",
    "failed": "failed; retry it",
    "cancelled": "was cancelled; send its document again, or correct the stock by hand",
    "completed": "is over; send its document again, or correct the stock by hand",
}


@dataclass(frozen=True, slots=True)
class Unbooked:
    """A shipment no books hold. `run_id` is the run that may yet book it, or the one that made it; `state` is its own.

    `is_certain`: the ledger names the shipment. Otherwise it may be the merchant's own.
    """

    run_id: str
    state: str
    is_certain: bool

    @property
    def is_coming(self) -> bool:
        """Whether its books are written without anybody's help."""
        return self.state == "running"

    def __str__(self) -> str:
        whose = "is announced" if self.is_certain else "may be announced"
        if self.is_coming:
            return f"the shipment {whose} by run {self.run_id}, which is not recorded yet"
        return f"counted nowhere: the shipment {whose} by run {self.run_id}, which {_WAY_OUT[self.state]}"


async def find_unbooked(
    connection: AsyncConnection, merchant_id: str, shipment_id: str, items: Collection[str]
) -> Unbooked | None:
    """What the ledger knows of a shipment that holds these inventory items; None if it is certainly none of ours."""
    author, other = runs.alias("author"), runs.alias("other")
    may_book = and_(
        other.c.order_id == author.c.order_id,
        other.c.state.in_(["running", "needs_review", "failed"]),
        or_(*(other.c[name].in_(_UP_TO_BOOKS) for name in ("due_stage", "review_stage", "failed_stage"))),
    )
    named = effects.c.external["shipment"].astext == shipment_id
    soonest = case({"running": 0, "needs_review": 1, "failed": 2}, value=other.c.state, else_=3)
    found = await connection.execute(
        select(
            func.coalesce(named, false()).label("is_named"),
            effects.c.parameters["items"].label("items"),
            author.c.id.label("author"),
            author.c.state.label("author_state"),
            other.c.id.label("other"),
            other.c.state.label("other_state"),
        )
        .select_from(effects)
        .join(author, author.c.id == effects.c.run_id)
        .outerjoin(other, may_book)
        .where(author.c.merchant_id == merchant_id, effects.c.key.like(_SHIPS), or_(effects.c.state == "intent", named))
        .order_by(func.coalesce(named, false()).desc(), soonest)
    )
    for row in found.mappings():
        if row["is_named"] or set(items) <= {item for item, _ in row["items"]}:
            return _unbooked(row)
    return None


def _unbooked(row: RowMapping) -> Unbooked:
    """By whoever may still book it; else by its author, who is over, or past its books without having written it."""
    if row["other"] is not None:
        return Unbooked(row["other"], row["other_state"], row["is_named"])
    over = row["author_state"] if row["author_state"] == "cancelled" else "completed"
    return Unbooked(row["author"], over, row["is_named"])
