"""Stage 9 against the real adapter and the sandbox: each product once, each quantity once, however often it dies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta

import httpx
import pytest

from app.adapters.shops import Shops
from app.sandbox.server import run_sandbox
from app.sandbox.state import new_shop
from pipeline.clock import SystemClock
from pipeline.contract import Done, Reject, Review, StageInput
from pipeline.domain.purchase_order import DocumentKind, Doubt
from pipeline.domain.results import Draft, OrderToSave, ShopSync, SupplierChoice, SyncedProduct
from pipeline.domain.standing import VariantStanding
from pipeline.effects import Ledger
from pipeline.errors import LeaseLost, VendorRefused, VendorUnavailable
from pipeline.ports import ReceiptLine, StoredDraft, StoredVariant
from pipeline.shopkeeping import elsewhere
from pipeline.stages.shopify_sync import ShopifySync
from tests.sandbox_shop import (
    DOMAIN,
    TOKEN,
    Books,
    DraftsOf,
    Effects,
    Killed,
    Killer,
    SandboxShop,
    http,
    make_draft,
    make_given,
    sandbox,
    shops,
    shops_of,
    unplaced,
)

__all__ = ["http", "sandbox", "shops"]

INCOMING = {"mug-S": 10, "mug-L": 4}


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


async def test_an_approved_order_becomes_a_draft_product_and_announced_goods(
    world: World, sandbox: SandboxShop
) -> None:
    output = await world.sync()

    (product,) = (await sandbox.state())["products"]
    assert product["status"] == "DRAFT"
    assert product["published_on"] == []
    assert [one["title"] for one in product["variants"]] == ["S", "L"]
    assert {one["inventory_policy"] for one in product["variants"]} == {"DENY"}
    assert {one["cost"] for one in product["variants"]} == {"4.50"}
    assert all(one["tracked"] for one in product["variants"])
    assert await sandbox.quantities("incoming") == INCOMING
    assert await sandbox.quantities("available") == {"mug-S": 0, "mug-L": 0}
    assert [(one.quantity, one.move) for one in output.stock] == [(10, "announced"), (4, "announced")]
    assert output.products[0].created


async def test_a_worker_killed_in_every_gap_leaves_one_product_and_one_announcement(
    world: World, sandbox: SandboxShop
) -> None:
    deaths = []
    for at in (1, 2, 3, 2, 3, 4):  # a confirmed effect has one gap left: that of its intent
        killer = Killer(at)
        with pytest.raises(Killed):
            await world.sync(killer)
        deaths.append(killer.reached[-1])
    output = await world.sync()

    assert deaths == ["intent", "vendor-call", "confirm"] * 2
    state = await sandbox.state()
    assert state["products_created"] == 1
    assert state["calls"]["productSet"] == 1
    assert len(state["adjustments"]) == 1
    assert await sandbox.quantities("incoming") == INCOMING
    assert {one.state for one in world.effects.rows.values()} == {"confirmed"}
    assert [one.quantity for one in output.stock] == [10, 4]


@pytest.mark.parametrize("lost", ["timeout_after_success", "error_502_after_success"])
@pytest.mark.parametrize("operation", ["productSet", "inventoryAdjustQuantities"])
async def test_an_answer_lost_after_the_effect_is_an_outage_and_the_effect_stays_single(
    world: World, sandbox: SandboxShop, operation: str, lost: str
) -> None:
    await sandbox.fail(operation, lost)
    with pytest.raises(VendorUnavailable):
        await world.sync()
    await world.sync()

    assert (await sandbox.state())["products_created"] == 1
    assert await sandbox.quantities("incoming") == INCOMING


async def test_a_ledger_restored_from_an_old_backup_doubles_nothing(world: World, sandbox: SandboxShop) -> None:
    await world.sync()
    world.effects.rows.clear()
    output = await world.sync()

    assert (await sandbox.state())["calls"]["productSet"] == 1
    assert await sandbox.quantities("incoming") == INCOMING
    assert [one.quantity for one in output.stock] == [10, 4]


async def test_a_quantity_of_unknown_fate_is_not_sent_again_after_the_keys_retention(
    world: World, sandbox: SandboxShop
) -> None:
    await sandbox.fail("inventoryAdjustQuantities", "error_502_after_success")
    with pytest.raises(VendorUnavailable):
        await world.sync()
    world.effects.age(timedelta(hours=21))

    (doubt,) = await world.review()
    assert doubt.code == "stock_outcome_unknown"
    assert "/admin/inventory/" in doubt.message
    assert (await world.review()) == (doubt,)  # a second job of the same entry asks the same

    world.approve()
    output = await world.sync()
    assert [one.quantity for one in output.stock] == [10, 4]
    assert await sandbox.quantities("incoming") == INCOMING
    assert (await sandbox.state())["calls"]["inventoryAdjustQuantities"] == 1


async def test_a_merchants_edits_survive_the_next_order_which_only_adds_what_is_missing(
    world: World, sandbox: SandboxShop
) -> None:
    first = await world.sync()
    world.record(first)
    product_id = first.products[0].product_id
    await sandbox.do(
        "mutation($p: ProductUpdateInput!) { productUpdate(product: $p) { userErrors { message } } }",
        p={"id": product_id, "title": "Edited", "status": "ACTIVE", "tags": ["mine"]},
    )
    world.order(make_draft("mug", {"S": 10, "L": 4, "XL": 6}), revision=2, run="run-2")
    second = await world.sync()
    world.record(second)
    await world.sync()

    (product,) = (await sandbox.state())["products"]
    assert (product["title"], product["status"], product["tags"]) == ("Edited", "ACTIVE", ["mine"])
    assert await sandbox.quantities("incoming") == INCOMING | {"mug-XL": 6}
    assert [one.created for one in second.products[0].variants] == [False, False, True]
    assert (await sandbox.state())["calls"]["productVariantsBulkCreate"] == 1


async def test_a_revision_tells_only_the_difference_and_takes_back_what_is_no_longer_expected(
    world: World, sandbox: SandboxShop
) -> None:
    world.record(await world.sync())
    world.order(make_draft("mug", {"S": 12}), revision=2, run="run-2")
    output = await world.sync()

    assert await sandbox.quantities("incoming") == {"mug-S": 12, "mug-L": 0}
    assert [one.quantity for one in output.stock] == [2, -4]


async def test_a_revision_that_goes_back_to_what_was_first_expected_tells_that_too(
    world: World, sandbox: SandboxShop
) -> None:
    """Ten, seven, ten: what the first step told equals what is wanted now, and is not what the shop has."""
    for revision, units in ((1, 10), (2, 7), (3, 10)):
        world.order(make_draft("mug", {"S": units, "L": 4}), revision=revision, run=f"run-{revision}")
        world.record(await world.sync())
        assert await sandbox.quantities("incoming") == {"mug-S": units, "mug-L": 4}
    name = next(one.id for one in world.books.drafts[0].draft.variants if one.plan.options["Size"] == "S")
    assert world.books.standings[name].announced == 10


@pytest.mark.parametrize(
    ("action", "received", "ended"),
    [("close", (), "closed"), ("cancel", (), "cancelled"), ("close", (3, 1), "closed"), ("cancel", (3, 1), "closed")],
)
async def test_what_never_comes_is_taken_back_and_what_came_stays(
    world: World, sandbox: SandboxShop, action: str, received: tuple[int, int], ended: str
) -> None:
    world.record(await world.sync())
    if received:
        world.receive("receipt-1", S=received)
        world.record(await world.sync())
    world.end(action)
    for at in (1, 2, 3):
        with pytest.raises(Killed):
            await world.sync(Killer(at))
    output = await world.sync()
    world.record(output)

    assert output.ended == ended
    assert await sandbox.quantities("incoming") == {"mug-S": 0, "mug-L": 0}
    assert await sandbox.quantities("available") == {"mug-S": received[0] if received else 0, "mug-L": 0}
    assert sum(one.quantity for one in output.stock) == -(14 - sum(received))

    world.order(make_draft("mug", {"S": 20, "L": 20}), revision=2, run="run-2")
    late = await world.sync()
    assert (late.stock, "over" in late.note) == ((), True)
    assert await sandbox.quantities("incoming") == {"mug-S": 0, "mug-L": 0}


async def test_an_order_that_was_only_recorded_ends_without_a_word_to_the_shop(
    world: World, sandbox: SandboxShop
) -> None:
    world.given = make_given("shopify-sync", stock_on_approve="record")
    world.record(await world.sync())
    world.end("close")
    assert (await world.sync()).ended == "closed"
    assert (await sandbox.state())["adjustments"] == []


async def test_an_announcement_that_was_never_recorded_is_taken_back_when_its_order_ends(
    world: World, sandbox: SandboxShop
) -> None:
    """Its run died with the step told and nothing in the books; then a person gave the order up."""
    with pytest.raises(Killed):
        await world.sync(Killer(at=5))
    world.end("cancel")
    output = await world.sync()
    assert await sandbox.quantities("incoming") == {"mug-S": 0, "mug-L": 0}
    assert (output.stock, output.ended) == ((), "cancelled")


async def test_what_was_announced_as_incoming_is_taken_back_as_incoming_whatever_the_settings_say_now(
    world: World, sandbox: SandboxShop
) -> None:
    world.record(await world.sync())
    world.order(make_draft("mug", {"S": 8, "L": 4}), revision=2, run="run-2")
    chosen = make_given("shopify-sync", stock_on_approve="available").run.merchant
    saved = delivery_note()
    world.given = replace(world.given, run=replace(world.given.run, merchant=chosen), earlier={"database-save": saved})
    await world.sync()
    assert await sandbox.quantities("incoming") == {"mug-S": 8, "mug-L": 4}
    assert await sandbox.quantities("available") == {"mug-S": 0, "mug-L": 0}


async def test_a_shop_that_moves_nothing_gets_two_changes_and_each_of_them_once(
    world: World, sandbox: SandboxShop
) -> None:
    await sandbox.change(settings={"refuses_moves": True, "processing_s": 0.05})
    world.record(await world.sync())
    world.receive("receipt-1", S=(7, 2), L=(1, 0))
    for at in (1, 2, 3, 2, 4, 2, 3, 4, 3, 4, 5, 4, 5, 6):  # the plan, the refused move, off, on, rejected
        with pytest.raises(Killed):
            await world.sync(Killer(at))
    await world.sync()
    assert await sandbox.quantities("available") == {"mug-S": 7, "mug-L": 1}
    assert await sandbox.quantities("incoming") == {"mug-S": 1, "mug-L": 3}
    assert (await sandbox.state())["calls"]["inventoryMoveQuantities"] == 1


async def test_a_move_that_works_on_the_second_thought_does_not_count_units_twice(
    world: World, sandbox: SandboxShop
) -> None:
    """The shop refused it, the two changes had begun, and then the shop would have taken it."""
    await sandbox.change(settings={"refuses_moves": True, "processing_s": 0.05})
    world.record(await world.sync())
    world.receive("receipt-1", S=(7, 0))
    with pytest.raises(Killed):
        await world.sync(Killer(at=8))
    assert await sandbox.quantities("incoming") == {"mug-S": 3, "mug-L": 4}
    await sandbox.change(settings={"refuses_moves": False, "processing_s": 0.05})
    await world.sync()
    assert await sandbox.quantities("available") == {"mug-S": 7, "mug-L": 0}
    assert await sandbox.quantities("incoming") == {"mug-S": 3, "mug-L": 4}


async def test_a_key_the_shop_knows_with_other_variables_is_a_question_and_changes_nothing(
    world: World, sandbox: SandboxShop
) -> None:
    """A database restored from a backup has forgotten a step; the next revision would give it other numbers."""
    await world.sync()
    world.effects.rows = {key: one for key, one in world.effects.rows.items() if not key.startswith("announce:")}
    world.order(make_draft("mug", {"S": 12, "L": 4}), revision=2, run="run-2")
    (doubt,) = await world.review()
    assert doubt.code == "stock_outcome_unknown"
    assert await sandbox.quantities("incoming") == INCOMING
    world.approve()
    output = await world.sync()
    assert [one.quantity for one in output.stock] == [12, 4]
    assert await sandbox.quantities("incoming") == INCOMING


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


async def test_goods_that_are_expected_from_elsewhere_are_only_recorded_and_a_person_is_asked(
    world: World, sandbox: SandboxShop
) -> None:
    world.record(await world.sync())
    await adjust_by_hand(sandbox, 5, key="elsewhere")
    world.order(make_draft("mug", {"S": 12, "L": 4}), revision=2, run="run-2")
    (doubt,) = await world.review()
    assert doubt.code == "expected_elsewhere"
    assert "5 of mug-S" in doubt.message
    world.approve()
    output = await world.sync()
    assert (output.stock, "from elsewhere" in output.note) == ((), True)
    assert await sandbox.quantities("incoming") == {"mug-S": 15, "mug-L": 4}


async def test_goods_no_longer_expected_from_elsewhere_are_announced_after_all(
    world: World, sandbox: SandboxShop
) -> None:
    world.record(await world.sync())
    await adjust_by_hand(sandbox, 5, key="elsewhere")
    world.order(make_draft("mug", {"S": 12, "L": 4}), revision=2, run="run-2")
    await world.review()
    await adjust_by_hand(sandbox, -5, key="cancelled there")
    world.approve()
    await world.sync()
    assert await sandbox.quantities("incoming") == {"mug-S": 12, "mug-L": 4}


async def test_what_the_shop_keeps_no_stock_of_is_not_announced_and_says_so(world: World, sandbox: SandboxShop) -> None:
    world.record(await world.sync())
    item = (await sandbox.state())["products"][0]["variants"][0]["inventory_item_id"]
    await sandbox.do(
        "mutation($id: ID!) { inventoryItemUpdate(id: $id, input: {tracked: false}) { userErrors { message } } }",
        id=item,
    )
    world.order(make_draft("mug", {"S": 12, "L": 6}), revision=2, run="run-2")
    output = await world.sync()
    assert await sandbox.quantities("incoming") == {"mug-S": 10, "mug-L": 6}
    assert "mug-S" in output.note


async def test_a_forgotten_announcement_of_new_goods_is_told_again_only_while_its_key_is_known(
    world: World, sandbox: SandboxShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Restored from a backup; the shop's own date of the goods says how old the key is."""
    await world.sync()
    world.effects.rows.clear()
    monkeypatch.setattr(elsewhere, "KEY_TRUSTED_FOR", timedelta())
    (doubt,) = await world.review()
    assert (doubt.code, "restored" in doubt.message) == ("expected_elsewhere", True)
    assert await sandbox.quantities("incoming") == INCOMING


async def test_two_revisions_in_flight_at_once_announce_the_newer_total(world: World, sandbox: SandboxShop) -> None:
    """The first is killed before its answer is written; the second finishes that step before its own."""
    with pytest.raises(Killed):
        await world.sync(Killer(at=5))
    world.order(make_draft("mug", {"S": 12, "L": 4}), revision=2, run="run-2")
    world.books.drafts = [unplaced(one.draft) for one in world.books.drafts]
    await world.sync()

    assert await sandbox.quantities("incoming") == {"mug-S": 12, "mug-L": 4}


async def test_an_older_revision_approved_late_takes_nothing_back(world: World, sandbox: SandboxShop) -> None:
    world.order(make_draft("mug", {"S": 12, "L": 4}), revision=2, run="run-2")
    world.record(await world.sync())
    world.order(make_draft("mug", {"S": 10, "L": 4}), revision=1, run="run-1")
    output = await world.sync()

    assert await sandbox.quantities("incoming") == {"mug-S": 12, "mug-L": 4}
    assert "newer revision" in output.note


async def test_an_older_revision_leaves_the_books_to_a_newer_one_that_told_in_steps(
    world: World, sandbox: SandboxShop
) -> None:
    """Of the steps of others it knows the first alone, and took what came later for units nobody had announced."""
    world.order(make_draft("mug", {"S": 7}), revision=2, run="run-2")
    world.record(await world.sync())
    world.order(make_draft("mug", {"S": 12}), revision=3, run="run-3")
    world.record(await world.sync())
    world.order(make_draft("mug", {"S": 10}), revision=1, run="run-1")
    for known in (3, 0):  # what the newer ones told is in the books, or is about to be
        world.books.revision = known
        output = await world.sync()
        assert (output.stock, "newer revision" in output.note) == ((), True)
    assert await sandbox.quantities("incoming") == {"mug-S": 12}


async def test_an_interrupted_revision_that_a_newer_one_overtook_changes_no_books(
    world: World, sandbox: SandboxShop
) -> None:
    """It had told its step, and waited; the newer one told the difference and recorded the whole."""
    world.order(make_draft("mug", {"S": 10}), revision=1, run="run-1")
    first, drafts = world.given, world.books.drafts
    with pytest.raises(Killed):
        await world.sync(Killer(at=6))
    world.order(make_draft("mug", {"S": 7}), revision=2, run="run-2")
    world.record(await world.sync())
    world.given, world.books.drafts = first, drafts
    output = await world.sync()
    assert output.stock == ()
    assert await sandbox.quantities("incoming") == {"mug-S": 7}


async def test_a_refused_announcement_can_be_repeated_once_the_cause_is_mended(
    world: World, sandbox: SandboxShop
) -> None:
    """Shopify spends a refused key, so the repeat has a step of its own."""
    world.order(make_draft("mug", {"S": 2_100_000_000}))
    with pytest.raises(VendorRefused) as refused:
        await world.sync()
    assert refused.value.code == "INVALID_QUANTITY_TOO_HIGH"
    world.order(make_draft("mug", {"S": 3}))
    await world.sync()

    assert await sandbox.quantities("incoming") == {"mug-S": 3}


async def test_more_variants_than_one_call_takes_are_told_in_steps(world: World, sandbox: SandboxShop) -> None:
    sizes = {f"{number:03}": 1 for number in range(90)}
    world.order(*(make_draft(name, sizes) for name in ("bolt", "nut", "washer")))
    with pytest.raises(Killed):
        await world.sync(Killer(at=11))
    await world.sync()

    assert sum((await sandbox.quantities("incoming")).values()) == 270
    assert len((await sandbox.state())["adjustments"]) == 2


async def test_a_receipt_makes_accepted_units_sellable_and_forgets_rejected_ones(
    world: World, sandbox: SandboxShop
) -> None:
    world.record(await world.sync())
    world.receive("receipt-1", S=(7, 2))
    for at in (1, 2, 3, 2, 3, 4):
        with pytest.raises(Killed):
            await world.sync(Killer(at))
    output = await world.sync()
    assert await sandbox.quantities("available") == {"mug-S": 7, "mug-L": 0}
    assert await sandbox.quantities("incoming") == {"mug-S": 1, "mug-L": 4}
    assert [(one.quantity, one.move) for one in output.stock] == [(7, "received"), (2, "rejected")]

    world.receive("receipt-2", S=(1, 0), L=(4, 0))
    await world.sync()
    assert await sandbox.quantities("available") == {"mug-S": 8, "mug-L": 4}
    assert await sandbox.quantities("incoming") == {"mug-S": 0, "mug-L": 0}


async def test_more_than_was_announced_becomes_sellable_and_leaves_nothing_negative(
    world: World, sandbox: SandboxShop
) -> None:
    world.record(await world.sync())
    world.receive("receipt-1", S=(13, 1), L=(3, 2))
    for at in (1, 2, 3, 2, 3, 4, 3, 4, 5, 4, 5, 6):
        with pytest.raises(Killed):
            await world.sync(Killer(at))
    output = await world.sync()

    assert await sandbox.quantities("available") == {"mug-S": 13, "mug-L": 3}
    assert await sandbox.quantities("incoming") == {"mug-S": 0, "mug-L": 0}
    assert sorted((one.move, one.quantity) for one in output.stock) == [
        ("received", 3),
        ("received", 13),
        ("rejected", 1),
        ("rejected", 2),
        ("surplus", 1),
        ("surplus", 4),
    ]


async def test_a_revision_below_what_was_received_takes_back_only_what_is_still_open(
    world: World, sandbox: SandboxShop
) -> None:
    world.record(await world.sync())
    world.receive("receipt-1", S=(8, 0))
    world.record(await world.sync())
    world.order(make_draft("mug", {"S": 5, "L": 4}), revision=2, run="run-2")
    output = await world.sync()

    assert await sandbox.quantities("incoming") == {"mug-S": 0, "mug-L": 4}
    assert await sandbox.quantities("available") == {"mug-S": 8, "mug-L": 0}
    assert "received" in output.note


async def test_what_came_unannounced_is_not_waited_for_again(world: World, sandbox: SandboxShop) -> None:
    world.record(await world.sync())
    world.receive("receipt-1", S=(12, 0))
    world.record(await world.sync())
    world.order(make_draft("mug", {"S": 15, "L": 4}), revision=2, run="run-2")
    await world.sync()

    assert await sandbox.quantities("incoming") == {"mug-S": 3, "mug-L": 4}


async def test_a_revision_between_two_attempts_at_a_receipt_leaves_it_what_it_is_about_to_take(
    world: World, sandbox: SandboxShop
) -> None:
    """The receipt dies before its first move; what it planned stands in the ledger and holds for both."""
    world.record(await world.sync())
    world.receive("receipt-1", S=(8, 0))
    with pytest.raises(Killed):
        await world.sync(Killer(at=4))
    receipt = world.given
    before = dict(world.books.standings)
    name = next(one.id for one in world.books.drafts[0].draft.variants if one.plan.options["Size"] == "S")
    world.books.standings[name] = replace(before[name], taken=8)  # as Postgres counts a receipt under way
    world.order(make_draft("mug", {"S": 5, "L": 4}), revision=2, run="run-2")
    revised = await world.sync()
    assert [one.quantity for one in revised.stock] == [-2]
    world.given = receipt
    await world.sync()

    assert await sandbox.quantities("incoming") == {"mug-S": 0, "mug-L": 4}
    assert await sandbox.quantities("available") == {"mug-S": 8, "mug-L": 0}


async def test_an_order_stays_at_the_location_it_was_announced_at(http: httpx.AsyncClient) -> None:
    """Killed before anything is recorded, revised and received: the merchant chose another location meanwhile."""
    shop = new_shop(DOMAIN, TOKEN, locations=("Warehouse", "Annex"))
    async with run_sandbox(shops=[shop]) as address:
        sandbox = SandboxShop(address, http)
        warehouse, annex = (one["id"] for one in (await sandbox.state())["locations"])
        world = World(shops_of(sandbox, http), given=make_given("shopify-sync", location_id=warehouse))
        world.books.drafts = [unplaced(make_draft("mug", {"S": 10, "L": 4}))]
        with pytest.raises(Killed):
            await world.sync(Killer(at=6))
        moved = make_given("shopify-sync", location_id=annex).run.merchant
        world.given = replace(world.given, run=replace(world.given.run, merchant=moved))
        world.record(await world.sync())
        world.receive("receipt-1", S=(7, 2))
        world.record(await world.sync())
        world.order(make_draft("mug", {"S": 12, "L": 3}), revision=2, run="run-2")
        world.record(await world.sync())

        assert world.books.location_id == warehouse
        variants = [one for product in (await sandbox.state())["products"] for one in product["variants"]]
        touched = {level["location_id"] for one in variants for level in one["levels"] if level["incoming"]}
        assert touched == {warehouse}
        assert await sandbox.quantities("incoming") == {"mug-S": 3, "mug-L": 3}
        assert await sandbox.quantities("available") == {"mug-S": 7, "mug-L": 0}


async def test_goods_that_were_only_recorded_are_received_without_touching_incoming(
    world: World, sandbox: SandboxShop
) -> None:
    world.given = make_given("shopify-sync", stock_on_approve="record")
    output = await world.sync()
    assert output.stock == ()
    assert "recorded" in output.note
    world.record(output)
    world.receive("receipt-1", S=(7, 2))
    await world.sync()

    assert await sandbox.quantities("available") == {"mug-S": 7, "mug-L": 0}
    assert await sandbox.quantities("incoming") == {"mug-S": 0, "mug-L": 0}


@pytest.mark.parametrize(
    ("kind", "approved_by", "state"),
    [
        ("delivery_note", "ann", "available"),
        ("invoice", "ann", "available"),
        ("purchase_order", "ann", "incoming"),
        ("delivery_note", "", "incoming"),
    ],
)
async def test_goods_become_sellable_at_once_only_for_an_approved_delivery_and_by_choice(
    world: World, sandbox: SandboxShop, kind: str, approved_by: str, state: str
) -> None:
    given = make_given("shopify-sync", stock_on_approve="available")
    saved = delivery_note(kind)
    world.given = replace(given, run=replace(given.run, approved_by=approved_by), earlier={"database-save": saved})
    output = await world.sync()

    assert await sandbox.quantities(state) == INCOMING
    assert bool(output.note) == (state == "incoming")


@pytest.mark.parametrize(
    ("scopes", "reason"),
    [
        (["read_products", "write_products", "read_locations"], "write_inventory"),
        (["read_products", "write_products"], "write_inventory"),
    ],
)
async def test_without_the_right_to_change_stock_the_order_is_recorded_and_says_why(
    world: World, sandbox: SandboxShop, scopes: list[str], reason: str
) -> None:
    await sandbox.change(scopes=scopes)
    output = await world.sync()
    assert len((await sandbox.state())["products"]) == 1
    assert (await sandbox.state())["adjustments"] == []
    assert reason in output.note


async def test_costs_stay_out_of_the_shop_when_the_merchant_wants_none(world: World, sandbox: SandboxShop) -> None:
    world.given = make_given("shopify-sync", cost_on_approve="never")
    await world.sync()
    (product,) = (await sandbox.state())["products"]
    assert {one["cost"] for one in product["variants"]} == {None}


async def test_existing_costs_change_only_for_a_merchant_who_wants_the_latest(
    world: World, sandbox: SandboxShop
) -> None:
    world.record(await world.sync())
    world.order(make_draft("mug", {"S": 10, "L": 4}, cost="7.25"), revision=2, run="run-2")
    await world.sync()
    (product,) = (await sandbox.state())["products"]
    assert {one["cost"] for one in product["variants"]} == {"4.50"}

    world.given = replace(
        world.given, run=replace(world.given.run, merchant=make_given("", cost_on_approve="latest").run.merchant)
    )
    await world.sync()
    await world.sync()
    state = await sandbox.state()
    assert {one["cost"] for one in state["products"][0]["variants"]} == {"7.25"}
    assert state["calls"]["productVariantsBulkUpdate"] == 1


async def test_goods_that_are_not_in_the_shop_cannot_be_received(world: World, sandbox: SandboxShop) -> None:
    world.receive("receipt-1", S=(7, 2))
    with pytest.raises(Reject) as rejected:
        await world.sync()
    assert rejected.value.code == "cannot_receive"
    assert (await sandbox.state())["adjustments"] == []


async def test_a_worker_that_lost_its_lease_changes_nothing(world: World, sandbox: SandboxShop) -> None:
    def lost() -> None:
        raise LeaseLost

    world.given = replace(world.given, still_ours=lost)
    with pytest.raises(LeaseLost):
        await world.sync()
    state = await sandbox.state()
    assert (state["products"], state["adjustments"]) == ([], [])


async def test_a_shop_in_another_currency_gets_nothing(world: World, sandbox: SandboxShop) -> None:
    world.given = make_given("shopify-sync", currency="EUR")
    with pytest.raises(Reject) as rejected:
        await world.sync()
    assert rejected.value.code == "currency_mismatch"
    assert (await sandbox.state())["products"] == []


async def test_a_product_without_options_is_one_variant(world: World, sandbox: SandboxShop) -> None:
    world.order(make_draft("plate", {"": 3}))
    await world.sync()
    await world.sync()
    assert await sandbox.quantities("incoming") == {"plate": 3}
