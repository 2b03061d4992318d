"""The ledger of effects: what we meant to do in the outside world, and what the vendor answered."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import RowMapping, and_, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.session import Database
from app.db.tables import effects, runs, stage_runs
from pipeline.errors import LeaseLost, VendorUnavailable
from pipeline.ports import Effect

TURN_WAIT_S = 2.0
CALL_MAX = timedelta(seconds=35)
"""No call to a vendor is under way longer than that: the adapters' deadline is 30 s."""


class PostgresEffects:
    """Implements `pipeline.ports.EffectStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, key: str) -> Effect | None:
        """What stands there under that key, None if nothing does."""
        async with self._database.transaction() as connection:
            found = await connection.execute(select(effects).where(effects.c.key == key))
            row = found.mappings().one_or_none()
            return None if row is None else _effect(row, fresh=False)

    async def intend(self, run: str, fence: int, key: str, parameters: Mapping[str, Any]) -> Effect:
        """Write the intent, or return what stands there already with its first parameters.

        An intent of another run that is working on it right now (two orders that name the same new product)
        is waited for: raises VendorUnavailable, which costs no attempt.
        """
        async with self._database.transaction() as connection:
            await _own(connection, run, fence)
            written = await connection.execute(
                insert(effects)
                .values(key=key, run_id=run, fence=fence, parameters=dict(parameters), state="intent")
                .on_conflict_do_nothing()
                .returning(*effects.c)
            )
            row = written.mappings().one_or_none()
            if row is not None:
                return _effect(row, fresh=True)
            found = await connection.execute(select(effects).where(effects.c.key == key).with_for_update())
            row = found.mappings().one()
            if row["state"] == "confirmed":
                return _effect(row, fresh=False)
            await _refuse_while_worked_on(connection, row, run)
            adopted = await connection.execute(
                update(effects).where(effects.c.key == key).values(run_id=run, fence=fence).returning(*effects.c)
            )
            return _effect(adopted.mappings().one(), fresh=False)

    async def confirm(self, run: str, fence: int, key: str, external: Mapping[str, Any]) -> None:
        """Write the vendor's answer beside the intent."""
        async with self._database.transaction() as connection:
            await _own(connection, run, fence)
            await connection.execute(
                update(effects)
                .where(effects.c.key == key)
                .values(state="confirmed", external=dict(external), fence=fence, confirmed_at=func.now())
            )


async def _own(connection: AsyncConnection, run: str, fence: int) -> None:
    """The fence, checked and kept (the row stays locked) until the ledger is written."""
    mine = await connection.scalar(
        select(runs.c.id).where(runs.c.id == run, runs.c.fence == fence).with_for_update(key_share=True)
    )
    if mine is None:
        raise LeaseLost(f"run {run} was taken by another worker (fence {fence})")


async def _refuse_while_worked_on(connection: AsyncConnection, row: RowMapping, run: str) -> None:
    if row["run_id"] == run:
        return
    open_now = and_(stage_runs.c.state == "open", runs.c.fence == row["fence"])
    # Cancelled in the middle of a call, which may reach the shop yet and there undo what we do meanwhile.
    just_lost = and_(stage_runs.c.state == "lost", stage_runs.c.ended_at > func.now() - CALL_MAX)
    worked_on = await connection.scalar(
        select(runs.c.id)
        .join(stage_runs, stage_runs.c.run_id == runs.c.id)
        .where(runs.c.id == row["run_id"], stage_runs.c.fence == row["fence"], or_(open_now, just_lost))
        .limit(1)
    )
    if worked_on is not None:
        raise VendorUnavailable(f"run {worked_on} is doing {row['key']} right now", retry_after_s=TURN_WAIT_S)


def _effect(row: RowMapping, *, fresh: bool) -> Effect:
    return Effect(
        key=row["key"],
        state=row["state"],
        parameters=row["parameters"],
        external=row["external"],
        intended_at=row["intended_at"],
        fresh=fresh,
    )
