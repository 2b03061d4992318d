"""Stage 9 with an approved plan: exactly that, or it stops before it writes; its own earlier work is no change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest

from app.adapters.shops import Shops
from app.sandbox.server import run_sandbox
from app.sandbox.state import new_shop
from pipeline.clock import SystemClock
from pipeline.contract import Done, Reject, Review, StageInput
from pipeline.domain.plan import Plan, summary
from pipeline.domain.results import ShopSync
from pipeline.effects import Ledger
from pipeline.errors import LeaseLost, VendorUnavailable
from pipeline.ports import ApprovedPlan, Effect
from pipeline.shopkeeping.planning import read_plan
from pipeline.stages.shopify_sync import ShopifySync
from tests.pipeline.stages.world import World
from tests.sandbox_shop import (
    DOMAIN,
    TOKEN,
    Books,
    DraftsOf,
    Effects,
    Killed,
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

EDIT = "mutation($p: ProductUpdateInput!) { productUpdate(product: $p) { userErrors { message } } }"
DELETE = "mutation($id: ID!) { productDelete(input: {id: $id}) { userErrors { message } } }"
REPRICE = """
mutation($id: ID!, $v: [ProductVariantsBulkInput!]!) {
  productVariantsBulkUpdate(productId: $id, variants: $v) { userErrors { message } }
}
"""


@dataclass
class MortalEffects(Effects):
    """The ledger's table; the worker dies at the n-th moment before or after one of its writes. 0 lives."""

    dies_at: int = 0
    passed: int = 0

    def _moment(self) -> None:
        self.passed += 1
        if self.passed == self.dies_at:
            raise Killed(f"moment {self.passed}")

    async def intend(self, run: str, fence: int, key: str, parameters: Mapping[str, Any]) -> Effect:
        self._moment()
        effect = await super().intend(run, fence, key, parameters)
        self._moment()
        return effect

    async def confirm(self, run: str, fence: int, key: str, external: Mapping[str, Any]) -> None:
        self._moment()
        await super().confirm(run, fence, key, external)
        self._moment()


@dataclass
class Office:
    """One merchant's order from plan to shop; workers come and go, the ledger and the books stay."""

    shops: Shops
    effects: MortalEffects = field(default_factory=MortalEffects)
    books: Books = field(default_factory=Books)
    given: StageInput = field(default_factory=lambda: make_given("shopify-sync", cost_on_approve="latest"))

    async def read(self) -> Plan:
        shop = await self.shops.of(self.given.run.merchant)
        plan, _ = await read_plan(self.given, shop, await shop.facts(), self.books.drafts, self.books)
        return plan

    async def approve(self, entry: int = 1) -> Plan:
        plan = await self.read()
        assert plan.stops == ()
        stored = Plan.model_validate(plan.model_dump(mode="json"))
        self.books.plan = ApprovedPlan(entry, stored)
        return plan

    async def attempt(self, dies_at: int = 0) -> Done | Review:
        self.effects.dies_at, self.effects.passed = dies_at, 0
        stage = ShopifySync(
            self.shops,
            DraftsOf(self.books),
            self.books,
            self.books,
            Ledger(self.effects),
            SystemClock(),
            self.books,
            self.books,
        )
        return await stage.run(self.given)


@pytest.fixture
async def office(shops: Shops) -> Office:
    """A second order: one product is in the shop and gets a size and a cost, another is new."""
    first = World(shops)
    first.books.drafts = [unplaced(make_draft("mug", {"S": 10, "L": 4}))]
    first.record(await first.sync())
    office = Office(shops, effects=MortalEffects(rows=first.effects.rows), books=first.books)
    first.order(make_draft("mug", {"S": 10, "L": 4, "XL": 6}, cost="5.25"), make_draft("vase", {"": 3}), revision=2)
    office.given = replace(office.given, run=replace(office.given.run, order_revision=2, id="run-2"))
    return office


def words(result: Done | Review) -> str:
    assert isinstance(result, Review), result
    assert {doubt.code for doubt in result.doubts} == {"plan_changed"}
    return " ".join(doubt.message for doubt in result.doubts)


async def held(sandbox: SandboxShop) -> dict[str, Any]:
    """What a plan may change in the shop."""
    state = await sandbox.state()
    return {
        "products": sorted(one["title"] for one in state["products"]),
        "created": state["products_created"],
        "incoming": await sandbox.quantities("incoming"),
        "costs": {one["sku"]: one["cost"] for product in state["products"] for one in product["variants"]},
        "groups": len(state["adjustments"]),
    }


PLANNED = (
    "Creates 1 draft product (1 variant), adds 1 variant to 1 existing product, updates 2 costs, "
    "announces 9 units at Warehouse, publishes nothing."
)
APPLIED = {
    "products": ["Mug", "Vase"],
    "created": 2,
    "incoming": {"mug-S": 10, "mug-L": 4, "mug-XL": 6, "vase": 3},
    "costs": {"mug-S": "5.25", "mug-L": "5.25", "mug-XL": "5.25", "vase": "4.50"},
    "groups": 2,
}


async def test_an_approved_plan_is_applied_as_it_was_said(office: Office, sandbox: SandboxShop) -> None:
    plan = await office.approve()
    assert summary(plan) == PLANNED
    result = await office.attempt()
    assert isinstance(result, Done)
    assert isinstance(result.output, ShopSync)
    assert result.output.plan is None
    assert await held(sandbox) == APPLIED


@pytest.mark.parametrize("dies_at", range(1, 27))
async def test_a_worker_killed_anywhere_finishes_the_plan_and_takes_its_own_work_for_no_change(
    office: Office, sandbox: SandboxShop, dies_at: int
) -> None:
    """The decision, a product, a variant, each product's costs and stock have four moments; an older step has two."""
    await office.approve()
    with pytest.raises(Killed):
        await office.attempt(dies_at)
    result = await office.attempt()
    assert isinstance(result, Done), words(result)
    assert await held(sandbox) == APPLIED
    assert office.effects.rows["plan:run-2:1"].state == "confirmed"


async def test_that_were_all_the_moments_there_are(office: Office) -> None:
    await office.approve()
    assert isinstance(await office.attempt(dies_at=99), Done)
    assert office.effects.passed == 26


async def test_a_rules_plan_is_the_one_first_read_however_often_its_worker_dies(
    office: Office, sandbox: SandboxShop
) -> None:
    """Read again after a death it would leave out what is done by then."""
    for dies_at in (1, 2, 3, 6, 7, 8, 11, 12, 13):
        with pytest.raises(Killed):
            await office.attempt(dies_at)
    result = await office.attempt()
    assert isinstance(result, Done)
    assert isinstance(result.output, ShopSync)
    assert result.output.plan is not None
    assert summary(result.output.plan) == PLANNED
    assert await held(sandbox) == APPLIED


# ------------------------------------------------------------------------------------- the shop has changed


async def _delete(office: Office, sandbox: SandboxShop) -> None:
    await sandbox.do(DELETE, id=office.books.drafts[0].product_id)


async def _archive(office: Office, sandbox: SandboxShop) -> None:
    await sandbox.do(EDIT, p={"id": office.books.drafts[0].product_id, "status": "ARCHIVED"})


async def _reprice(office: Office, sandbox: SandboxShop) -> None:
    stored = office.books.drafts[0]
    priced = {"id": stored.variants[0].variant_id, "price": "77.00"}
    await sandbox.do(REPRICE, id=stored.product_id, v=[priced])


async def _recost(office: Office, sandbox: SandboxShop) -> None:
    stored = office.books.drafts[0]
    priced = {"id": stored.variants[0].variant_id, "inventoryItem": {"cost": "1.00"}}
    await sandbox.do(REPRICE, id=stored.product_id, v=[priced])


async def _appear(office: Office, _sandbox: SandboxShop) -> None:
    shop = await office.shops.of(office.given.run.merchant)
    await shop.create_product(office.books.drafts[1].draft)


async def _fewer_scopes(_office: Office, sandbox: SandboxShop) -> None:
    await sandbox.change(scopes=["read_products", "write_products", "read_locations"])


async def _no_scope(_office: Office, sandbox: SandboxShop) -> None:
    await sandbox.change(scopes=["read_products", "write_inventory"])


async def _other_currency(office: Office, _sandbox: SandboxShop) -> None:
    run = replace(office.given.run, merchant=make_given("", currency="EUR").run.merchant)
    office.given = replace(office.given, run=run)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_delete, "“Mug” was deleted in the shop. Say `new` to create it again"),
        (_archive, "“Mug” is archived in the shop. Bring it back there"),
        (_reprice, "“Mug”, mug-S (S): the price is 77.00 now, not 9.99"),
        (_recost, "“Mug”, mug-S (S): the cost is 1.00 -> 5.25 now, not 4.50 -> 5.25"),
        (_appear, "“Vase” is in the shop by now"),
        (_fewer_scopes, "only recorded now, not announced (nothing was announced: the app may not change stock"),
        (_no_scope, "The app may not create products in this shop"),
        (_other_currency, "sells in USD but the settings say EUR"),
    ],
)
async def test_a_shop_that_changed_since_the_approval_gets_nothing(
    office: Office, sandbox: SandboxShop, change: Any, said: str
) -> None:
    await office.approve()
    await change(office, sandbox)
    before = await held(sandbox)
    result = await office.attempt()
    assert said in words(result)
    assert "Nothing was done" in words(result)
    assert await held(sandbox) == before


async def test_a_closed_location_stops_it(http: httpx.AsyncClient) -> None:
    shop = new_shop(DOMAIN, TOKEN, locations=("Warehouse", "Annex"))
    warehouse, _ = shop.locations.values()
    async with run_sandbox(shops=[shop]) as address:
        sandbox = SandboxShop(address, http)
        office = Office(shops_of(sandbox, http))
        office.given = make_given("shopify-sync", location_id=warehouse.id)
        office.books.drafts = [unplaced(make_draft("mug", {"S": 10}))]
        await office.approve()
        warehouse.is_active = False
        result = await office.attempt()
        assert "only recorded now" in words(result)
        assert "closed" in words(result)
        assert (await sandbox.state())["products"] == []
        office.books.location_id = warehouse.id  # a revision of an order that was announced there
        assert [stop.code for stop in (await office.read()).stops] == ["location_closed"]


async def test_the_same_answer_is_given_again_and_a_new_approval_is_decided_anew(
    office: Office, sandbox: SandboxShop
) -> None:
    """Killed before its review is recorded, it stops again; the shop as it is then approved is applied."""
    await office.approve()
    await _reprice(office, sandbox)
    for dies_at in (1, 2, 3, 4):
        with pytest.raises(Killed):
            await office.attempt(dies_at)
    assert "77.00" in words(await office.attempt())
    assert "77.00" in words(await office.attempt())
    await office.approve(entry=2)
    assert isinstance(await office.attempt(), Done)
    assert await held(sandbox) == APPLIED


@pytest.mark.parametrize("change", [_delete, _archive, _reprice])
async def test_a_change_by_somebody_else_between_two_attempts_stops_the_rest(
    office: Office, sandbox: SandboxShop, change: Any
) -> None:
    await office.approve()
    with pytest.raises(Killed):
        await office.attempt(dies_at=5)  # the decision stands, nothing else
    await change(office, sandbox)
    before = await held(sandbox)
    assert "Nothing more was done" in words(await office.attempt())
    assert await held(sandbox) == before


async def test_a_shop_that_cannot_be_read_is_waited_for_and_nothing_is_decided(
    office: Office, sandbox: SandboxShop
) -> None:
    await office.approve()
    await sandbox.fail("productByIdentifier", "http_500")
    known = set(office.effects.rows)
    with pytest.raises(VendorUnavailable):
        await office.attempt()
    assert set(office.effects.rows) == known
    assert isinstance(await office.attempt(), Done)


async def test_what_a_person_did_not_approve_a_plan_for_goes_on_unless_it_must_stop(
    office: Office, sandbox: SandboxShop
) -> None:
    """A merchant's rule, an approval from before there were plans, or one without a plan."""
    await _reprice(office, sandbox)
    assert isinstance(await office.attempt(), Done)
    office.effects.rows.clear()
    await _no_scope(office, sandbox)
    with pytest.raises(Reject) as rejected:
        await office.attempt()
    assert rejected.value.code == "missing_scope"


async def test_a_shop_that_never_let_us_write_products_is_told_so_by_us_and_is_not_parked(
    sandbox: SandboxShop, http: httpx.AsyncClient
) -> None:
    """Not by its refusal of our product link, which says neither what that costs nor what to do."""
    await sandbox.change(scopes=["read_products", "write_inventory"])
    office = Office(shops_of(sandbox, http))
    [stop] = (await office.read()).stops
    assert (stop.code, "grant it write_products" in stop.message) == ("missing_scope", True)
    with pytest.raises(Reject) as rejected:
        await office.attempt()
    assert (rejected.value.code, str(rejected.value)) == (stop.code, stop.message)
    await sandbox.change()
    assert (await office.read()).stops == (), "and it goes on at once when that is granted"


async def test_reading_a_plan_changes_nothing_in_the_shop(office: Office, sandbox: SandboxShop) -> None:
    def lost() -> None:
        raise LeaseLost

    before = await sandbox.state()
    office.given = replace(office.given, still_ours=lost)
    await office.read()
    after = await sandbox.state()
    asked = {name: after["calls"][name] - before["calls"].get(name, 0) for name in after["calls"]}
    assert {name for name, times in asked.items() if times} <= {
        *("shop", "currentAppInstallation", "locations", "nodes", "productByIdentifier", "productVariants"),
        "metafieldDefinitionCreate",
    }
    assert {name: after[name] for name in ("products", "adjustments")} == {
        name: before[name] for name in ("products", "adjustments")
    }


async def test_goods_the_shop_expects_from_elsewhere_are_said_before_the_approval(
    office: Office, sandbox: SandboxShop
) -> None:
    """A transfer of the merchant's own: to announce the same goods would count them twice."""
    revise(office, {"S": 12, "L": 4})
    assert "Announces 2 units" in summary(await office.read())
    await announce_by_hand(sandbox, "mug-S", 5)
    plan = await office.read()
    assert summary(plan).startswith("Announces nothing, publishes nothing. The shop already expects goods")
    assert "5 of " in plan.note


async def test_what_the_shop_does_not_count_is_not_announced(office: Office, sandbox: SandboxShop) -> None:
    revise(office, {"S": 12, "L": 7})
    untracked = {"id": office.books.drafts[0].variants[0].variant_id, "inventoryItem": {"tracked": False}}
    await sandbox.do(REPRICE, id=office.books.drafts[0].product_id, v=[untracked])
    plan = await office.approve()
    assert summary(plan).startswith("Announces 3 units at Warehouse, publishes nothing. Not announced, because")
    assert isinstance(await office.attempt(), Done)
    assert await sandbox.quantities("incoming") == {"mug-S": 10, "mug-L": 7}


def revise(office: Office, units: dict[str, int]) -> None:
    """A later revision, of the product that is in the shop alone."""
    world = World(office.shops, effects=office.effects)
    world.books = office.books
    world.order(make_draft("mug", units), revision=3, run="run-3")
    office.given = world.given


ANNOUNCE = """
mutation($input: InventoryAdjustQuantitiesInput!, $key: String!) {
  inventoryAdjustQuantities(input: $input) @idempotent(key: $key) { userErrors { message } }
}
"""


async def announce_by_hand(sandbox: SandboxShop, sku: str, units: int) -> None:
    state = await sandbox.state()
    [variant] = [one for product in state["products"] for one in product["variants"] if one["sku"] == sku]
    change = {
        "inventoryItemId": variant["inventory_item_id"],
        "locationId": state["locations"][0]["id"],
        "delta": units,
        "changeFromQuantity": None,
        "ledgerDocumentUri": "gid://another-app/Transfer/1",
    }
    given = {"name": "incoming", "reason": "movement_created", "changes": [change]}
    await sandbox.do(ANNOUNCE, input=given, key="0b8f3e6e-5f0c-4f43-9b43-0a5a4b1f6f11")
