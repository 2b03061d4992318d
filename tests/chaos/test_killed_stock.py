"""Killed at any moment of a receipt, quantities are those of one run. CHAOS=full: at least 200 deaths in each gap."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import func, select

from app.db.receiving import Units
from app.db.tables import effects, shipment_lines
from app.sandbox.state import ALL_SCOPES, TRANSFER_SCOPES
from tests.chaos.lives import RECORD, Shopkeeper, order, shopkeeping
from tests.sandbox_shop import SandboxShop, http, sandbox
from tests.support import CHAOS_IN_FULL

__all__ = ["http", "sandbox"]

RECEIPTS = 70 if CHAOS_IN_FULL else 3
SHIPPED = 100 if CHAOS_IN_FULL else 3
"""Each is killed once in each of its changes: three, or two where a shipment takes accepted and rejected at once."""

MANY = 10_000


GAPS = {
    "intent": (1, 2, 3),  # the first is that of the plan
    "sent": (0, 1, 1),
    "answered": (0, 1, 1),
    "vendor-call": (1, 1, 1),
    "confirm": (1, 0, 0),
    RECORD: (0, 0, 0),
}
"""Where a life ends, and how often the lives of one receipt pass there before: so that each change has its death."""


@pytest.fixture
async def shopkeeper(database_url: str, sandbox: SandboxShop) -> AsyncIterator[Shopkeeper]:
    """An order of very many red mugs, announced, and of blue ones nobody announced."""
    async with shopkeeping(database_url, sandbox) as shopkeeper:
        await order(shopkeeper.given, {"MUG-R": MANY, "MUG-B": 0})
        await shopkeeper.work("run-1")
        assert await sandbox.quantities("incoming") == {"MUG-R": MANY, "MUG-B": 0}
        yield shopkeeper


@pytest.mark.parametrize("gap", GAPS)
async def test_a_worker_killed_in_one_gap_of_every_change_counts_each_unit_once(
    shopkeeper: Shopkeeper, gap: str
) -> None:
    for _ in range(RECEIPTS):
        run_id = await receive(shopkeeper)
        for passes in GAPS[gap]:
            await shopkeeper.die(run_id, gap, passes)
        await shopkeeper.work(run_id)
    assert shopkeeper.fate.deaths == 3 * RECEIPTS
    await check(shopkeeper, changes=3)


@pytest.mark.parametrize(
    ("gap", "passes"), [("answered", (0, 1, 1)), ("vendor-call", (0, 1, 1)), ("confirm", (0, 0, 0))]
)
async def test_a_worker_killed_between_the_two_changes_that_stand_for_a_move_counts_each_unit_once(
    shopkeeper: Shopkeeper, gap: str, passes: tuple[int, ...]
) -> None:
    """The shop refuses to move units, so accepted ones leave incoming first and become available then."""
    await shopkeeper.sandbox.change(settings={"refuses_moves": True})
    for _ in range(RECEIPTS):
        run_id = await receive(shopkeeper)
        await shopkeeper.die(run_id, "confirm", 1)  # the refusal is written down
        for left in passes:
            await shopkeeper.die(run_id, gap, left)
        await shopkeeper.work(run_id)
    assert shopkeeper.fate.deaths == 4 * RECEIPTS
    await check(shopkeeper, changes=4)


@pytest.mark.parametrize("gap", GAPS)
async def test_a_worker_killed_in_one_gap_of_a_receipt_of_shipments_counts_each_unit_once(
    database_url: str, sandbox: SandboxShop, gap: str
) -> None:
    """Two changes a receipt: what came of the shipment, and what came on top of it."""
    await sandbox.change(scopes=[*ALL_SCOPES, *TRANSFER_SCOPES])
    async with shopkeeping(database_url, sandbox) as shopkeeper:
        await order(shopkeeper.given, {"MUG-R": MANY, "MUG-B": 0})
        await shopkeeper.work("run-1")
        for _ in range(SHIPPED):
            run_id = await receive(shopkeeper)
            for passes in GAPS[gap][:2]:
                await shopkeeper.die(run_id, gap, passes)
            await shopkeeper.work(run_id)
        assert shopkeeper.fate.deaths == 2 * SHIPPED
        (shipment,) = (await sandbox.state())["shipments"]
        (line,) = shipment["lines"]
        assert (line["accepted_quantity"], line["rejected_quantity"]) == (2 * SHIPPED, SHIPPED)
        [booked] = await shopkeeper.given.rows(shipment_lines)
        assert (booked["accepted"], booked["rejected"]) == (2 * SHIPPED, SHIPPED)
        await check(shopkeeper, changes=1, receipts=SHIPPED, announced_by=0)


async def test_a_request_that_reaches_the_shop_after_its_process_died_counts_once(shopkeeper: Shopkeeper) -> None:
    """The shop is slow: the next worker repeats the request while the first is at work, and is told to wait."""
    mutations = ("inventoryMoveQuantities", "inventoryAdjustQuantities")
    for number in range(RECEIPTS):
        await shopkeeper.sandbox.fail(mutations[number % 2], "slow", seconds=0.05)
        run_id = await receive(shopkeeper)
        for passes in (0, 0, 0):
            await shopkeeper.die(run_id, "sent", passes)
        await shopkeeper.work(run_id)
    await check(shopkeeper, changes=3)


@pytest.mark.parametrize("fault", ["timeout_after_success", "error_502_after_success"])
async def test_an_answer_that_is_lost_is_asked_for_and_counts_each_unit_once(
    shopkeeper: Shopkeeper, fault: str
) -> None:
    for _ in range(RECEIPTS):
        for mutation, count in (("inventoryMoveQuantities", 1), ("inventoryAdjustQuantities", 2)):
            await shopkeeper.sandbox.fail(mutation, fault, count=count)
        before = shopkeeper.lives
        await shopkeeper.work(await receive(shopkeeper))
        assert shopkeeper.lives > before + 2  # an answer was lost, and the next life asked
    await check(shopkeeper, changes=3)


async def receive(shopkeeper: Shopkeeper) -> str:
    """Units for every kind of change: accepted, rejected, and on top of what was announced."""
    counted = {"MUG-R": Units(2, rejected=1), "MUG-B": Units(1)}
    _, job = await shopkeeper.people.receive("order-1", "ann", counted, allow_over=True)
    return job.run_id


async def check(shopkeeper: Shopkeeper, *, changes: int, receipts: int = RECEIPTS, announced_by: int = 1) -> None:
    """The shop and the books say what one undisturbed run of each receipt, with so many changes, would have left."""
    sandbox = shopkeeper.sandbox
    assert await sandbox.quantities("incoming") == {"MUG-R": MANY - 3 * receipts, "MUG-B": 0}
    assert await sandbox.quantities("available") == {"MUG-R": 2 * receipts, "MUG-B": receipts}
    assert await shopkeeper.books() == {
        "MUG-R": (MANY, 2 * receipts, receipts, 0),
        "MUG-B": (0, receipts, 0, receipts),
    }
    assert len((await sandbox.state())["adjustments"]) == announced_by + changes * receipts
    async with shopkeeper.database.transaction() as connection:
        unsettled = await connection.scalar(
            select(func.count()).select_from(effects).where(effects.c.state != "confirmed")
        )
    assert unsettled == 0
    print(f"deaths: {shopkeeper.fate.deaths}, lives: {shopkeeper.lives}")
