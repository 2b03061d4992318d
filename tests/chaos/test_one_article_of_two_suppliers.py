"""Two suppliers' first orders name one new article at one instant: one product, each unit counted for its order.

The shop's index lags for ever here: what an order finds of another's work, it knows from us.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

import pytest
from sqlalchemy import select, text, update

from app.approving import open_approvals
from app.core import Core, open_core
from app.db.tables import effects, product_drafts, runs
from app.enqueue import enqueue_next
from pipeline import flow
from pipeline.contract import Done, Review
from pipeline.errors import AnothersTurn, VendorUnavailable
from pipeline.ports import NEW_PRODUCT
from pipeline.shopkeeping import bulk
from tests.chaos.stage_alone import Died, attempt, attempted, finish
from tests.chaos.test_killed_products import csv, gtin_of
from tests.chaos.watching import all_due_at, check_nothing_counted, impatient, order_faults, quantities, rows, run_of
from tests.shop import DOMAIN, TOKEN, connect_merchant, settings_for, settled, shop_state, submit, working
from tests.support import loopback

PAIRS = 8
SUPPLIERS = ("Juniper Ceramics Co.", "Tonware")
CUP = [("CUP-S", gtin_of(2), "Cup", "S", 5)]
TASSE = [("T-77", gtin_of(2), "Tasse", "Klein", 3)]

Line = tuple[str, str, str, str, int]


def order_of(supplier: str, number: str, lines: Sequence[Line]) -> bytes:
    return csv(number, list(lines)).replace(b"Juniper Ceramics Co.", supplier.encode())


@dataclass(frozen=True)
class Place:
    """Where a test's servers are."""

    redis_url: str
    database_url: str
    sandbox: str

    @asynccontextmanager
    async def open(self, **changed: object) -> AsyncIterator[Core]:
        settings = {"bucket_size": 1e9, "restore_rate": 1e6, "search_lag_s": 3600, "processing_s": 0.01}
        async with loopback() as http:
            body = {"domain": DOMAIN, "token": TOKEN, "settings": settings}
            (await http.post(f"{self.sandbox}/shops", json=body)).raise_for_status()
        async with open_core(settings_for(self.redis_url, self.database_url, self.sandbox)) as core:
            await connect_merchant(core, self.sandbox, **changed)
            yield core

    async def due(self, core: Core, *orders: Sequence[Line]) -> list[str]:
        """Each a first order of a supplier of its own, about to go into the shop; their runs."""
        before = core.settings.model_copy(update={"stages": ",".join(flow.NAMES[: flow.NAMES.index(flow.SYNC)])})
        async with working(before):
            uploads = [
                await submit(core, f"{n}.csv", order_of(SUPPLIERS[n], f"PO-{n}", lines))
                for n, lines in enumerate(orders)
            ]
            await all_due_at(core, flow.SYNC, len(orders))
        return [str((await run_of(core, upload))["id"]) for upload in uploads]

    async def check_one_product(self, core: Core) -> None:
        """The cup, once, with the units of both orders; nothing left open."""
        ((_, units),) = (await quantities(self.sandbox)).items()
        assert units == (8, 0, 0)
        state = await shop_state(self.sandbox)
        assert (len(state["products"]), state["products_created"]) == (1, 1)
        assert await rows(core, select(effects.c.key).where(effects.c.state != "confirmed")) == []
        ids = {row["product_id"] for row in await rows(core, select(product_drafts.c.product_id))}
        assert ids == {state["products"][0]["id"]}


@pytest.fixture
def place(redis_url: str, database_url: str, sandbox: str) -> Place:
    return Place(redis_url, database_url, sandbox)


def meeting(count: int) -> Callable[[str], Awaitable[None]]:
    """All have looked at the shop before any of them says what it creates."""
    barrier = asyncio.Barrier(count)
    met: set[asyncio.Task[object] | None] = set()

    async def wait(key: str) -> None:
        me = asyncio.current_task()
        if key.startswith("product:") and me not in met:
            met.add(me)
            await barrier.wait()

    return wait


async def after(gap: str, core: Core, run_id: str) -> None:
    """The run's process dies at that gap of its product."""

    def doom(reached: str, key: str) -> None:
        if (reached, key.partition(":")[0]) == (gap, "product"):
            raise Died(gap)

    with pytest.raises(Died):
        await attempt(core, run_id, doom)


async def _met(core: Core, both: Sequence[str]) -> tuple[str, str]:
    """Who created, and who has to wait, when both have looked."""
    meet = meeting(2)
    ended = await asyncio.gather(*(attempted(core, run, before_intent=meet) for run in both), return_exceptions=True)
    (waits,) = [run for run, end in zip(both, ended, strict=True) if isinstance(end, AnothersTurn)]
    (first,) = [run for run, end in zip(both, ended, strict=True) if not isinstance(end, BaseException)]
    return first, waits


async def test_of_two_that_have_both_looked_one_creates_and_the_other_finds_it(place: Place) -> None:
    async with place.open() as core:
        both = await place.due(core, CUP, TASSE)
        first, waited = await _met(core, both)
        # The first is not recorded yet: what it created and announced stands in the ledger alone.
        assert isinstance(await finish(core, waited), Done)
        assert isinstance(await finish(core, first), Done)
        await place.check_one_product(core)


@pytest.mark.parametrize("gap", ["intent", "vendor-call", "confirm"])
async def test_the_article_of_one_that_died_is_not_created_by_the_other(place: Place, gap: str) -> None:
    async with place.open() as core:
        died, other = await place.due(core, CUP, TASSE)
        await after(gap, core, died)
        if gap != "confirm":
            with pytest.raises(AnothersTurn, match=died):
                await attempt(core, other)
            assert isinstance(await finish(core, died), Done)
        assert isinstance(await finish(core, other), Done)
        if gap == "confirm":
            assert isinstance(await finish(core, died), Done)
        await place.check_one_product(core)


async def test_who_waits_for_the_shop_with_an_answer_lost_is_waited_for(place: Place) -> None:
    async with place.open() as core:
        first, other = await place.due(core, CUP, TASSE)
        await order_faults(place.sandbox, [{"operation": "productSet", "kind": "error_502_after_success"}])
        with pytest.raises(VendorUnavailable):
            await attempt(core, first)
        with pytest.raises(AnothersTurn):
            await attempt(core, other)
        assert isinstance(await finish(core, first), Done)
        assert isinstance(await finish(core, other), Done)
        await place.check_one_product(core)


async def test_who_has_stopped_is_not_waited_for_and_finds_the_product_when_it_is_brought_back(place: Place) -> None:
    async with place.open() as core:
        stopped, other = await place.due(core, CUP, TASSE)
        await after("intent", core, stopped)
        async with core.database.transaction() as connection:
            failed = {"state": "failed", "failed_stage": flow.SYNC, "failure_code": "test", "failure": "gave up"}
            await connection.execute(update(runs).where(runs.c.id == stopped).values(**failed, due_stage=None))
            await connection.execute(text("UPDATE po.runs SET updated_at = now()"))
        with pytest.raises(AnothersTurn):  # its request may be under way
            await attempt(core, other)
        async with core.database.transaction() as connection:
            earlier = runs.c.updated_at - timedelta(minutes=1)
            await connection.execute(update(runs).where(runs.c.id == stopped).values(updated_at=earlier))
        assert isinstance(await finish(core, other), Done)
        await enqueue_next(core.bull, await core.people.retry(stopped, "ann"))
        assert isinstance(await finish(core, stopped), Done)
        await place.check_one_product(core)


async def test_who_was_approved_to_create_it_asks_again_before_adding_to_the_others_product(place: Place) -> None:
    async with place.open(auto_approve=False) as core, open_approvals(core) as approvals:
        uploads = [
            await submit(core, f"{n}.csv", order_of(SUPPLIERS[n], f"PO-{n}", lines))
            for n, lines in enumerate((CUP, TASSE))
        ]
        async with working(core.settings):
            await settled(core, 2)
        both = [str((await run_of(core, upload))["id"]) for upload in uploads]
        for run in both:
            await enqueue_next(core.bull, (await approvals.approve(run, "ann")).next)
        first, waits = await _met(core, both)
        assert isinstance(await finish(core, first), Done)
        result = await finish(core, waits)
        assert isinstance(result, Review)
        assert "is in the shop by now: it would not be created, but added to" in result.doubts[0].message
        async with working(core.settings):
            await settled(core, 2)
        await enqueue_next(core.bull, (await approvals.approve(waits, "ann")).next)
        assert isinstance(await finish(core, waits), Done)
        await place.check_one_product(core)


async def test_two_that_a_person_calls_new_are_two(place: Place) -> None:
    async with place.open(auto_approve=True) as core:
        both = await place.due(core, CUP, TASSE)
        async with core.database.transaction() as connection:
            await connection.execute(update(product_drafts).values(choice=NEW_PRODUCT, choices=1))
        meet = meeting(2)
        for ready, result in await asyncio.gather(*(attempted(core, run, before_intent=meet) for run in both)):
            assert isinstance(result, Done)
            await core.runs.record(ready, result)
        assert await quantities(place.sandbox) == {"CUP-S": (5, 0, 0), "T-77": (3, 0, 0)}


async def test_many_pairs_at_once_on_two_workers_share_their_products(place: Place) -> None:
    """Each pair shares two new articles, which the two orders name the other way round."""
    async with place.open() as core:
        for pair in range(PAIRS):
            cup, jug = gtin_of(2 * pair), gtin_of(2 * pair + 1)
            ours = [(f"CUP{pair}", cup, f"Cup {pair}", "S", 5), (f"JUG{pair}", jug, f"Jug {pair}", "S", 7)]
            theirs = [(f"K{pair}", jug, f"Krug {pair}", "S", 70), (f"T{pair}", cup, f"Tasse {pair}", "S", 50)]
            await submit(core, f"{pair}-a.csv", order_of(SUPPLIERS[0], f"A-{pair}", ours))
            await submit(core, f"{pair}-b.csv", order_of(SUPPLIERS[1], f"B-{pair}", theirs))
        async with working(core.settings), working(core.settings), impatient(core, flow.SYNC):
            await settled(core, 2 * PAIRS)
        await check_nothing_counted(core)
        held = sorted(units for units, _, _ in (await quantities(place.sandbox)).values())
        assert held == [55] * PAIRS + [77] * PAIRS
        assert (await shop_state(place.sandbox))["products_created"] == 2 * PAIRS


async def test_two_that_each_hold_what_the_other_begins_with_do_not_wait_for_ever(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "PRODUCTS_MIN", 2)
    async with place.open() as core:
        ours = [("CUP", gtin_of(1), "Cup", "S", 5), ("JUG", gtin_of(2), "Jug", "S", 5)]
        theirs = [("K", gtin_of(2), "Krug", "S", 50), ("T", gtin_of(1), "Tasse", "S", 50)]
        both = await place.due(core, ours, theirs)
        for run in both:
            with pytest.raises(Died):
                await attempted(core, run, doom_of_the_operation, before_intent=somebody_is_at_the_first())
        left = list(both)
        for _ in range(3):
            for run in list(left):
                with suppress(AnothersTurn):
                    assert isinstance(await finish(core, run), Done)
                    left.remove(run)
        assert left == []
        assert sorted((await quantities(place.sandbox)).values()) == [(55, 0, 0)] * 2
        assert (await shop_state(place.sandbox))["products_created"] == 2


def doom_of_the_operation(_gap: str, key: str) -> None:
    """Dies when all of an order's products have their intents."""
    if key.startswith("bulk:"):
        raise Died(key)


def somebody_is_at_the_first() -> Callable[[str], Awaitable[None]]:
    """The order's first product has to wait for a moment."""
    seen: list[str] = []

    async def refuse(key: str) -> None:
        if key.startswith("product:"):
            seen.append(key)
        if seen == [key]:
            raise AnothersTurn("a third order is at it")

    return refuse


async def test_two_large_orders_that_begin_at_either_end_each_create_half_by_an_operation(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has said that it creates half of what they share, and leaves the other half out of its file."""
    monkeypatch.setattr(bulk, "PRODUCTS_MIN", 3)
    monkeypatch.setattr(bulk, "POLL_S", 0.02)
    async with place.open() as core:
        ours = [(f"CUP{n}", gtin_of(n), f"Cup {n}", "S", 5) for n in range(6)]
        theirs = [(f"T{n}", gtin_of(n), f"Tasse {n}", "S", 50) for n in reversed(range(6))]
        both = await place.due(core, ours, theirs)
        left = list(both)
        in_step = asyncio.Barrier(2)

        async def step(key: str) -> None:
            if key.startswith("product:") and "/" not in key and len(left) == 2:
                try:
                    await asyncio.wait_for(in_step.wait(), timeout=5)
                except (TimeoutError, asyncio.BrokenBarrierError):
                    await in_step.reset()

        for _ in range(4):
            ended = await asyncio.gather(
                *(attempted(core, run, before_intent=step) for run in left), return_exceptions=True
            )
            for end in ended:
                if isinstance(end, BaseException):
                    assert isinstance(end, AnothersTurn), end
                else:
                    await core.runs.record(*end)
                    left.remove(end[0].run.id)
        assert left == []
        assert sorted((await quantities(place.sandbox)).values()) == [(55, 0, 0)] * 6
        state = await shop_state(place.sandbox)
        assert (state["products_created"], state["calls"]["bulkOperationRunMutation"]) == (6, 2)
