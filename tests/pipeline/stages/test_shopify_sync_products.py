"""Stage 9 and products: created once, recognised where they are, and the merchant's ever after."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx
import pytest

from app.adapters.shops import Shops
from pipeline.domain.results import Draft, ShopSync
from pipeline.errors import VendorUnavailable
from pipeline.ports import NEW_PRODUCT
from tests.pipeline.stages.world import World
from tests.sandbox_shop import (
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

GTIN = "4006381333931"


@pytest.fixture
def world(shops: Shops) -> World:
    """An order of one product in two sizes, approved, nothing in the shop yet."""
    world = World(shops)
    world.books.drafts = [unplaced(make_draft("linen shirt", {"S": 10, "L": 4}))]
    return world


def with_gtin(draft: Draft, gtin: str = GTIN) -> Draft:
    """The draft whose first variant has a GTIN."""
    first = draft.variants[0]
    first = first.model_copy(update={"plan": first.plan.model_copy(update={"gtin": gtin})})
    return draft.model_copy(update={"variants": (first, *draft.variants[1:])})


async def products(sandbox: SandboxShop) -> list[dict[str, Any]]:
    return list((await sandbox.state())["products"])


async def only_product(sandbox: SandboxShop) -> dict[str, Any]:
    (product,) = await products(sandbox)
    return product


def what_merchants_see(product: dict[str, Any]) -> dict[str, Any]:
    """A product without what stock changes and clocks write."""
    kept = {key: value for key, value in product.items() if key not in ("updated_at", "variants", "media")}
    media = [one["id"] for one in product["media"]]
    fields = ("id", "title", "sku", "barcode", "price", "compare_at_price", "cost", "tracked", "inventory_policy")
    variants = [{name: one[name] for name in (*fields, "metafields")} for one in product["variants"]]
    return {**kept, "media": media, "variants": variants}


def codes(output: ShopSync) -> list[str]:
    return [one.code for one in output.failures]


# ------------------------------------------------------------------------------------------ new products


async def test_a_new_product_is_a_tracked_draft_that_sells_nothing_it_has_not(
    world: World, sandbox: SandboxShop
) -> None:
    output = await world.sync()
    product = await only_product(sandbox)
    assert (product["status"], product["published_on"]) == ("DRAFT", [])
    assert product["metafields"]["po_pipeline.draft_id"] == world.books.drafts[0].draft.id
    for variant in product["variants"]:
        assert (variant["tracked"], variant["inventory_policy"]) == (True, "DENY")
        assert (variant["quantities"]["available"], variant["quantities"]["on_hand"]) == (0, 0)
    assert (output.products[0].created, output.products[0].matched_by) == (True, "")
    calls = (await sandbox.state())["calls"]
    assert (calls["productSet"], calls.get("productVariantsBulkCreate", 0)) == (1, 0)


EDITS: dict[str, dict[str, Any]] = {
    "title": {"do": "edit_product", "changes": {"title": "Hemd"}},
    "description": {"do": "edit_product", "changes": {"description_html": "<p>Mine.</p>"}},
    "tags": {"do": "edit_product", "changes": {"tags": ["mine"]}},
    "status": {"do": "edit_product", "changes": {"status": "ACTIVE"}},
    "vendor": {"do": "edit_product", "changes": {"vendor": "Harbor & Pine"}},
    "price": {"do": "edit_variant", "changes": {"price": "99.00"}, "cost": "1.23"},
    "sku": {"do": "edit_variant", "changes": {"sku": "OWN-1"}},
    "variant": {
        "do": "add_variant",
        "variant": {"options": {"Size": "XXL"}, "sku": "own-xxl", "barcode": GTIN, "available": 3},
    },
    "option": {"do": "rename_option", "option": "Size", "name": "Größe"},
    "value": {"do": "rename_option", "option": "Size", "name": "Small", "value": "S"},
    "image": {"do": "add_image", "source": "https://images.example/own.jpg"},
    "metafield": {"do": "set_metafield", "namespace": "custom", "key": "care", "value": "Wash cold"},
    "link": {"do": "delete_metafield", "namespace": "po_pipeline", "key": "draft_id"},
    "definition": {"do": "delete_definition", "namespace": "po_pipeline", "key": "draft_id"},
}


def edit_of(what: str, product: dict[str, Any]) -> dict[str, Any]:
    """The edit, at that product."""
    edit = dict(EDITS[what])
    match edit["do"]:
        case "edit_variant":
            return {**edit, "variant_id": product["variants"][0]["id"]}
        case "set_metafield" | "delete_metafield":
            return {**edit, "owner_id": product["id"]}
        case "delete_definition":
            return edit
        case _:
            return {**edit, "product_id": product["id"]}


@pytest.mark.parametrize("what", EDITS)
@pytest.mark.parametrize("cost_policy", ["new_variants_only", "never"])
async def test_a_merchants_edit_survives_every_replay_and_every_later_order(
    world: World, sandbox: SandboxShop, what: str, cost_policy: str
) -> None:
    """Replayed before its result was recorded and after; then two more orders, one with a size that is not there."""
    world.given = make_given("shopify-sync", cost_on_approve=cost_policy)
    output = await world.sync()
    await sandbox.edit(**edit_of(what, await only_product(sandbox)))
    edited = what_merchants_see(await only_product(sandbox))

    await world.sync()
    world.record(output)
    await world.sync()
    world.order(make_draft("linen shirt", {"S": 1, "L": 1}, cost="7.25"), revision=1, run="run-2")
    world.record(await world.sync())
    assert what_merchants_see(await only_product(sandbox)) == edited

    world.order(make_draft("linen shirt", {"L": 2, "XL": 1}, cost="7.25"), revision=2, run="run-3")
    output = await world.sync()
    assert codes(output) == []
    after = what_merchants_see(await only_product(sandbox))
    held = len(edited["variants"])
    assert after["variants"][:held] == edited["variants"]
    assert [one["sku"] for one in after["variants"][held:]] == ["linen shirt-XL"]
    assert {**after, "variants": [], "options": []} == {**edited, "variants": [], "options": []}
    assert (await sandbox.state())["calls"]["productSet"] == 1


async def test_a_size_the_merchant_added_by_hand_is_taken_not_doubled(world: World, sandbox: SandboxShop) -> None:
    world.record(await world.sync())
    product = await only_product(sandbox)
    await sandbox.edit("add_variant", product_id=product["id"], variant={"options": {"Size": "xl"}, "sku": "own"})
    world.order(make_draft("linen shirt", {"XL": 5}), revision=2, run="run-2")
    output = await world.sync()
    assert [one.created for one in output.products[0].variants] == [False]
    assert (await sandbox.quantities("incoming"))["own"] == 5
    assert len((await only_product(sandbox))["variants"]) == 3


async def test_with_a_lost_ledger_nothing_is_created_and_no_edit_undone(world: World, sandbox: SandboxShop) -> None:
    """A restored backup knows neither product nor effect; the custom id does."""
    await world.sync()
    product = await only_product(sandbox)
    await sandbox.edit("edit_product", product_id=product["id"], changes={"title": "Hemd", "status": "ACTIVE"})
    await sandbox.edit("add_variant", product_id=product["id"], variant={"options": {"Size": "XXL"}})
    edited = what_merchants_see(await only_product(sandbox))
    world.effects = Effects()
    output = await world.sync()
    assert what_merchants_see(await only_product(sandbox)) == edited
    assert (await sandbox.state())["calls"]["productSet"] == 1
    assert (output.products[0].product_id, output.products[0].created) == (product["id"], False)


async def test_with_ledger_and_link_both_lost_it_is_recognised_by_sku_and_vendor(
    world: World, sandbox: SandboxShop
) -> None:
    await world.sync()
    product = await only_product(sandbox)
    await sandbox.edit("delete_metafield", owner_id=product["id"], namespace="po_pipeline", key="draft_id")
    world.effects = Effects()
    output = await world.sync()
    assert (output.products[0].product_id, output.products[0].matched_by) == (product["id"], "sku")
    assert (await sandbox.state())["products_created"] == 1


async def test_a_deleted_product_is_said_and_made_again_only_by_a_persons_word(
    world: World, sandbox: SandboxShop
) -> None:
    world.record(await world.sync())
    await sandbox.edit("delete_product", product_id=world.books.drafts[0].product_id)
    world.order(make_draft("linen shirt", {"S": 10, "L": 4}), revision=2, run="run-2")
    for _ in range(2):
        output = await world.sync()
        assert codes(output) == ["product_deleted"]
        assert "no quantities were told" in output.note
    assert await products(sandbox) == []

    draft = world.books.drafts[0].draft
    world.books.drafts = [replace(unplaced(draft), choice=NEW_PRODUCT, choices=1)]
    output = await world.sync()
    assert codes(output) == []
    product = await only_product(sandbox)
    assert [one["quantities"]["incoming"] for one in product["variants"]] == [10, 4]
    assert product["metafields"]["po_pipeline.draft_id"] == f"{draft.id}-1"
    world.record(output)
    await world.sync()
    assert (await sandbox.state())["products_created"] == 2


async def test_a_product_deleted_before_it_was_recorded_is_not_made_again_either(
    world: World, sandbox: SandboxShop
) -> None:
    """The ledger has its confirmation, the books do not know it, and the shop has it no longer."""
    await world.sync()
    await sandbox.edit("delete_product", product_id=(await only_product(sandbox))["id"])
    assert codes(await world.sync()) == ["product_deleted"]
    assert (await sandbox.state())["products_created"] == 1


async def test_a_deleted_variant_is_said_and_the_others_of_the_order_go_on(world: World, sandbox: SandboxShop) -> None:
    world.order(make_draft("linen shirt", {"S": 10, "L": 4}), make_draft("apron", {"": 3}))
    world.record(await world.sync())
    by_sku = {one["sku"]: one["id"] for product in await products(sandbox) for one in product["variants"]}
    await sandbox.edit("delete_variant", variant_id=by_sku["linen shirt-L"])
    world.order(make_draft("linen shirt", {"S": 12, "L": 4}), make_draft("apron", {"": 5}), revision=2, run="run-2")
    output = await world.sync()
    assert codes(output) == ["variant_deleted"]
    assert "linen shirt-L" in output.failures[0].message
    assert [one.product_id for one in output.products] == [world.books.drafts[1].product_id]


async def test_an_order_that_meets_anothers_new_product_adds_what_that_one_has_not(
    world: World, sandbox: SandboxShop
) -> None:
    """Confirmed in the ledger by the other order, not yet in the books, and with a size this order does not have."""
    await world.sync()
    second = World(world.shops, effects=world.effects)
    second.books.drafts = [unplaced(make_draft("linen shirt", {"L": 3, "XL": 2}))]
    second.given = replace(second.given, run=replace(second.given.run, id="run-2", order_id="order-2"))
    output = await second.sync()
    assert codes(output) == []
    assert [one.created for one in output.products[0].variants] == [True, True]
    assert await sandbox.quantities("incoming") == {
        "linen shirt-S": 10,
        "linen shirt-L": 7,
        "linen shirt-XL": 2,
    }
    assert (await sandbox.state())["calls"]["productSet"] == 1


# ------------------------------------------------------------------------------- products of the merchant


async def theirs(sandbox: SandboxShop, title: str, *variants: dict[str, Any], vendor: str = "Acme") -> str:
    return await sandbox.edit("add_product", title=title, vendor=vendor, variants=list(variants))


async def test_the_merchants_product_gets_what_is_missing_and_our_link_and_nothing_else(
    world: World, sandbox: SandboxShop
) -> None:
    product_id = await theirs(
        sandbox, "Hemd", {"options": {"Größe": "Klein"}, "sku": "own", "barcode": GTIN, "price": "70.00", "cost": "3"}
    )
    before = what_merchants_see(await only_product(sandbox))
    world.order(with_gtin(make_draft("linen shirt", {"S": 10, "L": 4})))
    output = await world.sync()
    assert (output.products[0].product_id, output.products[0].matched_by) == (product_id, "gtin")
    after = what_merchants_see(await only_product(sandbox))
    link = {"po_pipeline.draft_id": world.books.drafts[0].draft.id}
    assert after["variants"][:1] == before["variants"]
    assert [(one["title"], one["sku"]) for one in after["variants"][1:]] == [("L", "linen shirt-L")]
    assert after["metafields"] == before["metafields"] | link
    differ = {key for key in after if after[key] != before[key]}
    assert differ == {"variants", "metafields", "options"}
    assert await sandbox.quantities("incoming") == {"own": 10, "linen shirt-L": 4}
    assert (await sandbox.state())["calls"].get("productSet", 0) == 0

    world.record(output)
    for _ in range(3):
        await world.sync()
    assert what_merchants_see(await only_product(sandbox)) == after


async def test_what_was_recognised_once_is_known_by_its_place_whatever_it_is_called_now(
    world: World, sandbox: SandboxShop
) -> None:
    product_id = await theirs(sandbox, "Hemd", {"options": {"Size": "S"}, "sku": "own", "barcode": GTIN})
    world.order(with_gtin(make_draft("linen shirt", {"S": 10})))
    world.record(await world.sync())
    (variant,) = (await only_product(sandbox))["variants"]
    await sandbox.edit("edit_variant", variant_id=variant["id"], changes={"barcode": None, "sku": "other"})
    world.order(with_gtin(make_draft("linen shirt", {"S": 12})), revision=2, run="run-2")
    output = await world.sync()
    assert output.products[0].product_id == product_id
    assert await sandbox.quantities("incoming") == {"other": 12}


async def test_a_link_another_draft_has_is_left_to_it(world: World, sandbox: SandboxShop) -> None:
    """Two suppliers sell the same article: the second finds the first one's product and adds to it."""
    world.order(with_gtin(make_draft("linen shirt", {"S": 10})))
    world.record(await world.sync())
    first = world.books.drafts[0].draft.id
    world.order(with_gtin(make_draft("hemd", {"S": 5})), revision=1, run="run-2")
    world.given = replace(world.given, run=replace(world.given.run, order_id="order-2"))
    world.books.standings, world.books.revision = {}, 0
    output = await world.sync()
    assert output.products[0].matched_by == "gtin"
    product = await only_product(sandbox)
    assert product["metafields"]["po_pipeline.draft_id"] == first
    assert await sandbox.quantities("incoming") == {"linen shirt-S": 15}


async def test_an_article_of_ours_the_index_has_not_seen_yet_is_known_from_the_books(
    world: World, sandbox: SandboxShop
) -> None:
    """The search lags by an hour; another supplier's order for the same GTIN comes a second later."""
    await sandbox.change(settings={"search_lag_s": 3600})
    world.order(with_gtin(make_draft("linen shirt", {"S": 10})))
    world.record(await world.sync())
    known = world.books.drafts[0].product_id
    draft = with_gtin(make_draft("hemd", {"S": 5}))
    world.order(draft, revision=2, run="run-2")
    world.books.drafts = [replace(world.books.drafts[0], elsewhere=(known,))]
    output = await world.sync()
    assert output.products[0].product_id == known
    assert (await sandbox.state())["products_created"] == 1


async def test_while_the_index_lags_a_replay_still_finds_what_was_written(world: World, sandbox: SandboxShop) -> None:
    await sandbox.change(settings={"search_lag_s": 3600})
    with pytest.raises(Killed):
        await world.sync(Killer(at=2))
    await world.sync()
    assert (await sandbox.state())["products_created"] == 1


async def test_several_matches_stop_that_product_and_nothing_else(world: World, sandbox: SandboxShop) -> None:
    for title in ("Hemd", "Hemd (alt)"):
        await theirs(sandbox, title, {"options": {"Size": "S"}, "sku": title, "barcode": GTIN})
    world.order(with_gtin(make_draft("linen shirt", {"S": 10})), make_draft("apron", {"": 3}))
    output = await world.sync()
    assert codes(output) == ["several_matches"]
    assert output.failures[0].line == 1
    assert [one.created for one in output.products] == [True]
    incoming = await sandbox.quantities("incoming")
    assert incoming == {"Hemd": 0, "Hemd (alt)": 0, "apron": 3}

    world.record(output)
    old = next(one for one in await products(sandbox) if one["title"] == "Hemd (alt)")
    await sandbox.edit("edit_variant", variant_id=old["variants"][0]["id"], changes={"barcode": None})
    world.given = replace(world.given, run=replace(world.given.run, entry=1))
    output = await world.sync()
    assert codes(output) == []
    assert await sandbox.quantities("incoming") == {"Hemd": 10, "Hemd (alt)": 0, "apron": 3}
    assert (await sandbox.state())["products_created"] == 1


async def test_a_person_says_which_product_it_is(world: World, sandbox: SandboxShop) -> None:
    chosen = await theirs(sandbox, "Hemd", {"options": {"Size": "S"}, "sku": "own"}, vendor="Harbor")
    draft = make_draft("linen shirt", {"S": 10})
    world.books.drafts = [replace(unplaced(draft), choice=chosen, choices=1)]
    output = await world.sync()
    assert (output.products[0].product_id, output.products[0].matched_by) == (chosen, "chosen")
    assert await sandbox.quantities("incoming") == {"own": 10}


async def test_only_a_sku_in_common_is_a_question_and_new_is_an_answer(world: World, sandbox: SandboxShop) -> None:
    await theirs(sandbox, "Hose", {"options": {"Size": "S"}, "sku": "linen shirt-S"}, vendor="Harbor")
    assert codes(await world.sync()) == ["only_the_sku"]
    assert (await sandbox.state())["products_created"] == 0
    draft = world.books.drafts[0].draft
    world.books.drafts = [replace(unplaced(draft), choice=NEW_PRODUCT, choices=1)]
    assert codes(await world.sync()) == []
    assert (await sandbox.state())["products_created"] == 1


# ------------------------------------------------------------------------------------- partial failures


async def test_one_products_refusal_keeps_no_other_out_and_is_not_sent_again_unasked(
    world: World, sandbox: SandboxShop
) -> None:
    """The refusal stands while the attempt waits for the shop; a person's re-entry asks again, for that one only."""
    world.order(*(make_draft(name, {"S": 1}) for name in ("apron", "bowl", "cup")))
    await sandbox.fail("productSet", "refused", count=1)
    await sandbox.fail("inventoryAdjustQuantities", "http_500", count=1)
    with pytest.raises(VendorUnavailable):
        await world.sync()
    for _ in range(2):
        output = await world.sync()
        assert codes(output) == ["INVALID_INPUT"]
    assert (await sandbox.state())["calls"]["productSet"] == 2
    assert len(output.products) == 2
    assert await sandbox.quantities("incoming") == {"bowl-S": 1, "cup-S": 1}

    world.record(output)
    world.given = replace(world.given, run=replace(world.given.run, entry=1))
    output = await world.sync()
    assert codes(output) == []
    assert (await sandbox.state())["calls"]["productSet"] == 3
    assert await sandbox.quantities("incoming") == {"apron-S": 1, "bowl-S": 1, "cup-S": 1}


async def test_a_product_no_shop_holds_costs_no_call(world: World, sandbox: SandboxShop) -> None:
    world.order(make_draft("bolt", {f"{number:03}": 1 for number in range(101)}), make_draft("nut", {"": 1}))
    output = await world.sync()
    assert codes(output) == ["beyond_limits"]
    assert "101 values of Size" in output.failures[0].message
    assert (await sandbox.state())["calls"]["productSet"] == 1


async def test_values_that_would_overfill_an_option_are_not_sent(world: World, sandbox: SandboxShop) -> None:
    world.order(make_draft("bolt", {f"{number:03}": 1 for number in range(90)}))
    world.record(await world.sync())
    world.order(make_draft("bolt", {f"{number:03}": 1 for number in range(85, 105)}), revision=2, run="run-2")
    output = await world.sync()
    assert codes(output) == ["beyond_limits"]
    assert (await sandbox.state())["calls"].get("productVariantsBulkCreate", 0) == 0


async def test_a_definition_of_another_type_is_said_clearly(world: World, sandbox: SandboxShop) -> None:
    await sandbox.do(
        "mutation($d: MetafieldDefinitionInput!) { metafieldDefinitionCreate(definition: $d) { userErrors { code } } }",
        d={"name": "x", "namespace": "po_pipeline", "key": "draft_id", "type": "url", "ownerType": "PRODUCT"},
    )
    with pytest.raises(Exception, match="as url, and we need it as an id"):
        await world.sync()
    assert await products(sandbox) == []


async def test_two_replicas_declare_the_link_once(world: World, sandbox: SandboxShop, http: httpx.AsyncClient) -> None:
    await world.sync()
    world.shops = shops_of(sandbox, http)
    await world.sync()
    assert len((await sandbox.state())["definitions"]) == 1


# -------------------------------------------------------------------------------------------------- costs


async def test_a_weighted_average_weighs_what_is_on_the_shelf_once(world: World, sandbox: SandboxShop) -> None:
    """30 on the shelf at 4.00 and 10 ordered at 8.00: 5.00. Replays and the shop's new figure change nothing."""
    await theirs(sandbox, "Hemd", {"options": {"Size": "S"}, "barcode": GTIN, "cost": "4.00", "available": 30})
    world.given = make_given("shopify-sync", cost_on_approve="weighted_average")
    world.order(with_gtin(make_draft("linen shirt", {"S": 10, "L": 4}, cost="8.00")))
    for _ in range(2):
        output = await world.sync()
    world.record(output)
    for _ in range(2):
        await world.sync()
    costs = {one["title"]: one["cost"] for one in (await only_product(sandbox))["variants"]}
    assert costs == {"S": "5.00", "L": "8.00"}
    assert (await sandbox.state())["calls"]["productVariantsBulkUpdate"] == 1


async def test_costs_an_order_has_written_are_not_its_own_latest(world: World, sandbox: SandboxShop) -> None:
    """The order's second entry finds the variants its first one made; the merchant corrected a cost in between."""
    world.given = make_given("shopify-sync", cost_on_approve="latest")
    world.record(await world.sync())
    (first, _) = (await only_product(sandbox))["variants"]
    await sandbox.edit("edit_variant", variant_id=first["id"], cost="1.11")
    world.given = replace(world.given, run=replace(world.given.run, entry=1))
    await world.sync()
    assert (await only_product(sandbox))["variants"][0]["cost"] == "1.11"
