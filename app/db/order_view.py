"""One order in full, as people see it: its stages, lines, variants, pictures, receipts, and what was sent for it."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pydantic import computed_field
from sqlalchemy import Select, func, select

from app.db.tables import (
    audit,
    draft_variants,
    effects,
    images,
    line_items,
    order_variants,
    plans,
    product_drafts,
    purchase_orders,
    receipt_lines,
    receipts,
    runs,
    stage_runs,
)
from app.db.unused_uploads import unused_of
from app.db.views import ROWS_MAX, RunRow, all_of, run_rows
from pipeline import flow
from pipeline.domain.plan import Plan, PlanItem, items, summary
from pipeline.domain.values import Value

if TYPE_CHECKING:
    from sqlalchemy import RowMapping
    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.db.session import Database


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

    @computed_field  # type: ignore[prop-decorator]  # mypy takes no decorated properties; pydantic asks for one
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


async def find_run(database: Database, run_id: str) -> RunView | None:
    """One run in full."""
    async with database.transaction() as connection:
        rows = await all_of(connection, RunRow, run_rows().where(runs.c.id == run_id))
        if not rows:
            return None
        order_id = rows[0].order_id
        revision = select(runs.c.order_revision).where(runs.c.id == run_id).scalar_subquery()
        return RunView(
            run=rows[0],
            order_state=await _order_state(connection, order_id),
            has_plan=bool(await connection.scalar(_waits_before_the_shop(run_id))),
            stages=tuple(await all_of(connection, StageRow, _stages(run_id))),
            lines=tuple(await all_of(connection, LineRow, _lines(order_id, revision))),
            variants=tuple(await all_of(connection, VariantRow, _variants(order_id))),
            images=tuple(await all_of(connection, ImageRow, _images(order_id))),
            effects=tuple(await all_of(connection, EffectRow, _effects(run_id))),
            receipts=tuple(await all_of(connection, ReceiptRow, _receipts(order_id))),
            approvals=tuple(await _approvals(connection, run_id)),
            audit=tuple(await all_of(connection, AuditRow, _audit(run_id))),
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
