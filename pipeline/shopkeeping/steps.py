"""Numbered steps: how a total that cannot be looked up is told to a shop without ever being told twice.

A shop can be asked which products it has, but not which changes of a quantity it has made. So a series of
changes ("what order 7 announced") is kept in the ledger, one entry per request. Each entry holds the very
variables of its request and names its idempotency key; to ask whether a request arrived is to send it again
under the same key. What is told next is the difference between the total wanted and the steps told so far.

    the shop's answer                      what it means                                  what we do
    a result                               told (now, or when it was sent before)         confirm the step
    IDEMPOTENCY_CONCURRENT_REQUEST         the first sending is still at work             wait, same key
    IDEMPOTENCY_PREVIOUS_ATTEMPT_FAILED    this key was refused before                    next step, new key
    IDEMPOTENCY_KEY_PARAMETER_MISMATCH     the key was used for something else            ask a person
    no answer, the key's retention over    nobody can tell                                ask a person
    any other code                         refused, nothing changed                       confirm that, raise it
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import count
from typing import Any
from uuid import UUID, uuid5

from pipeline.clock import Clock
from pipeline.contract import StageInput
from pipeline.domain.purchase_order import Doubt
from pipeline.domain.standing import PLAN
from pipeline.effects import Answer, Ledger
from pipeline.errors import PipelineError, VendorRefused
from pipeline.ports import Effect, Shop
from pipeline.shopkeeping import native
from pipeline.shopkeeping.requests import (
    CHANGES_MAX,
    Shipment,
    Telling,
    Unit,
    build_request,
    is_new_transfer,
    question_about,
    send_request,
    units_by_item,
)

KEYS = UUID("5b2c8a86-6a0e-5c0b-9d55-0d3c7b6f3a11")
"""Namespace of our idempotency keys; changing it would make every repeat a new effect."""

REFUSALS_MAX = 20
"""New steps the shop may refuse in one attempt; a shop that calls every new key a failed one is not believed."""

KEY_TRUSTED_FOR = timedelta(hours=20)
"""How long a repeat under the same key is certainly recognised. Shopify's figure is said to be 24 hours."""

Send = Callable[[str, Mapping[str, Any]], Awaitable[Answer]]
"""A request by its idempotency key and its stored parameters."""

_SPENT = "IDEMPOTENCY_PREVIOUS_ATTEMPT_FAILED"


class NeedsPerson(PipelineError):
    """Only a person can decide; the stage ends as a review with this doubt."""

    def __init__(self, doubt: Doubt) -> None:
        super().__init__(doubt.message)
        self.doubt = doubt


@dataclass(frozen=True, slots=True)
class Told:
    """What a series has told in all, how and where. `newer`: a later revision had its say before."""

    units: tuple[Unit, ...]
    state: str
    location_id: str
    shipments: tuple[Shipment, ...] = ()
    newer: bool = False


class Steps:
    """Tells totals through the ledger."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    async def begun(self, series: str) -> bool:
        """Whether anything of that series was ever meant to be told."""
        return await self._ledger.find(_key(series, 0)) is not None

    async def told(self, series: str) -> tuple[dict[str, Unit], frozenset[str]]:
        """What the shop has confirmed of a series, by draft variant, and the codes of what it refused."""
        told: dict[str, Unit] = {}
        refused: set[str] = set()
        for step in count():
            effect = await self._ledger.find(_key(series, step))
            if effect is None:
                break
            _add(told, effect.external.get("units", ()))
            refused |= {effect.external["refused"]} if "refused" in effect.external else set()
        return told, frozenset(refused)

    async def finish(self, given: StageInput, shop: Shop, telling: Telling) -> Told:
        """Tell nothing new: what the series has told, after a step that an interrupted run left open is finished."""
        return await self.tell(given, shop, telling, None)

    async def tell(self, given: StageInput, shop: Shop, telling: Telling, target: Sequence[Unit] | None) -> Told:
        """Bring the shop from what the series has told to `target`; None: no further.

        Every step there is comes first, whoever wrote it: one that an interrupted run left open is finished,
        and only then is it known what is missing. A step of a later revision ends it: that one's say is newer.
        """
        told: dict[str, Unit] = {}
        shipments: dict[str, Shipment] = {}
        refusals = 0
        for step in count():
            key = _key(telling.series, step)
            known = await self._ledger.find(key)
            units = [] if known or target is None else outstanding(target, told)[:CHANGES_MAX]
            if known is None and not units:
                break
            parameters = await build_request(shop, telling, units, shipments) if known is None else known.parameters
            answer = await self._take(given, shop, key, parameters)
            if "refused" in answer:
                refusals += known is None
                if refusals > REFUSALS_MAX:
                    raise VendorRefused(f"the shop refuses every new key: {answer['message']}", code=_SPENT)
                continue
            _add(told, answer["units"])
            if "transfer" in answer:
                shipped = await self._ship(given, shop, key, answer)
                shipments[shipped.id] = shipped
            elif answer.get("shipment") in shipments:
                shipments[answer["shipment"]].taken_back.update(
                    {item: -by for item, by in units_by_item(answer).items()}
                )
            telling = replace(telling, state=answer["state"], location_id=answer["location_id"])
            if answer["revision"] > telling.revision:
                return Told(tuple(told.values()), telling.state, telling.location_id, newer=True)
        return Told(tuple(told.values()), telling.state, telling.location_id, tuple(shipments.values()))

    async def receive(self, given: StageInput, shop: Shop, key: str, parameters: Mapping[str, Any]) -> None:
        """Say once what came of one shipment."""

        async def send(idempotency_key: str, first: Mapping[str, Any]) -> Answer:
            return await native.receive(shop, idempotency_key, first)

        async def unknown(_key: str, first: Mapping[str, Any]) -> Answer:
            message = (
                f"What came of shipment {first['shipment']} may or may not have been told to the shop, and it is too "
                "late to ask it. Look at the shipment there, and receive it there if that is missing. Then approve: "
                "it counts as done, and nothing is sent again."
            )
            doubt = Doubt(code="stock_outcome_unknown", message=message)
            return {"assumed_by": await self.settled_by_person(given, key, doubt)}

        await self._again(given, key, parameters, send, unknown)

    async def _ship(self, given: StageInput, shop: Shop, key: str, answer: Answer) -> Shipment:
        items = units_by_item(answer)

        async def send(idempotency_key: str, first: Mapping[str, Any]) -> Answer:
            return await native.ship(shop, idempotency_key, first, given.still_ours)

        parameters = {"transfer": answer["transfer"], "items": [list(one) for one in items.items()]}
        # However long ago: `ship` looks first, and a transfer that has no shipment was not shipped.
        shipped = await self._again(given, f"{key}:ship", parameters, send, send)
        return Shipment(shipped["shipment"], answer["transfer"], items)

    async def _again(
        self, given: StageInput, key: str, parameters: Mapping[str, Any], send: Send, unknown: Send
    ) -> Answer:
        """One effect. What was refused may be tried again under a new key, once the cause is mended."""
        for attempt in count():
            known = await self._ledger.find(_key(key, attempt))
            if known is not None and "refused" in known.external:
                continue
            answer = await self._attempt(given, _key(key, attempt), parameters, send, unknown)
            if "refused" not in answer:
                return answer
        raise AssertionError  # count() does not end

    async def settled_by_person(self, given: StageInput, question: str, doubt: Doubt) -> str:
        """Who has answered this question of this run by approving it; raises NeedsPerson until somebody has.

        That it was asked stands in the ledger with the entry it was asked in; approving begins a later one.
        """

        async def ask_now(first: Mapping[str, Any]) -> Answer:
            return first

        async def never(_effect: Effect) -> None:
            return None

        key = f"{PLAN}asked:{given.run.id}:{question}"
        asked = await self._ledger.once(given, key, {"entry": given.run.entry}, call=ask_now, ask=never)
        if given.run.entry <= asked["entry"] or not given.run.approved_by:
            raise NeedsPerson(doubt)
        return given.run.approved_by

    async def _take(self, given: StageInput, shop: Shop, key: str, parameters: Mapping[str, Any]) -> Answer:
        """One step."""

        def told_as(first: Mapping[str, Any], how: Answer) -> Answer:
            return {**how, **{name: first[name] for name in ("units", "state", "revision", "location_id")}}

        async def send(idempotency_key: str, first: Mapping[str, Any]) -> Answer:
            return told_as(first, await send_request(shop, idempotency_key, key, first, given.still_ours))

        async def unknown(_key: str, first: Mapping[str, Any]) -> Answer:
            """Nobody can tell whether it happened: nothing is sent again, and a person has the last word."""
            if is_new_transfer(first):
                with suppress(VendorRefused):  # there is one, with other goods: that is a question too
                    if found := await native.find(shop, key, units_by_item(first)):
                        return told_as(first, {"transfer": found})
            doubt = await question_about(shop, first)
            return told_as(first, {"assumed_by": await self.settled_by_person(given, key, doubt)})

        return await self._attempt(given, key, parameters, send, unknown)

    async def _attempt(
        self, given: StageInput, key: str, parameters: Mapping[str, Any], send: Send, unknown: Send
    ) -> Answer:
        """One request through the ledger. A refusal is an answer too: it is confirmed first, then raised."""
        idempotency_key = str(uuid5(KEYS, f"{given.run.merchant.id}|{key}"))
        refusals: list[VendorRefused] = []

        async def call(first: Mapping[str, Any]) -> Answer:
            try:
                return await send(idempotency_key, first)
            except VendorRefused as refused:
                if refused.code == native.MISMATCH:
                    return await unknown(idempotency_key, first)
                refusals.append(refused)
                return {"refused": refused.code, "message": str(refused)}

        async def ask(effect: Effect) -> Answer | None:
            # The repeat is the question: inside the key's retention it answers and changes nothing.
            if self._clock.now() - effect.intended_at < KEY_TRUSTED_FOR:
                return None
            return await unknown(idempotency_key, effect.parameters)

        answer = await self._ledger.once(given, key, parameters, call=call, ask=ask)
        if refusals and refusals[0].code != _SPENT:
            raise refusals[0]
        return answer


def outstanding(target: Sequence[Unit], told: Mapping[str, Unit]) -> list[Unit]:
    """What must still be told to get from `told` to `target`; what is expected no longer is taken back.

    What was told of another item than the wanted one went with it: its product was deleted, and made anew.
    """
    wanted = {unit.draft_variant_id: unit for unit in target}
    missing: list[Unit] = []
    for name in dict.fromkeys((*wanted, *told)):
        unit = wanted.get(name) or told[name]
        quantity = wanted[name].quantity if name in wanted else 0
        if name in told and told[name].inventory_item_id == unit.inventory_item_id:
            quantity -= told[name].quantity
        if quantity:
            missing.append(replace(unit, quantity=quantity))
    return missing


def _key(series: str, step: int) -> str:
    return f"{series}:{step}"


def _add(told: dict[str, Unit], units: Sequence[Sequence[Any]]) -> None:
    for name, item, quantity in units:
        before = told[name].quantity if name in told and told[name].inventory_item_id == item else 0
        told[name] = Unit(name, item, before + quantity)
