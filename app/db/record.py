"""Spreads a stage's result over the tables people query, inside the transaction that records it.

Everything here may run twice (a stage of a re-entered run): inserts meet what is there, sums are set and
not added, and what a merchant may have changed since is left alone. Rows are written in the order of their
ids, so two orders with the same articles wait for each other instead of locking each other out.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import bindparam, case, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.books import book, book_shipment, book_shipped, settle_state
from app.db.plans import keep_plan
from app.db.tables import (
    draft_variants,
    images,
    line_items,
    order_revisions,
    order_variants,
    product_drafts,
    purchase_orders,
    runs,
    stage_runs,
    supplier_items,
    suppliers,
)
from pipeline.contract import Run
from pipeline.domain.purchase_order import ExtractedLine
from pipeline.domain.results import (
    AttachedImages,
    Draft,
    Drafts,
    DraftVariant,
    ImageChoice,
    NormalizedOrder,
    OrderToSave,
    Output,
    PricedOrder,
    RunOutcome,
    ShopSync,
)

BATCH = 1000
BY_RULE = "auto"
"""Who confirmed what no person has looked at."""
_LINE_KEY = ("order_id", "revision", "position")
_NAMESPACE = uuid.UUID("b0a5b6c1-52bd-4a0e-8f2a-8a1d3a6e2c55")


async def spread(connection: AsyncConnection, run: Run, output: Output) -> None:
    """Write what this result means for orders, drafts, images and the run."""
    match output:
        case OrderToSave():
            await _order(connection, run, output)
        case NormalizedOrder():
            await _normalized(connection, run, output)
        case PricedOrder():
            await _priced(connection, run, output)
        case Drafts():
            await _drafts(connection, run, output)
        case ImageChoice():
            await _candidates(connection, run, output)
        case ShopSync():
            await _synced(connection, run, output)
        case RunOutcome(state=state, summary=summary):
            await _ended(connection, run, state, summary)
        case AttachedImages():
            await _attached(connection, output)
        case _:
            """The other results live in the journal alone."""


async def _order(connection: AsyncConnection, run: Run, order: OrderToSave) -> None:
    merchant_id = run.merchant.id
    supplier_id = order.supplier.id or await _supplier(connection, merchant_id, order)
    header = {
        "kind": order.kind,
        "order_date": order.order_date,
        "due_date": order.due_date,
        "currency": order.currency,
        "subtotal": order.subtotal,
        "tax": order.tax,
        "freight": order.freight,
        "discount": order.discount,
        "total": order.total,
        "confidence": order.confidence,
        "content_hash": order.content_hash,
        "updated_at": func.now(),
    }
    order_id = str(uuid.uuid5(_NAMESPACE, f"order|{merchant_id}|{supplier_id}|{order.key}"))
    await connection.execute(
        insert(purchase_orders)
        .values(
            id=order_id, merchant_id=merchant_id, supplier_id=supplier_id, key=order.key, number=order.number, **header
        )
        .on_conflict_do_nothing()
    )
    # The row lock makes revisions of one order take turns.
    await connection.execute(select(purchase_orders.c.id).where(purchase_orders.c.id == order_id).with_for_update())
    revision = await _revision(connection, run.id, order_id, order.content_hash)
    # An older revision that is saved again (a retry, a re-read) does not become the newest by that.
    await connection.execute(
        update(purchase_orders)
        .where(purchase_orders.c.id == order_id, purchase_orders.c.revision <= revision)
        .values(revision=revision, **header)
    )
    await _lines(connection, order_id, revision, order.lines)
    await connection.execute(
        update(runs)
        .where(runs.c.id == run.id)
        .values(order_id=order_id, order_revision=revision, supplier_id=supplier_id)
    )


async def _lines(connection: AsyncConnection, order_id: str, revision: int, lines: Sequence[ExtractedLine]) -> None:
    rows = [
        {
            "order_id": order_id,
            "revision": revision,
            "position": line.position,
            "kind": line.kind,
            "sku": line.sku,
            "gtin": line.gtin,
            "description": line.description,
            "quantity": line.quantity,
            "quantity_shipped": line.quantity_shipped,
            "quantity_backordered": line.quantity_backordered,
            "quantity_invoiced": line.quantity_invoiced,
            "unit": line.unit,
            "pack_size": line.pack_size,
            "unit_cost": line.unit_cost,
            "line_total": line.line_total,
            "confidence": line.evidence.confidence,
            "evidence": line.evidence.where,
        }
        for line in lines
    ]
    for some in _batches(rows):
        statement = insert(line_items).values(some)
        written = {name: statement.excluded[name] for name in some[0] if name not in _LINE_KEY}
        await connection.execute(statement.on_conflict_do_update(index_elements=_LINE_KEY, set_=written))


async def _supplier(connection: AsyncConnection, merchant_id: str, order: OrderToSave) -> str:
    choice = order.supplier
    statement = insert(suppliers).values(
        id=str(uuid.uuid5(_NAMESPACE, f"supplier|{merchant_id}|{choice.normalized_name}")),
        merchant_id=merchant_id,
        name=choice.name,
        normalized_name=choice.normalized_name,
        tax_id=choice.tax_id,
        email=choice.email,
        website=choice.website,
    )
    # Without a target, because the row has two unique keys and a target tolerates a rival at one of them only.
    await connection.execute(statement.on_conflict_do_nothing())
    found = await connection.execute(
        select(suppliers.c.id).where(
            suppliers.c.merchant_id == merchant_id, suppliers.c.normalized_name == choice.normalized_name
        )
    )
    supplier_id: str = found.scalar_one()
    return supplier_id


async def _revision(connection: AsyncConnection, run_id: str, order_id: str, content_hash: str) -> int:
    """This run's revision of the order: the one it wrote before, or the next."""
    written: int | None = await connection.scalar(
        select(order_revisions.c.revision).where(
            order_revisions.c.run_id == run_id, order_revisions.c.order_id == order_id
        )
    )
    if written is not None:
        return written
    last: int | None = await connection.scalar(
        select(func.max(order_revisions.c.revision)).where(order_revisions.c.order_id == order_id)
    )
    revision = (last or 0) + 1
    await connection.execute(
        insert(order_revisions)
        .values(order_id=order_id, revision=revision, run_id=run_id, content_hash=content_hash)
        # A re-read document that now names another order moves this run's revision there.
        .on_conflict_do_update(
            index_elements=["run_id"],
            set_={"order_id": order_id, "revision": revision, "content_hash": content_hash},
        )
    )
    return revision


async def _normalized(connection: AsyncConnection, run: Run, order: NormalizedOrder) -> None:
    await _update_lines(
        connection,
        run,
        [
            {
                "at": line.position,
                "name": line.name,
                "sku": line.sku,
                "gtin": line.gtin,
                "units": line.quantity,
                "unit_cost_each": line.unit_cost,
                "packs": line.packs,
            }
            for line in order.lines
        ],
    )


async def _priced(connection: AsyncConnection, run: Run, order: PricedOrder) -> None:
    await _update_lines(
        connection,
        run,
        [{"at": line.position, "price": line.price, "product_type": line.product_type} for line in order.lines],
    )


async def _update_lines(connection: AsyncConnection, run: Run, rows: list[dict[str, Any]]) -> None:
    """One round trip for all lines: the driver sends the batch as one."""
    if not rows:
        return
    statement = update(line_items).where(
        line_items.c.order_id == run.order_id,
        line_items.c.revision == run.order_revision,
        line_items.c.position == bindparam("at"),
    )
    await connection.execute(statement.values({name: bindparam(name) for name in rows[0] if name != "at"}), rows)


async def _drafts(connection: AsyncConnection, run: Run, found: Drafts) -> None:
    drafts = sorted(found.drafts, key=lambda draft: draft.id)
    variants = sorted(((draft.id, variant) for draft in drafts for variant in draft.variants), key=lambda v: v[1].id)
    for some in _batches([_draft_row(run, draft) for draft in drafts]):
        await connection.execute(insert(product_drafts).values(some).on_conflict_do_nothing())
    for rows in _batches([_variant_row(draft_id, variant) for draft_id, variant in variants]):
        await connection.execute(insert(draft_variants).values(rows).on_conflict_do_nothing())
    superseded = await _is_superseded(connection, run)
    if not superseded:  # a revision that dropped a line expects none of it any more
        mine = order_variants.c.order_id == run.order_id
        await connection.execute(update(order_variants).where(mine).values(expected=0))
    expected: Counter[str] = Counter()
    for _, variant in variants:
        expected[variant.id] += 0 if superseded else variant.plan.quantity
    rows = [
        {"order_id": run.order_id, "draft_variant_id": variant_id, "expected": units}
        for variant_id, units in sorted(expected.items())
    ]
    for some in _batches(rows):
        statement = insert(order_variants).values(some)
        expects = {"expected": order_variants.c.expected if superseded else statement.excluded.expected}
        await connection.execute(
            statement.on_conflict_do_update(index_elements=["order_id", "draft_variant_id"], set_=expects)
        )


async def _is_superseded(connection: AsyncConnection, run: Run) -> bool:
    """Whether a newer revision of the order has come as far: then that one says what is expected.

    The order's row is locked, so that of two revisions drafted together the newer has the last word.
    """
    await connection.execute(select(purchase_orders.c.id).where(purchase_orders.c.id == run.order_id).with_for_update())
    newer = await connection.scalar(
        select(order_revisions.c.revision)
        .join(stage_runs, stage_runs.c.run_id == order_revisions.c.run_id)
        .where(
            order_revisions.c.order_id == run.order_id,
            order_revisions.c.revision > (run.order_revision or 0),
            stage_runs.c.output_type == Drafts.__name__,
            stage_runs.c.state == "finished",
        )
        .limit(1)
    )
    return newer is not None


def _draft_row(run: Run, draft: Draft) -> dict[str, Any]:
    plan = draft.plan
    return {
        "id": draft.id,
        "merchant_id": run.merchant.id,
        "supplier_id": run.supplier_id,
        "product_key": plan.product_key,
        "title": plan.title,
        "description_html": plan.description_html,
        "vendor": plan.vendor,
        "product_type": plan.product_type,
        "tags": list(plan.tags),
        "option_names": list(plan.option_names),
        "first_run_id": run.id,
    }


def _variant_row(draft_id: str, variant: DraftVariant) -> dict[str, Any]:
    return {
        "id": variant.id,
        "draft_id": draft_id,
        "variant_key": variant.plan.variant_key,
        "sku": variant.plan.sku,
        "gtin": variant.plan.gtin,
        "options": variant.plan.options,
        "unit_cost": variant.plan.unit_cost,
        "price": variant.plan.price,
    }


async def _candidates(connection: AsyncConnection, run: Run, choice: ImageChoice) -> None:
    rows = [
        {
            "id": image.id,
            "draft_id": image.draft_id,
            "run_id": run.id,
            "url": image.url,
            "source": image.source,
            "position": image.position,
        }
        for image in sorted(choice.images, key=lambda image: image.id)
    ]
    for some in _batches(rows):
        await connection.execute(insert(images).values(some).on_conflict_do_nothing())


def _batches(rows: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Rows for one statement each: Postgres takes 65,535 parameters, 17 a row at most here."""
    for start in range(0, len(rows), BATCH):
        yield rows[start : start + BATCH]


async def _synced(connection: AsyncConnection, run: Run, sync: ShopSync) -> None:
    if sync.plan is not None:
        await keep_plan(connection, run.id, run.entry, sync.plan, approved_by=run.approved_by)
    products = sorted(sync.products, key=lambda product: product.draft_id)
    variants = sorted((one for product in products for one in product.variants), key=lambda one: one.draft_variant_id)
    if products:
        await connection.execute(
            update(product_drafts)
            .where(product_drafts.c.id == bindparam("draft"))
            .values(
                product_id=bindparam("product"),
                # Said when the place became known; later orders know it and say nothing.
                matched_by=func.coalesce(func.nullif(bindparam("by"), ""), product_drafts.c.matched_by),
                updated_at=func.now(),
            ),
            [{"draft": one.draft_id, "product": one.product_id, "by": one.matched_by} for one in products],
        )
    if variants:
        await connection.execute(
            update(draft_variants)
            .where(draft_variants.c.id == bindparam("draft_variant"))
            .values(variant_id=bindparam("variant"), inventory_item_id=bindparam("item")),
            [
                {"draft_variant": one.draft_variant_id, "variant": one.variant_id, "item": one.inventory_item_id}
                for one in variants
            ],
        )
        await _remember(connection, run, [one.draft_variant_id for one in variants])
    await book(connection, run.order_id, sync.stock)
    await book_shipped(connection, run.order_id, sync.shipped)
    came = [(one.shipment_id, one.inventory_item_id, one.accepted, one.rejected) for one in sync.received]
    await book_shipment(connection, came)
    if any(move.move == "announced" for move in sync.stock):
        await connection.execute(
            update(purchase_orders)
            .where(purchase_orders.c.id == run.order_id, purchase_orders.c.location_id == "")
            .values(location_id=sync.location_id)
        )
    await settle_state(connection, run.order_id, ended=sync.ended)


async def _remember(connection: AsyncConnection, run: Run, draft_variant_ids: Sequence[str]) -> None:
    """The memory: next time this supplier's article is known."""
    columns = ("supplier_id", "draft_variant_id", "sku", "gtin", "last_cost", "currency", "confirmed_by")
    source = select(
        product_drafts.c.supplier_id,
        draft_variants.c.id,
        draft_variants.c.sku,
        draft_variants.c.gtin,
        draft_variants.c.unit_cost,
        literal(run.merchant.settings.currency),
        literal(run.approved_by or BY_RULE),
    ).join(product_drafts, product_drafts.c.id == draft_variants.c.draft_id)
    statement = insert(supplier_items).from_select(
        columns, source.where(draft_variants.c.id.in_(draft_variant_ids)).order_by(draft_variants.c.id)
    )
    by_rule = statement.excluded.confirmed_by == BY_RULE
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["supplier_id", "draft_variant_id"],
            set_={
                "last_cost": statement.excluded.last_cost,
                "currency": statement.excluded.currency,
                # A rule's word does not replace a person's.
                "confirmed_by": case((by_rule, supplier_items.c.confirmed_by), else_=statement.excluded.confirmed_by),
                "confirmed_at": case((by_rule, supplier_items.c.confirmed_at), else_=func.now()),
            },
        )
    )


async def _ended(connection: AsyncConnection, run: Run, state: str, summary: str) -> None:
    await connection.execute(
        update(runs).where(runs.c.id == run.id).values(state=state, summary=summary, finished_at=func.now())
    )
    if state == "completed" and run.kind == "order":
        await connection.execute(
            update(suppliers)
            .where(suppliers.c.id == run.supplier_id)
            .values(orders_confirmed=suppliers.c.orders_confirmed + 1)
        )


async def _attached(connection: AsyncConnection, found: AttachedImages) -> None:
    if not found.images:
        return
    told = ("state", "media_id", "sha256", "phash", "width", "height", "reason")
    await connection.execute(
        update(images).where(images.c.id == bindparam("image_id")).values({name: bindparam(name) for name in told}),
        [image.model_dump() for image in sorted(found.images, key=lambda image: image.image_id)],
    )
