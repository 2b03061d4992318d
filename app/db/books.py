"""An order's books: what was announced of each variant, what came of it, and where the order stands for that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, case, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.tables import (
    draft_variants,
    effects,
    order_revisions,
    order_variants,
    purchase_orders,
    runs,
    shipment_lines,
    shipments,
    stage_runs,
)
from pipeline import flow
from pipeline.domain.results import ShippedLine, StockMove
from pipeline.domain.standing import ENDED, PLAN, OrderStanding, Share, VariantStanding

TAKEN = order_variants.c.received + order_variants.c.rejected - order_variants.c.surplus
"""Of what was announced: units that have come since, one way or the other."""


async def standing_of(connection: AsyncConnection, order_id: str) -> OrderStanding:
    """The order's books, and what a receipt under way has been promised of them."""
    order = await connection.execute(
        select(purchase_orders.c.location_id, purchase_orders.c.state).where(purchase_orders.c.id == order_id)
    )
    location_id, state = order.one()
    found = await connection.execute(
        select(
            order_variants.c.draft_variant_id,
            draft_variants.c.inventory_item_id,
            order_variants.c.announced,
            TAKEN.label("taken"),
            order_variants.c.surplus,
        )
        .join(draft_variants, draft_variants.c.id == order_variants.c.draft_variant_id)
        .where(order_variants.c.order_id == order_id)
        .order_by(order_variants.c.draft_variant_id)
    )
    rows = found.mappings().all()
    shares = await _shares_under_way(connection, order_id)
    revision = await connection.scalar(
        select(func.max(order_revisions.c.revision))
        .join(stage_runs, stage_runs.c.run_id == order_revisions.c.run_id)
        .where(
            order_revisions.c.order_id == order_id,
            stage_runs.c.stage == flow.SYNC,
            stage_runs.c.state == "finished",
        )
    )
    found_shipments = await connection.scalars(
        select(shipments.c.id).where(shipments.c.order_id == order_id).order_by(shipments.c.created_at, shipments.c.id)
    )
    variants = {
        row["draft_variant_id"]: VariantStanding(
            inventory_item_id=row["inventory_item_id"],
            announced=row["announced"],
            taken=row["taken"] + sum(one.accepted + one.rejected for one in shares[row["draft_variant_id"]]),
            surplus=row["surplus"] + sum(one.added + one.refused for one in shares[row["draft_variant_id"]]),
        )
        for row in rows
    }
    return OrderStanding(location_id, variants, revision or 0, state, tuple(found_shipments))


async def book(connection: AsyncConnection, order_id: str | None, moves: Iterable[StockMove]) -> None:
    """Add what was moved to the order's variants."""
    by_kind: defaultdict[str, list[StockMove]] = defaultdict(list)
    for move in moves:
        by_kind[move.move].append(move)
    for kind, some in sorted(by_kind.items()):
        column = order_variants.c[kind]
        await connection.execute(
            update(order_variants)
            .where(
                order_variants.c.order_id == order_id,
                order_variants.c.draft_variant_id == bindparam("moved_variant"),
            )
            .values({column: column + bindparam("units", type_=column.type)}),
            [
                {"moved_variant": move.draft_variant_id, "units": move.quantity}
                for move in sorted(some, key=lambda move: move.draft_variant_id)
            ],
        )


async def book_shipped(connection: AsyncConnection, order_id: str | None, lines: Sequence[ShippedLine]) -> None:
    """Write which shipments announce the order's goods; a repeat writes the same."""
    for shipment_id, transfer_id in sorted({(one.shipment_id, one.transfer_id) for one in lines}):
        known = {"id": shipment_id, "order_id": order_id, "transfer_id": transfer_id}
        await connection.execute(insert(shipments).values(known).on_conflict_do_nothing())
    for one in sorted(lines, key=lambda one: (one.shipment_id, one.inventory_item_id)):
        statement = insert(shipment_lines).values(
            shipment_id=one.shipment_id,
            inventory_item_id=one.inventory_item_id,
            shipped=one.quantity,
            taken_back=one.taken_back,
        )
        written = {"shipped": one.quantity, "taken_back": one.taken_back}
        key = ["shipment_id", "inventory_item_id"]
        await connection.execute(statement.on_conflict_do_update(index_elements=key, set_=written))


async def book_shipment(connection: AsyncConnection, came: Sequence[tuple[str, str, int, int]]) -> None:
    """Add what came of shipments: (shipment, inventory item, accepted, rejected)."""
    for shipment_id, item, accepted, rejected in sorted(came):
        await connection.execute(
            update(shipment_lines)
            .where(shipment_lines.c.shipment_id == shipment_id, shipment_lines.c.inventory_item_id == item)
            .values(accepted=shipment_lines.c.accepted + accepted, rejected=shipment_lines.c.rejected + rejected)
        )


async def promised_of_shipments(
    connection: AsyncConnection, order_id: str
) -> Mapping[tuple[str, str], tuple[int, int]]:
    """What receipts under way receive of the order's shipments: (accepted, rejected) by shipment and item."""
    promised: defaultdict[tuple[str, str], tuple[int, int]] = defaultdict(lambda: (0, 0))
    for plan in await _plans_under_way(connection, order_id):
        for shipment_id, item, accepted, rejected in plan.get("shipments", ()):
            known = promised[shipment_id, item]
            promised[shipment_id, item] = (known[0] + accepted, known[1] + rejected)
    return promised


async def settle_state(connection: AsyncConnection, order_id: str | None, *, ended: str = "") -> None:
    """Where the order stands: as a person ended it, or from its own sums: approved > expected > .. > received."""
    settled = order_variants.c.received + order_variants.c.rejected
    announced, received, open_units = (
        await connection.execute(
            select(
                func.coalesce(func.sum(order_variants.c.announced), 0),
                func.coalesce(func.sum(settled), 0),
                func.coalesce(
                    func.sum(case((order_variants.c.announced > TAKEN, order_variants.c.announced - TAKEN), else_=0)),
                    0,
                ),
            ).where(order_variants.c.order_id == order_id)
        )
    ).one()
    if ended:
        state = ended
    elif received:
        state = "partially_received" if open_units else "received"
    else:
        state = "expected" if announced else "approved"
    await connection.execute(
        update(purchase_orders)
        .where(purchase_orders.c.id == order_id, purchase_orders.c.state.not_in(ENDED))
        .values(state=state, updated_at=func.now())
    )


async def _shares_under_way(connection: AsyncConnection, order_id: str) -> Mapping[str, list[Share]]:
    """How the order's receipts that are not in its books yet were parted, by draft variant."""
    shares: defaultdict[str, list[Share]] = defaultdict(list)
    for plan in await _plans_under_way(connection, order_id):
        for one in plan["shares"]:
            shares[one[0]].append(Share(*one))
    return shares


async def _plans_under_way(connection: AsyncConnection, order_id: str) -> Sequence[Mapping[str, Any]]:
    found = await connection.execute(
        select(effects.c.parameters)
        .join(runs, runs.c.id == effects.c.run_id)
        .where(
            runs.c.order_id == order_id,
            runs.c.kind == "receipt",
            or_(runs.c.due_stage == flow.SYNC, runs.c.failed_stage == flow.SYNC, runs.c.review_stage == flow.SYNC),
            runs.c.state != "cancelled",
            effects.c.key == literal(PLAN).concat(runs.c.receipt_id),
        )
    )
    return found.scalars().all()
