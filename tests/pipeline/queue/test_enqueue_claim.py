"""Putting jobs in and taking them out, on a real server."""

from __future__ import annotations

import json

import pytest
import redis

from pipeline.errors import BrokenQueue
from pipeline.queue.bull import Bull
from pipeline.queue.job import ClaimedJob, Counts, Empty, Enqueued, Limited, NewJob, Paused, RateLimit
from tests.pipeline.queue.support import BASE, QUEUE, Claimer, Enqueuer


async def test_a_job_is_written_as_bull_writes_it(bull: Bull, raw: redis.Redis) -> None:
    await bull.enqueue(QUEUE, NewJob(id="po-1", data='{"a":"é"}', attempts=3, opts={"removeOnComplete": None}))

    stored = raw.hgetall(BASE + "po-1")
    assert {name: value for name, value in stored.items() if name != "opts"} == {
        "name": "__default__",
        "data": '{"a":"é"}',
        "timestamp": "1795435200000",
        "delay": "0",
        "priority": "0",
    }
    # an absent option stays absent: a null removeOnComplete makes Node lose the job
    assert json.loads(stored["opts"]) == {
        "jobId": "po-1", "attempts": 3, "delay": 0, "timestamp": 1795435200000,
    }  # fmt: skip
    assert raw.lrange(BASE + "wait", 0, -1) == ["po-1"]


async def test_enqueueing_the_same_id_again_changes_nothing_and_says_where_the_job_is(
    bull: Bull, raw: redis.Redis, claim: Claimer
) -> None:
    assert await bull.enqueue(QUEUE, NewJob(id="po-1", data="{}")) == Enqueued("po-1", created=True)
    assert await bull.enqueue(QUEUE, NewJob(id="po-1", data="{}")) == Enqueued("po-1", created=False, state="waiting")
    await claim()
    assert (await bull.enqueue(QUEUE, NewJob(id="po-1", data="{}"))).state == "active"
    assert raw.llen(BASE + "wait") == 0


@pytest.mark.breaks("stuck", "missing_field", reason="the foreign job is a bare hash")
async def test_a_numbered_job_steps_over_a_foreign_job_of_that_number(bull: Bull, raw: redis.Redis) -> None:
    raw.hset(BASE + "1", mapping={"name": "foreign"})
    assert (await bull.enqueue(QUEUE, NewJob(id=None, data="{}"))).id == "2"
    assert raw.hget(BASE + "1", "name") == "foreign"


@pytest.mark.parametrize("job_id", ["", "7", "wait", "a:lock"])
async def test_ids_that_collide_in_bull_are_refused(bull: Bull, job_id: str) -> None:
    with pytest.raises(ValueError, match="job id"):
        await bull.enqueue(QUEUE, NewJob(id=job_id, data="{}"))


async def test_data_that_would_jam_bulls_readers_is_refused(bull: Bull) -> None:
    with pytest.raises(ValueError, match="NaN"):
        await bull.enqueue(QUEUE, NewJob(id="po-1", data='{"a":NaN}'))


async def test_jobs_are_claimed_first_in_first_out_except_front_and_priority(
    bull: Bull, raw: redis.Redis, claim: Claimer
) -> None:
    await bull.enqueue(QUEUE, NewJob(id="first", data="{}"))
    await bull.enqueue(QUEUE, NewJob(id="second", data="{}"))
    await bull.enqueue(QUEUE, NewJob(id="urgent-2", data="{}", opts={"priority": 2}))
    await bull.enqueue(QUEUE, NewJob(id="urgent-1", data="{}", opts={"priority": 1}))
    await bull.enqueue(QUEUE, NewJob(id="front", data="{}", front=True))

    assert [(await claim()).id for _ in range(5)] == ["front", "urgent-1", "urgent-2", "first", "second"]
    assert not raw.exists(BASE + "priority")  # which counts only what waits


async def test_a_claim_moves_the_job_and_takes_its_lock_in_one_step(bull: Bull, raw: redis.Redis) -> None:
    await bull.enqueue(QUEUE, NewJob(id="po-1", data='{"x":1}', opts={"backoff": 5}))
    raw.sadd(BASE + "stalled", "po-1")

    job = await bull.claim(QUEUE, token="w:1", lease_ms=30_000)

    assert isinstance(job, ClaimedJob)
    assert (job.id, job.data, job.opts["backoff"], job.attempts_made, job.stalled_count) == (
        "po-1", '{"x":1}', 5, 0, 0,
    )  # fmt: skip
    assert raw.get(BASE + "po-1:lock") == "w:1"
    assert 29_000 < raw.pttl(BASE + "po-1:lock") <= 30_000
    assert raw.lrange(BASE + "active", 0, -1) == ["po-1"]
    assert raw.smembers(BASE + "stalled") == set()
    assert await bull.claim(QUEUE, token="w:2", lease_ms=30_000) == Empty()


async def test_long_data_stay_behind_and_are_fetched_apart(bull: Bull, claim: Claimer) -> None:
    long = json.dumps("x" * 300_000)
    await bull.enqueue(QUEUE, NewJob(id="po-1", data=long))
    job = await claim()
    assert job.data is None
    assert await bull.data(QUEUE, job.id) == long


@pytest.mark.breaks("missing_field", reason="the foreign job is a bare hash")
async def test_a_paused_queue_takes_jobs_and_hands_none_out(bull: Bull, raw: redis.Redis, claim: Claimer) -> None:
    await bull.enqueue(QUEUE, NewJob(id="before", data="{}"))
    await bull.pause(QUEUE)
    await bull.enqueue(QUEUE, NewJob(id="meanwhile", data="{}"))
    raw.lpush(BASE + "wait", "foreign")  # a push that did not look; Bull's RENAME would destroy it
    raw.hset(BASE + "foreign", "data", "{}")

    assert await bull.claim(QUEUE, token="w:1", lease_ms=1000) == Paused()
    assert await bull.is_paused(QUEUE)
    assert (await bull.counts(QUEUE)).paused == 2

    await bull.resume(QUEUE)
    assert {(await claim()).id for _ in range(3)} == {"before", "meanwhile", "foreign"}


async def test_over_the_limit_nothing_is_claimed_and_nobody_is_moved(
    bull: Bull, raw: redis.Redis, claim: Claimer, enqueue: Enqueuer
) -> None:
    await enqueue("a", "b", "c")
    limit = RateLimit(max=2, duration_ms=60_000)
    await claim(limit=limit)
    await claim(limit=limit)

    answer = await bull.claim(QUEUE, token="w:9", lease_ms=1000, limit=limit)
    assert isinstance(answer, Limited)
    assert 50_000 < answer.retry_after_ms <= 60_000
    assert await bull.counts(QUEUE) == Counts(1, 2, 0, 0, 0, 0)

    raw.delete(BASE + "limiter")  # the window ends
    assert (await claim(limit=limit)).id == "c"


async def test_a_limiter_without_an_end_does_not_close_the_queue_for_ever(
    bull: Bull, raw: redis.Redis, enqueue: Enqueuer
) -> None:
    await enqueue("a")
    raw.set(BASE + "limiter", 99)
    await bull.claim(QUEUE, token="w:1", lease_ms=1000, limit=RateLimit(1, 5_000))
    assert raw.pttl(BASE + "limiter") > 0


async def test_an_entry_without_a_job_is_dropped_and_the_next_job_claimed(
    bull: Bull, raw: redis.Redis, enqueue: Enqueuer, claim: Claimer
) -> None:
    await enqueue("real")
    raw.rpush(BASE + "wait", "ghost")
    assert (await claim()).id == "real"
    assert raw.lrange(BASE + "active", 0, -1) == ["real"]
    assert not raw.exists(BASE + "ghost")


async def test_a_second_entry_of_a_running_job_is_dropped_and_the_run_is_untouched(
    bull: Bull, raw: redis.Redis, enqueue: Enqueuer, claim: Claimer
) -> None:
    await enqueue("a")
    running = await claim()
    raw.lpush(BASE + "wait", "a")
    assert await bull.claim(QUEUE, token="other", lease_ms=1000) == Empty()
    assert raw.get(BASE + "a:lock") == running.token
    assert raw.lrange(BASE + "active", 0, -1) == ["a"]


async def test_a_lock_left_behind_by_nobody_is_taken_over(
    bull: Bull, raw: redis.Redis, enqueue: Enqueuer, claim: Claimer
) -> None:
    await enqueue("a")
    raw.set(BASE + "a:lock", "forgotten")
    job = await claim()
    assert raw.get(BASE + "a:lock") == job.token


@pytest.mark.parametrize("suffix", ["wait", "active", "stalled", "priority"])
@pytest.mark.breaks("wrong_kind", reason="that is the claim")
async def test_a_key_of_the_wrong_type_is_a_broken_queue_and_nothing_is_written(
    bull: Bull, raw: redis.Redis, enqueue: Enqueuer, suffix: str
) -> None:
    await enqueue("a")
    raw.delete(BASE + suffix)
    raw.hset(BASE + suffix, "not", "bull's")
    before = sorted(raw.keys())
    with pytest.raises(BrokenQueue, match=suffix):
        await bull.claim(QUEUE, token="w:1", lease_ms=1000)
    assert sorted(raw.keys()) == before


@pytest.mark.breaks("unreadable_field", reason="that is the claim")
async def test_options_nobody_can_read_count_as_none(
    bull: Bull, raw: redis.Redis, enqueue: Enqueuer, claim: Claimer
) -> None:
    await enqueue("a")
    raw.hset(BASE + "a", "opts", "{broken")
    assert (await claim()).opts == {}
