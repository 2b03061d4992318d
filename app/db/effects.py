"""The ledger of effects: what we meant to do in the outside world, and what the vendor answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import RowMapping, Select, Text, and_, cast, func, or_, select, update
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.session import Database
from app.db.tables import effects, runs, stage_runs
from pipeline import flow
from pipeline.errors import AnothersTurn, LeaseLost
from pipeline.ports import Effect
from pipeline.shopkeeping.products import CREATE

TURN_WAIT_S = 2.0
CALL_MAX = timedelta(seconds=35)
"""No call to a vendor is under way longer than that: the adapters' deadline is 30 s."""

LOCK = "new products of "
"""Of whose advisory lock; the rest of its name is the merchant's id."""

PLACED = effects.c.external["product_id"].astext
"""The product that a draft became; NULL while nobody has heard."""

_COMES_BACK = or_(
    and_(runs.c.due_stage == flow.SYNC, runs.c.parked_at.is_(None)),
    runs.c.updated_at > func.now() - CALL_MAX,
)
"""Whether an open intent's run will bring it to an end by itself, or has stopped so lately that the shop may yet.

A parked run is let in when others have ended, perhaps those that would wait for it.
"""


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
        is waited for: raises AnothersTurn, which costs no attempt. So is another run about the same article, where
        `parameters` say what was `looked_at`.
        """
        async with self._database.transaction() as connection:
            merchant_id = await _own(connection, run, fence)
            written = await connection.execute(
                insert(effects)
                .values(key=key, run_id=run, fence=fence, parameters=dict(parameters), state="intent")
                .on_conflict_do_nothing()
                .returning(*effects.c)
            )
            row = written.mappings().one_or_none()
            if row is not None:
                if "looked_at" in parameters and parameters["by"] == CREATE:
                    await _refuse_among_rivals(connection, run, merchant_id, parameters)
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


def rivals(run: str, gtins: Sequence[str]) -> Select[Any]:
    """What other runs of the merchant have in the ledger that brings one of these articles into the shop, or has."""
    mine = select(runs.c.merchant_id).where(runs.c.id == run).scalar_subquery()
    placed, comes_back = PLACED.label("product_id"), _COMES_BACK.label("comes_back")
    return (
        select(effects.c.key, effects.c.run_id, effects.c.fence, placed, comes_back)
        .join(runs, runs.c.id == effects.c.run_id)
        .where(
            effects.c.parameters.has_key("gtins"),  # what the index is of
            effects.c.parameters.op("->", return_type=JSONB())("gtins").has_any(cast(list(gtins), ARRAY(Text))),
            effects.c.run_id != run,
            runs.c.merchant_id == mine,
            ~effects.c.external.has_key("refused"),
        )
    )


async def _refuse_among_rivals(
    connection: AsyncConnection, run: str, merchant_id: str, parameters: Mapping[str, Any]
) -> None:
    """Let nobody create an article that another run is creating, or has created since this one looked.

    One lock for all of a merchant's new products: of two that write their intents at once the second sees the first's.
    It is held for one look and the commit. A lock per article would be many for a product in a hundred sizes.

    An intent whose run has stopped is answered for it: its request is no longer under way, and should a person bring
    the run back, it must look again before it creates.
    """
    name = f"{LOCK}{merchant_id}"
    await connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))
    found = (await connection.execute(rivals(run, parameters["gtins"]))).all()
    for one in found:
        if one.product_id is None and one.comes_back:
            raise _turn(one.run_id, f"creating an article of “{parameters['title']}”")
        if one.product_id is not None and one.product_id not in parameters["looked_at"]:
            raise _turn(one.run_id, f"done with creating an article of “{parameters['title']}”")
    for one in found:
        if one.product_id is None:
            await _answer_for(connection, one.key, one.run_id, one.fence, run)


async def _answer_for(connection: AsyncConnection, key: str, stopped: str, fence: int, run: str) -> None:
    answer = {"refused": "left", "message": f"It was not created: run {run} creates the same article.", "asked_by": []}
    answered = await connection.execute(
        update(effects)
        .where(effects.c.key == key, effects.c.fence == fence, effects.c.state == "intent")
        .values(state="confirmed", external=answer, confirmed_at=func.now())
    )
    if not answered.rowcount:  # a person has brought it back in this very moment
        raise _turn(stopped, f"at {key} again")


def _turn(run: str, doing: str) -> AnothersTurn:
    return AnothersTurn(f"run {run} is {doing}", retry_after_s=TURN_WAIT_S, patient=True)


async def _own(connection: AsyncConnection, run: str, fence: int) -> str:
    """The fence, checked and kept (the row stays locked) until the ledger is written. Returns whose run it is."""
    mine: str | None = await connection.scalar(
        select(runs.c.merchant_id).where(runs.c.id == run, runs.c.fence == fence).with_for_update(key_share=True)
    )
    if mine is None:
        raise LeaseLost(f"run {run} was taken by another worker (fence {fence})")
    return mine


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
        raise AnothersTurn(f"run {worked_on} is doing {row['key']} right now", retry_after_s=TURN_WAIT_S)


def _effect(row: RowMapping, *, fresh: bool) -> Effect:
    return Effect(
        key=row["key"],
        state=row["state"],
        parameters=row["parameters"],
        external=row["external"],
        intended_at=row["intended_at"],
        fresh=fresh,
    )
