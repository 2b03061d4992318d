"""Large orders: their new products are created by one bulk operation, and then found like any other.

The operation only goes ahead of the single calls. Each product has its own intent in the ledger before the file is sent
and its own confirmation after it was found by custom id, so whatever becomes of the operation, the rest is as it
always is: what it made is confirmed, what it refused has its reason, what it did not get to is created singly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from pipeline.clock import Clock
from pipeline.contract import StageInput
from pipeline.domain import limits, matching
from pipeline.domain.matching import Match, Verdict
from pipeline.effects import Answer, Ledger
from pipeline.errors import AnothersTurn, VendorRefused, VendorUnavailable
from pipeline.ports import Effect, Shop, StoredDraft
from pipeline.shopkeeping.products import creation, product_key

PRODUCTS_MIN = 100
"""By single calls a hundred products cost some 2,000 points, a Standard shop's whole bucket. A bulk operation costs no
points, but a shop schedules it when it likes: for less it is the longer way."""

POLL_S = 2.0
POLL_S_MAX = 60.0
"""Then the slot is given back: the shop works on without us."""

COME_BACK_S = 20.0
CALL_MAX_S = 35.0
"""No request is under way longer than that; one that cannot be found by then was never understood."""


@dataclass(frozen=True, slots=True)
class Bulk:
    """What a bulk operation made of an order's drafts: `made` by draft id, `refused` by custom id with the reason."""

    made: Mapping[str, Match] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)


class BulkCreation:
    """Creates an order's new products at once, where there are many."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    async def create(
        self, given: StageInput, shop: Shop, stored: Sequence[StoredDraft], matches: Mapping[str, Match]
    ) -> Bulk:
        """Go ahead for an order of PRODUCTS_MIN products or more, once per entry; wait until the shop is done.

        Asked by the size of the order, not by what is still new: an operation of an attempt that died must be found.
        Raises VendorUnavailable while the shop takes its time.
        """
        if len(stored) < PRODUCTS_MIN:
            return Bulk()
        fresh = [one for one in stored if matches[one.draft.id].verdict is Verdict.CREATE]
        fresh = [one for one in fresh if not limits.beyond(one.draft.plan)]
        by_custom_id = {one.custom_id: one for one in fresh}
        name = uuid5(NAMESPACE_URL, f"{given.run.merchant.id}|{given.run.id}|{given.run.entry}").hex

        async def ask(effect: Effect) -> Answer | None:
            operation = await shop.find_bulk(name)
            if operation is not None:
                return {"operation": operation, "lines": effect.parameters["custom_ids"]}
            age_s = (self._clock.now() - effect.intended_at).total_seconds()
            if age_s < CALL_MAX_S and effect.parameters["custom_ids"]:
                raise VendorUnavailable("a bulk operation may be starting", retry_after_s=CALL_MAX_S - age_s)
            return None

        async def call(first: Mapping[str, Any]) -> Answer:
            lines = list(first["custom_ids"])
            if not lines or not by_custom_id.keys() >= set(lines):
                return {"operation": "", "lines": []}  # some were created singly meanwhile: so are the others
            given.still_ours()
            try:
                operation = await shop.start_bulk(name, [(one, by_custom_id[one].draft) for one in lines])
            except VendorRefused as refused:  # one by one, then
                return {"operation": "", "lines": [], "note": str(refused)}
            return {"operation": operation, "lines": lines}

        custom_ids = [one.custom_id for one in fresh if await self._claim(given, one)]
        parameters = {"custom_ids": custom_ids if len(custom_ids) >= PRODUCTS_MIN else []}
        key = f"bulk:{given.run.id}:{given.run.entry}"
        answer = await self._ledger.once(given, key, parameters, call=call, ask=ask)
        if not answer["operation"]:
            return Bulk()
        refused = await self._until_done(given, shop, answer["operation"])
        return Bulk(
            made=await self._found(given, shop, [by_custom_id[one] for one in answer["lines"] if one in by_custom_id]),
            refused={answer["lines"][line]: reason for line, reason in refused.items() if line < len(answer["lines"])},
        )

    async def _claim(self, given: StageInput, stored: StoredDraft) -> bool:
        """Write the product's intent; False where another order is creating the article or has created the product."""
        try:
            effect = await self._ledger.intend(given, product_key(stored), creation(stored))
        except AnothersTurn:
            return False
        return effect.state != "confirmed"

    async def _until_done(self, given: StageInput, shop: Shop, operation: str) -> Mapping[int, str]:
        deadline = self._clock.monotonic() + POLL_S_MAX
        while True:
            refused = await shop.bulk_refusals(operation)
            if refused is not None:
                return refused
            if self._clock.monotonic() >= deadline:
                raise VendorUnavailable("the shop works on a bulk operation", retry_after_s=COME_BACK_S, patient=True)
            await given.progress(0.0, "the shop creates the products")
            await self._clock.sleep(POLL_S)

    async def _found(self, given: StageInput, shop: Shop, stored: Sequence[StoredDraft]) -> dict[str, Match]:
        """The products as they are now, by custom id; without those the operation did not make."""
        found: dict[str, Match] = {}
        for done, one in enumerate(stored):
            product = await shop.find_product(one.custom_id)
            if product is not None:
                found[one.draft.id] = matching.existing(one.draft, product, "custom_id")
            await given.progress(done / len(stored), "finding the products the shop has created")
        return found
