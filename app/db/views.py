"""What people see, as bounded queries: lists, one order in full, and the totals that monitors scrape.

Everything here is read in one short transaction and returned as values that know how to become JSON. Nothing
here is used to decide anything: commands look for themselves, under a lock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import computed_field
from sqlalchemy import Select, and_, func, literal, or_, select, tuple_

from app.db.errors import InvalidError
from app.db.shop_views import HeldUpShop, held_up
from app.db.tables import (
    audit,
    documents,
    draft_variants,
    effects,
    images,
    line_items,
    merchants,
    order_variants,
    plans,
    product_drafts,
    purchase_orders,
    queue_pauses,
    receipt_lines,
    receipts,
    runs,
    stage_runs,
    suppliers,
)
from app.db.unused_uploads import unused_of
from pipeline import flow
from pipeline.domain.plan import Plan, PlanItem, items, summary
from pipeline.domain.purchase_order import Doubt
from pipeline.domain.values import Value

if TYPE_CHECKING:
    from sqlalchemy import RowMapping
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


class StageRow(Value):
    """One attempt at one stage."""

    stage: str
    entry: int
    attempt: int
    state: str
    worker: str
    job_id: str
    started_at: datetime
    ended_at: datetime | None
    error_code: str
    error: str


class LineRow(Value):
    """One line as printed, and what the rules made of it."""

    position: int
    kind: str
    sku: str
    gtin: str
    description: str
    name: str
    quantity: Decimal | None
    unit: str
    pack_size: int | None
    unit_cost: Decimal | None
    line_total: Decimal | None
    units: int | None
    packs: str
    price: Decimal | None
    confidence: float
    evidence: str


class VariantRow(Value):
    """One sellable thing of the order: where it lives in the shop, and its units."""

    draft_id: str
    draft_variant_id: str
    title: str
    options: dict[str, str]
    sku: str
    gtin: str
    price: Decimal | None
    unit_cost: Decimal | None
    product_id: str
    variant_id: str
    expected: int
    announced: int
    received: int
    rejected: int
    surplus: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def open(self) -> int:
        """Units announced that have not been accounted for."""
        return max(0, self.announced - (self.received + self.rejected - self.surplus))


class ImageRow(Value):
    """One picture, and what became of it. `unused_uploads`: files sent to the shop for it and never attached."""

    draft_id: str
    url: str
    source: str
    state: str
    media_id: str
    reason: str
    unused_uploads: int


class EffectRow(Value):
    """One change of the outside world."""

    key: str
    state: str
    external: dict[str, Any]
    intended_at: datetime
    confirmed_at: datetime | None


class ReceiptRow(Value):
    """One receipt: who counted what, and whether the shop knows. `action` close and cancel end the order."""

    receipt_id: str
    run_id: str
    action: str
    state: str
    entered_by: str
    accepted: int
    rejected: int
    created_at: datetime


class ApprovalRow(Value):
    """Who let the run go on into the shop, and with which plan; empty `approved_by`: a merchant's rule.

    Without a plan `digest` is empty and `items` are none.
    """

    approved_by: str
    approved_at: datetime
    read_at: datetime
    digest: str
    summary: str
    items: tuple[PlanItem, ...]


class AuditRow(Value):
    """Something a person did."""

    at: datetime
    who: str
    action: str
    details: dict[str, Any]


class RunView(Value):
    """One run in full. Lines and variants are those of its order, receipts of the order as a whole.

    `has_plan`: it waits for a person before the shop, and what it would do there can be read.
    """

    run: RunRow
    order_state: str
    has_plan: bool
    stages: tuple[StageRow, ...]
    lines: tuple[LineRow, ...]
    variants: tuple[VariantRow, ...]
    images: tuple[ImageRow, ...]
    effects: tuple[EffectRow, ...]
    receipts: tuple[ReceiptRow, ...]
    approvals: tuple[ApprovalRow, ...]
    audit: tuple[AuditRow, ...]


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
    statement = _run_rows().order_by(runs.c.created_at.desc(), runs.c.id.desc()).limit(min(max(limit, 1), PAGE_MAX))
    if merchant_id:
        statement = statement.where(runs.c.merchant_id == merchant_id)
    if state:
        statement = statement.where(runs.c.state == state)
    if before:
        last = select(runs.c.created_at, runs.c.id).where(runs.c.id == before).scalar_subquery()
        statement = statement.where(tuple_(runs.c.created_at, runs.c.id) < last)
    async with database.transaction() as connection:
        return await _all(connection, RunRow, statement)


async def changed_runs(database: Database, since: datetime | None = None) -> list[RunRow]:
    """Runs that changed after that moment (by default: now), longest ago first.

    A row carries the moment its transaction began, so some appear late: what changed shortly before is included.
    """
    after = (func.now() if since is None else literal(since)) - LATE_BY
    statement = _run_rows().where(runs.c.updated_at > after).order_by(runs.c.updated_at).limit(PAGE_MAX)
    async with database.transaction() as connection:
        return await _all(connection, RunRow, statement)


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


async def find_run(database: Database, run_id: str) -> RunView | None:
    """One run in full."""
    async with database.transaction() as connection:
        rows = await _all(connection, RunRow, _run_rows().where(runs.c.id == run_id))
        if not rows:
            return None
        order_id = rows[0].order_id
        revision = select(runs.c.order_revision).where(runs.c.id == run_id).scalar_subquery()
        return RunView(
            run=rows[0],
            order_state=await _order_state(connection, order_id),
            has_plan=bool(await connection.scalar(_waits_before_the_shop(run_id))),
            stages=tuple(await _all(connection, StageRow, _stages(run_id))),
            lines=tuple(await _all(connection, LineRow, _lines(order_id, revision))),
            variants=tuple(await _all(connection, VariantRow, _variants(order_id))),
            images=tuple(await _all(connection, ImageRow, _images(order_id))),
            effects=tuple(await _all(connection, EffectRow, _effects(run_id))),
            receipts=tuple(await _all(connection, ReceiptRow, _receipts(order_id))),
            approvals=tuple(await _approvals(connection, run_id)),
            audit=tuple(await _all(connection, AuditRow, _audit(run_id))),
        )


async def list_merchants(database: Database) -> list[MerchantRow]:
    """All merchants, by id."""
    columns = (merchants.c.id, merchants.c.name, merchants.c.shop_domain, merchants.c.settings_version)
    async with database.transaction() as connection:
        return await _all(connection, MerchantRow, select(*columns).order_by(merchants.c.id).limit(ROWS_MAX))


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


def _run_rows() -> Select[Any]:
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


def _stages(run_id: str) -> Select[Any]:
    return (
        select(*(stage_runs.c[name] for name in StageRow.model_fields))
        .where(stage_runs.c.run_id == run_id)
        .order_by(stage_runs.c.started_at, stage_runs.c.entry, stage_runs.c.attempt)
        .limit(ROWS_MAX)
    )


def _lines(order_id: str | None, revision: Any) -> Select[Any]:
    return (
        select(*(line_items.c[name] for name in LineRow.model_fields))
        .where(line_items.c.order_id == order_id, line_items.c.revision == revision)
        .order_by(line_items.c.position)
        .limit(ROWS_MAX)
    )


def _variants(order_id: str | None) -> Select[Any]:
    return (
        select(
            product_drafts.c.id.label("draft_id"),
            draft_variants.c.id.label("draft_variant_id"),
            product_drafts.c.title,
            draft_variants.c.options,
            draft_variants.c.sku,
            draft_variants.c.gtin,
            draft_variants.c.price,
            draft_variants.c.unit_cost,
            product_drafts.c.product_id,
            draft_variants.c.variant_id,
            order_variants.c.expected,
            order_variants.c.announced,
            order_variants.c.received,
            order_variants.c.rejected,
            order_variants.c.surplus,
        )
        .join(draft_variants, draft_variants.c.id == order_variants.c.draft_variant_id)
        .join(product_drafts, product_drafts.c.id == draft_variants.c.draft_id)
        .where(order_variants.c.order_id == order_id)
        .order_by(product_drafts.c.title, draft_variants.c.sku, draft_variants.c.id)
        .limit(ROWS_MAX)
    )


def _images(order_id: str | None) -> Select[Any]:
    drafts = (
        select(draft_variants.c.draft_id)
        .join(order_variants, order_variants.c.draft_variant_id == draft_variants.c.id)
        .where(order_variants.c.order_id == order_id)
    )
    unused = unused_of(select(runs.c.id).where(runs.c.order_id == order_id)).subquery()
    plain = (images.c[name] for name in ImageRow.model_fields if name in images.c)
    return (
        select(*plain, func.coalesce(unused.c.unused, 0).label("unused_uploads"))
        .outerjoin(unused, unused.c.image_id == images.c.id)
        .where(images.c.draft_id.in_(drafts))
        .order_by(images.c.draft_id, images.c.position)
        .limit(ROWS_MAX)
    )


def _effects(run_id: str) -> Select[Any]:
    return (
        select(*(effects.c[name] for name in EffectRow.model_fields))
        .where(effects.c.run_id == run_id)
        .order_by(effects.c.intended_at, effects.c.key)
        .limit(ROWS_MAX)
    )


def _receipts(order_id: str | None) -> Select[Any]:
    return (
        select(
            receipts.c.id.label("receipt_id"),
            receipts.c.run_id,
            receipts.c.action,
            runs.c.state,
            receipts.c.entered_by,
            func.coalesce(func.sum(receipt_lines.c.accepted), 0).label("accepted"),
            func.coalesce(func.sum(receipt_lines.c.rejected), 0).label("rejected"),
            receipts.c.created_at,
        )
        .join(runs, runs.c.id == receipts.c.run_id)
        .outerjoin(receipt_lines, receipt_lines.c.receipt_id == receipts.c.id)
        .where(receipts.c.order_id == order_id)
        .group_by(receipts.c.id, runs.c.state)
        .order_by(receipts.c.created_at)
        .limit(ROWS_MAX)
    )


def _audit(run_id: str) -> Select[Any]:
    return (
        select(*(audit.c[name] for name in AuditRow.model_fields))
        .where(audit.c.run_id == run_id)
        .order_by(audit.c.id)
        .limit(ROWS_MAX)
    )


async def _approvals(connection: AsyncConnection, run_id: str) -> list[ApprovalRow]:
    found = await connection.execute(
        select(plans).where(plans.c.run_id == run_id).order_by(plans.c.entry).limit(ROWS_MAX)
    )
    return [_approval(row) for row in found.mappings()]


def _approval(row: RowMapping) -> ApprovalRow:
    plan = Plan.model_validate(row["content"]) if row["digest"] else None
    return ApprovalRow(
        approved_by=row["approved_by"],
        approved_at=row["approved_at"],
        read_at=row["read_at"],
        digest=row["digest"],
        summary=summary(plan) if plan else "Approved without a plan.",
        items=items(plan) if plan else (),
    )


def _waits_before_the_shop(run_id: str) -> Select[Any]:
    return select(runs.c.review_stage.in_(flow.BEFORE_THE_SHOP)).where(
        runs.c.id == run_id, runs.c.state == "needs_review"
    )


async def _order_state(connection: AsyncConnection, order_id: str | None) -> str:
    state: str | None = await connection.scalar(select(purchase_orders.c.state).where(purchase_orders.c.id == order_id))
    return state or ""


async def _all(connection: AsyncConnection, kind: type[V], statement: Select[Any]) -> list[V]:
    found = await connection.execute(statement)
    return [kind.model_validate(dict(row)) for row in found.mappings()]


async def _counts(connection: AsyncConnection, statement: Select[Any]) -> dict[str, int]:
    return {name: int(count) for name, count in await connection.execute(statement)}
