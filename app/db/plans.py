"""Plans as rows: what was approved for a run, by whom, and when it was read from the shop."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from app.db.tables import plans
from pipeline.domain.plan import Plan
from pipeline.ports import ApprovedPlan

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.db.session import Database

WITHOUT = ""
"""The digest of an approval that was given without a plan."""


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """A plan as read from the shop at one moment, for the entry at which its run waits."""

    run_id: str
    entry: int
    plan: Plan
    read_at: datetime


class PostgresPlans:
    """Implements `Plans` of `pipeline.ports`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def approved(self, run_id: str) -> ApprovedPlan | None:
        """What a person approved last, None if that was without a plan, or a merchant's rule."""
        statement = (
            select(plans.c.entry, plans.c.digest, plans.c.content)
            .where(plans.c.run_id == run_id, plans.c.approved_by != "")
            .order_by(plans.c.entry.desc())
            .limit(1)
        )
        async with self._database.transaction() as connection:
            found = (await connection.execute(statement)).one_or_none()
        if found is None or found.digest == WITHOUT:
            return None
        return ApprovedPlan(found.entry, Plan.model_validate(found.content))


async def keep_plan(
    connection: AsyncConnection,
    run_id: str,
    entry: int,
    plan: Plan,
    *,
    approved_by: str,
    read_at: datetime | None = None,
) -> None:
    """Write a plan beside the approval it belongs to; without `read_at` it was read by the stage that applied it."""
    content = {
        "digest": plan.digest,
        "content": plan.model_dump(mode="json"),
        "read_at": func.now() if read_at is None else read_at,
    }
    statement = insert(plans).values(run_id=run_id, entry=entry, approved_by=approved_by, **content)
    # An approval without a plan gets the one that the stage applied.
    await connection.execute(statement.on_conflict_do_update(index_elements=["run_id", "entry"], set_=content))


async def keep_approval_without(connection: AsyncConnection, run_id: str, entry: int, who: str) -> None:
    """A person approved without a plan: what was approved before holds no longer."""
    await connection.execute(
        insert(plans).values(run_id=run_id, entry=entry, digest=WITHOUT, read_at=func.now(), approved_by=who)
    )
