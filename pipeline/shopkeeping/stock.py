"""Stock: what a shop is told about quantities, each change once.

A document is not a delivery: an order only *announces* goods (`incoming`), and only a receipt makes them
sellable. A quantity cannot be looked up, only repeated under the same idempotency key; therefore quantities
are told in numbered steps (`_tell`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from datetime import timedelta
from itertools import count
from typing import Any
from uuid import UUID, uuid5

from pipeline.clock import Clock
from pipeline.contract import Reject, StageInput
from pipeline.domain.merchant import StockPolicy
from pipeline.domain.purchase_order import DocumentKind
from pipeline.domain.results import OrderToSave, ShopSync, StockMove
from pipeline.domain.standing import OrderStanding, Share, VariantStanding, receipt_plan, share
from pipeline.effects import Answer, Ledger
from pipeline.errors import VendorRefused
from pipeline.ports import Effect, QuantityChange, ReceiptLine, Shop, ShopFacts

KEYS = UUID("5b2c8a86-6a0e-5c0b-9d55-0d3c7b6f3a11")
"""Namespace of our idempotency keys; changing it would make every repeat a new effect."""

CHANGES_MAX = 250
"""Shopify takes at most 250 entries in a list."""

SUPERSEDED = "a newer revision of this order was announced before; nothing was taken back"
KEY_TRUSTED_FOR = timedelta(hours=20)
"""How long a repeat under the same key is certainly recognised. Shopify's figure is said to be 24 hours."""

DELIVERED = frozenset({DocumentKind.DELIVERY_NOTE, DocumentKind.INVOICE})
"""The only documents that may make goods sellable by themselves, and only when a person approved."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Units of one draft variant: how many, and which inventory item they are."""

    draft_variant_id: str
    inventory_item_id: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Telling:
    """One total the shop is brought to: under which name its steps are numbered, and how a step is sent.

    `state` is the shop's quantity that changes; "received" moves units from incoming to available instead.
    """

    series: str
    state: str
    reason: str
    document: str
    location_id: str
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Told:
    """What a series has told in all, and where. `newer`: a later revision had its say before."""

    units: tuple[Unit, ...]
    location_id: str
    newer: bool = False


class Stock:
    """Announces what an order expects and takes in what a receipt counted."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    async def announce(
        self,
        given: StageInput,
        shop: Shop,
        location_id: str,
        policy: StockPolicy,
        expected: Sequence[Unit],
        standing: OrderStanding,
    ) -> ShopSync:
        """Bring what the shop was told of this order to what this revision expects.

        Returned is what the order's own books do not hold yet, so that a revision recorded twice or told by
        another run's interrupted step is counted once.
        """
        order_id = required(given.run.order_id, "order")
        if standing.revision > (given.run.order_revision or 0):
            return ShopSync(location_id=standing.location_id, note=SUPERSEDED)
        incoming = policy is StockPolicy.INCOMING
        telling = Telling(
            series=f"announce:{order_id}",
            state="incoming" if incoming else "available",
            reason="movement_created" if incoming else "received",
            document=_document(order_id),
            location_id=location_id,
            revision=given.run.order_revision or 0,
        )
        told = await self._tell(given, shop, telling, to_announce(expected, standing.variants))
        if told.newer:  # told and not recorded yet: its own run will, with all of its steps
            return ShopSync(location_id=told.location_id, note=SUPERSEDED)
        fresh = [replace(unit, quantity=unit.quantity - _announced(standing, unit)) for unit in told.units]
        moves = [_move(unit, "announced") for unit in fresh if unit.quantity]
        if not incoming:  # sellable at once: nothing is left to receive
            moves += [_move(unit, "received") for unit in fresh if unit.quantity]
        return ShopSync(stock=tuple(moves), location_id=told.location_id, note=_kept_back(expected, standing))

    async def receive(
        self, given: StageInput, shop: Shop, facts: ShopFacts, lines: Sequence[ReceiptLine], standing: OrderStanding
    ) -> ShopSync:
        """Make accepted units sellable and take rejected ones off what is still expected.

        Units that were not announced (the merchant only records, or more came than was ordered) cannot be
        moved from `incoming`: they are added to `available` directly, and rejecting them changes nothing.
        """
        receipt_id = required(given.run.receipt_id, "receipt")
        order_id = required(given.run.order_id, "order")
        if not facts.location_id or "write_inventory" not in facts.scopes:
            raise Reject("cannot_receive", why_no_stock(facts))
        if any(not line.inventory_item_id for line in lines):
            raise Reject("cannot_receive", "some of these goods are not in the shop yet: approve their order first")
        plan = await self._plan(given, receipt_id, facts.location_id, [_share(line, standing) for line in lines])
        where, shares = plan["location_id"], [Share(*one) for one in plan["shares"]]
        document = _document(order_id)
        tellings = (
            (Telling(f"accept:{receipt_id}", "received", "", document, where), [one.accepted for one in shares]),
            (Telling(f"add:{receipt_id}", "available", "received", document, where), [one.added for one in shares]),
            (
                Telling(f"reject:{receipt_id}", "incoming", "movement_canceled", document, where),
                [-one.rejected for one in shares],
            ),
        )
        for done, (telling, quantities) in enumerate(tellings, start=1):
            units = [_unit(one, quantity) for one, quantity in zip(shares, quantities, strict=True) if quantity]
            await self._tell(given, shop, telling, units)
            await given.progress(done / len(tellings), "receiving goods")
        return ShopSync(stock=tuple(move for one in shares for move in _moves(one)), location_id=where)

    async def _plan(self, given: StageInput, receipt_id: str, location_id: str, shares: Sequence[Share]) -> Answer:
        """Which of the units were announced, decided once and written down.

        A revision may move the announcement between two attempts at this receipt; the second must still
        finish what the first began, and the revision must leave to it what it is about to take.
        """

        async def decide(first: Mapping[str, Any]) -> Answer:
            return first

        async def ask(_effect: Effect) -> Answer | None:
            return None

        parameters = {"location_id": location_id, "shares": [list(astuple(one)) for one in shares]}
        return await self._ledger.once(given, receipt_plan(receipt_id), parameters, call=decide, ask=ask)

    # ----------------------------------------------------------------------------- steps

    async def _tell(self, given: StageInput, shop: Shop, telling: Telling, target: Sequence[Unit]) -> Told:
        """Tell the shop what is still missing to `target`, step by step, and return what it was told in all.

        Step n of a series is one effect and one idempotency key for ever, whoever takes it: two runs of the
        same order meet at the same step, and the second repeats the first's request (which does nothing)
        before it tells the difference in the next. A refused step stays refused (Shopify spends its key) and
        counts for nothing, so that a retry after the cause was mended has a key of its own. A series stays at
        the location it began at, and once a newer revision had its say an older one, approved late, changes
        nothing.
        """
        told: dict[str, Unit] = {}
        for step in count():
            units = outstanding(target, told)[:CHANGES_MAX]
            if not units:
                break
            parameters = _parameters(telling, units)
            answer = await self._take_step(given, shop, f"{telling.series}:{step}", parameters)
            if "refused" in answer:
                continue
            _add(told, answer["units"])
            telling = replace(telling, location_id=answer["location_id"])
            if answer["revision"] > telling.revision:
                return Told(tuple(told.values()), telling.location_id, newer=True)
        return Told(tuple(told.values()), telling.location_id)

    async def _take_step(self, given: StageInput, shop: Shop, key: str, parameters: Mapping[str, Any]) -> Answer:
        """One step through the ledger. A refusal is an answer too: it is confirmed first, then raised."""
        idempotency_key = str(uuid5(KEYS, f"{given.run.merchant.id}|{key}"))
        refusals: list[VendorRefused] = []

        async def send(first: Mapping[str, Any]) -> Answer:
            try:
                group = await _send(shop, idempotency_key, first)
            except VendorRefused as refused:
                if refused.code == "IDEMPOTENCY_KEY_PARAMETER_MISMATCH":
                    raise _unknown_outcome() from refused
                refusals.append(refused)
                return {"refused": refused.code, "message": str(refused)}
            return {"group": group, **{name: first[name] for name in ("units", "revision", "location_id")}}

        async def ask(effect: Effect) -> Answer | None:
            # The repeat is the question: inside the key's retention it answers and changes nothing.
            if self._clock.now() - effect.intended_at < KEY_TRUSTED_FOR:
                return None
            raise _unknown_outcome()

        answer = await self._ledger.once(given, key, parameters, call=send, ask=ask)
        if refusals and refusals[0].code != "IDEMPOTENCY_PREVIOUS_ATTEMPT_FAILED":
            raise refusals[0]
        return answer


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


def outstanding(target: Sequence[Unit], told: Mapping[str, Unit]) -> list[Unit]:
    """What must still be told to get from `told` to `target`; what is expected no longer is taken back."""
    wanted = {unit.draft_variant_id: unit for unit in target}
    missing: list[Unit] = []
    for name in dict.fromkeys((*wanted, *told)):
        unit = wanted.get(name) or told[name]
        quantity = wanted[name].quantity if name in wanted else 0
        quantity -= told[name].quantity if name in told else 0
        if quantity:
            missing.append(Unit(name, unit.inventory_item_id, quantity))
    return missing


def _move(unit: Unit, move: str) -> StockMove:
    return StockMove(
        draft_variant_id=unit.draft_variant_id,
        inventory_item_id=unit.inventory_item_id,
        quantity=unit.quantity,
        move=move,
    )


def _share(line: ReceiptLine, standing: OrderStanding) -> Share:
    known = standing.variants.get(line.draft_variant_id)
    still_open = 0 if known is None else known.open
    return share(line.draft_variant_id, line.inventory_item_id, line.accepted, line.rejected, still_open=still_open)


def _unit(one: Share, quantity: int) -> Unit:
    return Unit(one.draft_variant_id, one.inventory_item_id, quantity)


def _moves(one: Share) -> list[StockMove]:
    """What the order's books are told of a receipt's line."""
    counted = {
        "received": one.accepted + one.added,
        "rejected": one.rejected + one.refused,
        "surplus": one.added + one.refused,
    }
    return [_move(_unit(one, quantity), move) for move, quantity in counted.items() if quantity]


def _add(told: dict[str, Unit], units: Sequence[Sequence[Any]]) -> None:
    for name, item, quantity in units:
        before = told[name].quantity if name in told else 0
        told[name] = Unit(name, item, before + quantity)


def _parameters(telling: Telling, units: Sequence[Unit]) -> dict[str, Any]:
    """All a repeat needs to send the very same request again, as JSON. Lists, because JSONB reorders objects."""
    return {
        "state": telling.state,
        "reason": telling.reason,
        "document": telling.document,
        "location_id": telling.location_id,
        "revision": telling.revision,
        "units": [[unit.draft_variant_id, unit.inventory_item_id, unit.quantity] for unit in units],
    }


async def _send(shop: Shop, key: str, parameters: Mapping[str, Any]) -> str:
    """One request, built from stored parameters only. Two variants of one inventory item are one change."""
    items: dict[str, int] = {}
    for _, item, quantity in parameters["units"]:
        items[item] = items.get(item, 0) + quantity
    changes = [QuantityChange(item, quantity) for item, quantity in items.items()]
    document, location_id = parameters["document"], parameters["location_id"]
    if parameters["state"] == "received":
        return await shop.move(key=key, document=document, location_id=location_id, changes=changes)
    return await shop.adjust(
        key=key,
        name=parameters["state"],
        reason=parameters["reason"],
        document=document,
        location_id=location_id,
        changes=changes,
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


def why_no_stock(facts: ShopFacts) -> str:
    """Why stock cannot be told in this shop; empty when it can."""
    if "write_inventory" not in facts.scopes:
        return "the app may not change stock in this shop (scope write_inventory)"
    return "" if facts.location_id else facts.location_note


def _document(order_id: str) -> str:
    """The order as the shop's inventory history shows it; one per call is allowed, so one per order."""
    return f"gid://po-pipeline/PurchaseOrder/{order_id}"


def required(identifier: str | None, kind: str) -> str:
    """The id, which an earlier stage must have set. Raises Reject("missing_result")."""
    if identifier is None:
        raise Reject("missing_result", f"this run has no {kind}")
    return identifier


def _unknown_outcome() -> Reject:
    return Reject(
        "stock_outcome_unknown",
        "an earlier quantity change may or may not have reached the shop, and it is too late to ask: "
        "compare the inventory history of this order's products in the shop",
    )
