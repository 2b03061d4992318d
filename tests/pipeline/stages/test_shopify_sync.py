"""Stage 9 against the real adapter and the sandbox: each product once, each quantity once, however often it dies."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.contract import Reject
from pipeline.errors import LeaseLost, VendorUnavailable
from tests.pipeline.stages.world import INCOMING, World, world
from tests.sandbox_shop import (
    Killed,
    Killer,
    SandboxShop,
    http,
    make_draft,
    make_given,
    sandbox,
    shops,
)

__all__ = ["http", "sandbox", "shops", "world"]


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
