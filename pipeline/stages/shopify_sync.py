"""Stage 9, shopify-sync: create what is new, add what is missing, tell the shop what is coming.

What is done to products and to stock, and why so, stands in `pipeline.shopkeeping`; every change goes through
the effect ledger. Before the first of them the shop is compared with the plan that was approved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.clock import Clock
from pipeline.contract import Done, Reject, Review, StageInput, StageResult
from pipeline.domain.matching import Match
from pipeline.domain.merchant import StockPolicy
from pipeline.domain.plan import Plan, differences
from pipeline.domain.purchase_order import Doubt
from pipeline.domain.results import Draft, FailedProduct, ShopSync, SyncedProduct
from pipeline.domain.standing import OrderStanding, run_plan
from pipeline.effects import Answer, Ledger
from pipeline.errors import AnothersTurn
from pipeline.ports import Creations, DraftStore, Orders, Plans, Receipts, Shop, ShopFacts, Shops, StoredDraft
from pipeline.shopkeeping.bulk import BulkCreation
from pipeline.shopkeeping.planning import WAITS, at_its_place, read_plan, were_announced
from pipeline.shopkeeping.products import NotPlaced, Products
from pipeline.shopkeeping.receiving import Receiving
from pipeline.shopkeeping.requests import Unit
from pipeline.shopkeeping.steps import NeedsPerson
from pipeline.shopkeeping.stock import Stock, required, stock_policy
from pipeline.shopkeeping.undoing import Undo, require_right


class ShopifySync:
    """Brings the shop to what an approved order or a receipt says."""

    def __init__(
        self,
        shops: Shops,
        drafts: DraftStore,
        orders: Orders,
        receipts: Receipts,
        ledger: Ledger,
        clock: Clock,
        plans: Plans,
        creations: Creations,
    ) -> None:
        self._shops = shops
        self._drafts = drafts
        self._orders = orders
        self._receipts = receipts
        self._ledger = ledger
        self._plans = plans
        self._creations = creations
        self._products = Products(ledger)
        self._bulk = BulkCreation(ledger, clock)
        self._stock = Stock(ledger, orders, clock)
        self._receiving = Receiving(ledger, orders, clock)
        self._undo = Undo(ledger)

    async def run(self, given: StageInput) -> StageResult:
        """Create and announce for an order; receive, or take back, for a receipt."""
        shop = await self._shops.of(given.run.merchant, given.waits)
        facts = await shop.facts()
        if given.run.kind != "receipt":
            return await self._order(given, shop, facts)
        try:
            return Done(_named(await self._receipt(given, shop, facts), facts))
        except NeedsPerson as asking:
            # What was moved until then stands in the ledger, where the approved run finds it again.
            return Review((asking.doubt,))

    async def _order(self, given: StageInput, shop: Shop, facts: ShopFacts) -> StageResult:
        """Look, compare with what was approved, then apply."""
        stored = await self._drafts.of_run(given.run.id)
        now, matches = await read_plan(given, shop, facts, stored, self._orders)
        plan = await self._agree(given, now)
        if isinstance(plan, Review):
            return plan
        return await self._apply(given, shop, facts, stored, matches, plan)

    async def _agree(self, given: StageInput, now: Plan) -> Plan | Review | None:
        """Whether the plan may be applied, decided before the first write: Review when it is not what was approved.

        Returned is the plan of an order nobody approved one for (a merchant's rule did, or a person without a plan):
        as it was first read, for after an interruption part of it is done. Then only its stops are heeded.
        """
        approved = await self._plans.approved(given.run.id)
        key = run_plan(given.run.id, approved.entry if approved else None)
        if approved is None:
            if now.stops:
                raise Reject(now.stops[0].code, now.stops[0].message)
            first, _ = await self._ledger.decide(given, key, {"plan": now.model_dump(mode="json")}, lambda own: own)
            return Plan.model_validate(first["plan"])

        def compare(_own: Mapping[str, Any]) -> Answer:
            return {"changed": list(differences(approved.plan, now))}

        answer, begun = await self._ledger.decide(given, key, {"digest": approved.plan.digest}, compare)
        if answer["changed"]:
            return _look_again(answer["changed"], "Nothing was done")
        changed = differences(approved.plan, now, begun=True) if begun else ()
        return _look_again(changed, "Nothing more was done") if changed else None

    async def _apply(
        self,
        given: StageInput,
        shop: Shop,
        facts: ShopFacts,
        stored: Sequence[StoredDraft],
        matches: Mapping[str, Match],
        plan: Plan | None,
    ) -> StageResult:
        """Every product that can be placed, then what is coming of those; a product's failure is its own.

        One article nobody can place must not keep the other sixty of a delivery out of the shop. What a person mends
        is taken up by the next entry, which finds the rest done. Nor must one that another order is creating: two large
        orders that each wait for what the other has begun would otherwise never finish it.
        """
        bulk = await self._bulk.create(given, shop, stored, matches)
        matches = {**matches, **bulk.made}
        products: list[SyncedProduct] = []
        failures: list[FailedProduct] = []
        occupied: AnothersTurn | None = None
        for done, one in enumerate(stored, start=1):
            try:
                products.append(
                    await self._products.place(given, shop, one, matches[one.draft.id], refused=bulk.refused)
                )
            except NotPlaced as failed:
                failures.append(_failure(one.draft, failed))
            except AnothersTurn as waits:
                occupied = waits
            await given.progress(done / (len(stored) + 1), f"{done} of {len(stored)} products are in the shop")
        if occupied is not None:
            raise occupied
        placed = ShopSync(products=tuple(products), failures=tuple(failures), plan=plan)
        try:
            sync = _named(await self._announce(given, shop, facts, stored, placed), facts)
        except NeedsPerson as asking:
            return Review((*_doubts(placed), asking.doubt), placed.model_copy(update={"note": str(asking)}))
        sync = sync.model_copy(update={"products": placed.products, "failures": placed.failures, "plan": plan})
        return Review(_doubts(placed), sync) if placed.failures else Done(sync)

    async def _announce(
        self, given: StageInput, shop: Shop, facts: ShopFacts, stored: Sequence[StoredDraft], placed: ShopSync
    ) -> ShopSync:
        standing = await self._orders.standing(required(given.run.order_id, "order"))
        facts = at_its_place(facts, standing)
        policy, note = stock_policy(given, facts)
        if policy is StockPolicy.RECORD:
            return await self._stock.settle(given, shop, facts, standing, note)
        if placed.failures and await self._were_told(given, stored, placed, standing):
            return await self._stock.settle(given, shop, facts, standing, WAITS)
        expected = _expected(stored, placed.products)
        new = _new(stored, placed.products)
        sync = await self._stock.announce(given, shop, facts, policy, expected, standing, new)
        return sync.model_copy(update={"note": "; ".join(part for part in (note, sync.note) if part)})

    async def _were_told(
        self, given: StageInput, stored: Sequence[StoredDraft], placed: ShopSync, standing: OrderStanding
    ) -> bool:
        """Whether units of a product that failed were announced, in the books or by an attempt that died since."""
        failed = {one.draft_id for one in placed.failures}
        told = await self._stock.announced(required(given.run.order_id, "order"))
        names = {one.id for draft in stored if draft.draft.id in failed for one in draft.draft.variants}
        return were_announced(stored, failed, standing) or bool(told & names)

    async def _receipt(self, given: StageInput, shop: Shop, facts: ShopFacts) -> ShopSync:
        standing = await self._orders.standing(required(given.run.order_id, "order"))
        receipt = await self._receipts.receipt(required(given.run.receipt_id, "receipt"))
        facts = at_its_place(facts, standing)
        if receipt.action == "receive":
            return await self._receiving.receive(given, shop, facts, receipt.lines, standing)
        if receipt.action != "undo":
            return await self._stock.end(given, shop, facts, standing, receipt.action)
        creations = await self._creations.of_order(required(given.run.order_id, "order"))
        require_right(facts, creations)
        # What was received is sold perhaps by now: it stays, and with it the product.
        sync = await self._stock.end(given, shop, facts, standing, "cancel")
        undone = await self._undo.archive(given, shop, creations)
        kept = "what was received stays in stock" if sync.ended == "closed" else ""
        return sync.model_copy(update={"undone": undone, "note": "; ".join(filter(None, (sync.note, kept)))})


def _look_again(changed: Sequence[str], done: str) -> Review:
    """The order goes back to whoever approves; one reason for each thing that is not as it was."""
    messages = (f"Since this was approved: {words.rstrip('.')}. {done}; look at the new plan." for words in changed)
    return Review(tuple(Doubt(code="plan_changed", message=message) for message in messages))


def _doubts(placed: ShopSync) -> tuple[Doubt, ...]:
    return tuple(Doubt(code=one.code, message=one.message, line=one.line) for one in placed.failures)


def _failure(draft: Draft, failed: NotPlaced) -> FailedProduct:
    """Told at the product's first line of the document."""
    line = min((position for one in draft.variants for position in one.plan.positions), default=None)
    return FailedProduct(draft_id=draft.id, code=failed.code, message=str(failed), line=line)


def _named(sync: ShopSync, facts: ShopFacts) -> ShopSync:
    return sync.model_copy(update={"location_name": facts.location_names.get(sync.location_id, "")})


def _new(stored: Sequence[StoredDraft], products: Sequence[SyncedProduct]) -> frozenset[str]:
    """Draft variants whose goods nobody but us can expect: made by this run, or by one a restored backup forgot.

    What carries our custom id and is not in our books is of the second kind.
    """
    known = {one.draft.id for one in stored if one.product_id}
    return frozenset(
        one.draft_variant_id
        for product in products
        for one in product.variants
        if one.created or not (product.matched_by or product.draft_id in known)
    )


def _expected(stored: Sequence[StoredDraft], products: Sequence[SyncedProduct]) -> list[Unit]:
    items = {one.draft_variant_id: one.inventory_item_id for product in products for one in product.variants}
    variants = (variant for one in stored for variant in one.draft.variants)
    return [Unit(one.id, items[one.id], one.plan.quantity) for one in variants if one.id in items and one.plan.quantity]
