"""Deploys under load: what a worker holds it hands back, and nobody's attempt or stall count says that it happened."""

from __future__ import annotations

import random
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
import redis
from sqlalchemy import func, select

from app.core import Core, open_core
from app.db.tables import runs, stage_runs
from app.settings import Settings
from pipeline import flow
from tests.chaos.doomed import RELEASED, die_at
from tests.chaos.replica import Replica, replicas_of
from tests.chaos.watching import all_due_at, attempts, order_faults, rows, until
from tests.shop import (
    Article,
    articles,
    check_once,
    connect_merchant,
    csv_of,
    settings_for,
    settled,
    submit,
    working,
)
from tests.support import CHAOS_IN_FULL

RESTARTS = 100 if CHAOS_IN_FULL else 6
OPEN_ORDERS = 5
"""So many orders are under way whenever a worker is told to stop."""
GRACES_S = (0.0, 0.3, 5.0)
"""In turn: everything is handed back, what is slow is, nearly everything is finished."""
SLOW = {"kind": "slow", "seconds": 0.1, "count": 1_000_000}
SEED = 20261123


async def test_rolling_restarts_under_load_fail_nothing_double_nothing_and_count_nothing(
    redis_url: str, database_url: str, redis_admin: redis.Redis, sandbox: str, fork_server: None, tmp_path: Path
) -> None:
    """Two replicas, one of which is always being replaced while it works; every other one is told twice."""
    # Nobody dies here, so nothing may stall: what is not handed back stays away for a lease, and is then counted.
    settings = settings_for(redis_url, database_url, sandbox, lease_seconds=20, heartbeat_seconds=1)
    chance = random.Random(SEED)
    codes, longest_s = [], 0.0
    async with open_core(settings) as core, replicas_of(tmp_path) as start:
        load = Load(core)
        await connect_merchant(core, sandbox)
        await order_faults(sandbox, [SLOW])
        none = with_grace(settings, GRACES_S[0])
        fleet = [start(none), start(none)]
        for number in range(RESTARTS):
            place = number % 2
            old, fleet[place] = fleet[place], start(with_grace(settings, GRACES_S[number % 3]))
            await until(lambda old=old: is_at_work(core, old, load))
            await anyio.sleep(chance.uniform(0, 0.05))
            told_at = anyio.current_time()
            old.stop()
            if number % 4 > 1:
                await anyio.sleep(chance.uniform(0, 0.05))
                old.stop()
            codes.append(await old.left())
            longest_s = max(longest_s, anyio.current_time() - told_at)
        await until(load.is_over, within_s=60)
        for last in fleet:
            last.stop()
        codes += [await last.left() for last in fleet]
        assert Counter(codes) == {0: RESTARTS + 2}
        assert {state: await attempts(core, state) for state in ("failed", "lost", "crashed")} == dict.fromkeys(
            ("failed", "lost", "crashed"), 0
        )
        await check_once(core, sandbox, load.orders)
        released = await attempts(core, "released")
    for queue in flow.NAMES:
        check_nothing_counted(redis_admin, queue, len(load.orders))
    print(
        f"{RESTARTS} restarts, {len(load.orders)} orders, {released} attempts handed back, all exit codes 0, "
        f"the longest after {longest_s:.1f} s of at most {max(GRACES_S):g} s grace"
    )
    assert released


@pytest.mark.parametrize("handed_back", (1, 2, 3) if CHAOS_IN_FULL else (2,))
async def test_a_worker_killed_between_one_release_and_the_next_loses_nothing(
    redis_url: str, database_url: str, redis_admin: redis.Redis, sandbox: str, fork_server: None, handed_back: int
) -> None:
    """What it had handed back is as if never claimed; the rest comes back when its lease is over."""
    stage, orders = "database-save", [articles(number) for number in range(4)]
    settings = settings_for(redis_url, database_url, sandbox)
    async with open_core(settings) as core:
        await connect_merchant(core, sandbox)
        for number, lines in enumerate(orders):
            await submit(core, f"order-{number}.csv", csv_of(f"PO-{number}", lines))
        async with working(settings.model_copy(update={"stages": flow.FIRST})):
            await all_due_at(core, stage, len(orders))
        given = settings.model_dump(exclude={"stages"})
        code = await anyio.to_thread.run_sync(
            lambda: die_at(given, stage, RELEASED, passes=handed_back - 1, slots=len(orders))
        )
        assert code == -signal.SIGKILL
        counts = await core.bull.counts(stage)
        assert (counts.waiting, counts.active) == (handed_back, len(orders) - handed_back)
        async with working(settings):
            found = await settled(core, len(orders))
        assert {row.state for row in found} == {"completed"}
        await check_once(core, sandbox, orders)
        stalls = sorted(job.stalled_count for job in await core.bull.list_jobs(stage, "completed"))
        assert stalls == [0] * handed_back + [1] * (len(orders) - handed_back)
        assert await attempts(core, "failed") == 0
        assert await attempts(core, "crashed") == len(orders) - handed_back


def with_grace(settings: Settings, grace_s: float) -> Settings:
    return settings.model_copy(update={"shutdown_grace_seconds": grace_s})


class Load:
    """Orders that never run out: so many are open at any moment, each of them small, a third with a picture."""

    def __init__(self, core: Core) -> None:
        self.orders: list[list[Article]] = []
        self._core = core

    async def top_up(self) -> None:
        for _ in range(OPEN_ORDERS - len(self.orders) + await self._closed()):
            number = len(self.orders)
            self.orders.append([replace(articles(number)[-1], **({} if number % 3 == 0 else {"image": ""}))])
            await submit(self._core, f"order-{number}.csv", csv_of(f"PO-{number}", self.orders[-1]))

    async def is_over(self) -> bool:
        return await self._closed() == len(self.orders)

    async def _closed(self) -> int:
        (found,) = await rows(
            self._core,
            select(func.count().label("n"))
            .select_from(runs)
            .where(runs.c.state == "completed", runs.c.due_stage.is_(None)),
        )
        return int(found["n"])


async def is_at_work(core: Core, replica: Replica, load: Load) -> bool:
    """By the journal: the replica is in the middle of an attempt. What the others take from it is made up for."""
    await load.top_up()
    mine = stage_runs.c.worker.contains(f"-{replica.pid}-")
    return bool(await rows(core, select(stage_runs.c.run_id).where(mine, stage_runs.c.state == "open").limit(1)))


def check_nothing_counted(admin: redis.Redis, queue: str, orders: int) -> None:
    """Every job the queue has ever had is completed, at its first attempt, and has never stalled."""
    base = f"bull:{queue}:"
    assert [admin.llen(base + "wait"), admin.llen(base + "active"), admin.zcard(base + "delayed")] == [0, 0, 0], queue
    done = admin.zrange(base + "completed", 0, -1)
    assert len(done) == orders, queue
    counted = [admin.hmget(base + job_id, "attemptsMade", "stalledCounter") for job_id in done]
    assert counted == [[None, None]] * orders, queue
