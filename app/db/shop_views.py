"""What people see of the shops: which are held up and why, and what each said about itself."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.session import Database
from app.db.tables import merchants, runs, shop_states
from pipeline import flow
from pipeline.domain.values import Value
from pipeline.run_store import DueRun, NextJob

SHOWN_MAX = 200
STAGES = (flow.SYNC, flow.IMAGES)
"""The stages that call a shop."""

_IS_HELD_UP: ColumnElement[bool] = or_(shop_states.c.parked_reason != "", shop_states.c.tripped_reason != "")


class HeldUpShop(Value):
    """A shop nobody calls at the moment. `parked`: until a person does something; otherwise until it works again."""

    merchant_id: str
    shop_domain: str
    parked: bool
    reason: str
    since: datetime | None
    ask_at: datetime | None
    waiting: int
    """Runs whose next stage calls it."""


class KnownShop(Value):
    """A connected shop, as it last described itself; `scopes_at` is None while nobody has asked it."""

    merchant_id: str
    shop_domain: str
    parked_reason: str
    tripped_reason: str
    version_asked: str
    version_served: str
    scopes: tuple[str, ...]
    scopes_at: datetime | None


async def held_up(connection: AsyncConnection) -> list[HeldUpShop]:
    """The shops that are parked or tripped, those parked first."""
    parked = shop_states.c.parked_reason != ""
    waiting = (
        select(func.count())
        .select_from(runs)
        .where(runs.c.merchant_id == merchants.c.id, runs.c.due_stage.in_(STAGES))
        .scalar_subquery()
    )
    found = await connection.execute(
        select(
            merchants.c.id.label("merchant_id"),
            merchants.c.shop_domain,
            parked.label("parked"),
            case((parked, shop_states.c.parked_reason), else_=shop_states.c.tripped_reason).label("reason"),
            case((parked, shop_states.c.parked_at), else_=shop_states.c.tripped_at).label("since"),
            shop_states.c.ask_at,
            waiting.label("waiting"),
        )
        .join(shop_states, shop_states.c.merchant_id == merchants.c.id)
        .where(_IS_HELD_UP)
        .order_by(parked.desc(), merchants.c.id)
        .limit(SHOWN_MAX)
    )
    return [HeldUpShop.model_validate(dict(row)) for row in found.mappings()]


async def list_known(database: Database) -> list[KnownShop]:
    """Every connected shop, by merchant."""
    texts = ("parked_reason", "tripped_reason", "version_asked", "version_served")
    statement = (
        select(
            merchants.c.id.label("merchant_id"),
            merchants.c.shop_domain,
            *(func.coalesce(shop_states.c[name], "").label(name) for name in texts),
            func.coalesce(shop_states.c.scopes, func.jsonb_build_array()).label("scopes"),
            shop_states.c.scopes_at,
        )
        .outerjoin(shop_states, shop_states.c.merchant_id == merchants.c.id)
        .where(merchants.c.shop_token_sealed.is_not(None))
        .order_by(merchants.c.id)
        .limit(SHOWN_MAX)
    )
    async with database.transaction() as connection:
        found = await connection.execute(statement)
        return [KnownShop.model_validate(dict(row)) for row in found.mappings()]


async def list_waiting(database: Database, merchant_id: str) -> list[DueRun]:
    """Runs of that merchant whose next stage calls its shop, the oldest first: those to let go when it works again."""
    statement = (
        select(runs.c.id, runs.c.due_stage, runs.c.entry, runs.c.workflow_id, runs.c.job_id)
        .where(runs.c.merchant_id == merchant_id, runs.c.due_stage.in_(STAGES))
        .order_by(runs.c.created_at, runs.c.id)
        .limit(SHOWN_MAX)
    )
    async with database.transaction() as connection:
        found = await connection.execute(statement)
        return [DueRun(NextJob(name, stage, entry, workflow), ref) for name, stage, entry, workflow, ref in found]
