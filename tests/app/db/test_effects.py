"""The ledger's table: what every store of it promises, in Postgres and in memory; and what only Postgres can."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import func, insert, text, update

from app.db import tables
from app.db.effects import PostgresEffects, rivals
from app.db.session import Database, PoolSize
from pipeline import flow
from pipeline.errors import AnothersTurn
from pipeline.ports import EffectStore
from tests.app.db.given import Given
from tests.sandbox_shop import Effects
from tests.support import eventually

OURS, THEIRS = "run-1", "run-2"
CUP, JUG = "04000000000012", "04000000000029"


def creates(*gtins: str, looked_at: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"by": "create", "title": "Cup", "gtins": list(gtins), "looked_at": list(looked_at)}


def called_new(*gtins: str) -> dict[str, Any]:
    """A person has said so: nothing was looked at."""
    return {"by": "create", "title": "Cup", "gtins": list(gtins)}


@pytest.fixture
async def given(database_url: str) -> AsyncIterator[Given]:
    database = Database(database_url, PoolSize(8))
    given = Given(database)
    await given.merchant()
    for run in (OURS, THEIRS):
        await given.run(run, due_stage=flow.SYNC, fence=1)
    yield given
    await database.close()


@pytest.fixture(params=["in memory", "in Postgres"])
def store(request: pytest.FixtureRequest) -> EffectStore:
    if request.param == "in memory":
        return Effects()
    given: Given = request.getfixturevalue("given")
    return PostgresEffects(given.database)


async def test_what_was_written_first_stands_until_it_is_confirmed_and_then_its_answer(store: EffectStore) -> None:
    assert await store.find("key") is None
    first = await store.intend(OURS, 1, "key", {"n": 1})
    again = await store.intend(OURS, 1, "key", {"n": 2})
    assert [(one.parameters, one.state, one.fresh) for one in (first, again)] == [
        ({"n": 1}, "intent", True),
        ({"n": 1}, "intent", False),
    ]
    await store.confirm(OURS, 1, "key", {"id": 7})
    found = await store.find("key")
    assert found is not None
    assert (found.state, found.external, found.fresh) == ("confirmed", {"id": 7}, False)


async def test_an_article_that_another_run_creates_is_waited_for(store: EffectStore) -> None:
    await store.intend(OURS, 1, "product:a", creates(CUP, JUG))
    for _ in range(2):
        with pytest.raises(AnothersTurn, match=OURS):
            await store.intend(THEIRS, 1, "product:b", creates(JUG))
    assert await store.find("product:b") is None
    await store.intend(OURS, 1, "product:c", creates(JUG))  # one order may name it twice


async def test_what_was_created_since_somebody_looked_is_looked_at_first(store: EffectStore) -> None:
    await store.intend(OURS, 1, "product:a", creates(CUP))
    await store.confirm(OURS, 1, "product:a", {"by": "create", "product_id": "gid://p/1"})
    with pytest.raises(AnothersTurn, match=OURS):
        await store.intend(THEIRS, 1, "product:b", creates(CUP, looked_at=("gid://p/2",)))
    assert (await store.intend(THEIRS, 1, "product:b", creates(CUP, looked_at=("gid://p/1",)))).fresh


async def test_what_is_no_rival_is_not_waited_for(store: EffectStore) -> None:
    """Another article, one the shop refused, and an answer that is about no product."""
    await store.intend(OURS, 1, "product:a", creates(JUG))
    await store.intend(OURS, 1, "product:r", creates(CUP))
    await store.confirm(OURS, 1, "product:r", {"refused": "title", "message": "", "asked_by": [OURS, 0]})
    await store.intend(OURS, 1, "announce:a", {"units": []})
    assert (await store.intend(THEIRS, 1, "product:b", creates(CUP))).fresh


async def test_what_a_person_calls_new_waits_for_nobody_and_is_waited_for(store: EffectStore) -> None:
    await store.intend(OURS, 1, "product:a", creates(CUP))
    assert (await store.intend(THEIRS, 1, "product:b", called_new(CUP))).fresh
    with pytest.raises(AnothersTurn):
        await store.intend(OURS, 1, "product:c", creates(CUP))


async def test_a_product_of_the_shops_that_is_only_linked_waits_for_nobody(store: EffectStore) -> None:
    await store.intend(OURS, 1, "product:a", creates(CUP))
    assert (await store.intend(THEIRS, 1, "product:b", creates(CUP) | {"by": "gtin"})).fresh


# --------------------------------------------------------------------------------------------- Postgres alone


async def test_of_many_at_once_one_creates(given: Given) -> None:
    """Articles overlap in chains and in circles; whoever is not first with all of its own is not at all."""
    gtins = [f"{number:014}" for number in range(8)]
    names = [f"run-{number}" for number in range(10, 26)]
    for run in names:
        await given.run(run, due_stage=flow.SYNC, fence=1)
    store = PostgresEffects(given.database)
    mine = {run: [gtins[n % 8], gtins[(n + 1 + n // 8) % 8]] for n, run in enumerate(names)}
    ended = await asyncio.gather(
        *(store.intend(run, 1, f"product:{run}", creates(*mine[run])) for run in names), return_exceptions=True
    )
    assert {type(end) for end in ended} <= {AnothersTurn, type(await store.intend(OURS, 1, "k", {}))}
    written = [row["parameters"]["gtins"] for row in await given.rows(tables.effects) if row["key"] != "k"]
    assert written
    flat = [code for codes in written for code in codes]
    assert len(flat) == len(set(flat))


async def test_another_merchants_article_is_another_article(given: Given) -> None:
    await given.merchant("m2")
    await given.run("run-3", merchant_id="m2", due_stage=flow.SYNC, fence=1)
    store = PostgresEffects(given.database)
    await store.intend(OURS, 1, "product:a", creates(CUP))
    assert (await store.intend("run-3", 1, "product:b", creates(CUP))).fresh


@pytest.mark.parametrize(
    ("stopped", "waits"),
    [
        ({"state": "running"}, True),
        ({"state": "running", "parked_at": datetime(2026, 1, 1, tzinfo=UTC)}, False),
        ({"state": "cancelled", "due_stage": None}, False),
        ({"state": "cancelled", "due_stage": None, "updated_at": func.now()}, True),
        ({"state": "needs_review", "due_stage": None}, False),
    ],
)
async def test_an_open_intent_is_waited_for_while_its_run_will_come_back_to_it(
    given: Given, stopped: dict[str, Any], *, waits: bool
) -> None:
    """Stopped so lately that the shop may yet do what it was asked counts as well."""
    store = PostgresEffects(given.database)
    await store.intend(OURS, 1, "product:a", creates(CUP))
    await given.change(
        tables.runs, tables.runs.c.id == OURS, **{"updated_at": datetime(2026, 1, 1, tzinfo=UTC)} | stopped
    )
    if waits:
        with pytest.raises(AnothersTurn):
            await store.intend(THEIRS, 1, "product:b", creates(CUP))
        return
    assert (await store.intend(THEIRS, 1, "product:b", creates(CUP))).fresh
    left = await store.find("product:a")  # brought back, it must look again and say anew what it creates
    assert left is not None
    assert (left.state, left.external["refused"], left.external["asked_by"]) == ("confirmed", "left", [])


async def test_rivals_are_found_by_an_index_among_many(given: Given) -> None:
    rows = [
        {"key": f"product:{n}", "run_id": OURS, "fence": 1, "state": "confirmed", "parameters": {"gtins": [f"{n:014}"]}}
        for n in range(20_000)
    ]
    async with given.database.transaction() as connection:
        await connection.execute(insert(tables.effects), rows)
        await connection.execute(text("ANALYZE po.effects"))
        statement = rivals(THEIRS, ["00000000000007", "00000000000008"])
        assert len((await connection.execute(statement)).all()) == 2
        sql = statement.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
        plan = await connection.exec_driver_sql(f"EXPLAIN {sql}")
        assert "ix_effects_gtins" in "\n".join(plan.scalars())


async def test_an_intent_that_is_taken_up_again_in_that_very_moment_is_waited_for(given: Given) -> None:
    """A person has brought the run back: its attempt holds the line while the other is about to answer for it."""
    store = PostgresEffects(given.database)
    await store.intend(OURS, 1, "product:a", creates(CUP))
    stopped = {"due_stage": None, "state": "cancelled", "updated_at": datetime(2026, 1, 1, tzinfo=UTC)}
    await given.change(tables.runs, tables.runs.c.id == OURS, **stopped)
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )

    async def waits() -> bool:
        async with given.database.transaction() as other:
            return bool(await other.scalar(waiting))

    async with asyncio.TaskGroup() as tasks, given.database.transaction() as connection:
        await connection.execute(update(tables.effects).values(fence=2))
        other = tasks.create_task(_refused(store, THEIRS))
        await eventually(waits)
    assert other.result()
    found = await store.find("product:a")
    assert found is not None
    assert found.state == "intent"


async def _refused(store: PostgresEffects, run: str) -> bool:
    with pytest.raises(AnothersTurn, match=OURS):
        await store.intend(run, 1, "product:b", creates(CUP))
    return True
