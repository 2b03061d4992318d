"""Stage 9 and receipts: what came becomes sellable once, and `incoming` is never less than nothing."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest

from app.sandbox.server import run_sandbox
from app.sandbox.state import new_shop
from pipeline.contract import Reject
from tests.pipeline.stages.world import World, world
from tests.sandbox_shop import (
    DOMAIN,
    TOKEN,
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

__all__ = ["http", "sandbox", "shops", "world"]


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


async def test_goods_that_are_not_in_the_shop_cannot_be_received(world: World, sandbox: SandboxShop) -> None:
    world.receive("receipt-1", S=(7, 2))
    with pytest.raises(Reject) as rejected:
        await world.sync()
    assert rejected.value.code == "cannot_receive"
    assert (await sandbox.state())["adjustments"] == []
