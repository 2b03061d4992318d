"""Products: one per draft, created once, and from then on the merchant's.

A product is found again by our custom id and a variant by its options, so both may be looked up at any time.
What exists in the shop keeps every edit: it gets missing variants, our link, and costs where the merchant chose that.
What cannot be done to one product is that product's failure and nobody else's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import count
from typing import Any

from pipeline.contract import StageInput
from pipeline.domain import limits, matching
from pipeline.domain.identifiers import gtin14
from pipeline.domain.matching import Match, Verdict, match_variants
from pipeline.domain.merchant import CostPolicy
from pipeline.domain.results import Draft, SyncedProduct, SyncedVariant
from pipeline.domain.shop import ShopProduct, ShopVariant
from pipeline.effects import Answer, Ledger
from pipeline.errors import VendorRefused
from pipeline.ports import NEW_PRODUCT, Effect, Shop, StoredDraft
from pipeline.shopkeeping.costs import set_costs

CREATE = "create"
OURS = (CREATE, "custom_id")
"""How a product is recognised that we made; what it costs was said then."""

_WAYS_OUT = {
    "product_deleted": "Say `new` to create it again, or which product it is now (`match`), then approve.",
    "product_archived": "Bring it back there, or say `new` (`match`), then approve.",
    "variant_deleted": "Add it by hand, or name the product again (`match`) to have it added, then approve.",
    "several_matches": "Leave the code on one of them, or say which product it is (`match`), then approve.",
    "only_the_sku": "Say that it is that product, or `new` (`match`), then approve.",
    "sold_by_the_case": "Say `new` for a product of single units (`match`), or correct the order, then approve.",
    "options_differ": "Then approve.",
}
_MEND = "Mend that, then approve."
_NONE: Mapping[str, str] = {}


class NotPlaced(Exception):
    """One draft cannot be brought into the shop as things are; the message says why and what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def why_not_placed(draft: Draft, match: Match) -> NotPlaced | None:
    """What a person must say or mend before this draft can be brought into the shop; None when it can be."""
    if match.verdict is Verdict.UNCLEAR:
        return NotPlaced(match.code, f"{match.reason} {_WAYS_OUT.get(match.code, _MEND)}")
    problem = limits.beyond(draft.plan)
    return NotPlaced(problem.code, f"{problem.message} {_MEND}") if problem else None


class Products:
    """Brings drafts into a shop, through the ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def place(
        self, given: StageInput, shop: Shop, stored: StoredDraft, match: Match, *, refused: Mapping[str, str] = _NONE
    ) -> SyncedProduct:
        """Make sure one draft's product and all its variants are in the shop. Raises NotPlaced.

        `refused` says why a bulk operation did not create which custom ids: those are not sent again.
        Costs of what was there before are set before anything is added: afterwards nobody could tell the two apart.
        """
        draft = _with_costs_allowed(stored.draft, given.run.merchant.settings.cost_on_approve)
        if refusal := why_not_placed(stored.draft, match):
            raise refusal
        known = {one.draft_variant_id for one in stored.variants if one.variant_id}
        there = {name: one for name, one in match.variants.items() if name in known}
        answer: Answer = {"by": "place", "product_id": match.product_id, "variants": _places(there)}
        if match.by != "place":
            answer, created = await self._settle(given, shop, stored, draft, match, refused.get(stored.custom_id, ""))
            match = await _as_it_is(shop, draft, match, answer, created)
        by = answer.get("by", CREATE)
        # Of this order: another one's may have decided, with variants of the product that are not in this.
        settled = {one.id for one in draft.variants if one.id in answer["variants"]}
        if not match.variants.keys() >= settled:
            raise NotPlaced("variant_deleted", f"“{match.title}” has lost a variant. {_WAYS_OUT['variant_deleted']}")
        before = {} if by in OURS else {name: match.variants[name] for name in settled}
        await set_costs(self._ledger, given, shop, draft, before)
        # By what was known, not by what is there now: what an attempt that died has added must be confirmed, too.
        missing = [one.id for one in draft.variants if one.id not in settled]
        places = {name: [one.id, one.inventory_item_id] for name, one in match.variants.items()}
        made: Sequence[str] = ()
        if missing:
            added = await self._add_variants(given, shop, stored, draft, match.product_id, missing)
            places |= {name: place[:2] for name, place in added["variants"].items()}
            made = added.get("made", missing)
        return SyncedProduct(
            draft_id=draft.id,
            product_id=match.product_id,
            created=by == CREATE and not stored.product_id,
            matched_by="" if by in OURS or stored.product_id else by,
            variants=tuple(
                SyncedVariant(
                    draft_variant_id=one.id,
                    variant_id=places[one.id][0],
                    inventory_item_id=places[one.id][1],
                    created=one.id not in known and (one.id in made or by == CREATE),
                )
                for one in draft.variants
            ),
        )

    async def _settle(
        self, given: StageInput, shop: Shop, stored: StoredDraft, draft: Draft, match: Match, refusal: str
    ) -> tuple[Answer, ShopProduct | None]:
        """Which product the draft is: created, or one of the merchant's that gets our link. Decided once per draft.

        Returned beside the answer is the product if this very call created it.

        What was decided first holds, whatever a search finds later: it lags, and the merchant works on meanwhile.
        Even a fresh intent comes after a look by custom id: after a restored backup the ledger is younger than the
        shop, and creating again would overwrite what the merchant made of the product.
        """
        created: ShopProduct | None = None

        async def ask(effect: Effect) -> Answer | None:
            first = effect.parameters
            if first.get("by", CREATE) == CREATE and match.by == "custom_id":  # asked for a moment ago
                return {"by": CREATE, "product_id": match.product_id, "variants": _places(match.variants)}
            found = None if refusal else await shop.find_product(stored.custom_id)
            if found is None:
                return None
            if first.get("by", CREATE) == CREATE:
                return _found(draft, found)
            return _adopted(first) if found.id == first["product_id"] else None

        async def call(first: Mapping[str, Any]) -> Answer:
            nonlocal created
            by = first.get("by", CREATE)
            if by == CREATE and refusal:
                raise VendorRefused(refusal, code="refused_in_bulk")
            if by == CREATE:
                created = await shop.create_product(draft, stored.custom_id)
                return _found(draft, created)
            note = ""
            if by != "custom_id" and not first["linked"]:
                try:
                    await shop.link(first["product_id"], stored.custom_id)
                except VendorRefused as refused:  # known here by its id all the same
                    note = str(refused)
            return _adopted(first, note)

        parameters = creation(stored) | {
            "by": match.by or CREATE,
            "product_id": match.product_id,
            "variants": _places(match.variants),
            "linked": match.linked,
        }
        return await self._once(given, draft, product_key(stored), parameters, call=call, ask=ask), created

    async def _add_variants(
        self, given: StageInput, shop: Shop, stored: StoredDraft, draft: Draft, product_id: str, missing: Sequence[str]
    ) -> Answer:
        """Variants an existing product lacks. The merchant may have added one of them by hand: look first."""

        async def look() -> tuple[ShopProduct, dict[str, ShopVariant]]:
            product = await shop.find_by_id(product_id)
            if product is None:
                raise _deleted(draft)
            return product, match_variants(draft, product)

        async def ask(_effect: Effect) -> Answer | None:
            _, found = await look()
            return {"variants": _places(found)} if found.keys() >= set(missing) else None

        async def add(_parameters: Mapping[str, Any]) -> Answer:
            product, found = await look()
            lacking = [one for one in missing if one not in found]
            if problem := limits.beyond_with(product, draft, lacking):
                raise NotPlaced("beyond_limits", f"{problem} {_MEND}")
            if lacking:
                given.still_ours()
                try:
                    found = match_variants(draft, await shop.add_variants(product, draft, lacking))
                except VendorRefused:  # because somebody, or a request of ours that was late, has just added them?
                    _, found = await look()
                    if not found.keys() >= set(missing):
                        raise
                    lacking = []
            if not found.keys() >= set(missing):
                raise VendorRefused("the shop did not keep all its variants", code="variants")
            return {"variants": _places(found), "made": lacking}

        digest = hashlib.sha256("|".join(sorted(missing)).encode()).hexdigest()[:16]
        parameters = {"product_id": product_id, "draft_variant_ids": sorted(missing)}
        return await self._once(given, draft, f"variants:{stored.custom_id}:{digest}", parameters, call=add, ask=ask)

    async def _once(
        self,
        given: StageInput,
        draft: Draft,
        key: str,
        parameters: Mapping[str, Any],
        *,
        call: Callable[[Mapping[str, Any]], Awaitable[Answer]],
        ask: Callable[[Effect], Awaitable[Answer | None]],
    ) -> Answer:
        """The ledger's `once`, where a refusal is an answer too: it stands until a person re-enters the run.

        So an attempt that waits for another product's sake does not send again what was refused for good.
        """
        asked_by = [given.run.id, given.run.entry]

        def refusal(code: str, message: str) -> Answer:
            return {"refused": code, "message": message, "asked_by": asked_by}

        async def call_or_refusal(first: Mapping[str, Any]) -> Answer:
            try:
                return await call(first)
            except VendorRefused as refused:
                said = "; ".join(map(str, refused.problems)) or str(refused)
                return refusal(refused.code, f"The shop refused “{draft.plan.title}”: {said}. {_MEND}")
            except NotPlaced as failed:
                return refusal(failed.code, str(failed))

        async def ask_or_refusal(effect: Effect) -> Answer | None:
            try:
                return await ask(effect)
            except NotPlaced as failed:
                return refusal(failed.code, str(failed))

        for tries in count():
            name = f"{key}/{tries}" if tries else key
            answer = await self._ledger.once(given, name, parameters, call=call_or_refusal, ask=ask_or_refusal)
            if "refused" not in answer:
                break
            if answer["asked_by"] == asked_by:
                raise NotPlaced(answer["refused"], answer["message"])
        return answer


def product_key(stored: StoredDraft) -> str:
    """The ledger's key of what a draft becomes in the shop."""
    return f"product:{stored.custom_id}"


def creation(stored: StoredDraft) -> dict[str, Any]:
    """The parameters of a new product's intent.

    `gtins` say which articles it is about. `looked_at` are the other orders' products that were compared with it: one
    that is made meanwhile is looked at before this is. Where a person says that it is new, nobody's is.
    """
    gtins = sorted({gtin14(one.plan.gtin) for one in stored.draft.variants if one.plan.gtin})
    parameters: dict[str, Any] = {"draft_id": stored.draft.id, "title": stored.draft.plan.title, "by": CREATE}
    if gtins:
        parameters["gtins"] = gtins
    if gtins and stored.choice != NEW_PRODUCT:
        parameters["looked_at"] = list(stored.elsewhere)
    return parameters


async def _as_it_is(shop: Shop, draft: Draft, match: Match, answer: Answer, created: ShopProduct | None) -> Match:
    """The draft in the product that the ledger says it is, as the shop shows it now.

    Most often that is what was just found or made. Another attempt may have decided earlier, though, and the merchant
    may have taken our link off the product, or deleted it, before that was recorded.
    """
    product_id = str(answer["product_id"])
    if product_id == match.product_id:
        return match
    product = created or await shop.find_by_id(product_id)
    if product is None:
        raise _deleted(draft)
    places = {name: place[0] for name, place in answer["variants"].items()}
    found = matching.existing(draft, product, answer.get("by", CREATE), places)
    if found.verdict is Verdict.UNCLEAR:
        raise NotPlaced(found.code, f"{found.reason} {_WAYS_OUT.get(found.code, _MEND)}")
    return found


def _with_costs_allowed(draft: Draft, policy: CostPolicy) -> Draft:
    """The draft as it may be created: without costs where the merchant wants none written."""
    if policy is not CostPolicy.NEVER:
        return draft
    variants = tuple(
        one.model_copy(update={"plan": one.plan.model_copy(update={"unit_cost": None})}) for one in draft.variants
    )
    return draft.model_copy(update={"variants": variants})


def _found(draft: Draft, product: ShopProduct) -> Answer:
    return {"by": CREATE, "product_id": product.id, "variants": _places(match_variants(draft, product))}


def _adopted(first: Mapping[str, Any], note: str = "") -> Answer:
    """A product of the merchant's, as it was recognised first; `note` says why it carries no link of ours."""
    return {name: first[name] for name in ("by", "product_id", "variants")} | {"note": note}


def _places(variants: Mapping[str, ShopVariant]) -> dict[str, list[str]]:
    return {name: [one.id, one.inventory_item_id, one.product_id] for name, one in variants.items()}


def _deleted(draft: Draft) -> NotPlaced:
    return NotPlaced("product_deleted", f"“{draft.plan.title}” was deleted in the shop. {_WAYS_OUT['product_deleted']}")
