"""Redis that comes back without its jobs, or with those of the past: Postgres says what is due, and each run has one.

Emptied under load, emptied again while jobs are given back, a replica that lags and is promoted, and upstream's cron
that adds the same uploads again at the same moment. The restart of a server stands in `test_outages`.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest
import redis
from sqlalchemy import select

from app.core import Core, open_core
from app.db.tables import runs
from app.embedded import open_home, start_redis
from pipeline import flow
from pipeline.hand_off import LIVE
from pipeline.run_store import NextJob
from tests.app.held import held
from tests.app.redis_proxy import proxy_to
from tests.chaos.watching import all_due_at, attempts, jobs_in, rows, until
from tests.conformance.oracle import INTEROP
from tests.pipeline.line import Line, open_line
from tests.shop import Article, articles, check_once, connect_merchant, csv_of, settings_for, settled, submit, working
from tests.support import CHAOS_IN_FULL, require
from tests.walkthrough.upstream import Upload, Upstream

ORDERS = 40 if CHAOS_IN_FULL else 6
WIPES = 20 if CHAOS_IN_FULL else 4
SEED = 20261126
STAGES_BEFORE_SYNC = flow.NAMES.index(flow.SYNC)
BEFORE_SYNC = ",".join(flow.NAMES[:STAGES_BEFORE_SYNC])
QUICK = {"lease_seconds": 2, "heartbeat_seconds": 0.5, "stalled_seconds": 0.5, "reconcile_seconds": 0.5}


async def one_live_job_each(core: Core) -> None:
    """Wait for the quiet moment when every open run has the job it waits for, once, and nothing else is live."""
    try:
        await until(lambda: _is_quiet(core))
    except TimeoutError:
        live, wanted = await live_jobs(core), await wanted_jobs(core)
        assert sorted(live) == sorted(wanted)


async def _is_quiet(core: Core) -> bool:
    return sorted(await live_jobs(core)) == sorted(await wanted_jobs(core))


async def wanted_jobs(core: Core) -> list[tuple[str, str]]:
    """Queue and id of the job each open run waits for."""
    open_runs = await rows(
        core, select(runs.c.id, runs.c.due_stage, runs.c.entry, runs.c.workflow_id).where(runs.c.due_stage.is_not(None))
    )
    return [
        (run["due_stage"], NextJob(run["id"], run["due_stage"], run["entry"], run["workflow_id"]).job_id)
        for run in open_runs
    ]


async def stages_done(core: Core, count: int) -> None:
    """Wait until so many results are recorded, over all orders: the moment is in the middle of the work."""

    async def they_are() -> bool:
        return await attempts(core, "finished") >= count

    await until(they_are, within_s=60)


async def live_jobs(core: Core) -> list[tuple[str, str]]:
    """Queue and id of every job that will still run."""
    return [
        (queue, job.id)
        for queue in flow.NAMES
        for state in sorted(LIVE)
        for job in await core.bull.list_jobs(queue, state, 0, 499)
    ]


async def all_done(core: Core, sandbox: str, orders: Sequence[Sequence[Article]]) -> None:
    """Nothing lost, doubled or counted, and nothing of the past is left to run."""
    await settled(core, len(orders), within_s=120)

    async def nothing_live() -> bool:
        return await live_jobs(core) == []

    await until(nothing_live)
    assert await attempts(core, "failed") == 0
    assert await jobs_in(core, "failed") == []
    assert {row["state"] for row in await rows(core, select(runs.c.state))} == {"completed"}
    await check_once(core, sandbox, orders)


# ---------------------------------------------------------------------------------------------------- emptied


async def test_a_redis_emptied_again_and_again_under_load_loses_and_doubles_no_order(
    redis_url: str, redis_admin: redis.Redis, database_url: str, sandbox: str
) -> None:
    """Two workers: while one gives jobs back, the other works on them, or does the same. Only the mark says so."""
    settings = settings_for(redis_url, database_url, sandbox, **QUICK | {"reconcile_seconds": 3600})
    async with open_core(settings) as core:
        await connect_merchant(core, sandbox)
        orders = await _submit(core, ORDERS)
        upto_sync = settings.model_copy(update={"stages": BEFORE_SYNC})
        async with working(upto_sync), working(upto_sync):
            for number in range(WIPES):
                await stages_done(core, (number + 1) * ORDERS * STAGES_BEFORE_SYNC // (WIPES + 1))
                redis_admin.flushall()
            await all_due_at(core, flow.SYNC, ORDERS)
            await one_live_job_each(core)
        async with working(settings), working(settings):
            await stages_done(core, ORDERS * STAGES_BEFORE_SYNC + 2)
            redis_admin.flushall()
            await all_done(core, sandbox, orders)


@pytest.fixture
async def line(redis_url: str, database_url: str) -> AsyncIterator[Line]:
    async with held(open_line(redis_url, database_url)) as opened:
        yield opened


async def test_a_redis_emptied_while_jobs_are_given_back_is_still_known_to_be_empty(
    line: Line, redis_admin: redis.Redis
) -> None:
    """Else a mark would say that the jobs are there, and their runs would wait for the slow round."""
    for number in range(3):
        await line.add_upload(f"upload-{number}")
        await line.step(flow.FIRST)
    redis_admin.flushall()
    enqueue, left = line.bull.enqueue, 3

    async def emptied_after_the_last(*given: Any) -> Any:
        nonlocal left
        added = await enqueue(*given)
        left -= 1
        if left == 0:
            redis_admin.flushall()
        return added

    line.bull.enqueue = emptied_after_the_last  # type: ignore[method-assign]
    assert (await line.reconciler.run_once(redis_was_emptied=True)).added == 3
    assert not await _epoch_present(line)
    assert (await line.reconciler.run_once(redis_was_emptied=True)).added == 3
    assert await _epoch_present(line)
    assert (await line.bull.counts("database-save")).waiting == 3


async def test_replicas_that_give_jobs_back_at_once_add_each_job_once_and_one_mark(line: Line) -> None:
    for number in range(5):
        await line.add_upload(f"upload-{number}")
        await line.step(flow.FIRST)
    await line.bull._commands.call("FLUSHALL")
    added = 0

    async def replica() -> None:
        nonlocal added
        round_ = await line.reconciler.run_once(redis_was_emptied=True)
        added += round_.added

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(replica)
    assert added == (await line.bull.counts("database-save")).waiting == 5
    assert await _epoch_present(line)


async def _epoch_present(line: Line) -> bool:
    return (await line.bull.sweep(flow.NAMES, guard_ms=1, stalled_interval_ms=1)).epoch_present


# ----------------------------------------------------------------------------------------- the past comes back


async def test_a_lagging_replica_that_is_promoted_brings_the_past_back_and_loses_no_order(
    database_url: str, sandbox: str, tmp_path: Path
) -> None:
    """Jobs long done lie in their queues again, some with a lease; those added since are missing; the mark is there."""
    with open_home(tmp_path / "primary") as one, open_home(tmp_path / "replica") as two, ExitStack() as servers:
        first = servers.enter_context(ExitStack())
        primary_url = first.enter_context(start_redis(one, durable=False))
        replica_url = servers.enter_context(start_redis(two, durable=False))
        replica = servers.enter_context(redis.Redis.from_url(replica_url, decode_responses=True))
        _follow(replica, primary_url)
        async with proxy_to(primary_url) as proxy:
            settings = settings_for(proxy.url(), database_url, sandbox, **QUICK)
            upto_sync = settings.model_copy(update={"stages": BEFORE_SYNC})
            async with open_core(settings) as core:
                await connect_merchant(core, sandbox)
                async with working(upto_sync), working(upto_sync):
                    orders = await _submit(core, ORDERS // 2)
                    await all_due_at(core, flow.SYNC, 1)
                    replica.replicaof("NO", "ONE")  # from here on it knows nothing new
                    past = _what_it_holds(replica)
                    orders += await _submit(core, ORDERS - len(orders), first=len(orders))
                    await all_due_at(core, flow.SYNC, ORDERS // 2 + 1)
                    proxy.refusing = True
                    proxy.cut()
                    await anyio.to_thread.run_sync(first.close)
                    proxy.aim(replica_url)
                    proxy.refusing = False
                    await all_due_at(core, flow.SYNC, ORDERS)
                    await one_live_job_each(core)
                assert past["epoch"]
                assert past["live"] > 0
                async with working(settings):
                    await all_done(core, sandbox, orders)


def _follow(replica: redis.Redis, primary_url: str) -> None:
    """Replicate, and take the primary's password, as the members of one installation share it."""
    primary = urlsplit(primary_url)
    replica.config_set("masterauth", str(primary.password))
    replica.config_set("requirepass", str(primary.password))
    replica.replicaof(str(primary.hostname), str(primary.port))
    while replica.info("replication")["master_link_status"] != "up":
        pass


def _what_it_holds(replica: redis.Redis) -> dict[str, Any]:
    live = [f"bull:{queue}:{key}" for queue in flow.NAMES for key in ("wait", "active")]
    return {"epoch": replica.exists("bull:po:epoch"), "live": sum(int(replica.llen(key)) for key in live)}


# ------------------------------------------------------------------------------------------- upstream's cron


@pytest.mark.interop
async def test_a_wipe_while_upstream_adds_the_same_uploads_again_is_one_run_each(
    redis_url: str, redis_admin: redis.Redis, database_url: str, sandbox: str, tmp_path: Path
) -> None:
    """Its jobs begin at number 1 again, which was somebody else's; ours come back by themselves meanwhile."""
    node = shutil.which("node")
    require(node, "no node on this machine: the cron is npm bull's")
    require((INTEROP / "node_modules" / "bull").is_dir(), "npm bull is not installed: run `npm ci` in tests/interop")
    cron = Upstream(str(node), redis_url, tmp_path)
    chance = random.Random(SEED)
    settings = settings_for(redis_url, database_url, sandbox, document_folder=tmp_path, **QUICK)
    async with open_core(settings) as core:
        await connect_merchant(core, sandbox)
        orders = [articles(number) for number in range(ORDERS)]
        uploads = [cron.store(number, lines) for number, lines in enumerate(orders)]
        upto_sync = settings.model_copy(update={"stages": BEFORE_SYNC})
        async with working(upto_sync), working(upto_sync):
            await cron.enqueue(*uploads)
            for number in range(3):
                await stages_done(core, (number + 1) * ORDERS)
                chance.shuffle(uploads)
                await _wiped_while_added(redis_admin, cron, uploads, chance.uniform(0.1, 0.6))
            await all_due_at(core, flow.SYNC, ORDERS)
            await one_live_job_each(core)
        async with working(settings):
            await all_done(core, sandbox, orders)


async def _wiped_while_added(admin: redis.Redis, cron: Upstream, uploads: Sequence[Upload], after_s: float) -> None:
    adding = asyncio.create_task(cron.enqueue(*uploads))
    await asyncio.sleep(after_s)
    admin.flushall()
    await adding


# ------------------------------------------------------------------------------------------------ the pieces


async def _submit(core: Core, count: int, *, first: int = 0) -> list[list[Article]]:
    orders = [articles(number) for number in range(first, first + count)]
    for number, lines in enumerate(orders, start=first):
        await submit(core, f"order-{number}.csv", csv_of(f"PO-{number}", lines))
    return orders
