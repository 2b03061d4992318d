"""Stage 9, shopify-sync: create what is new, add what is missing, tell the shop what is coming.

What is done to products and to stock, and why so, stands in `pipeline.shopkeeping`; every change goes through
the effect ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pipeline.clock import Clock
from pipeline.contract import Done, Reject, Review, StageInput, StageResult
from pipeline.domain.merchant import StockPolicy
from pipeline.domain.purchase_order import Doubt
from pipeline.domain.results import Draft, FailedProduct, ShopSync, SyncedProduct
from pipeline.domain.standing import OrderStanding
from pipeline.effects import Ledger
from pipeline.ports import DraftStore, Orders, Receipts, Shop, ShopFacts, Shops, StoredDraft
from pipeline.shopkeeping.finding import find_matches
from pipeline.shopkeeping.products import NotPlaced, Products
from pipeline.shopkeeping.steps import NeedsPerson, Unit
from pipeline.shopkeeping.stock import Stock, required, stock_policy

WAITS = "no quantities were told: a product whose goods were announced before needs a person first"


class ShopifySync:
    """Brings the shop to what an approved order or a receipt says."""

    def __init__(
        self, shops: Shops, drafts: DraftStore, orders: Orders, receipts: Receipts, ledger: Ledger, clock: Clock
    ) -> None:
        self._shops = shops
        self._drafts = drafts
        self._orders = orders
        self._receipts = receipts
        self._products = Products(ledger)
        self._stock = Stock(ledger, clock)

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
        """Every product that can be placed, then what is coming of those; a product's failure is its own.

        One article nobody can place must not keep the other sixty of a delivery out of the shop. What a person mends
        is taken up by the next entry, which finds the rest done.
        """
        _check_products_allowed(given, facts)
        stored = await self._drafts.of_run(given.run.id)
        matches = await find_matches(shop, stored, given.progress)
        products: list[SyncedProduct] = []
        failures: list[FailedProduct] = []
        for done, one in enumerate(stored, start=1):
            try:
                products.append(await self._products.place(given, shop, one, matches[one.draft.id]))
            except NotPlaced as failed:
                failures.append(_failure(one.draft, failed))
            await given.progress(done / (len(stored) + 1), f"{done} of {len(stored)} products are in the shop")
        placed = ShopSync(products=tuple(products), failures=tuple(failures))
        try:
            sync = await self._announce(given, shop, facts, stored, placed)
        except NeedsPerson as asking:
            return Review((*_doubts(placed), asking.doubt), placed.model_copy(update={"note": str(asking)}))
        sync = _named(sync, facts).model_copy(update={"products": placed.products, "failures": placed.failures})
        return Review(_doubts(placed), sync) if placed.failures else Done(sync)

    async def _announce(
        self, given: StageInput, shop: Shop, facts: ShopFacts, stored: Sequence[StoredDraft], placed: ShopSync
    ) -> ShopSync:
        standing = await self._orders.standing(required(given.run.order_id, "order"))
        facts = _at_its_place(facts, standing)
        policy, note = stock_policy(given, facts)
        if policy is StockPolicy.RECORD:
            return ShopSync(note=note)
        if _were_announced(stored, placed, standing):
            return ShopSync(note=WAITS)
        expected = _expected(stored, placed.products)
        sync = await self._stock.announce(given, shop, facts.location_id, policy, expected, standing)
        return sync.model_copy(update={"note": "; ".join(part for part in (note, sync.note) if part)})

    async def _receipt(self, given: StageInput, shop: Shop, facts: ShopFacts) -> ShopSync:
        standing = await self._orders.standing(required(given.run.order_id, "order"))
        receipt = await self._receipts.receipt(required(given.run.receipt_id, "receipt"))
        facts = _at_its_place(facts, standing)
        if receipt.action == "receive":
            return await self._stock.receive(given, shop, facts, receipt.lines, standing)
        return await self._stock.end(given, shop, facts, standing, receipt.action)


def _doubts(placed: ShopSync) -> tuple[Doubt, ...]:
    return tuple(Doubt(code=one.code, message=one.message, line=one.line) for one in placed.failures)


def _failure(draft: Draft, failed: NotPlaced) -> FailedProduct:
    """Told at the product's first line of the document."""
    line = min((position for one in draft.variants for position in one.plan.positions), default=None)
    return FailedProduct(draft_id=draft.id, code=failed.code, message=str(failed), line=line)


def _were_announced(stored: Sequence[StoredDraft], placed: ShopSync, standing: OrderStanding) -> bool:
    """Whether units of a product that failed were announced before.

    Without them the shop would be told that they come no more, or, if the product is gone, refuse the whole change.
    """
    failed = {one.draft_id for one in placed.failures}
    names = {one.id for draft in stored if draft.draft.id in failed for one in draft.draft.variants}
    return any(standing.variants[name].announced for name in names if name in standing.variants)


def _check_products_allowed(given: StageInput, facts: ShopFacts) -> None:
    if "write_products" not in facts.scopes:
        raise Reject("missing_scope", "the app may not create products in this shop: grant it write_products")
    currency = given.run.merchant.settings.currency
    if facts.currency != currency:
        message = f"the shop sells in {facts.currency} but the settings say {currency}: prices would be wrong"
        raise Reject("currency_mismatch", message)


def _named(sync: ShopSync, facts: ShopFacts) -> ShopSync:
    return sync.model_copy(update={"location_name": facts.location_names.get(sync.location_id, "")})


def _at_its_place(facts: ShopFacts, standing: OrderStanding) -> ShopFacts:
    """An order stays where it was announced, whatever location the merchant chose for others since."""
    return replace(facts, location_id=standing.location_id or facts.location_id)


def _expected(stored: Sequence[StoredDraft], products: Sequence[SyncedProduct]) -> list[Unit]:
    items = {one.draft_variant_id: one.inventory_item_id for product in products for one in product.variants}
    variants = (variant for one in stored for variant in one.draft.variants)
    return [Unit(one.id, items[one.id], one.plan.quantity) for one in variants if one.id in items and one.plan.quantity]
