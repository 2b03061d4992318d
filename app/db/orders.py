"""What stages may ask about orders, suppliers and receipts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import select, text

from app.db.books import standing_of
from app.db.session import Database
from app.db.tables import (
    SCHEMA,
    documents,
    draft_variants,
    product_drafts,
    purchase_orders,
    receipt_lines,
    receipts,
    runs,
    supplier_items,
    suppliers,
)
from pipeline import flow
from pipeline.domain.standing import PLAN, OrderStanding
from pipeline.ports import Incoming, OrderRecord, ReceiptLine, ReceiptRecord, SupplierItem, SupplierRecord

SUPPLIERS_MAX = 5_000
ITEMS_MAX = 50_000

_INCOMING = f"""
WITH told AS (
    SELECT runs.order_id, unit ->> 0 AS variant_id, unit ->> 1 AS item, sum((unit ->> 2)::int) AS units
    FROM (
        SELECT DISTINCT one.order_id
        FROM {SCHEMA}.order_variants one
        JOIN {SCHEMA}.draft_variants variant ON variant.id = one.draft_variant_id
        JOIN {SCHEMA}.purchase_orders orders ON orders.id = one.order_id AND orders.merchant_id = :merchant
        WHERE variant.id = ANY(:variants) OR variant.inventory_item_id = ANY(:items)
        UNION  -- and those that brought the same articles into the shop under another name
        SELECT runs.order_id
        FROM {SCHEMA}.effects
        JOIN {SCHEMA}.runs ON runs.id = effects.run_id AND runs.merchant_id = :merchant
        WHERE effects.parameters ? 'gtins' AND effects.parameters -> 'gtins' ?| (
            SELECT array_agg(lpad(gtin, 14, '0')) FROM {SCHEMA}.draft_variants WHERE id = ANY(:variants) AND gtin <> ''
        )
    ) those
    JOIN {SCHEMA}.runs ON runs.order_id = those.order_id
    JOIN {SCHEMA}.effects ON effects.run_id = runs.id AND effects.key LIKE 'announce:%'
    CROSS JOIN LATERAL jsonb_array_elements(effects.parameters -> 'units') unit
    WHERE effects.parameters ->> 'location_id' = :location
      AND unit ->> 1 = ANY(:items)
      AND NOT effects.external ? 'refused'
      -- An open intent may or may not have happened: it counts where that makes the sum greater.
      AND (effects.state = 'confirmed' OR (unit ->> 2)::int > 0)
    GROUP BY 1, 2, 3
), promised AS (
    SELECT runs.order_id, share ->> 0 AS variant_id, sum((share ->> 2)::int + (share ->> 4)::int) AS units
    FROM {SCHEMA}.runs
    JOIN {SCHEMA}.effects ON effects.key = '{PLAN}' || runs.receipt_id
    CROSS JOIN LATERAL jsonb_array_elements(effects.parameters -> 'shares') share
    WHERE runs.order_id IN (SELECT order_id FROM told)
      AND runs.state <> 'cancelled'
      AND '{flow.SYNC}' IN (runs.due_stage, runs.failed_stage, runs.review_stage)
    GROUP BY 1, 2
)
SELECT told.item,
       sum(greatest(0, least(told.units, books.announced) - taken.units - coalesce(promised.units, 0))),
       sum(greatest(0, told.units - taken.units))
FROM told
JOIN {SCHEMA}.order_variants books
  ON books.order_id = told.order_id AND books.draft_variant_id = told.variant_id
LEFT JOIN promised ON promised.order_id = told.order_id AND promised.variant_id = told.variant_id
CROSS JOIN LATERAL (SELECT books.received + books.rejected - books.surplus AS units) taken
GROUP BY 1
"""  # noqa: S608 the schema's name is ours


class PostgresOrders:
    """Implements `Orders`, `Suppliers` and `Receipts` of `pipeline.ports`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, order_id: str) -> OrderRecord:
        """The order of that id."""
        async with self._database.transaction() as connection:
            found = await connection.execute(select(purchase_orders).where(purchase_orders.c.id == order_id))
            row = found.mappings().one()
        return OrderRecord(
            id=row["id"],
            supplier_id=row["supplier_id"],
            key=row["key"],
            revision=row["revision"],
            content_hash=row["content_hash"],
            state=row["state"],
        )

    async def find_same_document(self, merchant_id: str, sha256: str, other_than_run: str) -> str | None:
        """The number of an order made from the very same bytes by another run, or None.

        Of copies that arrive together one goes on: the oldest, unless a younger one is through already. The
        number is empty while that run has no order yet.
        """
        async with self._database.transaction() as connection:
            created_at = select(runs.c.created_at).where(runs.c.id == other_than_run).scalar_subquery()
            is_older = (runs.c.created_at < created_at) | (
                (runs.c.created_at == created_at) & (runs.c.id < other_than_run)
            )
            found = await connection.execute(
                select(purchase_orders.c.number, purchase_orders.c.key)
                .select_from(runs)
                .join(documents, documents.c.id == runs.c.document_id)
                .outerjoin(purchase_orders, purchase_orders.c.id == runs.c.order_id)
                .where(
                    runs.c.merchant_id == merchant_id,
                    documents.c.sha256 == sha256,
                    runs.c.id != other_than_run,
                    runs.c.state != "cancelled",
                    runs.c.order_id.is_not(None) | ((runs.c.state == "running") & is_older),
                )
                .order_by(runs.c.order_id.is_(None))
                .limit(1)
            )
            row = found.one_or_none()
        return None if row is None else row.number or row.key or ""

    async def standing(self, order_id: str) -> OrderStanding:
        """The order's books, and what a receipt under way has been promised of them."""
        async with self._database.transaction() as connection:
            return await standing_of(connection, order_id)

    async def incoming(
        self, merchant_id: str, location_id: str, inventory_item_ids: Sequence[str], draft_variant_ids: Sequence[str]
    ) -> Mapping[str, Incoming]:
        """What all the merchant's orders have in `incoming` there, by inventory item."""
        async with self._database.transaction() as connection:
            found = await connection.execute(
                text(_INCOMING),
                {
                    "merchant": merchant_id,
                    "location": location_id,
                    "items": list(inventory_item_ids),
                    "variants": list(draft_variant_ids),
                },
            )
            return {item: Incoming(int(least), int(most)) for item, least, most in found}

    async def list_suppliers(self, merchant_id: str) -> Sequence[SupplierRecord]:
        """All suppliers of a merchant."""
        async with self._database.transaction() as connection:
            found = await connection.execute(
                select(suppliers)
                .where(suppliers.c.merchant_id == merchant_id)
                .order_by(suppliers.c.id)
                .limit(SUPPLIERS_MAX)
            )
            rows = found.mappings().all()
        return [
            SupplierRecord(
                id=row["id"],
                name=row["name"],
                normalized_name=row["normalized_name"],
                tax_id=row["tax_id"],
                email=row["email"],
                website=row["website"],
                orders_confirmed=row["orders_confirmed"],
            )
            for row in rows
        ]

    async def items(self, supplier_id: str) -> Sequence[SupplierItem]:
        """The memory of one supplier: articles that live in the shop."""
        async with self._database.transaction() as connection:
            found = await connection.execute(
                select(
                    supplier_items.c.sku,
                    supplier_items.c.gtin,
                    draft_variants.c.draft_id,
                    supplier_items.c.draft_variant_id,
                    product_drafts.c.product_key,
                    draft_variants.c.variant_key,
                    supplier_items.c.units_per_pack,
                    supplier_items.c.last_cost,
                    supplier_items.c.currency,
                )
                .join(draft_variants, draft_variants.c.id == supplier_items.c.draft_variant_id)
                .join(product_drafts, product_drafts.c.id == draft_variants.c.draft_id)
                .where(supplier_items.c.supplier_id == supplier_id)
                .order_by(supplier_items.c.draft_variant_id)
                .limit(ITEMS_MAX)
            )
            return [SupplierItem(**row) for row in found.mappings()]

    async def receipt(self, receipt_id: str) -> ReceiptRecord:
        """A receipt and its lines, with the inventory items they are about."""
        async with self._database.transaction() as connection:
            action = await connection.scalar(select(receipts.c.action).where(receipts.c.id == receipt_id))
            found = await connection.execute(
                select(
                    receipt_lines.c.draft_variant_id,
                    draft_variants.c.inventory_item_id,
                    receipt_lines.c.accepted,
                    receipt_lines.c.rejected,
                )
                .join(draft_variants, draft_variants.c.id == receipt_lines.c.draft_variant_id)
                .where(receipt_lines.c.receipt_id == receipt_id)
                .order_by(receipt_lines.c.draft_variant_id)
            )
            return ReceiptRecord(action or "receive", tuple(ReceiptLine(**row) for row in found.mappings()))
