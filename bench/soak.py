"""The whole service under load and misfortune, judged by its owner's six figures.

    .venv/bin/python -m bench.soak [ORDERS] [WORKERS]

Real worker processes with the default settings take orders whose words a model is asked for, 20-30 s an answer.
Meanwhile a worker is killed every now and then (SIGKILL, replaced at once), the model is away for two minutes, and
Postgres is restarted. At the end the shop is counted, product by product, and the figures are printed beside what the
owner asked for. 1,000 orders on eight workers take half an hour; `tests/chaos/test_soak.py` is the short form.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import anyio
import anyio.abc
import psutil
from sqlalchemy import func, select

from app import logs
from app.core import Core, open_core
from app.db import migrate
from app.db.tables import runs, stage_runs
from app.embedded import Home, open_home, start_postgres, start_redis
from app.embedded.sandbox import start_sandbox
from app.sandbox.server import MODEL_KEY
from app.settings import Settings
from bench.cost import DEFAULTS
from pipeline import flow
from pipeline.errors import PipelineError
from tests.app.redis_proxy import Proxy, proxy_to
from tests.shop import DOMAIN, TOKEN, Article, articles, check_once, connect_merchant, csv_of, settings_for, submit
from tests.support import loopback
from tests.walkthrough.test_4_three_connections import environment_of

T = TypeVar("T")
ROOT = Path(__file__).parents[1]
TELL_EVERY = 50
STARTING_S = 15.0
NO_WORDS = '{"lines":[]}'
"""What the model says to every product: it has been asked, and that is what counts here."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much, and what goes wrong when. Times in seconds."""

    orders: int = 1000
    workers: int = 8
    vendor_s: tuple[float, float] = (20.0, 30.0)
    added_every_s: float = 0.5
    kills: int = 20
    outage_at: float = 0.3
    outage_s: float = 120.0
    restart_at: float = 0.6
    restart_s: float = 3.0
    within_s: float = 5400.0
    seed: int = 20261125
    settings: dict[str, Any] = field(default_factory=dict)
    """`kills`: spread evenly over the orders. `outage_at`, `restart_at`: after which share of them those begin.
    `settings`: what differs from the defaults."""


@dataclass(frozen=True, slots=True)
class Figures:
    """The owner's six, and what belongs to them."""

    missing_lock: int
    stalled: int
    failed: float
    completed: float
    connections: int
    job_s: float
    kills: int
    returned: int
    lost: int
    took_s: float

    def __str__(self) -> str:
        """A table: figure, found, asked for."""
        rows = [
            ("jobs failed with a missing lock", self.missing_lock, "0"),
            ("jobs failed as stalled", self.stalled, "0"),
            ("failed", f"{self.failed:.2%}", "< 2 %"),
            ("completed", f"{self.completed:.2%}", "> 95 %"),
            ("Redis connections per process", self.connections, "<= 5, ours 3"),
            ("mean job", f"{self.job_s:.1f} s", "< 45 s"),
            ("workers killed", self.kills, ""),
            ("jobs returned by the sweep", self.returned, ""),
            ("attempts that lost their lease", self.lost, ""),
            ("took", f"{self.took_s:.0f} s", ""),
        ]
        return "\n".join(f"{name:34} {found!s:>10}  {asked}" for name, found, asked in rows)


class Fleet:
    """Worker processes, killed and replaced; counts their sockets to Redis."""

    def __init__(self, settings: Settings, folder: Path, redis_port: int | None) -> None:
        self._environment = environment_of(settings) | {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
        self._folder = folder
        self._redis_port = redis_port
        self._workers: list[tuple[anyio.abc.Process, float]] = []
        self.kills = 0
        self.most_connections = 0

    async def start(self) -> None:
        with (self._folder / "worker.log").open("ab") as log:
            command = [sys.executable, "-m", "app", "worker"]
            process = await anyio.open_process(command, cwd=self._folder, env=self._environment, stdout=log, stderr=log)
        self._workers.append((process, time.monotonic()))

    async def kill_one(self, chance: random.Random) -> None:
        victim, _ = self._workers.pop(chance.randrange(len(self._workers)))
        victim.kill()
        await victim.wait()
        self.kills += 1
        await self.start()

    def count_connections(self) -> None:
        """Remember the most any one process had."""
        for worker, _ in self._workers:
            with_children = [psutil.Process(worker.pid), *psutil.Process(worker.pid).children(recursive=True)]
            self.most_connections = max(self.most_connections, sum(map(self._sockets, with_children)))

    def _sockets(self, process: psutil.Process) -> int:
        try:
            found = process.net_connections("tcp")
        except psutil.NoSuchProcess:
            return 0
        open_ = [one for one in found if one.raddr and one.status == psutil.CONN_ESTABLISHED]
        return sum(one.raddr.port == self._redis_port for one in open_)

    async def stop(self) -> list[int]:
        """SIGTERM to all; the exit codes of those that were up. One that is starting holds nothing, and just ends."""
        for worker, _ in self._workers:
            worker.terminate()
        told_at = time.monotonic()
        codes = [(await worker.wait(), told_at - started_at) for worker, started_at in self._workers]
        return [code for code, age_s in codes if code == 0 or age_s > STARTING_S]


class Database:
    """A Postgres that can be restarted under its clients: they reach it by a line that is led to the next one."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._servers = ExitStack()
        self.url = self._servers.enter_context(start_postgres(home))

    async def restart(self, proxy: Proxy, away_s: float) -> None:
        proxy.refusing = True
        proxy.cut()
        self._servers.close()
        await anyio.sleep(away_s)
        proxy.aim(self._servers.enter_context(start_postgres(self._home)))
        proxy.refusing = False

    @contextmanager
    def running(self) -> Iterator[None]:
        with self._servers:
            yield


async def soak(plan: Plan, home: Home, redis_url: str, sandbox: str) -> Figures:
    """Run the plan; fails if the shop does not hold every order exactly once."""
    began = time.monotonic()
    database = Database(home)
    async with AsyncExitStack() as stack:
        stack.enter_context(database.running())
        await anyio.to_thread.run_sync(migrate.upgrade, database.url)
        line = await stack.enter_async_context(proxy_to(database.url))
        model = {"openai_api_key": MODEL_KEY, "openai_base_url": f"{sandbox}/v1", "database_pool_size": 5}
        settings = settings_for(redis_url, line.url("postgresql"), sandbox, **(DEFAULTS | model | plan.settings))
        core = await stack.enter_async_context(open_core(settings))
        await connect_merchant(core, sandbox, enrich=True)
        fleet = Fleet(settings, home.path, urlsplit(redis_url).port)
        for _ in range(plan.workers):
            await fleet.start()
        try:
            orders = await _live_through(plan, core, fleet, database, line, sandbox)
        finally:
            codes = await fleet.stop()
        assert set(codes) == {0}, codes
        for words in await _not_through(core):
            _say(words)
        await check_once(core, sandbox, orders)
        return await _figures(core, fleet, time.monotonic() - began)


async def _live_through(
    plan: Plan, core: Core, fleet: Fleet, database: Database, line: Proxy, sandbox: str
) -> list[list[Article]]:
    """Orders arrive, things go wrong, and in the end all of them are through."""
    chance = random.Random(plan.seed)
    orders = [[replace(one, image="") for one in articles(number)] for number in range(plan.orders)]
    await _answer(sandbox, plan, chance)

    async def kill() -> None:
        for number in range(plan.kills):  # by progress, not by the clock: a fast machine sees as many
            await _through(core, plan.orders * number / plan.kills)
            await fleet.kill_one(chance)

    async def look() -> None:
        while True:
            fleet.count_connections()
            await anyio.sleep(0.5)

    async def go_wrong() -> None:
        await _through(core, plan.orders * plan.outage_at)
        _say("the model is away")
        await _answer(sandbox, plan, chance, away=True)
        await anyio.sleep(plan.outage_s)
        await _answer(sandbox, plan, chance)
        _say("the model is back")
        await _through(core, plan.orders * plan.restart_at)
        _say("Postgres restarts")
        await database.restart(line, plan.restart_s)
        _say("Postgres is back")

    with anyio.fail_after(plan.within_s):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look)
            tasks.start_soon(_tell, core, plan.orders)
            async with anyio.create_task_group() as acts:
                acts.start_soon(_arrive, plan, core, orders)
                acts.start_soon(kill)
                acts.start_soon(go_wrong)
            await _through(core, plan.orders)
            tasks.cancel_scope.cancel()
        await _quiet(core)
    return orders


async def _arrive(plan: Plan, core: Core, orders: list[list[Article]]) -> None:
    for number, lines in enumerate(orders):
        await _insisted(partial(submit, core, f"order-{number}.csv", csv_of(f"PO-{number}", lines)))
        await anyio.sleep(plan.added_every_s)


async def _tell(core: Core, orders: int) -> None:
    for count in range(TELL_EVERY, orders, TELL_EVERY):
        await _through(core, count)
        _say(f"{count} orders through")


async def _answer(sandbox: str, plan: Plan, chance: random.Random, *, away: bool = False) -> None:
    """Tell the model what to say from now on: nothing useful while it is away, else no words, slowly."""
    slow = [{"text": NO_WORDS, "seconds": chance.uniform(*plan.vendor_s), "count": 1} for _ in range(plan.orders)]
    always = {"text": NO_WORDS, "seconds": sum(plan.vendor_s) / 2}
    said = [{"kind": "error", "status": 503}] if away else [always, *slow]
    async with loopback(timeout=30) as http:
        for answers in ([], said):
            (await http.post(f"{sandbox}/model/answers", json=answers)).raise_for_status()


async def _through(core: Core, count: float) -> None:
    """Wait until so many orders wait for nothing but their pictures."""
    while await _insisted(lambda: _done(core)) < count:
        await anyio.sleep(0.5)


async def _done(core: Core) -> int:
    async with core.database.transaction() as connection:
        ended = select(func.count()).select_from(runs).where(runs.c.state != "running")
        return int(await connection.scalar(ended) or 0)


async def _quiet(core: Core) -> None:
    """Wait until no run waits for anything."""

    async def due() -> int:
        async with core.database.transaction() as connection:
            return int(await connection.scalar(select(func.count()).where(runs.c.due_stage.is_not(None))) or 0)

    while await _insisted(due):
        await anyio.sleep(1)


async def _not_through(core: Core) -> list[str]:
    """The orders that are not in the shop, and why: what stands in it is checked afterwards."""
    async with core.database.transaction() as connection:
        found = await connection.execute(
            select(runs.c.id, runs.c.state, runs.c.failed_stage, runs.c.summary).where(runs.c.state != "completed")
        )
        return [f"run {run_id} is {state} {stage or ''}: {why}" for run_id, state, stage, why in found]


async def _insisted(call: Callable[[], Awaitable[T]]) -> T:
    """Call until it works: whoever watches lives through the outages, too."""
    while True:
        try:
            return await call()
        except PipelineError:
            await anyio.sleep(0.5)


async def _figures(core: Core, fleet: Fleet, took_s: float) -> Figures:
    dead, finished = [
        [job for queue in flow.NAMES for job in await core.bull.list_jobs(queue, state, 0, -1)]
        for state in ("failed", "completed")
    ]
    reasons = [job.failed_reason or "" for job in dead]
    spans = [job.finished_on_ms - job.processed_on_ms for job in finished if job.finished_on_ms and job.processed_on_ms]
    async with core.database.transaction() as connection:
        counted = await connection.execute(select(runs.c.state, func.count()).group_by(runs.c.state))
        by_state = {state: int(count) for state, count in counted}
        lost = await connection.scalar(select(func.count()).select_from(stage_runs).where(stage_runs.c.state == "lost"))
    total = sum(by_state.values())
    return Figures(
        missing_lock=sum("Missing lock" in reason for reason in reasons),
        stalled=sum("stalled" in reason for reason in reasons),
        failed=by_state.get("failed", 0) / total,
        completed=(by_state.get("completed", 0) + by_state.get("needs_review", 0)) / total,
        connections=fleet.most_connections,
        job_s=sum(spans) / len(spans) / 1000,
        kills=fleet.kills,
        returned=sum(job.stalled_count for job in finished),
        lost=int(lost or 0),
        took_s=took_s,
    )


def _say(words: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {words}", flush=True)


def main(orders: int, workers: int) -> None:
    with (
        open_home(None) as home,
        start_redis(home) as redis_url,
        start_sandbox(home, {DOMAIN: TOKEN}, state=home.path / "shop.db") as sandbox,
    ):
        logs.configure("text", file=home.log("soak"))
        print(anyio.run(soak, Plan(orders=orders, workers=workers), home, redis_url, sandbox))


if __name__ == "__main__":
    numbers = [*map(int, sys.argv[1:]), *(1000, 8)[len(sys.argv) - 1 :]]
    main(*numbers)
