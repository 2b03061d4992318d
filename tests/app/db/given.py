"""Rows that the tests of `app.db` and of what people see begin with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert, select, update

from app.db import tables
from app.db.journal import dump, dump_doubts
from app.db.session import Database
from pipeline import flow
from pipeline.domain.purchase_order import Doubt
from pipeline.domain.results import Draft, Drafts, DraftVariant, PlannedProduct, PlannedVariant

MERCHANT = "m1"
DOUBTS = (Doubt(code="totals", message="The lines add up to 90.00, the document says 100.00."),)


@dataclass(frozen=True, slots=True)
class Given:
    """What stands in the database."""

    database: Database

    async def insert(self, table: Any, **values: Any) -> None:
        async with self.database.transaction() as connection:
            await connection.execute(insert(table).values(**values))

    async def change(self, table: Any, where: Any, **values: Any) -> None:
        async with self.database.transaction() as connection:
            await connection.execute(update(table).where(where).values(**values))

    async def rows(self, table: Any, *where: Any) -> list[dict[str, Any]]:
        async with self.database.transaction() as connection:
            found = await connection.execute(select(table).where(*where))
            return [dict(row) for row in found.mappings()]

    async def run_row(self, run_id: str) -> dict[str, Any]:
        [row] = await self.rows(tables.runs, tables.runs.c.id == run_id)
        return row

    async def merchant(self, merchant_id: str = MERCHANT) -> None:
        await self.insert(tables.merchants, id=merchant_id, name="Shop", shop_domain=f"{merchant_id}.example")

    async def run(self, run_id: str, **values: Any) -> None:
        row = {
            "merchant_id": MERCHANT,
            "kind": "order",
            "upload_id": f"upload-{run_id}",
            "workflow_id": f"wf-{run_id}",
            "state": "running",
        } | values
        await self.insert(tables.runs, id=run_id, **(_as_its_state_says(row) | row))

    async def run_in_review(self, run_id: str, *, at: str, **values: Any) -> None:
        await self.run(
            run_id,
            **{
                "state": "needs_review",
                "review": dump_doubts(DOUBTS),
                "review_stage": at,
                "entry": 0,
                "fence": 7,
                **values,
            },
        )

    async def order(self, order_id: str = "order-1", *, run_id: str = "run-1", announced: int = 10) -> None:
        """A merchant, a supplier and an order of two lines (variants v-1, v-2), `announced` units each."""
        await self.merchant()
        await self.insert(tables.suppliers, id="s1", merchant_id=MERCHANT, name="Acme Ltd", normalized_name="acme")
        await self.insert(
            tables.purchase_orders,
            id=order_id,
            merchant_id=MERCHANT,
            supplier_id="s1",
            key="PO-1",
            number="PO-1",
            state="expected",
            kind="purchase_order",
            currency="USD",
            total=100,
        )
        await self.insert(tables.documents, id="d1", merchant_id=MERCHANT, upload_id="u1", name="<b>po</b>.csv")
        await self.run(
            run_id,
            state="completed",
            document_id="d1",
            order_id=order_id,
            order_revision=1,
            supplier_id="s1",
            summary="1 product (2 variants), 20 units announced as incoming",
        )
        await self.insert(tables.order_revisions, order_id=order_id, revision=1, run_id=run_id, content_hash="x")
        await self.insert(
            tables.product_drafts,
            id="p-1",
            merchant_id=MERCHANT,
            supplier_id="s1",
            product_key="mug",
            title="Mug",
            product_id="gid://shopify/Product/11",
            first_run_id=run_id,
        )
        for position, sku in ((1, "MUG-R"), (2, "MUG-B")):
            await self.insert(
                tables.line_items,
                order_id=order_id,
                revision=1,
                position=position,
                kind="goods",
                sku=sku,
                description=f"Mug {sku}",
                quantity=announced,
                units=announced,
            )
            await self.insert(
                tables.draft_variants,
                id=f"v-{position}",
                draft_id="p-1",
                variant_key=sku,
                sku=sku,
                gtin=f"400000000000{position}",
                variant_id=f"gid://shopify/ProductVariant/{position}",
            )
            await self.insert(
                tables.order_variants,
                order_id=order_id,
                draft_variant_id=f"v-{position}",
                expected=announced,
                announced=announced,
            )
        await self.insert(
            tables.stage_runs,
            run_id=run_id,
            stage="product-draft-creation",
            entry=0,
            attempt=1,
            fence=1,
            state="finished",
            output_type="Drafts",
            output=dump(drafts()),
        )


def _as_its_state_says(row: dict[str, Any]) -> dict[str, Any]:
    """What the journal's rules ask of a run in that state (`app.db.invariants`)."""
    now = datetime.now(UTC)
    if row["state"] == "running":
        return {"due_stage": flow.FIRST, "due_since": now}
    why = {"failed_stage": flow.FIRST, "failure_code": "by_test", "failure": "by the test"}
    due = {"due_since": now} if row.get("due_stage") else {}
    return {"finished_at": now} | (why if row["state"] == "failed" else {}) | due


def drafts() -> Drafts:
    variants = tuple(
        PlannedVariant(
            variant_key=sku,
            positions=(position,),
            sku=sku,
            gtin="",
            options={"Colour": sku},
            quantity=10,
            unit_cost=None,
            price=None,
        )
        for position, sku in ((1, "MUG-R"), (2, "MUG-B"))
    )
    plan = PlannedProduct(
        product_key="mug",
        title="Mug",
        description_html="",
        vendor="Acme Ltd",
        product_type="",
        tags=(),
        option_names=("Colour",),
        variants=variants,
    )
    made = tuple(DraftVariant(id=f"v-{number}", plan=variant) for number, variant in enumerate(variants, 1))
    return Drafts(drafts=(Draft(id="p-1", plan=plan, variants=made),))
