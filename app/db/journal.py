"""Outputs of stages as JSON in the journal, and back as the types they were."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import TypeAdapter
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.session import Database
from app.db.tables import stage_runs
from pipeline.domain.purchase_order import Doubt
from pipeline.domain.results import Output

_TYPES: dict[str, type[Output]] = {kind.__name__: kind for kind in get_args(Output)}
_DOUBTS = TypeAdapter(tuple[Doubt, ...])


def dump(output: Output) -> dict[str, Any]:
    """The output as JSON; money as text."""
    return output.model_dump(mode="json")


def restore(kind: str, content: Mapping[str, Any]) -> Output:
    """The output as it was."""
    return _TYPES[kind].model_validate(content)


def dump_doubts(doubts: tuple[Doubt, ...]) -> Any:
    """Doubts as JSON."""
    return _DOUBTS.dump_python(doubts, mode="json")


def restore_doubts(content: Any) -> tuple[Doubt, ...]:
    """Doubts as they were."""
    return _DOUBTS.validate_python(content)


async def earlier_outputs(connection: AsyncConnection, run_id: str, *, but: str) -> dict[str, Output]:
    """The latest recorded output of each stage of a run, except of stage `but`."""
    found = await connection.execute(
        select(stage_runs.c.stage, stage_runs.c.output_type, stage_runs.c.output)
        .ext(distinct_on(stage_runs.c.stage))
        .where(
            stage_runs.c.run_id == run_id,
            stage_runs.c.state == "finished",
            stage_runs.c.output.is_not(None),
            stage_runs.c.stage != but,
        )
        .order_by(stage_runs.c.stage, stage_runs.c.entry.desc())
    )
    return {stage: restore(kind, content) for stage, kind, content in found}


async def finished_stages(database: Database) -> dict[str, int]:
    """How many of its stages each run has behind it."""
    async with database.transaction() as connection:
        found = await connection.execute(
            select(stage_runs.c.run_id, func.count(stage_runs.c.stage.distinct()))
            .where(stage_runs.c.state == "finished")
            .group_by(stage_runs.c.run_id)
        )
        return dict(found.all())
