"""A run that waits for a person at the end of the line: what must be known to read its plan from the shop."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sqlalchemy import select

from app.db.accept import merchant_row
from app.db.errors import ConflictError, NotFoundError
from app.db.journal import earlier_outputs
from app.db.runs import merchant_value, run_value
from app.db.tables import runs
from pipeline import flow
from pipeline.contract import StageInput

if TYPE_CHECKING:
    from app.db.session import Database


@dataclass(frozen=True, slots=True)
class Waiting:
    """The run as stage 9 would see it if `who` approved it now."""

    entry: int
    given: StageInput


async def find_review_stage(database: Database, run_id: str) -> str:
    """Where a run waits for a person; empty when it does not."""
    async with database.transaction() as connection:
        found: str | None = await connection.scalar(
            select(runs.c.review_stage).where(runs.c.id == run_id, runs.c.state == "needs_review")
        )
        return found or ""


async def get_waiting(database: Database, run_id: str, who: str) -> Waiting:
    """The run, if it waits where a plan can be read. Raises NotFoundError, or ConflictError saying where it is."""
    async with database.transaction() as connection:
        run = (await connection.execute(select(runs).where(runs.c.id == run_id))).mappings().one_or_none()
        if run is None:
            raise NotFoundError(f"there is no run {run_id}")
        if run["state"] != "needs_review":
            raise ConflictError(f"run {run_id} is {run['state']}: only one that needs review has a plan")
        if run["review_stage"] not in flow.BEFORE_THE_SHOP:
            raise ConflictError(
                f"run {run_id} waits at {run['review_stage']}: what it does in the shop is known after "
                f"{flow.LAST_REVIEWABLE}"
            )
        merchant = await merchant_row(connection, run["merchant_id"])
        if merchant is None:
            raise ConflictError(f"merchant {run['merchant_id']!r} is not known here: add it with `merchants add`")
        value = replace(run_value(run, merchant_value(merchant), run["fence"]), approved_by=who)
        earlier = await earlier_outputs(connection, run_id, but=flow.SYNC)
    given = StageInput(run=value, stage=flow.SYNC, attempt=0, earlier=earlier, still_ours=_reads_only)
    return Waiting(run["entry"], given)


def _reads_only() -> None:
    """Nobody's lease: reading a plan changes nothing that needed one."""
