"""Receiving: what a person counted, checked against what was announced, becomes a run of its own.

A document is not a delivery. Units become sellable only here, by a receipt (kind `receipt`, stages shopify-sync
and status-update), one open per order: two people unpacking the same boxes must not count them twice. That
nothing more will come is said the same way, by a receipt without lines that ends the order.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import and_, func, select
from sqlalchemy.dialects.postgresql import insert

from app.db.books import book, book_shipment, promised_of_shipments, settle_state, standing_of
from app.db.errors import ConflictError, InvalidError, NotFoundError
from app.db.journal import restore
from app.db.tables import (
    audit,
    draft_variants,
    effects,
    order_revisions,
    order_variants,
    purchase_orders,
    receipt_lines,
    receipts,
    runs,
    shipment_lines,
    shipments,
    stage_runs,
)
from app.db.unbooked import Unbooked, find_unbooked
from pipeline import flow
from pipeline.domain.results import Drafts
from pipeline.domain.standing import ENDED, PLAN, OrderStanding, Share, moves_of, share
from pipeline.run_store import NextJob

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, RowMapping
    from sqlalchemy.ext.asyncio import AsyncConnection

UNITS_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Units:
    """What came of one line: units taken into stock, units sent back or broken."""

    accepted: int
    rejected: int = 0


Delivered = Mapping[str, Units] | Literal["all"]
"""By line: its SKU, GTIN, variant id or position in the document. "all": whatever is still open came, and came well."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """A receipt as entered: its job, its run's row for the audit, and what was counted."""

    id: str
    next: NextJob
    run: dict[str, Any]
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Line:
    """One variant of the order, with the units announced and not yet accounted for."""

    variant_id: str
    sku: str
    gtin: str
    open: int
    positions: tuple[int, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return (self.sku, self.gtin, self.variant_id)

    @property
    def label(self) -> str:
        return self.sku or self.gtin or self.variant_id


Ending = Literal["close", "cancel"]
"""close: the rest never comes. cancel: the order itself is off; where goods have come already, it is closed."""


@dataclass(frozen=True, slots=True)
class ReceivedInAdmin:
    """What the shop says came of one inventory item of a shipment in all, whoever received it."""

    inventory_item_id: str
    accepted: int
    rejected: int


async def receive(
    connection: AsyncConnection, order_id: str, who: str, delivered: Delivered, *, allow_over: bool
) -> Receipt:
    """Write the receipt, its lines and its run. The order's row lock makes people take turns."""
    order = await _locked_order(connection, order_id)
    if order["state"] in ENDED:
        raise ConflictError(f"order {order['number'] or order_id} is {order['state']}: nothing more can be received")
    await refuse_second_receipt(connection, order_id)
    lines = await _lines(connection, order)
    counted = _everything_open(lines) if delivered == "all" else _matched(lines, delivered)
    _check(lines, counted, allow_over=allow_over)
    return await _write(connection, order, who, "receive", counted)


async def end(connection: AsyncConnection, order_id: str, who: str, action: Ending) -> Receipt:
    """Write the receipt that ends an order: what is still announced is taken back, and nothing more is received.

    Also of an order whose only run was cancelled, or failed, with something announced that no books hold.
    """
    order = await _locked_order(connection, order_id)
    name = order["number"] or order_id
    if order["state"] in ENDED:
        raise ConflictError(f"order {name} is {order['state']} already")
    if order["state"] == "draft":
        await _refuse_while_at_work(connection, order)
        await _refuse_if_unsent(connection, order)
    await refuse_second_receipt(connection, order_id)
    return await _write(connection, order, who, action, {})


@dataclass(frozen=True, slots=True)
class UndoneBefore:
    """Somebody has undone the order already; there is nothing left to do."""

    number: str
    who: str
    at: datetime


async def undo(connection: AsyncConnection, order_id: str, who: str) -> Receipt | UndoneBefore:
    """Write the receipt that ends an order and archives what it created and nobody touched since.

    Also of an order whose run failed half-way, and of one that was closed or cancelled before: its products are
    still there. Not while a run of it is at work, which would create more behind the undo's back.
    """
    order = await _locked_order(connection, order_id)
    name = order["number"] or order_id
    found = await connection.execute(
        select(receipts.c.entered_by, receipts.c.created_at)
        .join(runs, runs.c.id == receipts.c.run_id)
        .where(receipts.c.order_id == order_id, receipts.c.action == "undo", runs.c.state == "completed")
        .limit(1)
    )
    if before := found.one_or_none():
        return UndoneBefore(name, before.entered_by, before.created_at)
    await refuse_second_receipt(connection, order_id)
    await _refuse_while_at_work(connection, order)
    if order["state"] == "draft":
        await _refuse_if_unsent(connection, order)
    return await _write(connection, order, who, "undo", {})


async def take_over_shipment(
    connection: AsyncConnection, merchant_id: str, shipment_id: str, lines: Sequence[ReceivedInAdmin]
) -> str | Unbooked | None:
    """Count what a person received in the shop's admin of a shipment we announced goods by; sends nothing.

    `lines` say what came of the shipment in all, so that a message that comes twice, or is about what we received
    ourselves, counts nothing. What a receipt under way is about to receive is its own to count. Returned is the
    order; Unbooked while no order's books hold the shipment and some may; None when it is none of ours.
    """
    order_id = await _order_of(connection, merchant_id, shipment_id)
    if order_id is None:
        items = [line.inventory_item_id for line in lines]
        unbooked = await find_unbooked(connection, merchant_id, shipment_id, items)
        if unbooked is None:
            return None
        order_id = await _order_of(connection, merchant_id, shipment_id)  # recorded between the two looks
        if order_id is None:
            return unbooked
    await _locked_order(connection, order_id)
    standing = await standing_of(connection, order_id)
    fresh = [one for line in lines if (one := await _uncounted(connection, order_id, shipment_id, line))]
    shares = [part for one in fresh for part in _parts(one, standing)]
    await book(connection, order_id, (move for one in shares for move in moves_of(one)))
    await book_shipment(connection, [(shipment_id, one.inventory_item_id, one.accepted, one.rejected) for one in fresh])
    await settle_state(connection, order_id)
    if fresh:
        counted = [{"item": one.inventory_item_id, "accepted": one.accepted, "rejected": one.rejected} for one in fresh]
        details = {"shipment": shipment_id, "lines": counted}
        await connection.execute(
            insert(audit).values(who="the shop's admin", action="receive", order_id=order_id, details=details)
        )
    return order_id


async def _order_of(connection: AsyncConnection, merchant_id: str, shipment_id: str) -> str | None:
    """The merchant's order whose books hold the shipment."""
    order_id: str | None = await connection.scalar(
        select(shipments.c.order_id)
        .join(purchase_orders, purchase_orders.c.id == shipments.c.order_id)
        .where(shipments.c.id == shipment_id, purchase_orders.c.merchant_id == merchant_id)
    )
    return order_id


async def _uncounted(
    connection: AsyncConnection, order_id: str, shipment_id: str, line: ReceivedInAdmin
) -> ReceivedInAdmin | None:
    """What of a line neither the books nor a receipt under way count yet."""
    found = await connection.execute(
        select(
            shipment_lines.c.accepted, (shipment_lines.c.rejected + shipment_lines.c.taken_back).label("rejected")
        ).where(
            shipment_lines.c.shipment_id == shipment_id,
            shipment_lines.c.inventory_item_id == line.inventory_item_id,
        )
    )
    row = found.one_or_none()
    if row is None:
        return None
    promised = (await promised_of_shipments(connection, order_id))[shipment_id, line.inventory_item_id]
    accepted = max(0, line.accepted - row.accepted - promised[0])
    rejected = max(0, line.rejected - row.rejected - promised[1])
    return ReceivedInAdmin(line.inventory_item_id, accepted, rejected) if accepted or rejected else None


def _parts(came: ReceivedInAdmin, standing: OrderStanding) -> list[Share]:
    """Units of one inventory item, parted among the order's variants of it: what is open first, the rest as surplus."""
    variants = [
        (name, one) for name, one in standing.variants.items() if one.inventory_item_id == came.inventory_item_id
    ]
    shares: list[Share] = []
    accepted, rejected = came.accepted, came.rejected
    for position, (name, known) in enumerate(variants, start=1):
        is_last = position == len(variants)
        some = accepted if is_last else min(accepted, known.open)
        others = rejected if is_last else min(rejected, known.open - some)
        accepted, rejected = accepted - some, rejected - others
        shares.append(share(name, came.inventory_item_id, some, others, still_open=known.open))
    return shares


async def refuse_second_receipt(connection: AsyncConnection, order_id: str, *, but: str = "") -> None:
    """One at a time: a failed receipt may have moved units already, so it is settled before the next begins."""
    found = await connection.execute(
        select(runs.c.id, runs.c.state).where(
            runs.c.order_id == order_id,
            runs.c.kind == "receipt",
            runs.c.state.in_(["running", "failed", "needs_review"]),
            runs.c.id != but,
        )
    )
    open_one = found.mappings().first()
    if open_one is not None:
        way_out = {"running": "wait for it", "failed": "retry or cancel it", "needs_review": "approve or cancel it"}
        state = open_one["state"]
        raise ConflictError(f"another receipt of this order (run {open_one['id']}) is {state}: {way_out[state]} first")


async def _locked_order(connection: AsyncConnection, order_id: str) -> RowMapping:
    found = await connection.execute(
        select(purchase_orders).where(purchase_orders.c.id == order_id).with_for_update(of=purchase_orders)
    )
    order = found.mappings().one_or_none()
    if order is None:
        raise NotFoundError(f"there is no order {order_id}")
    return order


async def _refuse_while_at_work(connection: AsyncConnection, order: RowMapping) -> None:
    """A run that goes on would create and announce more behind the back of what ends its order."""
    busy = await connection.scalar(
        select(runs.c.id).where(_runs_of(order), runs.c.due_stage.is_not(None)).order_by(runs.c.id).limit(1)
    )
    if busy is not None:
        name = order["number"] or order["id"]
        raise ConflictError(f"run {busy} of order {name} is at work: wait for it, or cancel it first")


async def _refuse_if_unsent(connection: AsyncConnection, order: RowMapping) -> None:
    """Where the ledger holds nothing but decisions, nothing of the order can be in the shop."""
    sent = await connection.scalar(
        select(effects.c.key)
        .join(runs, runs.c.id == effects.c.run_id)
        .where(_runs_of(order), ~effects.c.key.startswith(PLAN))
        .limit(1)
    )
    if sent is None:
        name = order["number"] or order["id"]
        raise ConflictError(f"nothing of order {name} is in the shop yet: cancel its run instead")


def _runs_of(order: RowMapping) -> ColumnElement[bool]:
    return and_(runs.c.order_id == order["id"], runs.c.kind == "order")


async def _lines(connection: AsyncConnection, order: RowMapping) -> list[_Line]:
    positions = await _positions(connection, order)
    found = await connection.execute(
        select(
            draft_variants.c.id,
            draft_variants.c.sku,
            draft_variants.c.gtin,
            order_variants.c.announced
            - (order_variants.c.received + order_variants.c.rejected - order_variants.c.surplus),
        )
        .join(draft_variants, draft_variants.c.id == order_variants.c.draft_variant_id)
        .where(order_variants.c.order_id == order["id"])
        .order_by(draft_variants.c.id)
    )
    return [
        _Line(variant_id, sku, gtin, max(0, still_open), positions.get(variant_id, ()))
        for variant_id, sku, gtin, still_open in found
    ]


async def _positions(connection: AsyncConnection, order: RowMapping) -> dict[str, tuple[int, ...]]:
    """The document's line numbers by variant, as the order's latest revision was drafted."""
    found = await connection.execute(
        select(stage_runs.c.output_type, stage_runs.c.output)
        .join(order_revisions, order_revisions.c.run_id == stage_runs.c.run_id)
        .where(
            order_revisions.c.order_id == order["id"],
            order_revisions.c.revision == order["revision"],
            stage_runs.c.output_type == Drafts.__name__,
            stage_runs.c.state == "finished",
        )
        .order_by(stage_runs.c.entry.desc())
        .limit(1)
    )
    row = found.one_or_none()
    drafts = restore(*row) if row else None
    if not isinstance(drafts, Drafts):
        return {}
    return {variant.id: variant.plan.positions for draft in drafts.drafts for variant in draft.variants}


def _everything_open(lines: Iterable[_Line]) -> dict[str, Units]:
    return {line.variant_id: Units(line.open) for line in lines if line.open}


def _matched(lines: list[_Line], delivered: Mapping[str, Units]) -> dict[str, Units]:
    """What was counted, by variant; two names for one variant add up."""
    counted: defaultdict[str, Units] = defaultdict(lambda: Units(0))
    for name, units in delivered.items():
        line = _find(lines, name.strip())
        known = counted[line.variant_id]
        counted[line.variant_id] = Units(known.accepted + units.accepted, known.rejected + units.rejected)
    return dict(counted)


def _find(lines: list[_Line], name: str) -> _Line:
    """The line of that name. What is printed on the goods goes before a line number."""
    found = [line for line in lines if name and name in line.names]
    if not found and name.isdecimal():
        found = [line for line in lines if int(name) in line.positions]
    match found:
        case [line]:
            return line
        case []:
            raise InvalidError(
                f"the order has no line {name}; it has {', '.join(line.label for line in lines) or 'none'}"
            )
        case _:
            ids = ", ".join(line.variant_id for line in found)
            raise InvalidError(f"{name} names {len(found)} variants of this order; use one of their ids: {ids}")


def _check(lines: list[_Line], counted: Mapping[str, Units], *, allow_over: bool) -> None:
    if any(not 0 <= number <= UNITS_MAX for units in counted.values() for number in (units.accepted, units.rejected)):
        raise InvalidError(f"units are whole numbers from 0 to {UNITS_MAX:,}")
    if not any(units.accepted or units.rejected for units in counted.values()):
        raise ConflictError("nothing to receive: no line has units that were announced and not yet received")
    over = [
        f"{line.label}: {units.accepted + units.rejected} counted, {line.open} open"
        for line in lines
        if (units := counted.get(line.variant_id)) and units.accepted + units.rejected > line.open
    ]
    if over and not allow_over:
        raise ConflictError(f"more than was announced ({'; '.join(over)}): confirm the over-receipt if that is right")


async def _write(
    connection: AsyncConnection, order: RowMapping, who: str, action: str, counted: Mapping[str, Units]
) -> Receipt:
    receipt_id, run_id = str(uuid.uuid4()), str(uuid.uuid4())
    job = NextJob(run_id, flow.ENTRY_OF_KIND["receipt"], 0, f"receipt_{receipt_id}")
    run = {
        "id": run_id,
        "merchant_id": order["merchant_id"],
        "kind": "receipt",
        "workflow_id": job.workflow_id,
        "order_id": order["id"],
        "order_revision": order["revision"],
        "supplier_id": order["supplier_id"],
        "receipt_id": receipt_id,
        "state": "running",
        "due_stage": job.stage,
        "job_id": job.job_id,
        "fence": 1,
    }
    lines = [
        {"receipt_id": receipt_id, "draft_variant_id": variant, "accepted": units.accepted, "rejected": units.rejected}
        for variant, units in sorted(counted.items())
        if units.accepted or units.rejected
    ]
    await connection.execute(insert(runs).values(**run, due_since=func.now()))
    await connection.execute(
        insert(receipts).values(id=receipt_id, order_id=order["id"], run_id=run_id, action=action, entered_by=who)
    )
    if lines:
        await connection.execute(insert(receipt_lines), lines)
    return Receipt(receipt_id, job, run, {"receipt_id": receipt_id, "lines": lines})
