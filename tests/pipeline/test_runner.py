"""One attempt: what is recorded, what is counted, and what a job means that comes twice, late or to a dead run."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import anyio
import pytest
from sqlalchemy import update

from app.db.tables import runs, stage_runs
from pipeline import flow
from pipeline.contract import Done, Reject, Retry, Review, StageInput, StageResult
from pipeline.domain.purchase_order import Doubt
from pipeline.domain.results import Enrichment
from pipeline.errors import LeaseLost, VendorUnavailable
from pipeline.queue.job import ClaimedJob, ClaimNext, NewJob
from pipeline.runner import _Interrupted, _reason
from pipeline.settling import Outcome
from tests.app.held import held
from tests.pipeline.line import Killed, Line, Scripted, add_merchant, open_line


@pytest.fixture
async def line(redis_url: str, database_url: str) -> AsyncIterator[Line]:
    async with held(open_line(redis_url, database_url)) as opened:
        yield opened


async def raises(line: Line, stage: str, error: Exception) -> Scripted:
    async def script(_given: StageInput) -> StageResult:
        raise error

    return line.script(stage, script)


async def test_a_run_goes_through_eleven_stages_and_completes(line: Line) -> None:
    await line.add_upload()
    await line.walk()
    run = await line.run_row()
    assert (run["state"], run["due_stage"]) == ("completed", None)
    assert [entry[0] for entry in await line.journal()] == list(flow.NAMES)
    for name in flow.NAMES:
        counts = await line.bull.counts(name)
        assert (counts.completed, counts.waiting, counts.failed) == (1, 0, 0), name


async def test_a_stage_sees_what_earlier_stages_found(line: Line) -> None:
    seen: dict[str, object] = {}

    async def look(given: StageInput) -> StageResult:
        seen.update(given.earlier)
        return Done(Enrichment())

    line.script("merchant-config", look)
    await line.add_upload()
    await line.walk(last="merchant-config")
    assert list(seen) == sorted(flow.NAMES[:3])


async def test_the_same_upload_five_times_is_one_run_and_one_reading(line: Line) -> None:
    for _ in range(5):
        await line.add_upload()
    first = await line.claim(flow.FIRST)
    second = await line.claim(flow.FIRST)
    assert (await line.runner.attempt(first)).outcome is Outcome.FINISHED
    assert (await line.runner.attempt(second)).outcome is Outcome.FINISHED
    for _ in range(3):
        await line.step(flow.FIRST)
    assert line.stages[flow.FIRST].calls == 1
    assert (await line.bull.counts("database-save")).waiting == 1


async def test_a_second_job_of_an_upload_stands_back_while_the_first_still_runs(line: Line) -> None:
    await line.add_upload()
    first = await line.claim(flow.FIRST)

    async def second_arrives(_given: StageInput) -> StageResult:
        await line.add_upload()
        await line.step(flow.FIRST)
        return Done(Enrichment())

    line.script(flow.FIRST, second_arrives)
    assert (await line.runner.attempt(first)).outcome is Outcome.FINISHED
    assert line.stages[flow.FIRST].calls == 1


async def test_review_goes_to_status_update_and_waits_for_a_person(line: Line) -> None:
    async def review(_given: StageInput) -> StageResult:
        return Review((Doubt(code="low_confidence", message="look"),), Enrichment())

    line.script("image-attachment", review)
    await line.add_upload()
    await line.walk(last="image-attachment")
    await line.step(flow.STATUS)
    run = await line.run_row()
    assert (run["state"], run["due_stage"], run["review_stage"]) == ("needs_review", None, "image-attachment")
    assert (await line.bull.counts(flow.SYNC)).waiting == 0


async def test_a_failure_is_counted_in_postgres_first_and_ends_after_the_last_attempt(line: Line) -> None:
    await raises(line, flow.FIRST, Retry("it hiccuped"))
    job_id = await line.add_upload()
    outcomes = [(await line.step(flow.FIRST)).outcome for _ in range(3)]
    assert outcomes == [Outcome.RETRIED, Outcome.RETRIED, Outcome.DEAD]
    run = await line.run_row()
    assert (run["state"], run["failure"], run["due_stage"]) == ("failed", "it hiccuped", None)
    failed = await line.bull.job(flow.FIRST, job_id)
    assert failed is not None
    assert (failed.attempts_made, failed.failed_reason) == (3, "it hiccuped")


async def test_a_rejected_order_is_dead_at_once(line: Line) -> None:
    await raises(line, flow.FIRST, Reject("missing_file", "the file is gone"))
    await line.add_upload()
    assert (await line.step(flow.FIRST)).outcome is Outcome.DEAD
    run = await line.run_row()
    assert (run["state"], run["failure_code"], run["failure"]) == ("failed", "missing_file", "the file is gone")


async def test_a_crash_between_failure_record_and_settle_does_not_revive_the_run(line: Line) -> None:
    await raises(line, flow.FIRST, Reject("no", "no"))
    await line.add_upload()
    job = await line.claim(flow.FIRST)
    line.deadly.gap = "failure-record"
    with pytest.raises(Killed):
        await line.runner.attempt(job)
    line.deadly.gap = ""
    await line.bull.release(job)
    assert (await line.step(flow.FIRST)).outcome is Outcome.DEAD
    assert line.stages[flow.FIRST].calls == 1


async def test_a_dead_run_retried_through_bull_enters_anew(line: Line) -> None:
    await raises(line, flow.FIRST, Reject("no", "no"))
    job_id = await line.add_upload()
    await line.step(flow.FIRST)
    await line.bull.replay(flow.FIRST, job_id)
    line.stages[flow.FIRST] = Scripted(line.stages["database-save"].script)
    assert (await line.step(flow.FIRST)).outcome is Outcome.FINISHED
    run = await line.run_row()
    assert (run["state"], run["entry"], run["due_stage"]) == ("running", 1, "database-save")


async def test_a_vendor_outage_counts_nothing_and_honours_its_own_time(line: Line) -> None:
    await raises(line, flow.FIRST, VendorUnavailable("the model is down", retry_after_s=30))
    job_id = await line.add_upload()
    assert (await line.step(flow.FIRST)).outcome is Outcome.RELEASED
    assert await line.bull.state(flow.FIRST, job_id) == "delayed"
    waiting = await line.bull.job(flow.FIRST, job_id)
    assert waiting is not None
    assert waiting.attempts_made == 0
    assert [state for *_, state in await line.journal()] == ["waited"]


async def test_patience_runs_out_with_the_vendors_reason(line: Line) -> None:
    await raises(line, flow.FIRST, VendorUnavailable("the model is down", retry_after_s=0.001))
    await line.add_upload()
    await line.step(flow.FIRST)
    async with line.database.transaction() as connection:
        from datetime import UTC, datetime, timedelta

        long_ago = datetime.now(UTC) - timedelta(hours=2)
        await connection.execute(update(stage_runs).values(started_at=long_ago, ended_at=long_ago))
    await line.bull.promote(flow.FIRST, (await line.bull.list_jobs(flow.FIRST, "delayed"))[0].id)
    assert (await line.step(flow.FIRST)).outcome is Outcome.DEAD
    assert "the model is down" in (await line.run_row())["failure"]


@pytest.mark.breaks("open_attempt_is_the_last", reason="the other worker is only a fence raised by hand")
async def test_a_stale_worker_writes_nothing(line: Line) -> None:
    """Another worker takes the run while a stage is under way: zero rows, LeaseLost, nothing in Redis."""

    async def overtaken(_given: StageInput) -> StageResult:
        async with line.database.transaction() as connection:
            await connection.execute(update(runs).values(fence=runs.c.fence + 1))
        return Done(Enrichment())

    line.script(flow.FIRST, overtaken)
    job_id = await line.add_upload()
    assert (await line.step(flow.FIRST)).outcome is Outcome.LOST
    assert await line.bull.state(flow.FIRST, job_id) == "active"
    assert (await line.run_row())["due_stage"] == flow.FIRST


async def test_a_lost_lease_cancels_the_stage_before_anyone_else_may_start(line: Line) -> None:
    import anyio

    cancelled = []

    async def hangs(_given: StageInput) -> StageResult:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.append(True)
        raise AssertionError

    line.script(flow.FIRST, hangs)
    await line.add_upload()
    job = await line.claim(flow.FIRST, lease_ms=200)
    assert (await line.runner.attempt(job)).outcome is Outcome.LOST
    assert cancelled
    assert [state for *_, state in await line.journal()] == ["lost"]


async def test_a_machine_that_slept_through_lease_and_time_limit_counts_no_failure(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are over when it wakes, and which one it notices first is chance."""
    await line.add_upload()
    job = await line.claim(flow.FIRST)
    job.lease.revoke()
    assert [_reason(noticed, job.lease) for noticed in _Interrupted] == [
        _Interrupted.LEASE,
        _Interrupted.LEASE,
        _Interrupted.DRAIN,
    ]
    monkeypatch.setitem(flow.BY_NAME, flow.FIRST, replace(flow.BY_NAME[flow.FIRST], time_limit=timedelta(0)))
    hanging = line.script(flow.FIRST, lambda _given: anyio.sleep_forever())  # type: ignore[arg-type, return-value]
    assert (await line.runner.attempt(job)).outcome is Outcome.LOST
    assert hanging.calls == 1
    assert [state for *_, state in await line.journal()] == ["lost"]


async def test_a_stage_that_finds_its_lease_lost_ends_lost(line: Line) -> None:
    await raises(line, flow.FIRST, LeaseLost("over"))
    await line.add_upload()
    assert (await line.step(flow.FIRST)).outcome is Outcome.LOST


async def test_draining_hands_the_job_back_to_the_head_and_counts_nothing(line: Line) -> None:
    async def hangs(_given: StageInput) -> StageResult:
        line.runner.drain()
        await anyio.sleep_forever()
        raise AssertionError

    line.script(flow.FIRST, hangs)
    job_id = await line.add_upload()
    assert (await line.step(flow.FIRST)).outcome is Outcome.RELEASED
    assert await line.bull.state(flow.FIRST, job_id) == "waiting"
    assert [state for *_, state in await line.journal()] == ["released"]


async def test_an_unknown_merchant_is_told_on_the_run_and_on_the_job(line: Line) -> None:
    job_id = await line.add_upload(merchantId="nobody")
    assert (await line.step(flow.FIRST)).outcome is Outcome.DEAD
    run, job = await line.run_row(), await line.bull.job(flow.FIRST, job_id)
    assert job is not None
    assert (run["state"], run["failure_code"]) == ("failed", "unknown_merchant")
    assert "nobody" in run["failure"]
    assert job.failed_reason == run["failure"]
    await add_merchant(line.database, "nobody")
    await line.bull.replay(flow.FIRST, job_id)
    assert (await line.step(flow.FIRST)).outcome is Outcome.FINISHED


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ('"text"', "not an object"),
        (json.dumps({"stage": "ai_parsing", "data": {"merchantId": "m"}}), "uploadId is missing"),
        (json.dumps({"stage": "database_save", "workflowId": "w", "data": {}}), "only ai_parsing"),
        (
            json.dumps({"stage": "ai_parsing", "workflowId": "w", "data": {"merchantId": 7, "uploadId": "u"}}),
            "merchantId",
        ),
    ],
)
async def test_a_bad_envelope_is_a_failed_run_with_a_reason(line: Line, data: str, words: str) -> None:
    job_id = (await line.bull.enqueue(flow.FIRST, NewJob(id=None, data=data))).id
    assert (await line.step(flow.FIRST)).outcome is Outcome.DEAD
    job = await line.bull.job(flow.FIRST, job_id)
    assert job is not None
    run = await line.run_row(f"job:{flow.FIRST}:{job_id}@{job.timestamp_ms}")
    assert words in str(job.failed_reason)
    assert (run["state"], run["failure"]) == ("failed", job.failed_reason)


@pytest.mark.breaks("two_live_jobs", reason="the newer release's job is added by hand")
async def test_a_job_of_a_newer_flow_is_left_to_newer_workers(line: Line) -> None:
    await line.add_upload()
    await line.step(flow.FIRST)
    job = await line.claim("database-save")
    assert job.data is not None
    newer = json.loads(job.data)
    newer["data"]["flowVersion"] = flow.FLOW_VERSION + 1
    await line.bull.enqueue("database-save", NewJob(id="po-newer", data=json.dumps(newer)))
    assert (await line.step("database-save")).outcome is Outcome.RELEASED
    assert await line.bull.state("database-save", "po-newer") == "delayed"


async def test_the_settling_call_brings_the_next_job_along(line: Line) -> None:
    await line.add_upload("upload-1")
    await line.add_upload("upload-2")
    reply = (await line.step(flow.FIRST, **{flow.FIRST: ClaimNext("next:1", 60_000)})).reply
    assert reply is not None
    assert isinstance(reply.next, ClaimedJob)
    assert (await line.runner.attempt(reply.next)).outcome is Outcome.FINISHED
    assert (await line.bull.counts("database-save")).waiting == 2


async def test_the_settling_call_takes_the_run_through_to_its_next_stage(line: Line) -> None:
    await line.add_upload()
    reply = (await line.step(flow.FIRST, **{"database-save": ClaimNext("through:1", 60_000)})).reply
    assert reply is not None
    assert isinstance(reply.through, ClaimedJob)
    assert reply.through.queue == "database-save"
    assert (await line.runner.attempt(reply.through)).outcome is Outcome.FINISHED
    assert (await line.run_row())["due_stage"] == "data-normalization"


async def test_poison_is_dead_without_running_once_it_stalled_too_often(line: Line) -> None:
    job_id = await line.add_upload()
    for _ in range(4):
        await line.store.load(await line.runner._ticket(await line.claim(flow.FIRST)), alone=True)
        key = line.bull.keys.job(flow.FIRST, job_id)
        commands = line.bull._commands
        await commands.call("DEL", f"{key}:lock")
        await commands.call("LREM", line.bull.keys.base(flow.FIRST) + "active", 0, job_id)
        await commands.call("RPUSH", line.bull.keys.base(flow.FIRST) + "wait", job_id)
        await commands.call("HINCRBY", key, "stalledCounter", 1)
    assert (await line.step(flow.FIRST)).outcome is Outcome.DEAD
    assert line.stages[flow.FIRST].calls == 0
    assert (await line.run_row())["failure_code"] == "poison"


async def test_redis_emptied_every_open_run_gets_one_live_job_again(line: Line) -> None:
    for number in range(3):
        await line.add_upload(f"upload-{number}")
    await line.step(flow.FIRST)
    await line.step(flow.FIRST)
    await line.step("database-save")
    await line.runner._load(await line.claim(flow.FIRST))  # accepted, then its worker dies
    await line.bull._commands.call("FLUSHALL")
    assert (await line.reconciler.run_once(redis_was_emptied=True)).added == 3
    assert (await line.reconciler.run_once(redis_was_emptied=True)).added == 0
    assert (await line.bull.counts(flow.FIRST)).waiting == 1
    assert (await line.bull.counts("database-save")).waiting == 1
    assert (await line.bull.counts("data-normalization")).waiting == 1
    await line.step(flow.FIRST)
    assert (await line.bull.counts("database-save")).waiting == 2


async def test_a_stage_that_ends_while_the_reconciler_looks_stays_ended(line: Line) -> None:
    """It must not take the finished job for a dead one: its result in Redis would be replaced by `skipped`."""
    await line.add_upload()
    await line.step(flow.FIRST)
    (seen,) = await line.store.list_due(quiet_for=timedelta(0), after="", limit=10)
    await line.step("database-save")
    assert await line.reconciler._restore(seen) is False
    assert await line.bull.state("database-save", seen.next.job_id) == "completed"


async def test_a_due_job_that_bull_failed_behind_our_back_comes_back(line: Line) -> None:
    await line.add_upload()
    await line.step(flow.FIRST)
    job = await line.claim("database-save")
    from pipeline.queue.job import Failure, Retention

    await line.bull.fail(
        job, failure=Failure("job stalled more than allowable limit"), attempts_made=0, retention=Retention()
    )
    assert (await line.reconciler.run_once()).added == 1
    await line.walk(first="database-save")
    assert (await line.run_row())["state"] == "completed"


async def test_ids_from_jobs_cannot_be_cut_so_that_they_name_another_merchants_run(line: Line) -> None:
    await add_merchant(line.database, "a")
    await add_merchant(line.database, "a|b")
    await line.add_upload("b|c", merchantId="a")
    await line.add_upload("c", merchantId="a|b")
    await line.step(flow.FIRST)
    await line.step(flow.FIRST)
    assert {(await line.run_row(upload))["merchant_id"] for upload in ("b|c", "c")} == {"a", "a|b"}
