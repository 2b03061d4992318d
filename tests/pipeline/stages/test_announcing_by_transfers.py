"""Where the shop's own transfers may be used, an order is one from its announcement to the last carton."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from app.sandbox.state import ALL_SCOPES, TRANSFER_SCOPES
from pipeline.contract import Reject
from pipeline.errors import VendorRefused, VendorUnavailable
from tests.pipeline.stages.world import World, world
from tests.sandbox_shop import Killed, Killer, SandboxShop, http, make_draft, sandbox, shops

__all__ = ["http", "sandbox", "shops", "world"]

SCOPES = [*ALL_SCOPES, *TRANSFER_SCOPES]


@pytest.fixture(params=["shipment", "transfer"], autouse=True)
async def transfers(request: pytest.FixtureRequest, sandbox: SandboxShop) -> None:
    """The app may transfer goods; and whatever makes them incoming, they are it once."""
    await sandbox.change(scopes=SCOPES, settings={"incoming_moves_with": request.param})


async def shipped(sandbox: SandboxShop) -> list[list[tuple[int, int, int]]]:
    """(shipped, accepted, rejected) of each line of each shipment."""
    return [
        [(line["quantity"], line["accepted_quantity"], line["rejected_quantity"]) for line in one["lines"]]
        for one in (await sandbox.state())["shipments"]
    ]


async def die_at_each_gap(world: World, deaths: tuple[int, ...]) -> None:
    for at in deaths:
        with pytest.raises(Killed):
            await world.sync(Killer(at))


async def test_an_order_is_announced_by_one_transfer_that_is_on_its_way(world: World, sandbox: SandboxShop) -> None:
    await die_at_each_gap(world, (1, 2, 3, 2, 3, 4, 3, 4, 5))  # the product, the transfer, the shipment
    output = await world.sync()
    assert await sandbox.quantities("incoming") == {"mug-S": 10, "mug-L": 4}
    assert await shipped(sandbox) == [[(10, 0, 0), (4, 0, 0)]]
    state = await sandbox.state()
    assert (len(state["transfers"]), state["adjustments"]) == (1, [])
    assert [(one.quantity, one.move) for one in output.stock] == [(10, "announced"), (4, "announced")]
    assert {one.shipment_id for one in output.shipped} == {state["shipments"][0]["id"]}


@pytest.mark.parametrize("lost", ["timeout_after_success", "error_502_after_success"])
async def test_a_lost_answer_leaves_one_transfer_and_one_shipment(
    world: World, sandbox: SandboxShop, lost: str
) -> None:
    for operation in ("inventoryTransferCreateAsReadyToShip", "inventoryShipmentCreateInTransit"):
        await sandbox.fail(operation, lost)
        with pytest.raises(VendorUnavailable):
            await world.sync()
    world.effects.age(timedelta(hours=30))  # no key is known any more: the transfer itself is looked for
    await sandbox.change(scopes=SCOPES, settings={"idempotency_retention_s": 0})
    await world.sync()
    assert await shipped(sandbox) == [[(10, 0, 0), (4, 0, 0)]]
    assert len((await sandbox.state())["transfers"]) == 1


async def test_a_forgotten_announcement_finds_its_transfer_however_long_ago(world: World, sandbox: SandboxShop) -> None:
    await world.sync()
    world.effects.rows.clear()
    await sandbox.change(scopes=SCOPES, settings={"idempotency_retention_s": 0})
    await world.sync()
    assert await shipped(sandbox) == [[(10, 0, 0), (4, 0, 0)]]


async def test_a_forgotten_transfer_with_other_goods_is_a_question_and_makes_no_second_one(
    world: World, sandbox: SandboxShop
) -> None:
    """A database restored from a backup; the next revision would give the same step other goods."""
    await world.sync()
    world.effects.rows = {key: one for key, one in world.effects.rows.items() if not key.startswith("announce:")}
    world.order(make_draft("mug", {"S": 12, "L": 4}), revision=2, run="run-2")
    (doubt,) = await world.review()
    assert doubt.code == "stock_outcome_unknown"
    world.approve()
    await world.sync()
    assert await shipped(sandbox) == [[(10, 0, 0), (4, 0, 0)]]
    assert len((await sandbox.state())["transfers"]) == 1


async def test_goods_are_received_in_parts_accepted_and_rejected_and_more_than_came_is_added(
    world: World, sandbox: SandboxShop
) -> None:
    world.record(await world.sync())
    world.receive("receipt-1", S=(6, 1))
    await die_at_each_gap(world, (1, 2, 3, 2, 3, 4))
    world.record(await world.sync())
    assert await shipped(sandbox) == [[(10, 6, 1), (4, 0, 0)]]
    assert await sandbox.quantities("available") == {"mug-S": 6, "mug-L": 0}

    world.receive("receipt-2", S=(3, 0), L=(5, 0))
    world.record(await world.sync())
    assert await shipped(sandbox) == [[(10, 9, 1), (4, 4, 0)]]
    assert await sandbox.quantities("available") == {"mug-S": 9, "mug-L": 5}
    assert await sandbox.quantities("incoming") == {"mug-S": 0, "mug-L": 0}
    assert (await sandbox.state())["transfers"][0]["status"] == "TRANSFERRED"


async def test_a_revision_ships_the_difference_or_rejects_it(world: World, sandbox: SandboxShop) -> None:
    world.record(await world.sync())
    world.order(make_draft("mug", {"S": 13, "L": 2}), revision=2, run="run-2")
    await die_at_each_gap(world, (2, 3, 4, 3, 4, 5, 3, 4, 5))
    world.record(await world.sync())
    assert await shipped(sandbox) == [[(10, 0, 0), (4, 0, 2)], [(3, 0, 0)]]
    assert await sandbox.quantities("incoming") == {"mug-S": 13, "mug-L": 2}

    world.order(make_draft("mug", {"S": 8, "L": 2}), revision=3, run="run-3")
    output = await world.sync()
    world.record(output)
    assert await shipped(sandbox) == [[(10, 0, 2), (4, 0, 2)], [(3, 0, 3)]]
    assert await sandbox.quantities("incoming") == {"mug-S": 8, "mug-L": 2}
    assert sorted((one.quantity, one.taken_back) for one in output.shipped) == [(3, 3), (4, 2), (10, 2)]


@pytest.mark.parametrize("action", ["close", "cancel"])
async def test_what_never_comes_is_received_as_rejected(world: World, sandbox: SandboxShop, action: str) -> None:
    world.record(await world.sync())
    world.receive("receipt-1", S=(6, 1))
    world.record(await world.sync())
    world.end(action)
    output = await world.sync()
    assert output.ended == "closed"
    assert await shipped(sandbox) == [[(10, 6, 4), (4, 0, 4)]]
    assert await sandbox.quantities("incoming") == {"mug-S": 0, "mug-L": 0}
    assert await sandbox.quantities("available") == {"mug-S": 6, "mug-L": 0}


async def test_an_order_stays_with_the_way_it_began_whatever_is_granted_later(
    world: World, sandbox: SandboxShop
) -> None:
    await sandbox.change(scopes=list(ALL_SCOPES))
    world.record(await world.sync())
    await sandbox.change(scopes=SCOPES)
    world.order(make_draft("mug", {"S": 12, "L": 4}), revision=2, run="run-2")
    world.record(await world.sync())
    world.receive("receipt-1", S=(12, 0))
    await world.sync()
    assert (await sandbox.state())["transfers"] == []
    assert await sandbox.quantities("available") == {"mug-S": 12, "mug-L": 0}


async def test_goods_somebody_received_in_the_admin_are_not_received_again(world: World, sandbox: SandboxShop) -> None:
    world.record(await world.sync())
    (shipment,) = (await sandbox.state())["shipments"]
    line = {"shipmentLineItemId": shipment["lines"][0]["id"], "quantity": 9, "reason": "ACCEPTED"}
    await sandbox.do(
        "mutation($id: ID!, $l: [InventoryShipmentReceiveItemInput!]!) { inventoryShipmentReceive(id: $id,"
        ' lineItems: $l) @idempotent(key: "by hand") { userErrors { message } } }',
        id=shipment["id"],
        l=[line],
    )
    world.receive("receipt-1", S=(5, 0))
    with pytest.raises(Reject) as rejected:
        await world.sync()
    assert rejected.value.code == "received_elsewhere"
    assert await sandbox.quantities("available") == {"mug-S": 9, "mug-L": 0}


async def test_a_shipment_the_shop_refused_is_made_once_the_cause_is_mended(
    world: World, sandbox: SandboxShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.sandbox import transfers as sandbox_transfers

    def refuse(shop: Any, location_id: str, path: list[str]) -> list[dict[str, Any]]:
        return [sandbox_transfers.user_error(path, "The location is not active.", "LOCATION_NOT_ACTIVE")]

    with pytest.raises(Killed):
        await world.sync(Killer(at=6))  # the transfer is made and confirmed
    with monkeypatch.context() as patch:
        patch.setattr(sandbox_transfers, "_errors_of_location", refuse)
        with pytest.raises(VendorRefused) as refused:
            await world.sync()
    assert refused.value.code == "LOCATION_NOT_ACTIVE"
    await world.sync()
    assert await shipped(sandbox) == [[(10, 0, 0), (4, 0, 0)]]
    assert await sandbox.quantities("incoming") == {"mug-S": 10, "mug-L": 4}


@pytest.mark.parametrize(("status", "is_open"), [("READY_TO_SHIP", True), ("CANCELED", False)])
async def test_a_transfer_somebody_made_in_the_shop_is_named_while_it_is_open(
    world: World, sandbox: SandboxShop, status: str, is_open: bool
) -> None:
    """Even one whose goods are not incoming yet, and a shop where the app may only read transfers."""
    await sandbox.change(scopes=[*ALL_SCOPES, "read_inventory_transfers"])
    world.record(await world.sync())
    state = await sandbox.state()
    item = state["products"][0]["variants"][0]["inventory_item_id"]
    await sandbox.change(scopes=SCOPES)
    given = {
        "destinationLocationId": state["locations"][0]["id"],
        "lineItems": [{"inventoryItemId": item, "quantity": 5}],
    }
    made = await sandbox.do(
        "mutation($i: InventoryTransferCreateAsReadyToShipInput!) { inventoryTransferCreateAsReadyToShip(input: $i)"
        ' @idempotent(key: "by hand") { inventoryTransfer { id } userErrors { message } } }',
        i=given,
    )
    transfer_id = made["inventoryTransferCreateAsReadyToShip"]["inventoryTransfer"]["id"]
    if status == "CANCELED":
        await sandbox.do(
            "mutation($id: ID!) { inventoryTransferCancel(id: $id)"
            ' @idempotent(key: "off") { userErrors { message } } }',
            id=transfer_id,
        )
    await sandbox.change(scopes=[*ALL_SCOPES, "read_inventory_transfers"])
    world.order(make_draft("mug", {"S": 12, "L": 4}), revision=2, run="run-2")
    if not is_open:
        assert [one.quantity for one in (await world.sync()).stock] == [2]
        return
    (doubt,) = await world.review()
    assert (doubt.code, "transfer #T0001" in doubt.message) == ("expected_elsewhere", True)
    assert (await sandbox.state())["calls"]["inventoryAdjustQuantities"] == 1
