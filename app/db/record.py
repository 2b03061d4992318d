"""Spreads a stage's result over the tables people query, inside the transaction that records it.

Everything here may run twice (a stage of a re-entered run): inserts meet what is there, sums are set and
not added, and what a merchant may have changed since is left alone. Rows are written in the order of their
ids, so two orders with the same articles wait for each other instead of locking each other out.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from typing import Any

from sqlalchemy import and_, case, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.tables import (
    draft_variants,
    images,
    line_items,
    order_revisions,
    order_variants,
    product_drafts,
    purchase_orders,
    runs,
    supplier_items,
    suppliers,
)
from pipeline.contract import Run
from pipeline.domain.results import (
    AttachedImages,
    Drafts,
    ImageChoice,
    NormalizedOrder,
    OrderToSave,
    Output,
    PricedOrder,
    RunOutcome,
    ShopSync,
)

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
    await connection.execute(
        update(purchase_orders).where(purchase_orders.c.id == order_id).values(revision=revision, **header)
    )
    for line in order.lines:
        values: dict[str, Any] = {
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
        await connection.execute(
            insert(line_items)
            .values(order_id=order_id, revision=revision, position=line.position, **values)
            .on_conflict_do_update(index_elements=["order_id", "revision", "position"], set_=values)
        )
    await connection.execute(
        update(runs)
        .where(runs.c.id == run.id)
        .values(order_id=order_id, order_revision=revision, supplier_id=supplier_id)
    )


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
    # DO UPDATE of nothing, because DO NOTHING would return no row.
    found = await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["merchant_id", "normalized_name"], set_={"normalized_name": choice.normalized_name}
        ).returning(suppliers.c.id)
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
    for line in order.lines:
        await connection.execute(
            update(line_items)
            .where(_line(run, line.position))
            .values(
                name=line.name,
                sku=line.sku,
                gtin=line.gtin,
                units=line.quantity,
                unit_cost_each=line.unit_cost,
                packs=line.packs,
            )
        )


async def _priced(connection: AsyncConnection, run: Run, order: PricedOrder) -> None:
    for line in order.lines:
        await connection.execute(
            update(line_items).where(_line(run, line.position)).values(price=line.price, product_type=line.product_type)
        )


def _line(run: Run, position: int) -> Any:
    return and_(
        line_items.c.order_id == run.order_id,
        line_items.c.revision == run.order_revision,
        line_items.c.position == position,
    )


async def _drafts(connection: AsyncConnection, run: Run, found: Drafts) -> None:
    expected: defaultdict[str, int] = defaultdict(int)
    for draft in sorted(found.drafts, key=lambda draft: draft.id):
        plan = draft.plan
        await connection.execute(
            insert(product_drafts)
            .values(
                id=draft.id,
                merchant_id=run.merchant.id,
                supplier_id=run.supplier_id,
                product_key=plan.product_key,
                title=plan.title,
                description_html=plan.description_html,
                vendor=plan.vendor,
                product_type=plan.product_type,
                tags=list(plan.tags),
                option_names=list(plan.option_names),
                first_run_id=run.id,
            )
            .on_conflict_do_nothing()
        )
        for variant in sorted(draft.variants, key=lambda variant: variant.id):
            expected[variant.id] += variant.plan.quantity
            await connection.execute(
                insert(draft_variants)
                .values(
                    id=variant.id,
                    draft_id=draft.id,
                    variant_key=variant.plan.variant_key,
                    sku=variant.plan.sku,
                    gtin=variant.plan.gtin,
                    options=variant.plan.options,
                    unit_cost=variant.plan.unit_cost,
                    price=variant.plan.price,
                )
                .on_conflict_do_nothing()
            )
    # A revision that dropped a line expects none of it any more.
    await connection.execute(update(order_variants).where(order_variants.c.order_id == run.order_id).values(expected=0))
    for variant_id, units in sorted(expected.items()):
        await connection.execute(
            insert(order_variants)
            .values(order_id=run.order_id, draft_variant_id=variant_id, expected=units)
            .on_conflict_do_update(index_elements=["order_id", "draft_variant_id"], set_={"expected": units})
        )


async def _candidates(connection: AsyncConnection, run: Run, choice: ImageChoice) -> None:
    for image in sorted(choice.images, key=lambda image: image.id):
        await connection.execute(
            insert(images)
            .values(
                id=image.id,
                draft_id=image.draft_id,
                run_id=run.id,
                url=image.url,
                source=image.source,
                position=image.position,
            )
            .on_conflict_do_nothing()
        )


async def _synced(connection: AsyncConnection, run: Run, sync: ShopSync) -> None:
    for product in sorted(sync.products, key=lambda product: product.draft_id):
        await connection.execute(
            update(product_drafts)
            .where(product_drafts.c.id == product.draft_id)
            .values(product_id=product.product_id, updated_at=func.now())
        )
        for variant in sorted(product.variants, key=lambda variant: variant.draft_variant_id):
            await connection.execute(
                update(draft_variants)
                .where(draft_variants.c.id == variant.draft_variant_id)
                .values(variant_id=variant.variant_id, inventory_item_id=variant.inventory_item_id)
            )
            await _remember(connection, run, variant.draft_variant_id)
    counted = {name: order_variants.c[name] for name in ("announced", "received", "rejected", "surplus")}
    for move in sorted(sync.stock, key=lambda move: (move.draft_variant_id, move.move)):
        column = counted[move.move]
        await connection.execute(
            update(order_variants)
            .where(
                order_variants.c.order_id == run.order_id, order_variants.c.draft_variant_id == move.draft_variant_id
            )
            .values({column: column + move.quantity})
        )
    if any(move.move == "announced" for move in sync.stock):
        await connection.execute(
            update(purchase_orders)
            .where(purchase_orders.c.id == run.order_id, purchase_orders.c.location_id == "")
            .values(location_id=sync.location_id)
        )
    await _order_state(connection, run)


async def _remember(connection: AsyncConnection, run: Run, draft_variant_id: str) -> None:
    """The memory: next time this supplier's article is known."""
    columns = ("supplier_id", "draft_variant_id", "sku", "gtin", "last_cost", "currency", "confirmed_by")
    source = select(
        product_drafts.c.supplier_id,
        draft_variants.c.id,
        draft_variants.c.sku,
        draft_variants.c.gtin,
        draft_variants.c.unit_cost,
        literal(run.merchant.settings.currency),
        literal(run.approved_by or "auto"),
    ).join(product_drafts, product_drafts.c.id == draft_variants.c.draft_id)
    statement = insert(supplier_items).from_select(columns, source.where(draft_variants.c.id == draft_variant_id))
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["supplier_id", "draft_variant_id"],
            set_={"last_cost": statement.excluded.last_cost, "currency": statement.excluded.currency},
        )
    )


async def _order_state(connection: AsyncConnection, run: Run) -> None:
    """Where the order stands, from its own sums: draft > approved > expected > .. > received."""
    mine = order_variants.c.order_id == run.order_id
    settled = order_variants.c.received + order_variants.c.rejected
    taken = settled - order_variants.c.surplus
    announced, received, open_units = (
        await connection.execute(
            select(
                func.coalesce(func.sum(order_variants.c.announced), 0),
                func.coalesce(func.sum(settled), 0),
                func.coalesce(
                    func.sum(case((order_variants.c.announced > taken, order_variants.c.announced - taken), else_=0)),
                    0,
                ),
            ).where(mine)
        )
    ).one()
    if received:
        state = "partially_received" if open_units else "received"
    else:
        state = "expected" if announced else "approved"
    await connection.execute(
        update(purchase_orders)
        .where(purchase_orders.c.id == run.order_id, purchase_orders.c.state.not_in(["closed", "cancelled"]))
        .values(state=state, updated_at=func.now())
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
    for image in sorted(found.images, key=lambda image: image.image_id):
        await connection.execute(
            update(images)
            .where(images.c.id == image.image_id)
            .values(
                state=image.state,
                media_id=image.media_id,
                sha256=image.sha256,
                width=image.width,
                height=image.height,
                reason=image.reason,
            )
        )
