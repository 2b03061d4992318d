"""What people see, as bounded queries: lists of runs, and the totals that monitors scrape. One order: `order_view`.

Everything here is read in one short transaction and returned as values that know how to become JSON. Nothing
here is used to decide anything: commands look for themselves, under a lock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Select, and_, func, literal, or_, select, tuple_

from app.db.errors import InvalidError
from app.db.shop_views import HeldUpShop, held_up
from app.db.tables import (
    documents,
    line_items,
    merchants,
    purchase_orders,
    queue_pauses,
    runs,
    stage_runs,
    suppliers,
)
from pipeline.domain.purchase_order import Doubt
from pipeline.domain.values import Value

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.db.session import Database

PAGE_MAX = 200
ROWS_MAX = 2_000
"""Rows of one kind shown for one order; the longest order we know of has 500 lines."""

LATE_BY = timedelta(seconds=2)
"""How long after its first statement a transaction may still commit unseen; ours are meant to take 0.15 s."""

V = TypeVar("V", bound=Value)


class RunRow(Value):
    """One run in a list: what it is about, where it stands, how it ended and why."""

    run_id: str
    kind: str
    merchant_id: str
    workflow_id: str
    document: str
    order_id: str | None
    number: str
    supplier: str
    currency: str
    total: Decimal | None
    lines: int
    state: str
    stage: str | None
    """The stage that is due, None when nothing is."""
    review: tuple[Doubt, ...]
    failed_stage: str
    failure_code: str
    failure: str
    summary: str
    entry: int
    approved_by: str
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None


class MerchantRow(Value):
    """A merchant, without what is secret."""

    id: str
    name: str
    shop_domain: str
    settings_version: int


@dataclass(frozen=True, slots=True)
class Totals:
    """How many runs there are in each state, and per stage how many wait there, run there or died there."""

    runs: Mapping[str, int]
    due: Mapping[str, int]
    active: Mapping[str, int]
    failed: Mapping[str, int]
    oldest_due_s: float
    """How long the run that has waited longest has been waiting, without those that wait for their shop's turn."""
    paused: frozenset[str]
    shops: tuple[HeldUpShop, ...] = ()


async def list_runs(
    database: Database,
    *,
    merchant_id: str | None = None,
    state: str | None = None,
    limit: int = 50,
    before: str | None = None,
) -> list[RunRow]:
    """A page of runs, newest first. `before` is the last run of the page before."""
    statement = run_rows().order_by(runs.c.created_at.desc(), runs.c.id.desc()).limit(min(max(limit, 1), PAGE_MAX))
    if merchant_id:
        statement = statement.where(runs.c.merchant_id == merchant_id)
    if state:
        statement = statement.where(runs.c.state == state)
    if before:
        last = select(runs.c.created_at, runs.c.id).where(runs.c.id == before).scalar_subquery()
        statement = statement.where(tuple_(runs.c.created_at, runs.c.id) < last)
    async with database.transaction() as connection:
        return await all_of(connection, RunRow, statement)


async def changed_runs(database: Database, since: datetime | None = None) -> list[RunRow]:
    """Runs that changed after that moment (by default: now), longest ago first.

    A row carries the moment its transaction began, so some appear late: what changed shortly before is included.
    """
    after = (func.now() if since is None else literal(since)) - LATE_BY
    statement = run_rows().where(runs.c.updated_at > after).order_by(runs.c.updated_at).limit(PAGE_MAX)
    async with database.transaction() as connection:
        return await all_of(connection, RunRow, statement)


async def find_run_id(database: Database, name: str) -> str | None:
    """The run meant by its own id, its order's, its upload's or its workflow's; the newest if several are."""
    named = or_(
        runs.c.id == name,
        and_(runs.c.order_id == name, runs.c.kind == "order"),
        runs.c.upload_id == name,
        runs.c.workflow_id == name,
    )
    # Its own id goes before any other meaning of the same text.
    statement = select(runs.c.id).where(named).order_by(runs.c.id != name, runs.c.created_at.desc()).limit(1)
    async with database.transaction() as connection:
        found: str | None = await connection.scalar(statement)
        return found


async def find_order_id(database: Database, name: str) -> str | None:
    """The order meant by its id, by a run of it, or by its number. Raises InvalidError if several have that."""
    by_number = select(purchase_orders.c.id).where(purchase_orders.c.number == name).limit(2)
    async with database.transaction() as connection:
        direct: str | None = await connection.scalar(
            select(purchase_orders.c.id).where(purchase_orders.c.id == name)
        ) or await connection.scalar(select(runs.c.order_id).where(runs.c.id == name))
        if direct:
            return direct
        numbered = list(await connection.scalars(by_number))
    if len(numbered) > 1:
        raise InvalidError(f"several orders have the number {name}; use the id of the one you mean")
    return numbered[0] if numbered else None


async def list_merchants(database: Database) -> list[MerchantRow]:
    """All merchants, by id."""
    columns = (merchants.c.id, merchants.c.name, merchants.c.shop_domain, merchants.c.settings_version)
    async with database.transaction() as connection:
        return await all_of(connection, MerchantRow, select(*columns).order_by(merchants.c.id).limit(ROWS_MAX))


async def totals(database: Database) -> Totals:
    """The numbers of the whole, in one look."""
    open_attempts = (
        select(stage_runs.c.stage, func.count())
        .join(runs, and_(runs.c.id == stage_runs.c.run_id, runs.c.due_stage == stage_runs.c.stage))
        .where(stage_runs.c.state == "open")
        .group_by(stage_runs.c.stage)
    )
    due = select(runs.c.due_stage, func.count()).where(runs.c.due_stage.is_not(None)).group_by(runs.c.due_stage)
    failed = select(runs.c.failed_stage, func.count()).where(runs.c.state == "failed").group_by(runs.c.failed_stage)
    waited = select(func.coalesce(func.extract("epoch", func.now() - func.min(runs.c.due_since)), 0)).where(
        runs.c.due_stage.is_not(None), runs.c.parked_at.is_(None)
    )
    async with database.transaction() as connection:
        return Totals(
            runs=await _counts(connection, select(runs.c.state, func.count()).group_by(runs.c.state)),
            due=await _counts(connection, due),
            active=await _counts(connection, open_attempts),
            failed=await _counts(connection, failed),
            oldest_due_s=float(await connection.scalar(waited) or 0),
            paused=frozenset(await connection.scalars(select(queue_pauses.c.queue))),
            shops=tuple(await held_up(connection)),
        )


# ------------------------------------------------------------------------------------------- the statements


def run_rows() -> Select[Any]:
    """Runs with the names of what they are about; one query, however long the page."""
    goods = (
        select(func.count())
        .where(
            line_items.c.order_id == runs.c.order_id,
            line_items.c.revision == runs.c.order_revision,
            line_items.c.kind == "goods",
        )
        .scalar_subquery()
    )
    return (
        select(
            runs.c.id.label("run_id"),
            runs.c.kind,
            runs.c.merchant_id,
            runs.c.workflow_id,
            func.coalesce(documents.c.name, "").label("document"),
            runs.c.order_id,
            func.coalesce(purchase_orders.c.number, "").label("number"),
            func.coalesce(suppliers.c.name, "").label("supplier"),
            func.coalesce(purchase_orders.c.currency, "").label("currency"),
            purchase_orders.c.total,
            goods.label("lines"),
            runs.c.state,
            runs.c.due_stage.label("stage"),
            runs.c.review,
            runs.c.failed_stage,
            runs.c.failure_code,
            runs.c.failure,
            runs.c.summary,
            runs.c.entry,
            runs.c.approved_by,
            runs.c.created_at,
            runs.c.updated_at,
            runs.c.finished_at,
        )
        .outerjoin(documents, documents.c.id == runs.c.document_id)
        .outerjoin(purchase_orders, purchase_orders.c.id == runs.c.order_id)
        .outerjoin(suppliers, suppliers.c.id == runs.c.supplier_id)
    )


async def all_of(connection: AsyncConnection, kind: type[V], statement: Select[Any]) -> list[V]:
    """The rows of a statement, each as a value of that kind."""
    found = await connection.execute(statement)
    return [kind.model_validate(dict(row)) for row in found.mappings()]


async def _counts(connection: AsyncConnection, statement: Select[Any]) -> dict[str, int]:
    return {name: int(count) for name, count in await connection.execute(statement)}
