"""Stage 9, where a worker died having announced goods, and announcing is no longer wanted when the next one comes.

What the shop holds in `incoming` stands in the order's books when the run is over, or has been taken back.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.domain.results import ShopSync
from tests.pipeline.stages.world import INCOMING, World, adjust_by_hand, world
from tests.sandbox_shop import Killed, Killer, SandboxShop, http, make_draft, make_given, sandbox, shops

__all__ = ["http", "sandbox", "shops", "world"]

GAPS = {"not sent yet": 4, "sent": 5, "answered": 6}
"""Where the announcement of `world` can be interrupted; the three gaps before are the product's."""

ANNOUNCED = [(10, "announced"), (4, "announced")]
NOTHING = {"mug-S": 0, "mug-L": 0}

died = pytest.mark.parametrize("at", GAPS.values(), ids=GAPS)


async def die(world: World, at: int) -> None:
    with pytest.raises(Killed):
        await world.sync(Killer(at))


def choose(world: World, stock_on_approve: str) -> None:
    """The merchant changes the settings."""
    merchant = make_given("shopify-sync", stock_on_approve=stock_on_approve).run.merchant
    world.given = replace(world.given, run=replace(world.given.run, merchant=merchant))


def booked(output: ShopSync) -> list[tuple[int, str]]:
    return [(one.quantity, one.move) for one in output.stock]


@died
async def test_a_merchant_who_only_records_from_now_on(world: World, sandbox: SandboxShop, at: int) -> None:
    await die(world, at)
    choose(world, "record")
    output = await world.sync()
    assert booked(output) == ANNOUNCED
    assert output.location_id
    assert "only recorded" in output.note
    assert await sandbox.quantities("incoming") == INCOMING

    world.record(output)
    assert (await world.sync()).stock == ()


@died
async def test_a_right_that_was_taken_away(world: World, sandbox: SandboxShop, at: int) -> None:
    """What was answered is booked; without the right nobody can ask whether the rest was."""
    await die(world, at)
    scopes = (await sandbox.state())["scopes"]
    await sandbox.change(scopes=[one for one in scopes if one != "write_inventory"])
    if at == GAPS["answered"]:
        assert booked(await world.sync()) == ANNOUNCED
    await sandbox.change(scopes=scopes)
    assert booked(await world.sync()) == ANNOUNCED
    assert await sandbox.quantities("incoming") == INCOMING


@died
async def test_goods_a_person_says_come_from_elsewhere(world: World, sandbox: SandboxShop, at: int) -> None:
    """A revision died that wanted two more; the next wants another three, and somebody else has announced the same."""
    world.record(await world.sync())
    world.order(make_draft("mug", {"S": 12, "L": 4}), revision=2, run="run-2")
    await die(world, at - 2)  # the product is there, and the first step answered: of that, one gap is left
    await adjust_by_hand(sandbox, 5, key="elsewhere")
    world.order(make_draft("mug", {"S": 15, "L": 4}), revision=3, run="run-3")
    (doubt,) = await world.review()
    assert doubt.code == "expected_elsewhere"
    world.approve()
    assert booked(await world.sync()) == [(2, "announced")]
    assert await sandbox.quantities("incoming") == {"mug-S": 17, "mug-L": 4}


async def test_a_product_that_is_gone(world: World, sandbox: SandboxShop) -> None:
    """Its order waits for a person, and its books say meanwhile what was announced."""
    await die(world, GAPS["answered"])
    (product,) = (await sandbox.state())["products"]
    await sandbox.edit("delete_product", product_id=product["id"])
    output = await world.sync()
    assert [one.code for one in output.failures] == ["product_deleted"]
    assert booked(output) == ANNOUNCED


@died
async def test_a_newer_revision_that_was_only_recorded(world: World, sandbox: SandboxShop, at: int) -> None:
    """It was over before the older one had told anything, and so could not book that."""
    await die(world, at)
    world.books.revision = 2
    output = await world.sync()
    assert booked(output) == ANNOUNCED
    assert "newer revision" in output.note
    assert await sandbox.quantities("incoming") == INCOMING


@died
async def test_an_order_that_ended_meanwhile_expects_nothing(world: World, sandbox: SandboxShop, at: int) -> None:
    """Whoever ended it had looked before anything was announced."""
    await die(world, at)
    world.books.state = "cancelled"
    output = await world.sync()
    assert (output.stock, "over" in output.note) == ((), True)
    assert await sandbox.quantities("incoming") == NOTHING


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
