"""One promise, two keepers: shops' limits in Postgres for a fleet, in memory for one process."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import anyio
import pytest
from sqlalchemy import delete, insert, select, update
from structlog.testing import capture_logs

from app.adapters.shopify.alone import AloneLimits
from app.adapters.shopify.limits import COOL_DOWN_S, PARKED_S, Admission, ShopLimits
from app.adapters.shopify.points import Ask, Bucket, Seen, reserve
from app.db.session import Database
from app.db.shop_limits import PostgresShopLimits, park, unpark
from app.db.shop_points import reserve as reserve_in_postgres
from app.db.tables import shop_points, shop_states
from tests.app.adapters.shopify.test_client import FakeClock
from tests.app.db.given import MERCHANT, Given

OPEN = Admission()


@dataclass(frozen=True)
class Kept:
    """The limits, how to let time pass for them, and how to say that a person put the shop right."""

    limits: ShopLimits
    later: Callable[[float], Awaitable[None]]
    unpark: Callable[[], Awaitable[Any]]


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    await Given(database).merchant()
    yield database
    await database.close()


@pytest.fixture(params=["alone", "postgres"])
def kept(request: pytest.FixtureRequest) -> Kept:
    if request.param == "alone":
        clock = FakeClock()
        alone = AloneLimits(clock)
        return Kept(alone, clock.sleep, lambda: alone.unpark(MERCHANT))
    database: Database = request.getfixturevalue("database")
    postgres = PostgresShopLimits(database)

    async def later(seconds: float) -> None:
        passed = timedelta(seconds=seconds)
        async with database.transaction() as connection:
            await connection.execute(update(shop_states).values(ask_at=shop_states.c.ask_at - passed))
            await connection.execute(update(shop_points).values(level_at=shop_points.c.level_at - passed))

    return Kept(postgres, later, lambda: postgres.unpark(MERCHANT, "ann"))


async def test_a_shop_nobody_knows_anything_about_is_open(kept: Kept) -> None:
    assert await kept.limits.admit(MERCHANT) == OPEN


async def test_a_tripped_shop_is_shut_and_then_one_tries(kept: Kept) -> None:
    assert await kept.limits.trip(MERCHANT, "HTTP 502") == COOL_DOWN_S
    shut = await kept.limits.admit(MERCHANT)
    assert (shut.reason, shut.parked, shut.probe) == ("HTTP 502", False, False)
    assert 0 < shut.retry_after_s <= COOL_DOWN_S
    await kept.later(COOL_DOWN_S)
    asked = [await kept.limits.admit(MERCHANT) for _ in range(4)]
    assert [one.probe for one in asked] == [True, False, False, False]
    assert [one.open for one in asked] == [True, False, False, False]
    await kept.limits.answered(MERCHANT, "ShopFacts", probe=True)
    assert await kept.limits.admit(MERCHANT) == OPEN


async def test_a_probe_that_fails_doubles_the_time_and_a_success_forgets_it(kept: Kept) -> None:
    waits = [await kept.limits.trip(MERCHANT, "down")]
    for _ in range(6):
        await kept.later(waits[-1])
        assert (await kept.limits.admit(MERCHANT)).probe
        waits.append(await kept.limits.trip(MERCHANT, "down", probe=True))
    assert waits == [15, 30, 60, 120, 240, 300, 300]
    await kept.limits.answered(MERCHANT, "ShopFacts", probe=False)
    assert await kept.limits.trip(MERCHANT, "down") == COOL_DOWN_S


async def test_whoever_finds_it_down_later_does_not_make_it_longer(kept: Kept) -> None:
    await kept.limits.trip(MERCHANT, "down")
    await kept.later(5)
    assert await kept.limits.trip(MERCHANT, "down") == pytest.approx(COOL_DOWN_S - 5, abs=1)


async def test_a_probe_that_died_is_followed_by_another(kept: Kept) -> None:
    await kept.limits.trip(MERCHANT, "down")
    await kept.later(COOL_DOWN_S)
    assert (await kept.limits.admit(MERCHANT)).probe
    await kept.later(60)
    assert (await kept.limits.admit(MERCHANT)).probe


async def test_a_parked_shop_says_why_and_opens_when_a_person_says_so(kept: Kept) -> None:
    assert await kept.limits.park(MERCHANT, "connect it again") == PARKED_S
    shut = await kept.limits.admit(MERCHANT)
    assert (shut.reason, shut.parked) == ("connect it again", True)
    assert await kept.unpark()
    assert await kept.limits.admit(MERCHANT) == OPEN
    assert not await kept.unpark()


async def test_a_parked_shop_opens_when_a_rare_probe_finds_it_well(kept: Kept) -> None:
    await kept.limits.park(MERCHANT, "connect it again")
    await kept.limits.answered(MERCHANT, "ShopFacts", probe=False)
    assert (await kept.limits.admit(MERCHANT)).parked, "an answer to an old call proves nothing"
    await kept.later(PARKED_S)
    assert [(await kept.limits.admit(MERCHANT)).probe for _ in range(3)] == [True, False, False]
    await kept.limits.answered(MERCHANT, "ShopFacts", probe=True)
    assert await kept.limits.admit(MERCHANT) == OPEN


async def test_what_was_denied_must_itself_work_again(kept: Kept) -> None:
    await kept.limits.park(MERCHANT, "scope write_products", operation="CreateProduct")
    for operation, is_open in (("ShopFacts", False), ("CreateProduct", True)):
        await kept.later(PARKED_S)
        assert (await kept.limits.admit(MERCHANT)).probe
        await kept.limits.answered(MERCHANT, operation, probe=True)
        assert (await kept.limits.admit(MERCHANT)).open is is_open


async def test_points_are_lent_in_the_order_of_asking(kept: Kept) -> None:
    seen = Seen(1100, 2000, 100)
    first = await kept.limits.reserve(MERCHANT, Ask(50, seen=seen, longest_s=60))
    assert (first.points, first.wait_s) == (50, 0)
    waits = [(await kept.limits.reserve(MERCHANT, Ask(400, longest_s=60))).wait_s for _ in range(2)]
    assert waits == [pytest.approx(3.5, abs=0.3), pytest.approx(7.5, abs=0.3)]
    assert (await kept.limits.reserve(MERCHANT, Ask(400, longest_s=1))).points == 0
    await kept.later(8)
    assert (await kept.limits.reserve(MERCHANT, Ask(10, longest_s=0))).points >= 10


async def test_news_is_told_once(kept: Kept) -> None:
    version = [
        await kept.limits.served(MERCHANT, asked="2026-10", served=one) for one in ("2026-10",) * 2 + ("2027-01",)
    ]
    assert version == [True, False, True]
    scopes = [await kept.limits.granted(MERCHANT, one) for one in ({"a", "b"}, {"b", "a"}, {"a"})]
    assert scopes == [True, False, True]


# ------------------------------------------------------------------------------------------ the fleet's


@pytest.mark.parametrize("ago", [timedelta(hours=-1), timedelta(seconds=4)], ids=["no time passed", "some time passed"])
async def test_postgres_works_a_bucket_out_as_python_does(database: Database, ago: timedelta) -> None:
    chance, limits = random.Random(7), PostgresShopLimits(database)
    refused = 0
    for _ in range(200):
        bucket, ask = _some_bucket(chance), _some_ask(chance)
        written_at = datetime.now(UTC) - ago
        async with database.transaction() as connection:
            await connection.execute(delete(shop_points))
            await connection.execute(
                insert(shop_points).values(
                    merchant_id=MERCHANT,
                    level=bucket.level,
                    level_at=written_at,
                    size=bucket.size,
                    restore_rate=bucket.rate,
                    known=bucket.known,
                )
            )
        granted = await limits.reserve(MERCHANT, ask)
        async with database.transaction() as connection:
            kept = (await connection.execute(select(shop_points))).mappings().one()
        # What its clock said is what it wrote beside the level.
        expected, grant = reserve(bucket, ask, (kept["level_at"] - written_at).total_seconds())
        near = partial(pytest.approx, rel=1e-9, abs=0.01)
        assert (granted.points, granted.wait_s) == (near(grant.points), near(grant.wait_s)), (bucket, ask)
        assert kept["level"] == near(expected.level), (bucket, ask)
        assert (kept["size"], kept["restore_rate"], kept["known"]) == (expected.size, expected.rate, expected.known)
        refused += granted.wait_s > ask.longest_s
    assert 0 < refused < 200


def _some_bucket(chance: random.Random) -> Bucket:
    size = chance.choice([1000.0, 2000.0, 20000.0])
    return Bucket(chance.uniform(-size, size), 0.0, size, chance.choice([50.0, 100.0, 1000.0]), chance.random() < 0.8)


def _some_ask(chance: random.Random) -> Ask:
    size = chance.choice([1000.0, 2000.0])
    seen = Seen(chance.uniform(0, size), size, chance.choice([0.0, 50.0, 200.0]), chance.choice([0.0, 77.5]))
    need, returned = chance.choice([0.0, 10.0, chance.uniform(0, 3000)]), chance.choice([0.0, chance.uniform(0, 300)])
    return Ask(need, returned, seen if chance.random() < 0.5 else None, chance.choice([0.0, 10.0, 60.0]))


async def test_a_replica_that_stands_still_holds_up_nobody(database: Database) -> None:
    """It has asked, and does nothing more: neither does it read its answer nor say that it is done."""
    limits = PostgresShopLimits(database)
    await limits.reserve(MERCHANT, Ask(0, seen=Seen(2000, 2000, 100)))
    async with database.statements() as standing_still:
        await reserve_in_postgres(standing_still, MERCHANT, Ask(10))
        with anyio.fail_after(2):
            assert (await limits.reserve(MERCHANT, Ask(10))).points >= 10


async def test_replicas_that_ask_at_once_never_get_more_than_there_was(database: Database) -> None:
    """Every one of them with a connection of its own; the refill is too slow to matter."""
    limits = PostgresShopLimits(database)
    await limits.reserve(MERCHANT, Ask(0, seen=Seen(200, 1000, 1)))
    async with database.transaction() as connection:
        await connection.execute(update(shop_points).values(level=100.0, restore_rate=1.0))
    grants = await asyncio.gather(*(limits.reserve(MERCHANT, Ask(7)) for _ in range(30)))
    granted = [one.points for one in grants if one.points]
    assert granted
    assert sum(granted) <= 102
    async with database.transaction() as connection:
        level = await connection.scalar(select(shop_points.c.level))
    assert level >= 0


async def test_of_many_replicas_one_is_the_probe(database: Database) -> None:
    limits = PostgresShopLimits(database)
    await limits.trip(MERCHANT, "down")
    async with database.transaction() as connection:
        await connection.execute(update(shop_states).values(ask_at=shop_states.c.ask_at - timedelta(minutes=1)))
    asked = await asyncio.gather(*(limits.admit(MERCHANT) for _ in range(12)))
    assert sum(one.probe for one in asked) == 1
    assert all(one.retry_after_s > 0 for one in asked if not one.open)


async def test_each_change_of_state_is_one_event(database: Database) -> None:
    limits = PostgresShopLimits(database)
    with capture_logs() as logs:
        for _ in range(3):
            await limits.trip(MERCHANT, "down", probe=True)
        await limits.answered(MERCHANT, "ShopFacts", probe=True)
        await limits.answered(MERCHANT, "ShopFacts", probe=True)
        for _ in range(3):
            await limits.park(MERCHANT, "connect it again")
        await limits.unpark(MERCHANT, "ann")
        await limits.unpark(MERCHANT, "ann")
    assert [one["event"] for one in logs] == [
        "shop circuit opened",
        "shop answers again",
        "shop parked",
        "shop unparked",
    ]


async def test_whoever_has_a_transaction_may_park_in_it(database: Database) -> None:
    async with database.transaction() as connection:
        await park(connection, MERCHANT, "the app was uninstalled")
    assert (await PostgresShopLimits(database).admit(MERCHANT)).reason == "the app was uninstalled"
    async with database.transaction() as connection:
        assert await unpark(connection, MERCHANT)
    assert (await PostgresShopLimits(database).admit(MERCHANT)).open


async def test_a_merchant_that_is_deleted_leaves_nothing_here(database: Database) -> None:
    from sqlalchemy import delete

    from app.db.tables import merchants

    limits = PostgresShopLimits(database)
    await limits.reserve(MERCHANT, Ask(1))
    await limits.park(MERCHANT, "uninstalled")
    async with database.transaction() as connection:
        await connection.execute(delete(merchants).where(merchants.c.id == MERCHANT))
    given = Given(database)
    assert (await given.rows(shop_points), await given.rows(shop_states)) == ([], [])
