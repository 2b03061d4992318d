"""Stage 9 and what is coming: announced, revised, taken back, each change of a quantity once."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from pipeline.errors import VendorRefused, VendorUnavailable
from pipeline.shopkeeping import elsewhere
from tests.pipeline.stages.world import INCOMING, World, adjust_by_hand, delivery_note, world
from tests.sandbox_shop import (
    Killed,
    Killer,
    SandboxShop,
    http,
    make_draft,
    make_given,
    sandbox,
    shops,
    unplaced,
)

__all__ = ["http", "sandbox", "shops", "world"]


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
