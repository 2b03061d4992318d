"""One process: it wakes at once, stops without losing or counting anything, and does what people paused."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest
from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert

from app.db.tables import queue_pauses
from pipeline import flow
from pipeline.contract import Done, StageInput, StageResult
from pipeline.domain.results import Enrichment
from pipeline.errors import DatabaseUnavailable
from pipeline.worker import Worker
from tests.app.held import held
from tests.pipeline.line import Line, open_line
from tests.support import eventually


@pytest.fixture
async def line(redis_url: str, database_url: str) -> AsyncIterator[Line]:
    async with held(open_line(redis_url, database_url)) as opened:
        yield opened


class Gate:
    """A stage that says when it began and waits to be let go."""

    def __init__(self) -> None:
        self.began = anyio.Event()
        self.go_on = anyio.Event()

    async def __call__(self, _given: StageInput) -> StageResult:
        self.began.set()
        await self.go_on.wait()
        return Done(Enrichment())


async def through(line: Line, count: int) -> bool:
    """That many orders have left the last queue."""
    return (await line.bull.counts(flow.IMAGES)).completed >= count


async def holding(worker: Worker) -> bool:
    """The worker claims nothing for now."""
    return worker.hold_s > 0


async def swept(worker: Worker) -> bool:
    """The first sweep is through: from here on only a signal, or the next sweep, wakes a claimer."""
    return worker.last_report is not None


async def test_an_idle_worker_wakes_by_signal_and_not_by_the_sweep(line: Line) -> None:
    worker = line.worker(guard_s=1000)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        await eventually(lambda: swept(worker))
        await line.add_upload()
        await eventually(lambda: through(line, 1))
        worker.stop()
    assert worker.running == 0


async def test_many_orders_pass_through_all_queues_and_none_is_run_twice(line: Line) -> None:
    worker = line.worker()
    for number in range(12):
        await line.add_upload(f"upload-{number}")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        await eventually(lambda: through(line, 12))
        worker.stop()
    assert {stage.calls for stage in line.stages.values()} == {12}


async def test_stopping_waits_for_what_runs(line: Line) -> None:
    gate = Gate()
    line.script(flow.FIRST, gate)
    await line.add_upload()
    worker = line.worker(grace_s=60)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        await gate.began.wait()
        worker.stop()
        gate.go_on.set()
    assert [state for *_, state in await line.journal()] == ["finished"]
    assert (await line.bull.counts("database-save")).waiting == 1


async def test_the_grace_period_over_work_is_handed_back_uncounted(line: Line) -> None:
    gate = Gate()
    line.script(flow.FIRST, gate)
    job_id = await line.add_upload()
    worker = line.worker(grace_s=0.05)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        await gate.began.wait()
        worker.stop()
    assert [state for *_, state in await line.journal()] == ["released"]
    assert await line.bull.state(flow.FIRST, job_id) == "waiting"
    job = await line.bull.job(flow.FIRST, job_id)
    assert job is not None
    assert job.attempts_made == 0


async def test_a_second_signal_skips_the_grace_period(line: Line) -> None:
    gate = Gate()
    line.script(flow.FIRST, gate)
    await line.add_upload()
    worker = line.worker(grace_s=3600)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.run)
            await gate.began.wait()
            worker.stop()
            worker.stop()
    assert [state for *_, state in await line.journal()] == ["released"]


async def test_a_pause_outlives_a_node_process_that_resumes_every_queue(line: Line) -> None:
    async with line.database.transaction() as connection:
        await connection.execute(insert(queue_pauses).values(queue=flow.FIRST, paused_by="jo"))
    await line.add_upload()
    worker = line.worker()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        await eventually(lambda: line.bull.is_paused(flow.FIRST))
        await line.bull.resume(flow.FIRST)
        await eventually(lambda: line.bull.is_paused(flow.FIRST))
        async with line.database.transaction() as connection:
            await connection.execute(delete(queue_pauses))
        await line.bull.resume(flow.FIRST)
        await eventually(lambda: through(line, 1))
        worker.stop()
    assert line.stages[flow.FIRST].calls == 1


async def test_while_postgres_is_away_nothing_is_claimed_and_nothing_counted(line: Line) -> None:
    load, away = line.store.load, True
    loads = 0

    async def unreachable(*given: object, **named: object) -> object:
        nonlocal loads
        loads += 1
        if away:
            raise DatabaseUnavailable("down")
        return await load(*given, **named)  # type: ignore[arg-type]

    line.store.load = unreachable  # type: ignore[method-assign,assignment]
    job_id = await line.add_upload()
    worker = line.worker(retry_delay_s=0.3)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        await eventually(lambda: holding(worker))
        job = await line.bull.job(flow.FIRST, job_id)
        assert job is not None
        assert (job.attempts_made, loads) == (0, 1)
        away = False
        await eventually(lambda: through(line, 1))
        worker.stop()
    assert {state for *_, state in await line.journal()} == {"finished"}


async def test_a_crashed_workers_job_runs_again_on_another(line: Line) -> None:
    """Its lease runs out, two stalled checks see it, the next claim closes the open attempt as crashed."""
    await line.add_upload()
    lost = await line.claim(flow.FIRST, lease_ms=300)
    await line.runner._load(lost)
    worker = line.worker(stalled_s=0.2)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        await eventually(lambda: through(line, 1))
        worker.stop()
    states = [state for *_, state in await line.journal()]
    assert states[:2] == ["crashed", "finished"]
