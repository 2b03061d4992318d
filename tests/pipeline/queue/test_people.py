"""What people and pages do to a queue."""

from __future__ import annotations

import json

import pytest
import redis

from pipeline.queue.bull import Bull
from pipeline.queue.job import Counts, NewJob
from tests.pipeline.queue.support import BASE, QUEUE, Claimer, Enqueuer, Published


async def test_jobs_are_listed_newest_first_and_in_pages(bull: Bull, enqueue: Enqueuer) -> None:
    await enqueue("a", "b", "c")
    assert [job.id for job in await bull.list_jobs(QUEUE, "waiting", 0, 1)] == ["c", "b"]
    assert [job.id for job in await bull.list_jobs(QUEUE, "waiting", 2, 9)] == ["a"]


@pytest.mark.breaks("missing_field", "stuck", "unreadable_field", reason="that is the claim")
async def test_a_job_someone_else_wrote_badly_is_still_shown(bull: Bull, raw: redis.Redis) -> None:
    raw.hset(BASE + "x", mapping={"delay": "1500.7", "opts": "[1", "stacktrace": "oops", "attemptsMade": "?"})
    record = await bull.job(QUEUE, "x")
    assert record is not None
    assert (record.delay_ms, record.opts, record.stacktrace, record.attempts_made) == (1500, {}, (), 0)
    assert await bull.job(QUEUE, "absent") is None


@pytest.mark.breaks("stuck", "missing_field", reason="stuck is one of them")
async def test_a_job_can_be_found_in_every_state(
    bull: Bull, raw: redis.Redis, enqueue: Enqueuer, claim: Claimer
) -> None:
    await enqueue("a", "b")
    await bull.enqueue(QUEUE, NewJob(id="later", data="{}", delay_ms=60_000))
    await claim()
    raw.hset(BASE + "nowhere", "name", "x")
    states = [await bull.state(QUEUE, job_id) for job_id in ("a", "b", "later", "nowhere", "absent")]
    assert states == ["active", "waiting", "delayed", "stuck", None]
    assert await bull.counts(QUEUE) == Counts(waiting=1, active=1, completed=0, failed=0, delayed=1, paused=0)


async def test_promoting_runs_a_delayed_job_now(bull: Bull, claim: Claimer) -> None:
    await bull.enqueue(QUEUE, NewJob(id="later", data="{}", delay_ms=60_000))
    assert await bull.promote(QUEUE, "later")
    assert not await bull.promote(QUEUE, "later")
    assert (await claim()).id == "later"


async def test_a_running_job_is_not_removed_any_other_is(
    bull: Bull, raw: redis.Redis, enqueue: Enqueuer, claim: Claimer
) -> None:
    await enqueue("a", "b")
    await claim()
    assert not await bull.remove(QUEUE, "a")
    assert await bull.remove(QUEUE, "b")
    assert not await bull.remove(QUEUE, "b")
    assert not raw.exists(BASE + "b", BASE + "wait")


@pytest.mark.breaks("missing_field", "unreadable_field", reason="the job that runs has only a lock")
async def test_cleaning_spares_what_is_younger_and_what_runs(
    bull: Bull, raw: redis.Redis, enqueue: Enqueuer, claim: Claimer
) -> None:
    await enqueue("run", "old", "new")
    await claim()
    for job_id, at in {"run": 1000, "old": 1000, "new": 9_999_999_999_999}.items():
        raw.hset(BASE + job_id, "timestamp", at)
    raw.hdel(BASE + "run", "processedOn")
    assert await bull.clean(QUEUE, "waiting", older_than_ms=1000) == ["old"]
    assert await bull.clean(QUEUE, "active", older_than_ms=1000) == []


async def test_progress_is_written_where_bulls_readers_look(
    bull: Bull, raw: redis.Redis, enqueue: Enqueuer, published: Published
) -> None:
    await enqueue("a")
    published()
    assert await bull.progress(QUEUE, "a", {"percent": 40})
    assert raw.hget(BASE + "a", "progress") == '{"percent":40}'
    ((channel, payload),) = published()
    assert (channel, json.loads(payload)) == ("progress", {"jobId": "a", "progress": {"percent": 40}})
    assert not await bull.progress(QUEUE, "absent", 1)
