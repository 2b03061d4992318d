"""Ending an attempt: once, by whoever holds the lease, and again after a lost reply without doing it twice."""

from __future__ import annotations

import json

import pytest
import redis

from pipeline.errors import BrokenQueue
from pipeline.queue.bull import Bull
from pipeline.queue.job import (
    Adopted,
    ClaimedJob,
    ClaimNext,
    Empty,
    Failure,
    FinishReply,
    Limited,
    NewJob,
    Paused,
    RateLimit,
    Retention,
    Settled,
    Successor,
)
from tests.pipeline.queue.support import BASE, NEXT, QUEUE, Claimer, Enqueuer, MovedClock, Published

KEEP = Retention(age_s=3600, count=None)
WHY = Failure('vendor said "no"', ["Traceback: /a/b"])


async def test_finish_completes_hands_on_and_claims_next_in_one_call(
    bull: Bull, raw: redis.Redis, enqueue: Enqueuer, claim: Claimer, published: Published
) -> None:
    await enqueue("a", "b")
    job = await claim()
    published()

    reply = await bull.finish(
        job,
        returnvalue='{"ok":1}',
        retention=KEEP,
        successor=Successor(NEXT, NewJob(id="a-next", data='{"run":7}')),
        claim_next=ClaimNext("worker:next", 30_000),
    )

    assert (reply.settled, reply.successor_created) == (Settled.DONE, True)
    assert isinstance(reply.next, ClaimedJob)
    assert (reply.next.id, reply.next.token) == ("b", "worker:next")
    assert await bull.state(QUEUE, "a") == "completed"
    assert raw.hget(BASE + "a", "returnvalue") == '{"ok":1}'
    assert raw.zscore(BASE + "completed", "a") == float(raw.hget(BASE + "a", "finishedOn"))
    assert not raw.exists(BASE + "a:lock")
    assert raw.hget(f"bull:{NEXT}:a-next", "data") == '{"run":7}'
    completed, active = published()
    assert (completed[0], json.loads(completed[1])) == ("completed", {"jobId": "a", "val": '{"ok":1}'})
    assert active == ("active@worker:next", "b")


async def test_finish_says_drained_when_the_queue_ran_empty(
    bull: Bull, enqueue: Enqueuer, claim: Claimer, published: Published
) -> None:
    await enqueue("a")
    job = await claim()
    published()
    reply = await bull.finish(job, returnvalue="null", retention=KEEP, claim_next=ClaimNext("t", 1000))
    assert reply.next == Empty()
    assert [channel for channel, _ in published()] == ["completed", "drained"]


async def test_a_finish_sent_again_changes_nothing_and_returns_the_claim_it_made(
    bull: Bull, raw: redis.Redis, enqueue: Enqueuer, claim: Claimer
) -> None:
    await enqueue("a", "b", "c")
    job = await claim()
    step = {
        "returnvalue": "1",
        "retention": KEEP,
        "successor": Successor(NEXT, NewJob(id="a-next", data="{}")),
        "claim_next": ClaimNext("worker:next", 30_000),
    }
    await bull.finish(job, **step)

    again = await bull.finish(job, **step)

    assert again.settled is Settled.DONE
    assert isinstance(again.next, ClaimedJob)
    assert again.next.id == "b"
    assert (await bull.counts(QUEUE)).waiting == 1
    assert raw.llen(f"bull:{NEXT}:wait") == 1


def through(token: str = "worker:through", limit: RateLimit | None = None) -> Successor:
    """A successor that its own settling call is to claim."""
    return Successor(NEXT, NewJob(id="a-next", data="{}"), ClaimNext(token, 30_000, limit))


async def test_finish_takes_the_successor_through_in_the_same_call(
    bull: Bull, raw: redis.Redis, enqueue: Enqueuer, claim: Claimer
) -> None:
    await enqueue("a")
    with raw.pubsub() as listener:
        listener.psubscribe(f"bull:{NEXT}:*")
        listener.get_message(timeout=5)
        reply = await bull.finish(await claim(), returnvalue="1", retention=KEEP, successor=through())
        said = [listener.get_message(timeout=5) for _ in range(2)]
    assert isinstance(reply.through, ClaimedJob)
    assert (reply.through.queue, reply.through.id, reply.through.token) == (NEXT, "a-next", "worker:through")
    assert reply.next is None
    assert await bull.state(NEXT, "a-next") == "active"
    assert raw.get(f"bull:{NEXT}:a-next:lock") == "worker:through"
    assert [message and message["channel"] for message in said] == [
        f"bull:{NEXT}:waiting@po",
        f"bull:{NEXT}:active@worker:through",
    ]
    assert (await bull.finish(reply.through, returnvalue="2", retention=KEEP)).settled is Settled.DONE


async def test_who_waits_in_the_successors_queue_is_served_first(bull: Bull, enqueue: Enqueuer, claim: Claimer) -> None:
    await enqueue("a")
    await bull.enqueue(NEXT, NewJob(id="earlier", data="{}"))
    reply = await bull.finish(await claim(), returnvalue="1", retention=KEEP, successor=through())
    assert isinstance(reply.through, ClaimedJob)
    assert reply.through.id == "earlier"
    assert await bull.state(NEXT, "a-next") == "waiting"


async def test_nobody_is_taken_through_a_pause_or_over_a_limit(bull: Bull, enqueue: Enqueuer, claim: Claimer) -> None:
    await enqueue("a", "b")
    limit = RateLimit(1, 60_000)
    await bull.enqueue(NEXT, NewJob(id="uses the window up", data="{}"))
    await bull.claim(NEXT, token="first", lease_ms=30_000, limit=limit)
    reply = await bull.finish(await claim(), returnvalue="1", retention=KEEP, successor=through("t1", limit))
    assert isinstance(reply.through, Limited)
    await bull.pause(NEXT)
    other = Successor(NEXT, NewJob(id="b-next", data="{}"), ClaimNext("t2", 30_000))
    reply = await bull.finish(await claim(), returnvalue="1", retention=KEEP, successor=other)
    assert reply.through == Paused()
    assert (await bull.counts(NEXT)).paused == 2


async def test_a_finish_sent_again_returns_what_it_took_through_and_takes_no_more(
    bull: Bull, enqueue: Enqueuer, claim: Claimer
) -> None:
    await enqueue("a")
    job = await claim()
    await bull.finish(job, returnvalue="1", retention=KEEP, successor=through())
    await bull.enqueue(NEXT, NewJob(id="later", data="{}"))
    again = await bull.finish(job, returnvalue="1", retention=KEEP, successor=through())
    assert isinstance(again.through, ClaimedJob)
    assert again.through.id == "a-next"
    assert (await bull.counts(NEXT)).waiting == 1


@pytest.mark.breaks("endless_lock", reason="another holder's lock, set by hand")
async def test_without_its_lease_a_finish_takes_nothing_through(
    bull: Bull, raw: redis.Redis, enqueue: Enqueuer, claim: Claimer
) -> None:
    await enqueue("a")
    job = await claim()
    raw.set(BASE + "a:lock", "another worker's")
    reply = await bull.finish(job, returnvalue="1", retention=KEEP, successor=through())
    assert reply == FinishReply(Settled.LOST)
    assert not raw.keys(f"bull:{NEXT}:*")


async def test_the_successor_of_a_paused_queue_waits_there_and_is_made_once(
    bull: Bull, enqueue: Enqueuer, claim: Claimer
) -> None:
    await enqueue("a", "b")
    await bull.pause(NEXT)
    successor = Successor(NEXT, NewJob(id="same", data="{}"))
    first = await bull.finish(await claim(), returnvalue="1", retention=KEEP, successor=successor)
    second = await bull.finish(await claim(), returnvalue="1", retention=KEEP, successor=successor)
    assert (first.successor_created, second.successor_created) == (True, False)
    assert (await bull.counts(NEXT)).paused == 1


@pytest.mark.breaks("wrong_kind", reason="that is the claim")
async def test_a_broken_successor_queue_is_named_and_the_job_finishes_all_the_same(
    bull: Bull, raw: redis.Redis, enqueue: Enqueuer, claim: Claimer
) -> None:
    await enqueue("a")
    raw.set(f"bull:{NEXT}:wait", "not a list")
    reply = await bull.finish(
        await claim(), returnvalue="1", retention=KEEP, successor=Successor(NEXT, NewJob(id="n", data="{}"))
    )
    assert reply.settled is Settled.DONE
    assert reply.successor_created is None
    assert reply.broken is not None
    assert NEXT in reply.broken
    assert not raw.exists(f"bull:{NEXT}:n")


async def test_a_paused_queue_finishes_what_runs_and_hands_out_nothing(
    bull: Bull, enqueue: Enqueuer, claim: Claimer
) -> None:
    await enqueue("a", "b")
    job = await claim()
    await bull.pause(QUEUE)
    reply = await bull.finish(job, returnvalue="1", retention=KEEP, claim_next=ClaimNext("t", 1000))
    assert reply == FinishReply(Settled.DONE, next=Paused())


@pytest.mark.breaks("endless_lock", reason="another holder's lock, set by hand")
async def test_who_lost_the_lease_changes_nothing(
    bull: Bull, raw: redis.Redis, enqueue: Enqueuer, claim: Claimer, clock: MovedClock
) -> None:
    await enqueue("a")
    stale = await claim()
    raw.set(BASE + "a:lock", "worker:other")
    before = raw.hgetall(BASE + "a")

    reply = await bull.finish(
        stale, returnvalue="1", retention=KEEP, successor=Successor(NEXT, NewJob(id="n", data="{}"))
    )
    assert reply == FinishReply(Settled.LOST)
    assert await bull.retry(stale, failure=WHY, attempts_made=1, delay_ms=0) is Settled.LOST
    assert await bull.fail(stale, failure=WHY, attempts_made=3, retention=KEEP) is Settled.LOST
    assert await bull.snooze(stale, delay_ms=1) is Settled.LOST
    assert await bull.release(stale) is Settled.LOST
    assert raw.hgetall(BASE + "a") == before
    assert not raw.exists(f"bull:{NEXT}:n")
    assert raw.lrange(BASE + "active", 0, -1) == ["a"]


async def test_a_job_removed_while_it_ran_leaves_nothing_behind(
    bull: Bull, raw: redis.Redis, enqueue: Enqueuer, claim: Claimer
) -> None:
    await enqueue("a")
    job = await claim()
    raw.delete(BASE + "a")
    assert (await bull.finish(job, returnvalue="1", retention=KEEP)).settled is Settled.GONE
    assert not raw.exists(BASE + "a", BASE + "a:lock", BASE + "active", BASE + "completed")


async def test_a_counted_failure_waits_its_delay_with_its_traces(
    bull: Bull, raw: redis.Redis, enqueue: Enqueuer, claim: Claimer, published: Published
) -> None:
    await enqueue("a")
    raw.hset(BASE + "a", "stacktrace", '["earlier"]')
    job = await claim()
    published()
    assert await bull.retry(job, failure=WHY, attempts_made=1, delay_ms=60_000) is Settled.DONE

    record = await bull.job(QUEUE, "a")
    assert record is not None
    assert (record.failed_reason, record.attempts_made) == (WHY.reason, 1)
    assert record.stacktrace == ("earlier", "Traceback: /a/b")
    (due,) = [int(payload) for channel, payload in published() if channel == "delayed"]
    assert int(raw.zscore(BASE + "delayed", "a")) == due * 4096
    seconds, micros = raw.time()
    assert 0 <= seconds * 1000 + micros // 1000 + 60_000 - due < 5_000


async def test_a_failure_without_delay_goes_to_the_back_and_wakes_others(
    bull: Bull, enqueue: Enqueuer, claim: Claimer, published: Published
) -> None:
    await enqueue("a", "b")
    job = await claim()
    published()
    await bull.retry(job, failure=Failure("x"), attempts_made=1, delay_ms=0)
    assert published() == [("waiting@po", "a")]
    assert (await claim()).id == "b"
    assert (await claim()).attempts_made == 1


async def test_no_trace_at_all_is_still_a_list_to_bull(
    bull: Bull, raw: redis.Redis, enqueue: Enqueuer, claim: Claimer
) -> None:
    await enqueue("a")
    await bull.retry(await claim(), failure=Failure("x"), attempts_made=1, delay_ms=0)
    assert raw.hget(BASE + "a", "stacktrace") == "[]"


async def test_half_characters_in_a_reason_do_not_keep_a_job_from_failing(
    bull: Bull, raw: redis.Redis, enqueue: Enqueuer, claim: Claimer
) -> None:
    await enqueue("a")
    why = Failure("bad \ud800 text", ["at \udfff"])
    assert await bull.fail(await claim(), failure=why, attempts_made=1, retention=KEEP) is Settled.DONE
    assert raw.hget(BASE + "a", "failedReason") == "bad ? text"


async def test_retention_removes_logs_and_an_endless_debounce_with_the_job(
    bull: Bull, raw: redis.Redis, enqueue: Enqueuer, claim: Claimer
) -> None:
    await enqueue("a", "b")
    for job_id in ("a", "b"):
        raw.hset(BASE + job_id, "deid", job_id)
        raw.rpush(BASE + job_id + ":logs", "row")
    raw.set(BASE + "de:a", "a")
    raw.set(BASE + "de:b", "b", px=60_000)
    for _ in range(2):
        await bull.finish(await claim(), returnvalue="1", retention=Retention(count=0))
    assert sorted(raw.keys(BASE + "*")) == [BASE + "de:b", BASE + "id"]


@pytest.mark.breaks("entry_without_job", reason="entries are enough to be counted")
async def test_a_smaller_count_removes_at_most_a_hundred_per_call(
    bull: Bull, raw: redis.Redis, enqueue: Enqueuer, claim: Claimer
) -> None:
    raw.zadd(BASE + "completed", {f"old-{number}": 1000 + number for number in range(250)})
    await enqueue("a")
    await bull.finish(await claim(), returnvalue="1", retention=Retention(age_s=60, count=10))
    assert raw.zcard(BASE + "completed") == 151


async def test_a_dead_letter_waits_in_failed_until_a_person_replays_it(
    bull: Bull, raw: redis.Redis, enqueue: Enqueuer, claim: Claimer, published: Published
) -> None:
    await enqueue("a")
    job = await claim()
    published()
    assert await bull.fail(job, failure=WHY, attempts_made=3, retention=KEEP) is Settled.DONE
    ((channel, payload),) = published()
    assert (channel, json.loads(payload)) == ("failed", {"jobId": "a", "val": WHY.reason})
    assert await bull.state(QUEUE, "a") == "failed"

    raw.set(BASE + "a:lock", "somebody")
    assert not await bull.replay(QUEUE, "a")
    raw.delete(BASE + "a:lock")
    assert await bull.replay(QUEUE, "a")
    assert not await bull.replay(QUEUE, "a")
    again = await claim()
    assert (again.id, again.attempts_made) == ("a", 3)


async def test_a_released_job_is_next_and_nothing_is_counted(bull: Bull, enqueue: Enqueuer, claim: Claimer) -> None:
    await enqueue("a", "b")
    assert await bull.release(await claim()) is Settled.DONE
    again = await claim()
    assert (again.id, again.attempts_made, again.stalled_count) == ("a", 0, 0)


async def test_a_snoozed_job_counts_nothing_and_its_log_says_why(
    bull: Bull, raw: redis.Redis, enqueue: Enqueuer, claim: Claimer
) -> None:
    await enqueue("a")
    assert await bull.snooze(await claim(), delay_ms=60_000, reason="shop throttles") is Settled.DONE
    assert await bull.state(QUEUE, "a") == "delayed"
    assert raw.lrange(BASE + "a:logs", 0, -1) == ["shop throttles"]
    assert not raw.hexists(BASE + "a", "attemptsMade")


async def test_settling_twice_is_settling_once(bull: Bull, enqueue: Enqueuer, claim: Claimer) -> None:
    await enqueue("a")
    job = await claim()
    for _ in range(2):
        assert await bull.retry(job, failure=Failure("x", ["t"]), attempts_made=1, delay_ms=60_000) is Settled.DONE
    record = await bull.job(QUEUE, "a")
    assert record is not None
    assert record.stacktrace == ("t",)


async def test_finished_jobs_are_kept_by_age_and_by_count_at_most_a_hundred_removed(
    bull: Bull, raw: redis.Redis, enqueue: Enqueuer, claim: Claimer
) -> None:
    for number in range(150):
        raw.zadd(BASE + "completed", {f"old-{number}": 1000 + number})
        raw.hset(BASE + f"old-{number}", "name", "x")
    await enqueue("a", "b", "c", "d")
    await bull.finish(await claim(), returnvalue="1", retention=Retention(age_s=60))
    assert raw.zcard(BASE + "completed") == 51
    assert not raw.exists(BASE + "old-0")
    await bull.finish(await claim(), returnvalue="1", retention=Retention(age_s=60))
    assert raw.zrange(BASE + "completed", 0, -1) == ["a", "b"]
    await bull.finish(await claim(), returnvalue="1", retention=Retention(count=1))
    assert raw.zrange(BASE + "completed", 0, -1) == ["c"]
    await bull.finish(await claim(), returnvalue="1", retention=Retention(count=0))
    assert not raw.exists(BASE + "d")


async def test_adopt_finds_the_job_of_a_claim_whose_reply_was_lost(
    bull: Bull, enqueue: Enqueuer, claim: Claimer, clock: MovedClock
) -> None:
    await enqueue("a")
    assert await bull.adopt(QUEUE, "worker:1") == Adopted()
    await claim(lease_ms=20_000)
    adopted = (await bull.adopt(QUEUE, "worker:1")).claimed
    assert adopted is not None
    assert (adopted.id, adopted.token) == ("a", "worker:1")
    assert 17 < adopted.lease.remaining_s <= 18


async def test_adopt_tells_whether_a_settling_call_took_effect(bull: Bull, enqueue: Enqueuer, claim: Claimer) -> None:
    await enqueue("a")
    job = await claim()
    held = await bull.adopt(QUEUE, job.token, job.id)
    assert held.claimed is not None
    assert not held.settled
    await bull.finish(job, returnvalue="1", retention=KEEP)
    assert await bull.adopt(QUEUE, job.token, job.id) == Adopted(settled=True, state="completed")
    assert await bull.adopt(QUEUE, "worker:other", job.id) == Adopted(state="completed")
    await bull.remove(QUEUE, "a")
    assert await bull.adopt(QUEUE, job.token, job.id) == Adopted()


@pytest.mark.parametrize("suffix", ["active", "stalled", "completed"])
@pytest.mark.breaks("wrong_kind", reason="that is the claim")
async def test_finish_looks_at_types_before_it_writes(
    bull: Bull, raw: redis.Redis, enqueue: Enqueuer, claim: Claimer, suffix: str
) -> None:
    await enqueue("a")
    job = await claim()
    raw.delete(BASE + suffix)
    raw.hset(BASE + suffix, "not", "bull's")
    with pytest.raises(BrokenQueue, match=suffix):
        await bull.finish(job, returnvalue="1", retention=KEEP)
    assert raw.get(BASE + "a:lock") == job.token
