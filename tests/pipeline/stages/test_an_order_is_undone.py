"""Undo in stage 9: what nobody touched is archived once, what somebody did touch stays and is named."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from app.adapters.shops import Shops
from pipeline.contract import Done, Reject
from pipeline.domain.outcome import completed
from pipeline.domain.results import ShopSync
from pipeline.domain.undo import Creation
from tests.pipeline.stages.test_a_plan_is_applied_or_nothing import MortalEffects
from tests.pipeline.stages.world import World
from tests.sandbox_shop import Killed, SandboxShop, http, make_draft, sandbox, shops, unplaced

__all__ = ["http", "sandbox", "shops"]

EDIT = "mutation($p: ProductUpdateInput!) { productUpdate(product: $p) { userErrors { message } } }"
REPRICE = """
mutation($id: ID!, $v: [ProductVariantsBulkInput!]!) {
  productVariantsBulkUpdate(productId: $id, variants: $v) { userErrors { message } }
}
"""
DELETE = "mutation($id: ID!) { productDelete(input: {id: $id}) { userErrors { message } } }"


@pytest.fixture
async def world(shops: Shops) -> World:
    """An order that created two products and announced their goods; somebody undoes it."""
    world = World(shops, effects=MortalEffects())
    world.books.drafts = [unplaced(make_draft("mug", {"S": 10, "L": 4})), unplaced(make_draft("vase", {"": 3}))]
    world.record(await world.sync())
    world.books.creations = [
        Creation(
            draft_id=one.draft.id,
            custom_id=one.draft.id,
            product_id=one.product_id,
            written=(one.draft,),
            variants={place.draft_variant_id: place.variant_id for place in one.variants},
        )
        for one in world.books.drafts
    ]
    world.end("undo")
    return world


async def statuses(sandbox: SandboxShop) -> dict[str, str]:
    return {one["title"]: one["status"] for one in (await sandbox.state())["products"]}


def left(output: ShopSync) -> dict[str, str]:
    return {one.title: one.left for one in output.undone if one.left}


async def test_what_nobody_touched_is_archived_and_what_was_announced_taken_back(
    world: World, sandbox: SandboxShop
) -> None:
    output = await world.sync()
    assert await statuses(sandbox) == {"Mug": "ARCHIVED", "Vase": "ARCHIVED"}
    assert await sandbox.quantities("incoming") == {"mug-S": 0, "mug-L": 0, "vase": 0}
    assert sorted(one.quantity for one in output.stock) == [-10, -4, -3]
    assert completed(output, receipt=True).summary == (
        "order cancelled, 17 announced units taken back at Warehouse, 2 draft products archived"
    )


async def test_without_the_right_to_archive_nothing_is_half_undone(world: World, sandbox: SandboxShop) -> None:
    scopes = (await sandbox.state())["scopes"]
    await sandbox.change(scopes=[one for one in scopes if one != "write_products"])
    with pytest.raises(Reject, match="grant it write_products, then retry"):
        await world.sync()
    assert await sandbox.quantities("incoming") == {"mug-S": 10, "mug-L": 4, "vase": 3}
    await sandbox.change(scopes=scopes)
    await world.sync()
    assert await statuses(sandbox) == {"Mug": "ARCHIVED", "Vase": "ARCHIVED"}


async def test_a_worker_killed_anywhere_archives_each_product_once_and_takes_nothing_back_twice(
    world: World, sandbox: SandboxShop
) -> None:
    effects = world.effects
    assert isinstance(effects, MortalEffects)
    deaths = 0
    for dies_at in count(1):
        effects.dies_at, effects.passed = dies_at, 0
        try:
            output = await world.sync()
        except Killed:
            deaths += 1
            continue
        break
    state = await sandbox.state()
    assert deaths >= 10
    assert await statuses(sandbox) == {"Mug": "ARCHIVED", "Vase": "ARCHIVED"}
    assert await sandbox.quantities("incoming") == {"mug-S": 0, "mug-L": 0, "vase": 0}
    assert state["calls"]["productUpdate"] == 2
    assert len(state["adjustments"]) == 2
    assert left(output) == {}
    assert {one.state for one in effects.rows.values()} == {"confirmed"}


@pytest.mark.parametrize("lost", ["timeout_after_success", "error_502_after_success"])
async def test_an_answer_lost_after_archiving_is_asked_for(world: World, sandbox: SandboxShop, lost: str) -> None:
    await sandbox.fail("productUpdate", lost)
    with pytest.raises(Exception, match=r"no answer|502"):
        await world.sync()
    output = await world.sync()
    assert left(output) == {}
    assert (await sandbox.state())["calls"]["productUpdate"] == 2


async def _title(world: World, sandbox: SandboxShop) -> None:
    await sandbox.do(EDIT, p={"id": world.books.drafts[0].product_id, "title": "Big mug"})


async def _description(world: World, sandbox: SandboxShop) -> None:
    await sandbox.do(EDIT, p={"id": world.books.drafts[0].product_id, "descriptionHtml": "<p>Mine</p>"})


async def _status(world: World, sandbox: SandboxShop) -> None:
    await sandbox.do(EDIT, p={"id": world.books.drafts[0].product_id, "status": "ACTIVE"})


async def _tags(world: World, sandbox: SandboxShop) -> None:
    await sandbox.do(EDIT, p={"id": world.books.drafts[0].product_id, "tags": ["new", "mine"]})


async def _price(world: World, sandbox: SandboxShop) -> None:
    stored = world.books.drafts[0]
    await sandbox.do(REPRICE, id=stored.product_id, v=[{"id": stored.variants[0].variant_id, "price": "77.00"}])


async def _cost(world: World, sandbox: SandboxShop) -> None:
    stored = world.books.drafts[0]
    costed = {"id": stored.variants[0].variant_id, "inventoryItem": {"cost": "1.00"}}
    await sandbox.do(REPRICE, id=stored.product_id, v=[costed])


async def _deleted(world: World, sandbox: SandboxShop) -> None:
    await sandbox.do(DELETE, id=world.books.drafts[0].product_id)


async def _other_order(world: World, _sandbox: SandboxShop) -> None:
    world.books.creations[0] = replace(world.books.creations[0], also_in="PO-9")


@pytest.mark.parametrize(
    ("touch", "reason"),
    [
        (_title, "its title was edited"),
        (_description, "its description was edited"),
        (_status, "it is active by now"),
        (_tags, "its tags were edited"),
        (_price, "its variant mug-S was edited"),
        (_cost, "its variant mug-S was edited"),
        (_other_order, "order PO-9 counts on it too"),
    ],
)
async def test_a_product_somebody_touched_stays_and_is_named(
    world: World, sandbox: SandboxShop, touch: Callable[[World, SandboxShop], Awaitable[None]], reason: str
) -> None:
    await touch(world, sandbox)
    before = (await statuses(sandbox)).copy()
    output = await world.sync()
    [(title, words)] = left(output).items()
    assert words == reason
    assert await statuses(sandbox) == before | {"Vase": "ARCHIVED"}
    assert await sandbox.quantities("incoming") == {"mug-S": 0, "mug-L": 0, "vase": 0}
    assert completed(output, receipt=True).summary.endswith(
        f"1 draft product archived, 1 product left as it is (“{title}”: {reason})"
    )


async def test_what_was_received_is_not_taken_back_and_its_product_stays(world: World, sandbox: SandboxShop) -> None:
    world.books.action = "receive"
    world.receive("receipt-1", S=(6, 1))
    world.record(await world.sync())
    world.end("undo")
    output = await world.sync()
    assert await sandbox.quantities("available") == {"mug-S": 6, "mug-L": 0, "vase": 0}
    assert await sandbox.quantities("incoming") == {"mug-S": 0, "mug-L": 0, "vase": 0}
    assert left(output) == {"Mug": "6 units of it are counted in the shop"}
    assert (output.ended, output.note) == ("closed", "what was received stays in stock")


async def test_an_edit_between_the_decision_and_the_archiving_is_seen(world: World, sandbox: SandboxShop) -> None:
    effects = world.effects
    assert isinstance(effects, MortalEffects)
    dies_at = 1
    while not await _dies_deciding(world, effects, dies_at):
        dies_at += 1
    await _title(world, sandbox)
    effects.dies_at = 0
    output = await world.sync()
    assert left(output) == {"Mug": "its title was edited"}


async def _dies_deciding(world: World, effects: MortalEffects, at: int) -> bool:
    """Whether a death at that moment leaves the decision written and nothing archived."""
    effects.dies_at, effects.passed = at, 0
    with pytest.raises(Killed):
        await world.sync()
    rows: dict[str, Any] = effects.rows
    return rows.get("plan:undo:ending-1") is not None and rows["plan:undo:ending-1"].state == "confirmed"


async def test_a_product_whose_answer_was_lost_is_found_by_its_custom_id(world: World, sandbox: SandboxShop) -> None:
    """The run died between the shop's answer and the ledger, and nobody retried it."""
    world.books.creations = [replace(one, product_id="", variants={}) for one in world.books.creations]
    result = await world.stage().run(world.given)
    assert isinstance(result, Done)
    assert await statuses(sandbox) == {"Mug": "ARCHIVED", "Vase": "ARCHIVED"}


async def test_a_deleted_product_is_named_as_gone(world: World, sandbox: SandboxShop) -> None:
    """Only its products: goods were recorded, not announced."""
    world.books.standings = {}
    world.effects.rows.clear()
    await _deleted(world, sandbox)
    output = await world.sync()
    assert left(output) == {"Mug": "it is not in the shop any more"}
