"""Stock: what a shop is told about quantities, each change once.

A document is not a delivery: an order only *announces* goods (`incoming`), and only a receipt makes them
sellable. What an order has in `incoming` is brought to what its revision expects, to less by a receipt, and to
what was received when a person closes or cancels it. How a total is told exactly once stands in `steps`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pipeline.clock import Clock
from pipeline.contract import Reject, StageInput
from pipeline.domain.merchant import StockPolicy
from pipeline.domain.purchase_order import DocumentKind
from pipeline.domain.results import OrderToSave, ShippedLine, ShopSync, StockMove
from pipeline.domain.standing import ENDED, OrderStanding, VariantStanding
from pipeline.effects import Ledger
from pipeline.ports import Orders, Shop, ShopFacts
from pipeline.shopkeeping import elsewhere
from pipeline.shopkeeping.native import READ_TRANSFERS, SCOPES, TRANSFER
from pipeline.shopkeeping.requests import Telling, Unit
from pipeline.shopkeeping.steps import Steps, Told, outstanding

SUPERSEDED = "a newer revision of this order was announced before; nothing was taken back"
OVER = "this order is over: nothing was announced"
LAST_WORD = 1_000_000_000
"""The revision of what is told when an order ends: later than any document's."""

DELIVERED = frozenset({DocumentKind.DELIVERY_NOTE, DocumentKind.INVOICE})
"""The only documents that may make goods sellable by themselves, and only when a person approved."""


class Stock:
    """Announces what an order expects, and takes back what never comes."""

    def __init__(self, ledger: Ledger, orders: Orders, clock: Clock) -> None:
        self._ledger = ledger
        self._orders = orders
        self._clock = clock
        self._steps = Steps(ledger, clock)

    async def announce(
        self,
        given: StageInput,
        shop: Shop,
        facts: ShopFacts,
        policy: StockPolicy,
        expected: Sequence[Unit],
        standing: OrderStanding,
        new: frozenset[str] = frozenset(),
    ) -> ShopSync:
        """Bring what the shop was told of this order to what this revision expects.

        `new` are draft variants this run has created, as far as it knows. Returned is what the order's own books
        do not hold yet, so that a revision recorded twice or told by another run's interrupted step is counted once.
        """
        revision = given.run.order_revision or 0
        if standing.state in ENDED:
            return await self.settle(given, shop, facts, standing, OVER)
        if standing.revision > revision:
            return await self.settle(given, shop, facts, standing, SUPERSEDED)
        telling = _announcement(required(given.run.order_id, "order"), facts.location_id, revision)
        if policy is StockPolicy.AVAILABLE:
            telling = replace(telling, state="available", reason="received")
        elif facts.scopes >= SCOPES:
            saved = given.find(OrderToSave)
            telling = replace(telling, state=TRANSFER, reference=saved.number if saved else "")
        wanted = to_announce(expected, standing.variants)
        target, note = await self._countable(given, shop, facts, telling, wanted, new)
        if target is None:
            return await self.settle(given, shop, facts, standing, note)
        told = await self._steps.tell(given, shop, telling, target)
        return _to_book(told, standing, "; ".join(part for part in (note, _kept_back(expected, standing)) if part))

    async def settle(
        self, given: StageInput, shop: Shop, facts: ShopFacts, standing: OrderStanding, note: str
    ) -> ShopSync:
        """Announce nothing, for the reason `note` gives; book what an attempt that died had announced all the same.

        Of an order that is over, that is taken back.
        """
        over = standing.state in ENDED
        revision = LAST_WORD if over else given.run.order_revision or 0
        telling = _announcement(required(given.run.order_id, "order"), facts.location_id, revision)
        if not await self._steps.begun(telling.series):
            return ShopSync(location_id=standing.location_id, note=note)
        told = await (
            self._take_back(given, shop, telling, standing) if over else self._steps.finish(given, shop, telling)
        )
        return _to_book(told, standing, note)

    async def announced(self, order_id: str) -> frozenset[str]:
        """The draft variants of which this order has announced units, whether that is recorded or not."""
        told, _ = await self._steps.told(_announcement(order_id, "", 0).series)
        return frozenset(name for name, unit in told.items() if unit.quantity)

    async def _countable(
        self,
        given: StageInput,
        shop: Shop,
        facts: ShopFacts,
        telling: Telling,
        target: Sequence[Unit],
        new: frozenset[str],
    ) -> tuple[Sequence[Unit] | None, str]:
        """Of the target what may be announced, and why it is less; None when goods are expected from elsewhere.

        That is asked of a person first. Who approves without having mended it chose not to announce.
        """
        told, _ = await self._steps.told(telling.series)
        more = [unit for unit in outstanding(target, told) if unit.quantity > 0]
        if not more:
            return target, ""
        seen = await elsewhere.look(shop, self._orders, given.run.merchant.id, telling.location_id, more)
        if facts.scopes & READ_TRANSFERS:
            items = [unit.inventory_item_id for unit in more if unit.draft_variant_id not in new]
            found = await shop.open_transfers(telling.location_id, items) if items else ()
            seen = replace(seen, transfers=tuple(found))
        if doubt := elsewhere.expected_elsewhere(seen, more, new, self._clock.now()):
            await self._steps.settled_by_person(given, f"announce:{given.run.order_id}", doubt)
            return None, "nothing was announced: the shop expects these goods already, from elsewhere"
        note = elsewhere.why_uncountable(more, seen)
        return elsewhere.without_uncountable(target, told, seen.uncountable(more)), note

    async def end(
        self, given: StageInput, shop: Shop, facts: ShopFacts, standing: OrderStanding, action: str
    ) -> ShopSync:
        """Take back what was announced and never came: the order is closed, or cancelled where nothing came at all."""
        order_id = required(given.run.order_id, "order")
        came = any(known.taken or known.surplus for known in standing.variants.values())
        ended = "closed" if action == "close" or came else "cancelled"
        series = _announcement(order_id, facts.location_id, LAST_WORD)
        if not await self._steps.begun(series.series):
            return ShopSync(location_id=standing.location_id, ended=ended)
        if why := why_no_stock(facts):
            raise Reject("cannot_take_back", f"what was announced cannot be taken back: {why}")
        told = await self._take_back(given, shop, series, standing)
        moves = tuple(_unrecorded(told, standing))
        return ShopSync(stock=moves, shipped=_shipped(told), location_id=told.location_id, ended=ended)

    async def _take_back(self, given: StageInput, shop: Shop, telling: Telling, standing: OrderStanding) -> Told:
        """Nothing more is expected: of what was told, what came stays."""
        telling = replace(telling, reason="movement_canceled")
        return await self._steps.tell(given, shop, telling, to_announce((), standing.variants))


def stock_policy(given: StageInput, facts: ShopFacts) -> tuple[StockPolicy, str]:
    """What this run may tell the shop about stock, and why it is less than the merchant chose."""
    chosen = given.run.merchant.settings.stock_on_approve
    if chosen is StockPolicy.RECORD:
        return StockPolicy.RECORD, "stock is only recorded here, as the settings say"
    if reason := why_no_stock(facts):
        return StockPolicy.RECORD, f"nothing was announced: {reason}"
    if chosen is StockPolicy.AVAILABLE:
        if given.get(OrderToSave).kind not in DELIVERED:
            return StockPolicy.INCOMING, "goods were announced, not made available: this document is no delivery"
        if not given.run.approved_by:
            return StockPolicy.INCOMING, "goods were announced, not made available: nobody approved this order"
    return chosen, ""


def why_no_stock(facts: ShopFacts) -> str:
    """Why stock cannot be told in this shop; empty when it can."""
    if "write_inventory" not in facts.scopes:
        return "the app may not change stock in this shop (scope write_inventory)"
    return "" if facts.location_id else facts.location_note


def to_announce(expected: Sequence[Unit], standing: Mapping[str, VariantStanding]) -> list[Unit]:
    """What the shop should have been told in all, so that `incoming` is what may still come.

    Never less than receipts have taken since, or `incoming` would turn negative; and what came without
    having been announced is here already and not to be waited for again.
    """
    wanted = {unit.draft_variant_id: unit for unit in expected}
    units: list[Unit] = []
    for name in dict.fromkeys((*wanted, *standing)):
        quantity = wanted[name].quantity if name in wanted else 0
        known = standing.get(name)
        if known is not None:
            quantity = max(quantity - known.surplus, known.taken)
        item = wanted[name].inventory_item_id if name in wanted else standing[name].inventory_item_id
        if quantity > 0:
            units.append(Unit(name, item, quantity))
    return units


def required(identifier: str | None, kind: str) -> str:
    """The id, which an earlier stage must have set. Raises Reject("missing_result")."""
    if identifier is None:
        raise Reject("missing_result", f"this run has no {kind}")
    return identifier


def _announcement(order_id: str, location_id: str, revision: int) -> Telling:
    series = f"announce:{order_id}"
    return Telling(series, "incoming", "movement_created", document_of(order_id), location_id, revision)


def _to_book(told: Told, standing: OrderStanding, note: str) -> ShopSync:
    """What was told, less what the order's books hold of it."""
    if told.newer:  # told and not recorded yet: its own run will, with all of its steps
        return ShopSync(location_id=told.location_id, note=SUPERSEDED)
    moves = _unrecorded(told, standing)
    if told.state == "available":  # sellable at once: nothing is left to receive
        moves += [move.model_copy(update={"move": "received"}) for move in moves]
    return ShopSync(stock=tuple(moves), shipped=_shipped(told), location_id=told.location_id, note=note)


def _unrecorded(told: Told, standing: OrderStanding) -> list[StockMove]:
    """What was announced and the order's books do not hold yet; negative where it was taken back."""
    fresh = [replace(unit, quantity=unit.quantity - _announced(standing, unit)) for unit in told.units]
    return [_move(unit, "announced") for unit in fresh if unit.quantity]


def _move(unit: Unit, move: str) -> StockMove:
    return StockMove(
        draft_variant_id=unit.draft_variant_id,
        inventory_item_id=unit.inventory_item_id,
        quantity=unit.quantity,
        move=move,
    )


def _shipped(told: Told) -> tuple[ShippedLine, ...]:
    return tuple(
        ShippedLine(
            shipment_id=one.id,
            transfer_id=one.transfer_id,
            inventory_item_id=item,
            quantity=quantity,
            taken_back=one.taken_back[item],
        )
        for one in told.shipments
        for item, quantity in one.items.items()
    )


def _announced(standing: OrderStanding, unit: Unit) -> int:
    known = standing.variants.get(unit.draft_variant_id)
    return 0 if known is None else known.announced


def _kept_back(expected: Sequence[Unit], standing: OrderStanding) -> str:
    """Why the shop was told less, or took back less, than the document says."""
    wanted = {unit.draft_variant_id: unit.quantity for unit in expected}
    if any(known.taken > wanted.get(name, 0) for name, known in standing.variants.items()):
        return "more was received than this revision expects; nothing of that was taken back"
    return ""


def document_of(order_id: str) -> str:
    """The order as the shop's inventory history shows it; one per call is allowed, so one per order."""
    return f"gid://po-pipeline/PurchaseOrder/{order_id}"
