"""Stage 9 and large orders: one bulk operation goes ahead, once, and whatever becomes of it the order ends the same."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from app.adapters.shops import Shops
from pipeline.errors import VendorUnavailable
from pipeline.shopkeeping import bulk
from tests.pipeline.stages.world import World
from tests.sandbox_shop import Effects, Killed, Killer, SandboxShop, http, make_draft, sandbox, shops, unplaced

__all__ = ["http", "sandbox", "shops"]

NAMES = tuple(f"cup {number}" for number in range(6))
LINES = {f"{name}-S": 2 for name in NAMES}


@pytest.fixture
async def world(shops: Shops, sandbox: SandboxShop, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """An order of six new products, which is a large one here."""
    monkeypatch.setattr(bulk, "PRODUCTS_MIN", 4)
    monkeypatch.setattr(bulk, "POLL_S", 0.02)
    await sandbox.change(settings={"bulk_s": 0.05})
    world = World(shops)
    world.books.drafts = [unplaced(make_draft(name, {"S": 2})) for name in NAMES]
    return world


async def calls(sandbox: SandboxShop) -> dict[str, int]:
    return dict((await sandbox.state())["calls"])


async def check_once(sandbox: SandboxShop) -> None:
    state = await sandbox.state()
    assert (len(state["products"]), state["products_created"]) == (len(NAMES), len(NAMES))
    assert await sandbox.quantities("incoming") == LINES
    assert {product["status"] for product in state["products"]} == {"DRAFT"}


async def test_a_large_order_is_created_by_one_operation(world: World, sandbox: SandboxShop) -> None:
    output = await world.sync()
    await check_once(sandbox)
    assert {one.created for one in output.products} == {True}
    assert {one.state for one in world.effects.rows.values()} == {"confirmed"}
    counted = await calls(sandbox)
    assert counted["bulkOperationRunMutation"] == 1
    assert counted["productSet"] == len(NAMES)  # the lines of the file; no single call beside them

    world.record(output)
    for _ in range(2):
        await world.sync()
    assert (await calls(sandbox))["bulkOperationRunMutation"] == 1
    await check_once(sandbox)


async def test_a_small_order_asks_for_no_operation(world: World, sandbox: SandboxShop) -> None:
    world.books.drafts = world.books.drafts[:3]
    await world.sync()
    assert "bulkOperationRunMutation" not in await calls(sandbox)


@pytest.mark.parametrize("at", range(1, 13))
async def test_dying_at_any_gap_starts_it_once_and_finds_it_again(world: World, sandbox: SandboxShop, at: int) -> None:
    """The gaps of the operation come first, then those of each product that is confirmed after it."""
    with pytest.raises(Killed):
        await world.sync(Killer(at))
    world.effects.age(timedelta(minutes=2))  # a lease has run out since
    await world.sync()
    counted = await calls(sandbox)
    assert (counted["bulkOperationRunMutation"], counted["productSet"]) == (1, len(NAMES))
    await check_once(sandbox)


@pytest.mark.parametrize("kind", ["timeout_after_success", "error_502_after_success"])
async def test_an_operation_whose_start_nobody_heard_of_is_found_by_its_name(
    world: World, sandbox: SandboxShop, kind: str
) -> None:
    await sandbox.fail("bulkOperationRunMutation", kind)
    with pytest.raises(VendorUnavailable):
        await world.sync()
    await world.sync()
    assert (await calls(sandbox))["bulkOperationRunMutation"] == 1
    await check_once(sandbox)


async def test_a_start_that_may_still_be_on_its_way_is_not_sent_again_at_once(
    world: World, sandbox: SandboxShop
) -> None:
    await sandbox.fail("bulkOperationRunMutation", "http_500")
    with pytest.raises(VendorUnavailable):
        await world.sync()
    with pytest.raises(VendorUnavailable, match="may be starting"):
        await world.sync()
    assert "bulkOperationRunMutation" not in await calls(sandbox)
    world.effects.age(timedelta(minutes=2))
    await world.sync()
    await check_once(sandbox)


async def test_while_the_shop_works_the_slot_is_given_back(
    world: World, sandbox: SandboxShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sandbox.change(settings={"bulk_s": 1.0})
    monkeypatch.setattr(bulk, "POLL_S_MAX", 0.1)
    with pytest.raises(VendorUnavailable) as waits:
        await world.sync()
    assert waits.value.patient
    monkeypatch.setattr(bulk, "POLL_S_MAX", 60)
    await world.sync()
    assert (await calls(sandbox))["bulkOperationRunMutation"] == 1
    await check_once(sandbox)


async def test_a_refused_line_is_that_products_failure_and_is_not_sent_again(
    world: World, sandbox: SandboxShop
) -> None:
    """A price no shop takes, which our own checks let through."""
    last = world.books.drafts[-1].draft
    variant = last.variants[0]
    plan = variant.plan.model_copy(update={"gtin": "9" * 300})
    bad = last.model_copy(update={"variants": (variant.model_copy(update={"plan": plan}),)})
    world.books.drafts[-1] = unplaced(bad)
    for _ in range(2):
        output = await world.sync()
        assert [(one.draft_id, one.code) for one in output.failures] == [(bad.id, "refused_in_bulk")]
        assert "Barcode is too long" in output.failures[0].message
    assert (await calls(sandbox))["productSet"] == len(NAMES)
    assert len(output.products) == len(NAMES) - 1


async def test_where_the_shop_starts_none_products_are_created_one_by_one(world: World, sandbox: SandboxShop) -> None:
    await sandbox.fail("bulkOperationRunMutation", "refused")
    await world.sync()
    counted = await calls(sandbox)
    assert (counted.get("bulkOperationRunMutation", 0), counted["productSet"]) == (0, len(NAMES))
    await check_once(sandbox)


async def test_with_a_lost_ledger_a_large_order_is_found_and_no_edit_undone(world: World, sandbox: SandboxShop) -> None:
    await world.sync()
    (first, *_) = (await sandbox.state())["products"]
    await sandbox.edit("edit_product", product_id=first["id"], changes={"title": "Tasse"})
    world.effects = Effects()
    await world.sync()
    state = await sandbox.state()
    assert state["products"][0]["title"] == "Tasse"
    assert (state["calls"]["bulkOperationRunMutation"], state["calls"]["productSet"]) == (1, len(NAMES))


async def test_what_another_order_has_created_is_not_in_the_file(world: World, sandbox: SandboxShop) -> None:
    other = World(world.shops, effects=world.effects)
    other.books.drafts = world.books.drafts[:1]
    other.given = replace(other.given, run=replace(other.given.run, id="run-other", order_id="order-other"))
    await other.sync()
    await world.sync()
    uploads = (await sandbox.state())["uploads"]
    (upload,) = (one for one in uploads if one["filename"].endswith("jsonl"))
    content = (await sandbox.http.get(f"{sandbox.address}/files/{upload['sha256']}")).text
    assert len([json.loads(line) for line in content.splitlines()]) == len(NAMES) - 1
    assert (await sandbox.state())["products_created"] == len(NAMES)
