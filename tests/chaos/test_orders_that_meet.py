"""Orders that arrive together and speak of the same things: one product, each unit counted for whoever ordered it."""

from __future__ import annotations

from sqlalchemy import func, select

from app.core import Core, open_core
from app.db.tables import effects, order_revisions, order_variants, purchase_orders, runs
from app.settings import Settings
from pipeline import flow
from tests.chaos.watching import check_nothing_counted, impatient, plain_csv, quantities, rows
from tests.shop import (
    connect_merchant,
    doubled_results,
    settings_for,
    settled,
    shop_state,
    submit,
    working,
)

PAIRS = 8


async def test_two_orders_that_name_the_same_new_product_create_it_once_and_add_up(
    redis_url: str, database_url: str, sandbox: str
) -> None:
    """Eight pairs at once, on two workers; each pair shares two of four sizes of a product nobody knows yet."""
    settings = settings_for(redis_url, database_url, sandbox)
    async with open_core(settings) as core:
        await connect_merchant(core, sandbox)
        for pair in range(PAIRS):
            first = {f"CUP{pair}-S": 5, f"CUP{pair}-M": 6, f"CUP{pair}-L": 7}
            second = {f"CUP{pair}-M": 60, f"CUP{pair}-L": 70, f"CUP{pair}-XL": 80}
            await submit(core, f"{pair}-a.csv", plain_csv(f"A-{pair}", first))
            await submit(core, f"{pair}-b.csv", plain_csv(f"B-{pair}", second))
        await _work_on_two(settings, core, 2 * PAIRS)

        await check_nothing_counted(core)
        expected = {"S": 5, "M": 66, "L": 77, "XL": 80}
        wanted = {f"CUP{pair}-{size}": (units, 0, 0) for pair in range(PAIRS) for size, units in expected.items()}
        assert await quantities(sandbox) == wanted
        assert (await shop_state(sandbox))["products_created"] == PAIRS
        assert await doubled_results(core) == []
        assert await _open_intents(core) == 0


async def test_revisions_in_flight_together_announce_the_newest_and_nothing_twice(
    redis_url: str, database_url: str, sandbox: str
) -> None:
    """Which of two that arrive together is the newer one, the books decide; the shop agrees with them."""
    settings = settings_for(redis_url, database_url, sandbox)
    async with open_core(settings) as core:
        await connect_merchant(core, sandbox)
        for number in range(4):
            for units in (10, 7, 12):
                content = plain_csv(f"PO-{number}", {f"CUP{number}-S": units, f"CUP{number}-M": 2 * units})
                await submit(core, f"{number}-{units}.csv", content)
        await _work_on_two(settings, core, 12)

        await check_nothing_counted(core)
        held = await quantities(sandbox)
        for number in range(4):
            small, medium = held[f"CUP{number}-S"][0], held[f"CUP{number}-M"][0]
            assert small in {10, 7, 12}
            assert medium == 2 * small
        by_variant = await rows(core, select(order_variants.c.announced, order_variants.c.expected))
        assert all(row["announced"] == row["expected"] for row in by_variant)
        assert sorted(row["announced"] for row in by_variant) == sorted(units for units, _, _ in held.values())
        revisions = await rows(core, select(order_revisions.c.revision).order_by(order_revisions.c.revision))
        assert [row["revision"] for row in revisions] == [1] * 4 + [2] * 4 + [3] * 4
        assert await _open_intents(core) == 0


async def test_a_revision_announces_only_the_difference(redis_url: str, database_url: str, sandbox: str) -> None:
    async with working(settings_for(redis_url, database_url, sandbox)) as (core, _):
        await connect_merchant(core, sandbox)
        await submit(core, "first.csv", plain_csv("PO-1", {"CUP-S": 10, "CUP-M": 4}))
        await settled(core, 1)
        await submit(core, "second.csv", plain_csv("PO-1", {"CUP-S": 12, "CUP-L": 3}))
        await settled(core, 2)

        assert await quantities(sandbox) == {"CUP-S": (12, 0, 0), "CUP-M": (0, 0, 0), "CUP-L": (3, 0, 0)}
        deltas = [
            change["delta"] for group in (await shop_state(sandbox))["adjustments"] for change in group["changes"]
        ]
        assert sorted(deltas) == [-4, 2, 3, 4, 10]


async def test_of_copies_that_arrive_together_one_goes_on_and_the_others_ask(
    redis_url: str, database_url: str, sandbox: str
) -> None:
    """The very same bytes, four times three, under other uploads and other names."""
    settings = settings_for(redis_url, database_url, sandbox)
    async with open_core(settings) as core:
        await connect_merchant(core, sandbox)
        for copy in range(4):
            for number in range(3):
                content = plain_csv(f"PO-{number}", {f"CUP{number}-S": 10})
                await submit(core, f"{number}-copy-{copy}.csv", content)
        await _work_on_two(settings, core, 12)

        found = await rows(core, select(runs.c.state, runs.c.review, runs.c.order_id))
        assert [row["state"] for row in found].count("completed") == 3
        copies = [row for row in found if row["state"] == "needs_review"]
        assert len(copies) == 9
        assert {doubt["code"] for row in copies for doubt in row["review"]} == {"duplicate_document"}
        assert {row["order_id"] for row in copies} == {None}
        assert await quantities(sandbox) == {f"CUP{number}-S": (10, 0, 0) for number in range(3)}
        orders = await rows(core, select(purchase_orders.c.revision))
        assert [row["revision"] for row in orders] == [1, 1, 1]


async def _work_on_two(settings: Settings, core: Core, count: int) -> None:
    """Two workers side by side, as two replicas would be, until so many runs are over."""
    async with working(settings), working(settings), impatient(core, flow.SYNC):
        await settled(core, count)


async def _open_intents(core: Core) -> int:
    found = await rows(core, select(func.count().label("n")).where(effects.c.state != "confirmed"))
    return int(found[0]["n"])
