"""Receipts: goods a person has counted become sellable, or are expected no longer, each unit once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, replace
from typing import Any

from pipeline.clock import Clock
from pipeline.contract import Reject, StageInput
from pipeline.domain.results import ReceivedLine, ShopSync
from pipeline.domain.standing import OrderStanding, Share, moves_of, receipt_plan, share
from pipeline.effects import Answer, Ledger
from pipeline.errors import VendorRefused
from pipeline.ports import Effect, Orders, ReceiptLine, Shop, ShopFacts
from pipeline.shopkeeping import elsewhere, native
from pipeline.shopkeeping.requests import RECEIVED, Telling, Unit
from pipeline.shopkeeping.steps import Steps, outstanding
from pipeline.shopkeeping.stock import document_of, required, why_no_stock

_CAME = ("shipment_id", "inventory_item_id", "accepted", "rejected")

NO_MOVES = frozenset(
    {
        "INTERNAL_LEDGER_DOCUMENT",
        "INVALID_AVAILABLE_DOCUMENT",
        "INVALID_LEDGER_DOCUMENT",
        "INVALID_QUANTITY_DOCUMENT",
        "INVALID_QUANTITY_NAME",
        "INVALID_REASON",
        "MAXIMUM_LEDGER_DOCUMENT_URIS",
        "MOVE_QUANTITIES_FAILED",
    }
)
"""Refusals of principle: this shop does not move units from incoming to available (domain.md 2: untested live)."""


class Receiving:
    """Takes in what a receipt counted."""

    def __init__(self, ledger: Ledger, orders: Orders, clock: Clock) -> None:
        self._ledger = ledger
        self._orders = orders
        self._steps = Steps(ledger, clock)

    async def receive(
        self, given: StageInput, shop: Shop, facts: ShopFacts, lines: Sequence[ReceiptLine], standing: OrderStanding
    ) -> ShopSync:
        """Make accepted units sellable and take rejected ones off what is still expected.

        Units that were not announced (the merchant only records, or more came than was ordered) cannot be
        moved from `incoming`: they are added to `available` directly, and rejecting them changes nothing.
        """
        receipt_id = required(given.run.receipt_id, "receipt")
        order_id = required(given.run.order_id, "order")
        if why := why_no_stock(facts):
            raise Reject("cannot_receive", why)
        if any(not line.inventory_item_id for line in lines):
            raise Reject("cannot_receive", "some of these goods are not in the shop yet: approve their order first")
        parted = [_share(line, standing) for line in lines]
        await self._check_still_expected(given, shop, receipt_id, facts.location_id, parted)
        plan = await self._plan(given, shop, receipt_id, facts.location_id, parted, standing.shipments)
        where, shares = plan["location_id"], [Share(*one) for one in plan["shares"]]
        adding = Telling(f"add:{receipt_id}", "available", "received", document_of(order_id), where)
        rejecting = replace(adding, series=f"reject:{receipt_id}", state="incoming", reason="movement_canceled")
        came = [ReceivedLine.model_validate(dict(zip(_CAME, one, strict=True))) for one in plan["shipments"]]
        if plan["by_shipments"]:
            for shipment_id in dict.fromkeys(one.shipment_id for one in came):
                its_lines = [line for shipment, *line in plan["lines"] if shipment == shipment_id]
                key = f"shipment:{receipt_id}:{shipment_id}"
                await self._steps.receive(given, shop, key, {"shipment": shipment_id, "lines": its_lines})
        else:
            await self._accept(given, shop, adding, [_unit(one, one.accepted) for one in shares if one.accepted])
        await given.progress(1 / 3, "accepted goods are sellable")
        await self._steps.tell(given, shop, adding, [_unit(one, one.added) for one in shares if one.added])
        await given.progress(2 / 3, "goods nobody had announced are sellable")
        if not plan["by_shipments"]:
            less = [_unit(one, -one.rejected) for one in shares if one.rejected]
            await self._steps.tell(given, shop, rejecting, less)
        moves = tuple(move for one in shares for move in moves_of(one))
        return ShopSync(stock=moves, received=tuple(came), location_id=where)

    async def _accept(self, given: StageInput, shop: Shop, adding: Telling, units: Sequence[Unit]) -> None:
        """Announced units become sellable: in one atomic call, or where the shop knows no such move, in two.

        Once refused it stays with the two: a move that suddenly worked would count the units again. They leave
        `incoming` first, so that a death in between shows too little and oversells nothing.
        """
        receipt_id = required(given.run.receipt_id, "receipt")
        moving = replace(adding, series=f"accept:{receipt_id}", state=RECEIVED)
        leaving = replace(adding, series=f"accept-off:{receipt_id}", state="incoming", reason="movement_received")
        arriving = replace(adding, series=f"accept-on:{receipt_id}")
        moved, refusals = await self._steps.told(moving.series)
        if not refusals & NO_MOVES:
            try:
                await self._steps.tell(given, shop, moving, units)
            except VendorRefused as refused:
                if refused.code not in NO_MOVES:
                    raise
            else:
                return
            moved, _ = await self._steps.told(moving.series)
        rest = outstanding(units, moved)
        await self._steps.tell(given, shop, leaving, [replace(unit, quantity=-unit.quantity) for unit in rest])
        await self._steps.tell(given, shop, arriving, rest)

    async def _check_still_expected(
        self, given: StageInput, shop: Shop, receipt_id: str, location_id: str, parted: Sequence[Share]
    ) -> None:
        """Before the first attempt at a receipt: what it takes off `incoming` must be there, or a person is asked."""
        units = [_unit(one, one.accepted + one.rejected) for one in parted if one.accepted or one.rejected]
        if not units or await self._ledger.find(receipt_plan(receipt_id)):
            return
        seen = await elsewhere.look(shop, self._orders, given.run.merchant.id, location_id, units)
        if doubt := elsewhere.received_elsewhere(seen):
            await self._steps.settled_by_person(given, f"receive:{receipt_id}", doubt)

    async def _plan(
        self,
        given: StageInput,
        shop: Shop,
        receipt_id: str,
        location_id: str,
        shares: Sequence[Share],
        shipments: Sequence[str],
    ) -> Answer:
        """Which of the units were announced, and of which shipments they come: decided once and written down.

        A revision may move the announcement between two attempts at this receipt; the second must still
        finish what the first began, and the revision must leave to it what it is about to take.
        """

        async def decide(first: Mapping[str, Any]) -> Answer:
            return first

        async def ask(_effect: Effect) -> Answer | None:
            return None

        known = await self._ledger.find(receipt_plan(receipt_id))
        if known is not None:
            parameters = known.parameters
        else:
            parted = await native.part(shop, shipments, _by_item(shares)) if shipments else []
            parameters = {
                "location_id": location_id,
                "shares": [list(astuple(one)) for one in shares],
                "by_shipments": bool(shipments),
                "shipments": [[shipment, item, *came] for shipment, _, item, *came in parted],
                "lines": [[shipment, line, *came] for shipment, line, _, *came in parted],
            }
        return await self._ledger.once(given, receipt_plan(receipt_id), parameters, call=decide, ask=ask)


def _share(line: ReceiptLine, standing: OrderStanding) -> Share:
    known = standing.variants.get(line.draft_variant_id)
    still_open = 0 if known is None else known.open
    return share(line.draft_variant_id, line.inventory_item_id, line.accepted, line.rejected, still_open=still_open)


def _by_item(shares: Sequence[Share]) -> dict[str, tuple[int, int]]:
    """(accepted, rejected) of what was announced, by inventory item."""
    items: dict[str, tuple[int, int]] = {}
    for one in shares:
        accepted, rejected = items.get(one.inventory_item_id, (0, 0))
        items[one.inventory_item_id] = (accepted + one.accepted, rejected + one.rejected)
    return items


def _unit(one: Share, quantity: int) -> Unit:
    return Unit(one.draft_variant_id, one.inventory_item_id, quantity)
