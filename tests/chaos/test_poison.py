"""Documents that kill: dead after the cap with a reason; what died beside them is neither counted nor blamed."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import pytest
from sqlalchemy import func, insert, select

from app.core import Core, open_core
from app.db.tables import runs, stage_runs
from app.settings import Settings
from pipeline import flow
from pipeline.contract import Done, StageInput, StageResult
from pipeline.domain.results import Enrichment
from pipeline.hand_off import hand_off
from pipeline.queue.job import ClaimedJob, Settled
from pipeline.run_store import NextJob
from pipeline.settling import Outcome
from tests.app.held import held
from tests.chaos import fragile_child, mortal
from tests.chaos.watching import impatient, jobs_in, rows, run_of, until
from tests.pipeline.line import MERCHANT, Line, open_line
from tests.shop import Article, articles, check_once, connect_merchant, csv_of, settings_for, settled, submit, working
from tests.support import CHAOS_IN_FULL

NEIGHBOURS = 4
POISONS = 3 if CHAOS_IN_FULL else 1

# ----------------------------------------------------------------------------------------- the reading child


async def test_a_document_that_kills_its_reading_child_is_dead_after_three_and_costs_no_other_an_attempt(
    redis_url: str, database_url: str, sandbox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real children: one segfaults, one is killed as by the kernel, one is out of memory. Beside them all is well."""
    monkeypatch.setattr("app.adapters.reader._CHILD", fragile_child.__name__)
    reasons = {
        fragile_child.SEGFAULT: "the reading process died in the middle of the document",
        fragile_child.KILLED: "the reading process died in the middle of the document",
        fragile_child.MEMORY: "reading failed with MemoryError",
    }
    async with working(settings_for(redis_url, database_url, sandbox)) as (core, _), impatient(core, flow.FIRST):
        await connect_merchant(core, sandbox)
        deadly = {await submit(core, "deadly.csv", words): reason for words, reason in reasons.items()}
        orders = await _submit_neighbours(core)
        await settled(core, len(deadly) + NEIGHBOURS)
        for upload, reason in deadly.items():
            run = await run_of(core, upload)
            assert (run["state"], run["failed_stage"], run["failure"]) == ("failed", flow.FIRST, reason)
            assert await _journal_of(core, run["id"]) == {"failed": 3}
        await _check_neighbours(core, sandbox, orders, dead=len(deadly))


# ----------------------------------------------------------------------------------------- the whole worker


async def test_a_document_that_kills_its_worker_is_dead_after_the_cap_and_its_neighbours_are_no_poison(
    redis_url: str, database_url: str, sandbox: str, fork_server: None
) -> None:
    """All documents run side by side when the first worker dies, and all come back together to the next."""
    quick = {"lease_seconds": 1.0, "heartbeat_seconds": 0.25, "stalled_seconds": 0.3, "guard_seconds": 0.2}
    settings = settings_for(redis_url, database_url, sandbox, **quick)
    async with open_core(settings) as core:
        await connect_merchant(core, sandbox)
        poisons = [await submit(core, "poison.csv", b"%s %d" % (mortal.POISON, n)) for n in range(POISONS)]
        orders = await _submit_neighbours(core)
        async with _workers_that_die(settings) as deaths:
            await settled(core, POISONS + NEIGHBOURS, within_s=120)
        limit = settings.max_stalls
        assert len(deaths) <= POISONS * (limit + 1)
        for upload in poisons:
            run = await run_of(core, upload)
            assert (run["state"], run["failure_code"]) == ("failed", "poison")
            assert run["failure"].startswith(f"{flow.FIRST} took its worker down {limit + 1} times")
            assert await _journal_of(core, run["id"]) == {"crashed": limit + 1, "failed": 1}
        await _check_neighbours(core, sandbox, orders, dead=POISONS)
        together = select(func.count().label("n")).where(stage_runs.c.state == "crashed")
        crashed_along = (await rows(core, together))[0]["n"] - POISONS * (limit + 1)
        assert crashed_along >= NEIGHBOURS, "nobody was near when the poison killed: this proves nothing"


@asynccontextmanager
async def _workers_that_die(settings: Settings) -> AsyncIterator[list[int]]:
    """One worker process, started again whenever it died; its exit codes."""
    given = settings.model_dump()
    given.pop("stages")
    deaths: list[int] = []
    process = mortal.start(given)

    async def replace_the_dead() -> None:
        nonlocal process
        while True:
            await anyio.to_thread.run_sync(process.join, abandon_on_cancel=True)
            deaths.append(process.exitcode or 0)
            process = mortal.start(given)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(replace_the_dead)
        try:
            yield deaths
        finally:
            tasks.cancel_scope.cancel()
            process.kill()
            process.join()
    assert set(deaths) == {-signal.SIGKILL}


async def _submit_neighbours(core: Core) -> list[list[Article]]:
    orders = [articles(number) for number in range(NEIGHBOURS)]
    for number, lines in enumerate(orders):
        await submit(core, f"order-{number}.csv", csv_of(f"PO-{number}", lines))
    return orders


async def _journal_of(core: Core, run_id: str) -> dict[str, int]:
    counted = (
        select(stage_runs.c.state, func.count().label("n"))
        .where(stage_runs.c.run_id == run_id)
        .group_by(stage_runs.c.state)
    )
    return {row["state"]: row["n"] for row in await rows(core, counted)}


async def _check_neighbours(core: Core, sandbox: str, orders: Sequence[Sequence[Article]], *, dead: int) -> None:
    """Completed, no failure in their journal, no attempt consumed in Redis, everything in the shop once."""
    ended: list[dict[str, Any]] = await rows(core, select(runs.c.id, runs.c.state).where(runs.c.state != "failed"))
    assert [run["state"] for run in ended] == ["completed"] * NEIGHBOURS
    for run in ended:
        assert "failed" not in await _journal_of(core, run["id"])
    assert {job.attempts_made for job in await jobs_in(core, "completed")} == {0}
    assert len(await jobs_in(core, "failed")) == dead
    await check_once(core, sandbox, orders)


# ------------------------------------------------------------------------------------------------- the rule


@pytest.fixture
async def line(redis_url: str, database_url: str) -> AsyncIterator[Line]:
    async with held(open_line(redis_url, database_url)) as opened:
        yield opened


async def die_with(line: Line, queue: str, times: int) -> None:
    """A job is claimed and loaded, its worker dies, and the sweep returns it; so often."""
    for _ in range(times):
        job = await line.claim(queue)
        await line.runner._load(job)
        base = line.bull.keys.base(queue)
        call = line.bull._commands.call
        await call("DEL", f"{base}{job.id}:lock")
        await call("LREM", f"{base}active", 0, job.id)
        await call("RPUSH", f"{base}wait", job.id)
        await call("HINCRBY", f"{base}{job.id}", "stalledCounter", 1)


class Gates:
    """A stage that notes who is in it, and lets each out when told."""

    def __init__(self) -> None:
        self.inside: list[str] = []
        self.most = 0
        self.seen: list[str] = []
        self.open = anyio.Event()

    async def __call__(self, given: StageInput) -> StageResult:
        self.inside.append(given.run.upload_id)
        self.seen.append(given.run.upload_id)
        self.most = max(self.most, len(self.inside))
        await self.open.wait()
        self.inside.remove(given.run.upload_id)
        return Done(Enrichment())

    async def holds(self, *uploads: str) -> bool:
        return sorted(self.inside) == sorted(uploads)


async def test_a_suspect_waits_for_the_others_and_nothing_begins_beside_it(line: Line) -> None:
    await line.add_upload("suspect")
    await die_with(line, flow.FIRST, times=2)
    gates = Gates()
    line.script("database-save", gates)
    line.script(flow.FIRST, alone := Gates())
    release, released = line.bull.release, 0

    async def counted(job: ClaimedJob) -> Settled:
        nonlocal released
        released += 1
        return await release(job)

    line.bull.release = counted  # type: ignore[method-assign]
    await line.bull.pause(flow.FIRST)
    worker = line.worker(guard_s=0.1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        await _at_database_save(line, "neighbour")
        await until(partial(gates.holds, "neighbour"))
        await line.bull.resume(flow.FIRST)

        async def wants_to_be_alone() -> bool:
            return worker.runner.solitude.taken

        await until(wants_to_be_alone)
        await _at_database_save(line, "late")
        assert alone.seen == []
        gates.open.set()
        await until(partial(alone.holds, "suspect"))
        assert gates.seen == ["neighbour"]
        alone.open.set()

        async def all_through() -> bool:
            return (await line.bull.counts(flow.IMAGES)).completed == 3

        await until(all_through)
        worker.stop()
    assert released <= 2, "claimed only to be handed back, again and again"
    assert (await line.journal("suspect"))[:3] == [
        (flow.FIRST, 0, 1, "crashed"),
        (flow.FIRST, 0, 2, "crashed"),
        (flow.FIRST, 0, 3, "finished"),
    ]


async def _at_database_save(line: Line, upload: str) -> None:
    """A run accepted and due at the second stage, without its first having been run."""
    job = NextJob(f"run-{upload}", "database-save", 0, f"wf_{upload}")
    async with line.database.transaction() as connection:
        await connection.execute(
            insert(runs).values(
                id=job.run_id,
                merchant_id=MERCHANT,
                kind="order",
                upload_id=upload,
                workflow_id=job.workflow_id,
                state="running",
                due_stage=job.stage,
                due_since=func.now(),
            )
        )
    await line.bull.enqueue(job.stage, hand_off(job))


async def test_two_suspects_are_never_in_one_process_together(line: Line) -> None:
    await line.add_upload("one")
    await line.add_upload("two")
    await die_with(line, flow.FIRST, times=2)
    aside = await line.claim(flow.FIRST)
    await die_with(line, flow.FIRST, times=2)
    await line.bull.release(aside)
    gates = Gates()
    line.script(flow.FIRST, gates)
    worker = line.worker(guard_s=0.1)

    async def one_is_in() -> bool:
        return len(gates.inside) == 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        await until(one_is_in)

        async def the_other_was_sent_back() -> bool:
            return (await line.bull.counts(flow.FIRST)).waiting == 1

        await until(the_other_was_sent_back)
        gates.open.set()

        async def both_through() -> bool:
            return (await line.bull.counts(flow.IMAGES)).completed == 2

        await until(both_through)
        worker.stop()
    assert (gates.most, len(gates.seen)) == (1, 2)


async def test_a_run_is_never_poison_without_having_crashed_alone(redis_url: str, database_url: str) -> None:
    """Whatever the operator's limit: of those who died together nobody knows who it was."""
    async with open_line(redis_url, database_url, max_stalls=0) as line:
        await line.add_upload()
        await die_with(line, flow.FIRST, times=2)
        assert (await line.step(flow.FIRST)).outcome is Outcome.FINISHED
