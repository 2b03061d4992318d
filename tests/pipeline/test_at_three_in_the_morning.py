"""What one order, one queue or one unlucky moment must not do: lose a result, or end the process for all others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest
from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert

from app.db.tables import queue_pauses, runs
from pipeline import flow
from pipeline.contract import Done, Reject, StageInput, StageResult
from pipeline.domain.results import Enrichment
from pipeline.errors import CommandRefused, RedisUnavailable, ReplyLost, VendorUnavailable
from pipeline.queue.job import Claim, NewJob, RateLimit
from pipeline.settling import Outcome
from pipeline.worker import Worker
from tests.app.held import held
from tests.pipeline.line import Line, Scripted, open_line
from tests.support import eventually


@pytest.fixture
async def line(redis_url: str, database_url: str) -> AsyncIterator[Line]:
    async with held(open_line(redis_url, database_url)) as opened:
        yield opened


async def raises(line: Line, stage: str, error: Exception) -> Scripted:
    async def script(_given: StageInput) -> StageResult:
        raise error

    return line.script(stage, script)


async def redis(line: Line, *args: str | int) -> Any:
    return await line.bull._commands.call(*args)


async def completed(line: Line, count: int) -> bool:
    return (await line.bull.counts(flow.IMAGES)).completed >= count


async def swept(worker: Worker) -> bool:
    return worker.last_report is not None


async def test_a_stage_that_ends_just_as_the_worker_drains_keeps_its_result(line: Line) -> None:
    async def ends_as_we_drain(_given: StageInput) -> StageResult:
        await anyio.sleep(0.01)
        line.runner.drain()
        return Done(Enrichment())

    line.script(flow.FIRST, ends_as_we_drain)
    await line.add_upload()
    assert (await line.step(flow.FIRST)).outcome is Outcome.FINISHED


@pytest.mark.breaks("wrong_kind", reason="that is the claim")
async def test_a_queue_that_breaks_under_a_stage_costs_neither_its_result_nor_the_process(line: Line) -> None:
    async def breaks(_given: StageInput) -> StageResult:
        await redis(line, "SET", line.bull.keys.base(flow.FIRST) + "stalled", "not a set")
        return Done(Enrichment())

    line.script(flow.FIRST, breaks)
    await line.add_upload()
    assert (await line.step(flow.FIRST)).outcome is Outcome.FINISHED
    assert (await line.bull.counts("database-save")).waiting == 1


@pytest.mark.breaks("wrong_kind", reason="that is the claim")
async def test_a_job_that_cannot_even_be_handed_back_does_not_end_the_process(line: Line) -> None:
    async def breaks(_given: StageInput) -> StageResult:
        await redis(line, "SET", line.bull.keys.base(flow.FIRST) + "stalled", "not a set")
        raise RedisUnavailable("gone")

    line.script(flow.FIRST, breaks)
    await line.add_upload()
    assert (await line.step(flow.FIRST)).outcome is Outcome.RELEASED


async def test_progress_that_breaks_never_holds_the_work_up(line: Line) -> None:
    async def refuse(*_given: object) -> None:
        raise CommandRefused("NOPERM no access to this channel", code="NOPERM")

    line.runner._progress.tell = refuse  # type: ignore[method-assign,assignment]
    await line.add_upload()
    assert (await line.step(flow.FIRST)).outcome is Outcome.FINISHED


@pytest.mark.parametrize("words", ["half a \ud83d", "a \0 in it"], ids=["half a character", "NUL"])
async def test_a_reason_that_cannot_be_stored_as_it_is_still_ends_the_run(line: Line, words: str) -> None:
    await raises(line, flow.FIRST, Reject("unreadable", words))
    await line.add_upload()
    assert (await line.step(flow.FIRST)).outcome is Outcome.DEAD
    assert (await line.run_row())["state"] == "failed"


@pytest.mark.parametrize(
    "data",
    [
        '{"workflowId": "w", "stage": "ai_parsing", "data": {"uploadId": "\\ud83d", "merchantId": "merchant-1"}}',
        '{"workflowId": "w", "stage": "ai_parsing", "data": {"runId": "\\u0000", "entry": 0, "flowVersion": 1}}',
        '{"workflowId": "w", "stage": "ai_parsing", "data": {"runId": "\\ud83d", "entry": 0, "flowVersion": 1}}',
        "[" * 100_000 + "]" * 100_000,
    ],
    ids=["half a character", "NUL in an id", "half a character in an id", "too deep"],
)
async def test_data_that_no_store_takes_is_a_dead_letter_and_not_tried_for_ever(line: Line, data: str) -> None:
    await line.bull.enqueue(flow.FIRST, NewJob(id="foreign", data='"x"', attempts=1))
    await redis(line, "HSET", line.bull.keys.job(flow.FIRST, "foreign"), "data", data)
    assert (await line.step(flow.FIRST)).outcome is Outcome.DEAD


async def test_patience_is_measured_by_one_clock(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker whose clock is hours ahead must not give up on a vendor that has been away for a second."""

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(hours=5)

    monkeypatch.setattr("app.db.runs.datetime", Ahead, raising=False)
    await raises(line, flow.FIRST, VendorUnavailable("down", retry_after_s=0.001))
    job_id = await line.add_upload()
    for _ in range(2):
        assert (await line.step(flow.FIRST)).outcome is Outcome.RELEASED
        await line.bull.promote(flow.FIRST, job_id)


async def test_a_vendor_cannot_park_an_order_beyond_its_patience(line: Line) -> None:
    await raises(line, flow.FIRST, VendorUnavailable("come back next week", retry_after_s=7 * 24 * 3600))
    job_id = await line.add_upload()
    await line.step(flow.FIRST)
    score = int(await redis(line, "ZSCORE", line.bull.keys.base(flow.FIRST) + "delayed", job_id)) // 4096
    assert score / 1000 - datetime.now(UTC).timestamp() <= flow.BY_NAME[flow.FIRST].patience.total_seconds() + 5


async def test_stalls_of_an_earlier_stage_are_no_credit_for_the_next(line: Line) -> None:
    """A re-entered run remembers how often its old hash had stalled; the next stage's hash starts at none."""
    await raises(line, flow.FIRST, Reject("no", "no"))
    job_id = await line.add_upload()
    await line.step(flow.FIRST)
    await line.bull.replay(flow.FIRST, job_id)
    await redis(line, "HSET", line.bull.keys.job(flow.FIRST, job_id), "stalledCounter", 9)
    line.stages[flow.FIRST] = Scripted(line.stages["database-save"].script)
    await line.step(flow.FIRST)
    async with line.database.transaction() as connection:
        assert await connection.scalar(select(runs.c.stall_baseline)) == 0


@pytest.mark.breaks("wrong_kind", reason="that is the claim")
async def test_a_paused_queue_that_is_broken_does_not_end_the_worker(line: Line) -> None:
    await redis(line, "SET", line.bull.keys.base("ai-enrichment") + "wait", "not a list")
    async with line.database.transaction() as connection:
        await connection.execute(insert(queue_pauses).values(queue="ai-enrichment", paused_by="test"))
    worker = line.worker()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        await eventually(lambda: swept(worker))
        await line.add_upload()
        await eventually(lambda: _waits_at(line, "ai-enrichment"))
        worker.stop()


async def _waits_at(line: Line, stage: str) -> bool:
    async with line.database.transaction() as connection:
        return await connection.scalar(select(runs.c.due_stage)) == stage


@pytest.mark.breaks("entry_without_job", "paused_place", reason="that is the claim")
async def test_a_stray_entry_of_a_paused_queue_does_not_make_the_sweep_run_hot(line: Line) -> None:
    await line.bull.pause(flow.FIRST)
    async with line.database.transaction() as connection:
        await connection.execute(insert(queue_pauses).values(queue=flow.FIRST, paused_by="test"))
    await redis(line, "LPUSH", line.bull.keys.base(flow.FIRST) + "wait", "stray")
    sweep, sweeps = line.bull.sweep, 0

    async def counted(*given: Any, **named: Any) -> Any:
        nonlocal sweeps
        sweeps += 1
        return await sweep(*given, **named)

    line.bull.sweep = counted  # type: ignore[method-assign]
    worker = line.worker(guard_s=10)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        await eventually(lambda: swept(worker))
        await anyio.sleep(0.3)
        worker.stop()
    assert sweeps <= 4


@pytest.mark.breaks("unreadable_field", reason="that is the claim")
async def test_numbers_no_integer_can_hold_count_as_none(line: Line) -> None:
    job_id = await line.add_upload()
    await redis(line, "HSET", line.bull.keys.job(flow.FIRST, job_id), "timestamp", "Infinity", "opts", "[" * 100_000)
    worker = line.worker()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        await eventually(lambda: swept(worker))
        await redis(line, "PUBLISH", line.bull.keys.base(flow.FIRST) + "delayed", "1e999")
        await eventually(lambda: completed(line, 1))
        worker.stop()


async def test_a_claim_that_redis_never_answered_is_asked_for_when_it_is_back(line: Line) -> None:
    """Claimed there and unknown here, the job would lie for a whole lease, and be counted as stalled."""
    claim, adopt = line.bull.claim, line.bull.adopt
    lost, refusals = False, 2

    async def unanswered(queue: str, *, token: str, lease_ms: int, limit: RateLimit | None = None) -> Claim:
        nonlocal lost
        found = await claim(queue, token=token, lease_ms=lease_ms, limit=limit)
        if queue == flow.FIRST and not lost:
            lost = True
            raise ReplyLost("the connection ended")
        return found

    async def away(queue: str, token: str, job_id: str | None = None) -> Any:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise RedisUnavailable("not connected")
        return await adopt(queue, token, job_id)

    line.bull.claim = unanswered  # type: ignore[method-assign]
    line.bull.adopt = away  # type: ignore[method-assign]
    await line.add_upload()
    worker = line.worker()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        await eventually(lambda: completed(line, 1), within_s=10)
        worker.stop()
    assert {attempt for _, _, attempt, _ in await line.journal()} == {1}


async def test_an_attempt_that_breaks_beyond_all_care_ends_neither_slot_nor_worker(line: Line) -> None:
    attempt, broken = line.runner.attempt, False

    async def breaks(*given: Any) -> Any:
        nonlocal broken
        if not broken:
            broken = True
            raise KeyError("a bug")
        return await attempt(*given)

    line.runner.attempt = breaks  # type: ignore[method-assign]
    await line.add_upload("upload-1")
    worker = line.worker()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        await line.add_upload("upload-2")
        await eventually(lambda: completed(line, 1), within_s=10)
        worker.stop()


async def test_a_row_that_somebody_else_holds_starves_no_other_order(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the head of its queue, and with all claims held, one locked order would stop the fleet for as long."""
    await line.add_upload()
    await line.step(flow.FIRST)
    async with line.database.transaction() as connection:
        await connection.execute(select(runs).with_for_update())
        monkeypatch.setattr("app.db.session._LIMITS", text("SELECT set_config('lock_timeout', '50', true)"))
        settled = await line.step("database-save")
    assert (settled.outcome, settled.hold) == (Outcome.RELEASED, False)
    assert (await line.bull.counts("database-save")).delayed == 1
