"""One merchant's books and ledger around stage 9, with the sandbox as the shop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from app.adapters.shops import Shops
from pipeline.clock import SystemClock
from pipeline.contract import Done, Review, StageInput
from pipeline.domain.purchase_order import DocumentKind, Doubt
from pipeline.domain.results import Draft, OrderToSave, ShopSync, SupplierChoice, SyncedProduct
from pipeline.domain.standing import VariantStanding
from pipeline.effects import Ledger
from pipeline.ports import ReceiptLine, StoredDraft, StoredVariant
from pipeline.stages.shopify_sync import ShopifySync
from tests.sandbox_shop import (
    Books,
    DraftsOf,
    Effects,
    SandboxShop,
    make_draft,
    make_given,
    unplaced,
)

INCOMING = {"mug-S": 10, "mug-L": 4}
"""What the shop waits for once the order of `world` is announced."""


@dataclass
class World:
    """One merchant's books and ledger, and workers that come and go."""

    shops: Shops
    effects: Effects = field(default_factory=Effects)
    books: Books = field(init=False)
    given: StageInput = field(default_factory=lambda: make_given("shopify-sync"))

    async def sync(self, reach: Callable[[str], None] = lambda _gap: None) -> ShopSync:
        """One attempt by a new worker."""
        result = await self.stage(reach).run(self.given)
        assert isinstance(result, Done | Review)
        assert isinstance(result.output, ShopSync)
        return result.output

    def __post_init__(self) -> None:
        self.books = Books(effects=self.effects)

    async def review(self) -> tuple[Doubt, ...]:
        """One attempt by a new worker that must end with a question to a person."""
        result = await self.stage().run(self.given)
        assert isinstance(result, Review)
        return result.doubts

    def approve(self) -> None:
        """A person has read the question."""
        run = replace(self.given.run, entry=self.given.run.entry + 1, approved_by="ann")
        self.given = replace(self.given, run=run)

    def stage(self, reach: Callable[[str], None] = lambda _gap: None) -> ShopifySync:
        ledger = Ledger(self.effects, reach)
        return ShopifySync(
            self.shops, DraftsOf(self.books), self.books, self.books, ledger, SystemClock(), self.books, self.books
        )

    def record(self, output: ShopSync) -> None:
        """What the recorder does with the result."""
        if self.given.run.kind == "order":
            self.books.revision = max(self.books.revision, self.given.run.order_revision or 0)
        for move in output.stock:
            known = self.books.standings.get(move.draft_variant_id, VariantStanding(move.inventory_item_id, 0))
            if move.move == "announced":
                known = replace(known, announced=known.announced + move.quantity)
                self.books.location_id = self.books.location_id or output.location_id
            elif move.move == "surplus":
                known = replace(known, taken=known.taken - move.quantity, surplus=known.surplus + move.quantity)
            else:
                known = replace(known, taken=known.taken + move.quantity)
            self.books.standings[move.draft_variant_id] = known
        self.books.state = output.ended or self.books.state
        self.books.shipments = list(
            dict.fromkeys((*self.books.shipments, *(one.shipment_id for one in output.shipped)))
        )
        if not output.products:
            return
        products = {one.draft_id: one for one in output.products}
        self.books.drafts = [
            _placed(one, products[one.draft.id]) if one.draft.id in products else one for one in self.books.drafts
        ]

    def order(self, *drafts: Draft, revision: int = 1, run: str = "run-1") -> None:
        """The next document: what is known of its drafts' places stays known."""
        known = {one.draft_variant_id: one for stored in self.books.drafts for one in stored.variants}
        products = {stored.draft.id: stored.product_id for stored in self.books.drafts}
        self.books.drafts = [
            StoredDraft(
                draft,
                products.get(draft.id, ""),
                tuple(known.get(one.id, StoredVariant(one.id, one.plan.variant_key, "", "")) for one in draft.variants),
            )
            for draft in drafts
        ]
        run_now = replace(self.given.run, kind="order", receipt_id=None, order_revision=revision, id=run)
        self.given = replace(self.given, run=run_now)

    def receive(self, receipt_id: str, **accepted_rejected: tuple[int, int]) -> None:
        """A person counted what came; keyword `S=(8, 2)` is eight good and two broken of that size."""
        stored = self.books.drafts[0]
        items = {one.draft_variant_id: one.inventory_item_id for one in stored.variants}
        self.books.action = "receive"
        self.books.lines = [
            ReceiptLine(one.id, items[one.id], *accepted_rejected[one.plan.options["Size"]])
            for one in stored.draft.variants
            if one.plan.options["Size"] in accepted_rejected
        ]
        run = replace(self.given.run, kind="receipt", receipt_id=receipt_id, id=f"run-{receipt_id}")
        self.given = replace(self.given, run=run)

    def end(self, action: str, receipt_id: str = "ending-1") -> None:
        """A person says that nothing more will come."""
        self.books.action, self.books.lines = action, []
        run = replace(self.given.run, kind="receipt", receipt_id=receipt_id, id=f"run-{receipt_id}")
        self.given = replace(self.given, run=run)


def delivery_note(kind: str = "delivery_note") -> OrderToSave:
    """A document of that kind, as stage 2 saves it."""
    return OrderToSave(
        supplier=SupplierChoice(id=None, name="Acme", normalized_name="acme"),
        number="1",
        key="1",
        content_hash="",
        kind=DocumentKind(kind),
        order_date=None,
        due_date=None,
        currency="USD",
        subtotal=None,
        tax=None,
        freight=None,
        discount=None,
        total=None,
        confidence=1.0,
        lines=(),
    )


def _placed(stored: StoredDraft, product: SyncedProduct) -> StoredDraft:
    places = {one.draft_variant_id: one for one in product.variants}
    variants = tuple(
        StoredVariant(one.id, one.plan.variant_key, places[one.id].variant_id, places[one.id].inventory_item_id)
        for one in stored.draft.variants
    )
    return replace(stored, product_id=product.product_id, variants=variants)


@pytest.fixture
def world(shops: Shops) -> World:
    """An order of one product in two sizes, approved, nothing in the shop yet."""
    world = World(shops)
    world.books.drafts = [unplaced(make_draft("mug", {"S": 10, "L": 4}))]
    return world


async def adjust_by_hand(sandbox: SandboxShop, units: int, *, key: str) -> None:
    """Somebody else, with another ledger document, expects so many mugs of size S."""
    state = await sandbox.state()
    item = state["products"][0]["variants"][0]["inventory_item_id"]
    change = {
        "inventoryItemId": item,
        "locationId": state["locations"][0]["id"],
        "delta": units,
        "changeFromQuantity": None,
        "ledgerDocumentUri": "gid://another-app/PurchaseOrder/1",
    }
    await sandbox.do(
        "mutation($i: InventoryAdjustQuantitiesInput!, $k: String!) { inventoryAdjustQuantities(input: $i)"
        " @idempotent(key: $k) { userErrors { message } } }",
        i={"name": "incoming", "reason": "movement_created", "changes": [change]},
        k=key,
    )
