"""The sweep: due jobs run, stalled ones return, a broken queue is alone in its trouble."""

from __future__ import annotations

import anyio
import pytest
import redis

from pipeline.queue.bull import Bull
from pipeline.queue.job import NewJob, QueueSweep, SweepReport
from pipeline.queue.sweeper import Sweeper
from tests.pipeline.queue.support import BASE, NEXT, QUEUE, Claimer, Enqueuer, MovedClock, Published


async def sweep(bull: Bull, *queues: str) -> SweepReport:
    return await bull.sweep(queues or (QUEUE,), guard_ms=5_000, stalled_interval_ms=60_000)


def next_period(raw: redis.Redis) -> None:
    raw.delete("bull:po:guard", BASE + "stalled-check")


async def test_what_is_due_is_promoted_and_the_next_due_time_told(
    bull: Bull, raw: redis.Redis, claim: Claimer, published: Published
) -> None:
    for job_id, delay_ms in {"soon": 1_000, "later": 5_000}.items():
        await bull.enqueue(QUEUE, NewJob(id=job_id, data="{}", delay_ms=delay_ms))
    raw.zincrby(BASE + "delayed", -2_000 * 4096, "soon")
    published()

    report = await sweep(bull)

    queue = report.queues[QUEUE]
    assert (queue.waiting, queue.delayed, queue.promoted) == (1, 1, 1)
    assert report.next_due_ms is not None
    assert 0 < report.next_due_ms - report.now_ms <= 5_000
    assert published() == [("waiting@po", "soon")]
    assert (await claim()).id == "soon"
    assert raw.hget(BASE + "soon", "delay") == "0"


async def test_due_jobs_of_one_millisecond_keep_their_order(bull: Bull, raw: redis.Redis, claim: Claimer) -> None:
    for number in range(20):
        await bull.enqueue(QUEUE, NewJob(id=f"j{number}", data="{}", delay_ms=60_000))
    for rank, job_id in enumerate(f"j{number}" for number in range(20)):
        raw.zadd(BASE + "delayed", {job_id: 1_700_000_000_000 * 4096 + rank})
    await sweep(bull)
    assert [(await claim()).id for _ in range(20)] == [f"j{number}" for number in range(20)]


@pytest.mark.breaks("missing_field", reason="bare hashes are enough to be promoted")
async def test_at_most_a_hundred_are_promoted_per_call(bull: Bull, raw: redis.Redis) -> None:
    raw.zadd(BASE + "delayed", {f"j{number}": number for number in range(130)})
    for number in range(130):
        raw.hset(BASE + f"j{number}", "data", "{}")
    assert (await sweep(bull)).queues[QUEUE].promoted == 100
    assert (await sweep(bull)).queues[QUEUE].waiting == 130


async def test_due_jobs_of_a_paused_queue_become_paused(bull: Bull) -> None:
    await bull.enqueue(QUEUE, NewJob(id="a", data="{}", delay_ms=1))
    await bull.pause(QUEUE)
    while not (report := (await sweep(bull)).queues[QUEUE]).promoted:
        pass
    assert report.paused
    assert (await bull.counts(QUEUE)).paused == 1


async def test_a_job_stalls_when_it_has_no_lease_at_two_checks_and_is_only_ever_returned(
    bull: Bull, raw: redis.Redis, enqueue: Enqueuer, claim: Claimer, published: Published
) -> None:
    await enqueue("a", "b")
    for round_ in range(1, 6):  # far over any limit: the runner decides, not the sweep
        await claim()
        raw.delete(BASE + "a:lock")
        assert (await sweep(bull)).queues[QUEUE].returned == ()
        next_period(raw)
        published()
        assert (await sweep(bull)).queues[QUEUE].returned == ("a",)
        assert published() == [("stalled@", "a")]
        assert raw.hget(BASE + "a", "stalledCounter") == str(round_)
        next_period(raw)
    again = await claim()
    assert (again.id, again.stalled_count, again.attempts_made) == ("a", 5, 0)


async def test_a_renewed_or_locked_job_does_not_stall(
    bull: Bull, raw: redis.Redis, enqueue: Enqueuer, claim: Claimer
) -> None:
    await enqueue("a")
    await claim()
    await sweep(bull)
    next_period(raw)
    assert (await sweep(bull)).queues[QUEUE].returned == ()


async def test_a_stalled_entry_without_a_job_is_dropped(bull: Bull, raw: redis.Redis) -> None:
    raw.lpush(BASE + "active", "ghost")
    raw.sadd(BASE + "stalled", "ghost")
    assert (await sweep(bull)).queues[QUEUE] == QueueSweep()
    assert not raw.exists(BASE + "ghost", BASE + "active")


async def test_one_replica_per_period_looks_for_stalled_jobs_and_all_get_the_counts(
    bull: Bull, raw: redis.Redis, enqueue: Enqueuer
) -> None:
    await enqueue("a")
    first, second = await sweep(bull), await sweep(bull)
    assert (first.ran, second.ran) == (True, False)
    assert second.queues[QUEUE].waiting == 1


async def test_bulls_own_check_counts_as_one(bull: Bull, raw: redis.Redis, enqueue: Enqueuer, claim: Claimer) -> None:
    await enqueue("a")
    await claim()
    raw.delete(BASE + "a:lock")
    raw.sadd(BASE + "stalled", "a")
    raw.set(BASE + "stalled-check", 1, px=60_000)
    assert (await sweep(bull)).queues[QUEUE].returned == ()


@pytest.mark.breaks("wrong_kind", reason="that is the claim")
async def test_a_broken_queue_is_reported_and_the_others_are_swept(bull: Bull, raw: redis.Redis) -> None:
    await bull.enqueue(NEXT, NewJob(id="a", data="{}"))
    raw.set(BASE + "delayed", "not a zset")
    report = await sweep(bull, QUEUE, NEXT)
    assert report.queues[QUEUE].broken is not None
    assert "delayed" in report.queues[QUEUE].broken
    assert report.queues[NEXT] == QueueSweep(waiting=1)


async def test_a_missing_epoch_means_that_redis_was_emptied(bull: Bull, raw: redis.Redis) -> None:
    assert not (await sweep(bull)).epoch_present
    await bull.mark_epoch()
    assert (await sweep(bull)).epoch_present
    raw.flushdb()
    assert not (await sweep(bull)).epoch_present


async def test_the_sweeper_is_quick_while_there_is_work_and_slow_without(
    bull: Bull, clock: MovedClock, enqueue: Enqueuer, claim: Claimer
) -> None:
    reports: list[SweepReport] = []

    async def keep(report: SweepReport) -> None:
        reports.append(report)

    sweeper = Sweeper(bull, clock, [QUEUE], on_report=keep, random=lambda: 0.0)
    await sweeper.run_once()
    assert sweeper.next_in_s == 45
    await enqueue("a")
    assert (await sweeper.run_once()).queues[QUEUE].waiting == 1
    assert sweeper.next_in_s == 5
    assert len(reports) == 2


async def test_a_check_is_never_late_even_if_the_replica_whose_turn_it_was_has_died(
    bull: Bull, clock: MovedClock, raw: redis.Redis, enqueue: Enqueuer
) -> None:
    """Worst case: it is due just after a sweep, whose guard has just not ended when another replica comes."""

    async def ignore(_: SweepReport) -> None:
        pass

    await enqueue("a")
    sweeper = Sweeper(bull, clock, [QUEUE], on_report=ignore, random=lambda: 1.0, guard_s=5, stalled_s=60)
    await sweeper.run_once()
    due_in_s, guarded_s = raw.pttl(BASE + "stalled-check") / 1000, raw.pttl("bull:po:guard") / 1000
    assert 0 < guarded_s <= sweeper.next_in_s
    assert 0 < due_in_s <= 60 - guarded_s - 5


async def test_the_sweeper_is_there_when_a_job_is_due_and_when_nudged(
    bull: Bull, clock: MovedClock, raw: redis.Redis
) -> None:
    swept = anyio.Event()

    async def note(_: SweepReport) -> None:
        swept.set()

    sweeper = Sweeper(bull, clock, [QUEUE], on_report=note, random=lambda: 0.0)
    report = await sweeper.run_once()
    sweeper.due_at(report.now_ms + 2_000)
    sweeper.due_at(report.now_ms + 90_000)
    assert 1.999 <= sweeper.next_in_s <= 2.001
    await bull.enqueue(QUEUE, NewJob(id="soon", data="{}", delay_ms=1_000))
    report = await sweeper.run_once()
    assert sweeper.next_in_s <= 1
    await bull.remove(QUEUE, "soon")
    await sweeper.run_once()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sweeper.run)
        for wake in (sweeper.nudge, lambda: sweeper.due_at(report.now_ms), lambda: clock.move(61)):
            await swept.wait()
            await anyio.wait_all_tasks_blocked()
            swept = anyio.Event()
            wake()
        await swept.wait()
        tasks.cancel_scope.cancel()
