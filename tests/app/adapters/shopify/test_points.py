"""The shared bucket: nobody is throttled, nothing of the refill is lost, and whoever asked first is served first."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from heapq import heappop, heappush
from itertools import count, repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.adapters.shopify.alone import AloneLimits
from app.adapters.shopify.budget import LATE_S, WAIT_S_MAX, Budget, Report
from app.adapters.shopify.points import BLOCK_S, HELD_S, Ask, Bucket, Grant, Seen, fresh, reserve
from pipeline.errors import DatabaseUnavailable, VendorUnavailable

SIZE, RATE = 2000.0, 100.0


class World:
    """Time that passes only while everybody sleeps: ten minutes take a second."""

    def __init__(self) -> None:
        self.at = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []
        self._order = count()

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at, UTC)

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        event = asyncio.Event()
        heappush(self._sleepers, (self.at + seconds, next(self._order), event))
        await event.wait()

    async def pass_until(self, end: float, *tasks: asyncio.Task[None]) -> None:
        while True:
            for _ in range(20):
                await asyncio.sleep(0)
            assert not (died := [task.exception() for task in tasks if task.done() and task.exception()]), died
            if not self._sleepers or self._sleepers[0][0] > end:
                return
            self.at, _, event = heappop(self._sleepers)
            event.set()


@dataclass
class Shopify:
    """A leaky bucket as Shopify documents it. Its refusals are what must not happen."""

    world: World
    level: float = SIZE
    filled_at: float = 0.0
    throttled: int = 0
    used: float = 0.0
    stands_still_s: float = 0.0
    """What is sent in the first seconds of a minute arrives after so many: the network, or a machine, stands still."""

    async def call(self, requested: float, actual: float, latency_s: float) -> Report:
        await self.world.sleep(max(latency_s * 0.3, self.stands_still_s - self.world.at % 60))
        self._refill()
        if self.level < requested:
            self.throttled += 1
            return Report(requested, None, self.level, SIZE, RATE)
        self.level -= requested
        await self.world.sleep(latency_s * 0.4)
        self._refill()
        self.level = min(SIZE, self.level + requested - actual)
        self.used += actual
        said = Report(requested, actual, float(int(self.level)), SIZE, RATE)
        await self.world.sleep(latency_s * 0.3)
        return said

    def drain(self, points: float) -> None:
        """Another process of the same app, which knows nothing of us."""
        self._refill()
        self.level = max(0.0, self.level - points)

    def _refill(self) -> None:
        self.level = min(SIZE, self.level + (self.world.at - self.filled_at) * RATE)
        self.filled_at = self.world.at


@dataclass
class Fleet:
    """Replicas at full speed, each with callers that do nothing but call."""

    world: World = field(default_factory=World)
    random: random.Random = field(default_factory=lambda: random.Random(4))
    burst_every_s: float = 0.0
    """Callers rest, and make three dear calls each at the same moment; 0 is full speed."""

    def __post_init__(self) -> None:
        self.shopify = Shopify(self.world)
        self.limits = AloneLimits(self.world)

    async def run(self, *, replicas: int, callers: int, seconds: float, estimate: float = 1.0) -> None:
        tasks = []
        for _ in range(replicas):
            budget = Budget("m", self.limits, self.world)
            tasks += [asyncio.create_task(self._caller(budget, estimate)) for _ in range(callers)]
        await self.world.pass_until(seconds, *tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _caller(self, budget: Budget, estimate: float) -> None:
        await self.world.sleep(self.random.random())
        for number in count():
            requested = self.random.choice([3, 11, 12, 21, 60, 160])
            if self.burst_every_s:
                requested = 160
                if number % 3 == 0:  # in between the bucket fills up
                    await self.world.sleep(self.burst_every_s - self.world.at % self.burst_every_s)
            price = requested * estimate
            try:
                await budget.take(price)
            except VendorUnavailable as full:
                await self.world.sleep(full.retry_after_s or 1.0)
                continue
            actual = requested * self.random.choice([0.1, 0.5, 1.0])
            report = await self.shopify.call(requested, actual, self.random.uniform(0.05, 0.4))
            budget.settle(price, report)


@pytest.mark.parametrize(("replicas", "callers"), [(1, 4), (3, 4), (6, 8)])
async def test_at_full_speed_nobody_is_throttled_in_ten_minutes_and_the_refill_is_used(
    replicas: int, callers: int
) -> None:
    fleet = Fleet()
    await fleet.run(replicas=replicas, callers=callers, seconds=600)
    assert fleet.shopify.throttled == 0
    assert fleet.shopify.used >= 0.95 * (600 * RATE)


async def test_an_estimate_that_is_far_too_high_costs_hardly_any_speed() -> None:
    fleet = Fleet()
    await fleet.run(replicas=3, callers=6, seconds=600, estimate=3.0)
    assert fleet.shopify.throttled == 0
    assert fleet.shopify.used >= 0.9 * (600 * RATE)


async def test_a_stranger_that_spends_from_the_bucket_is_noticed_by_the_answers() -> None:
    """Whoever does not share our books takes 30 points a second of the 100, without a word."""
    fleet = Fleet()

    async def stranger() -> None:
        while True:
            await fleet.world.sleep(1.0)
            fleet.shopify.drain(30)

    task = asyncio.create_task(stranger())
    await fleet.run(replicas=3, callers=4, seconds=600)
    task.cancel()
    assert 0 < fleet.shopify.throttled < 600 / 3, "a refusal corrects our figure, so not every drain costs one"
    assert fleet.shopify.used >= 0.9 * (600 * (RATE - 30))


async def test_a_network_that_stands_still_while_the_bucket_is_full_throttles_nobody() -> None:
    """What is on the way is neither in our copy nor missing in the shop's, which is full and refills no further."""
    fleet = Fleet(burst_every_s=60.0)
    fleet.shopify.stands_still_s = HELD_S - BLOCK_S
    await fleet.run(replicas=3, callers=8, seconds=600)
    assert fleet.shopify.throttled == 0
    assert fleet.shopify.used > 10 * SIZE / 2


async def test_a_replica_that_dies_with_points_in_its_hands_takes_no_speed_along() -> None:
    fleet = Fleet()
    for _ in range(50):
        await fleet.limits.reserve("m", Ask(30, longest_s=100))
    await fleet.run(replicas=2, callers=4, seconds=600)
    assert fleet.shopify.throttled == 0
    assert fleet.shopify.used >= 0.9 * (600 * RATE)


async def test_most_calls_ask_nobody() -> None:
    fleet = Fleet()
    asked = 0
    reserve_of = fleet.limits.reserve

    async def counted(merchant_id: str, ask: Ask) -> object:
        nonlocal asked
        asked += 1
        return await reserve_of(merchant_id, ask)

    fleet.limits.reserve = counted  # type: ignore[method-assign, assignment]
    budget = Budget("m", fleet.limits, fleet.world)
    calls = 0

    async def caller() -> None:
        nonlocal calls
        while True:
            await budget.take(10)
            calls += 1
            budget.settle(10, await fleet.shopify.call(10, 8, 0.1))

    task = asyncio.create_task(caller())
    await fleet.world.pass_until(60, task)
    task.cancel()
    assert calls > 500
    assert asked < calls / 5


# ------------------------------------------------------------------------------------------ one by one


def bucket(level: float) -> Bucket:
    return Bucket(level, 0.0, SIZE, RATE, known=True)


def test_who_asked_first_is_served_first_however_dear() -> None:
    one, first = reserve(bucket(0), Ask(500, longest_s=60), 0.0)
    two, second = reserve(one, Ask(10, longest_s=60), 0.0)
    assert (first.wait_s, second.wait_s) == (pytest.approx(5.0, rel=0.01), pytest.approx(5.1, rel=0.01))
    assert reserve(two, Ask(10, longest_s=5.0), 0.0)[1].points == 0, "longer than it would wait: nothing was taken"


def test_the_copy_leaves_room_for_what_may_be_in_other_hands() -> None:
    assert bucket(0).full == SIZE - HELD_S * RATE
    later, _ = reserve(bucket(0), Ask(0), 3600.0)
    assert later.level <= later.full


def test_the_first_figures_are_believed_and_later_ones_only_lower_ours() -> None:
    seen = Seen(1990, SIZE, RATE, held=20)
    first, _ = reserve(fresh(0.0), Ask(0, seen=seen), 0.0)
    assert (first.size, first.rate, first.known) == (SIZE, RATE, True)
    assert first.level + 50 >= 1990 - 20 - HELD_S * RATE - RATE  # less the block that was handed out
    poor, _ = reserve(bucket(1000), Ask(10, seen=Seen(100, SIZE, RATE)), 0.0)
    assert poor.level <= 100
    rich, _ = reserve(bucket(50), Ask(10, seen=Seen(1900, SIZE, RATE)), 0.0)
    assert rich.level <= 50


def test_a_clock_that_is_a_little_behind_takes_nothing_back() -> None:
    ahead = Bucket(100, 10.0, SIZE, RATE, known=True)
    same, _ = reserve(ahead, Ask(0), 9.5)
    assert same.at == 10.0
    assert same.level <= 100


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(1, 400), st.floats(0, 50))))
def test_no_more_is_handed_out_than_the_bucket_held_and_was_refilled(steps: list[tuple[float, float, float]]) -> None:
    at, now = 0.0, bucket(500)
    given_out = 0.0
    for passed, need, unused in steps:
        at += passed
        returned = min(unused, given_out)
        now, grant = reserve(now, Ask(need, returned, longest_s=1.0), at)
        given_out += grant.points - returned
        good_by = at + grant.wait_s
        assert given_out <= 500 + good_by * RATE + 1e-6


# ------------------------------------------------------------------------------------------ one process


async def test_points_that_were_not_used_within_a_second_go_back() -> None:
    world = World()
    limits = AloneLimits(world, {"m": bucket(500)})
    budget = Budget("m", limits, world)
    await budget.take(10)
    held = 500 - limits.buckets["m"].level - 10
    assert held > 0
    world.at += 1.5
    await budget.take(10)
    assert limits.buckets["m"].level == pytest.approx(500 - 10 + 150 - 100, rel=0.01)


class Slow(AloneLimits):
    """Postgres, or our process, stands still between taking and hearing of it: so many seconds each time."""

    def __init__(self, world: World, late_s: Iterable[float]) -> None:
        super().__init__(world, {"m": bucket(500)})
        self.asked: list[Ask] = []
        self._world = world
        self._late_s = iter(late_s)

    async def reserve(self, merchant_id: str, ask: Ask) -> Grant:
        grant = await super().reserve(merchant_id, ask)
        self.asked.append(ask)
        self._world.at += next(self._late_s, 0.0)
        return grant


async def test_points_that_came_too_late_are_asked_for_again() -> None:
    world = World()
    limits = Slow(world, [LATE_S + 1])
    assert await Budget("m", limits, world).take(50) == LATE_S + 1
    assert [one.returned for one in limits.asked] == [0, 0], "perhaps nobody missed them: they are forfeited"


@pytest.mark.parametrize("late_s", [LATE_S - 1, LATE_S + 1, 3 * WAIT_S_MAX])
async def test_a_process_that_always_stands_still_gets_its_points_all_the_same(late_s: float) -> None:
    """Otherwise nothing at all would be done while a machine is short of time, and all points be spent on that."""
    world = World()
    limits = Slow(world, repeat(late_s))
    budget = Budget("m", limits, world)
    for _ in range(10):
        await budget.take(50)
        world.at += 5.0
    assert len(limits.asked) == (10 if late_s < LATE_S else 20)


async def test_processes_that_stand_still_now_and_then_throttle_nobody() -> None:
    fleet = Fleet()
    fleet.shopify.stands_still_s = HELD_S - BLOCK_S - LATE_S
    reserve_of = fleet.limits.reserve

    async def late(merchant_id: str, ask: Ask) -> Grant:
        grant = await reserve_of(merchant_id, ask)
        await fleet.world.sleep(fleet.random.choice([0.0, 0.0, LATE_S * fleet.random.random()]))
        return grant

    fleet.limits.reserve = late  # type: ignore[method-assign]
    await fleet.run(replicas=3, callers=8, seconds=600)
    assert fleet.shopify.throttled == 0
    assert fleet.shopify.used >= 0.8 * (600 * RATE)


async def test_a_store_that_is_away_is_a_passing_trouble_and_loses_no_points() -> None:
    world = World()

    class Away(AloneLimits):
        """Postgres, once out of reach."""

        async def reserve(self, merchant_id: str, ask: Ask) -> Grant:
            asked.append(ask)
            if len(asked) == 2:
                raise DatabaseUnavailable("Postgres: ConnectionError")
            return await super().reserve(merchant_id, ask)

    asked: list[Ask] = []
    budget = Budget("m", Away(world, {"m": bucket(500)}), world)
    await budget.take(40)
    with pytest.raises(DatabaseUnavailable):
        await budget.take(80)
    await budget.take(80)
    assert asked[2].returned == 60, "what was left of the first block"


async def test_points_that_lay_about_for_longer_are_forfeited() -> None:
    """Meanwhile the shop's bucket and our copy of it filled up: given back, they would be there twice."""
    world = World()
    limits = AloneLimits(world, {"m": bucket(500)})
    one, other = Budget("m", limits, world), Budget("m", limits, world)
    await one.take(10)
    world.at += 60
    await other.take(900)
    before = limits.buckets["m"].level
    await one.take(10)
    assert limits.buckets["m"].level < before


async def test_who_is_cancelled_while_waiting_gives_its_points_back() -> None:
    world = World()
    limits = AloneLimits(world, {"m": bucket(0)})
    budget = Budget("m", limits, world)
    waiting = asyncio.create_task(budget.take(500))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert limits.buckets["m"].level == -500
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    taking = asyncio.create_task(budget.take(10))
    await world.pass_until(1.0, taking)
    await taking
    assert limits.buckets["m"].level == pytest.approx(-10)


async def test_a_wait_that_is_too_long_is_the_callers_and_nobody_elses() -> None:
    world = World()
    limits = AloneLimits(world, {"m": bucket(0)})
    budget = Budget("m", limits, world)
    with pytest.raises(VendorUnavailable) as raised:
        await budget.take(RATE * (WAIT_S_MAX + 5))
    assert raised.value.patient
    assert raised.value.retry_after_s == pytest.approx(WAIT_S_MAX + 5, rel=0.01)
    assert limits.buckets["m"].level == 0


async def test_a_shop_that_answered_nothing_for_long_is_not_believed_empty_for_ever() -> None:
    """Calls without a report may have been charged, but what they were charged is refilled like the rest."""
    world = World()
    budget = Budget("m", AloneLimits(world, {"m": bucket(500)}), world)
    await budget.take(10)
    budget.settle(10, Report(requested=10, actual=10, available=1990, size=2000, rate=RATE))
    for _ in range(40):
        world.at += 3.0
        await budget.take(RATE, longest_s=0.0)
        budget.settle(RATE, None)
    assert await budget.take(RATE, longest_s=0.0) == 0.0
