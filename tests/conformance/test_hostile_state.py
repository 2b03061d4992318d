"""What operators' scripts leave in Redis: one queue turns red, or one job is given up; everything else runs on.

Red is BrokenQueue for whoever asks for work or brings some, and `broken` in the sweep's report, which health and
metrics show. Nothing is written to a red queue, because a script that fails half-way is not undone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import redis
from structlog.testing import capture_logs

from pipeline.errors import BrokenQueue
from pipeline.queue.bull import Bull
from pipeline.queue.job import (
    ClaimedJob,
    ClaimNext,
    Empty,
    Failure,
    Held,
    NewJob,
    RateLimit,
    Retention,
    Settled,
    Successor,
    SweepReport,
)
from tests.conformance.oracle import Node
from tests.conformance.twins import Twins
from tests.pipeline.queue.support import BASE, NEXT, QUEUE, Claimer, Enqueuer

pytestmark = pytest.mark.interop

KEYS = [
    "wait", "active", "paused", "delayed", "priority", "completed", "failed", "stalled", "meta", "id", "limiter",
    "limiter:index", "repeat",
]  # fmt: skip
KEEP = Retention(age_s=3600)
JOB = NewJob(id="new", data="{}")


def spoil(raw: redis.Redis, suffix: str) -> None:
    """Put a value there that Bull never would: a text, or a list where it keeps a text."""
    raw.delete(BASE + suffix)
    if suffix.endswith(":lock"):
        raw.lpush(BASE + suffix, "by hand")
    else:
        raw.set(BASE + suffix, "by hand")


LISTED_BY = {
    "wait": {"waits"}, "active": {"running", "running:lock", "p", "p:lock"}, "delayed": {"later"},
    "completed": {"done"}, "failed": {"dead"},
}  # fmt: skip


async def sweep(bull: Bull) -> SweepReport:
    return await bull.sweep([QUEUE, NEXT], guard_ms=1, stalled_interval_ms=60_000)


@pytest.fixture
async def running(bull: Bull, node: Node, claim: Claimer) -> ClaimedJob:
    """A queue with something in most of its states; this job runs."""
    for job_id, opts in {"done": {}, "dead": {}, "running": {}, "waits": {}, "p": {"priority": 1}}.items():
        await node.queue(QUEUE, "add", {}, opts | {"jobId": job_id})
    await node.queue(QUEUE, "add", {}, {"jobId": "later", "delay": 60_000})
    assert (await claim()).id == "p"
    await bull.finish(await claim(), returnvalue="1", retention=KEEP)
    await bull.fail(await claim(), failure=Failure("x"), attempts_made=1, retention=KEEP)
    return await claim()


@pytest.mark.parametrize("suffix", KEYS)
@pytest.mark.breaks("wrong_kind", "endless_window", reason="that is the claim")
async def test_a_wrong_key_makes_its_queue_red_and_leaves_the_others_alone(
    bull: Bull, raw: redis.Redis, twins: Twins, running: ClaimedJob, suffix: str
) -> None:
    await bull.enqueue(NEXT, NewJob(id="a", data="{}"))
    await bull.enqueue(NEXT, NewJob(id="due", data="{}", delay_ms=60_000))
    raw.zadd(f"bull:{NEXT}:delayed", {"due": 1})
    spoil(raw, suffix)
    before = twins.dump(QUEUE)

    refused: list[Callable[[], Awaitable[object]]] = [
        lambda: bull.claim(QUEUE, token="t", lease_ms=1000, limit=RateLimit(5, 1000)),
        lambda: bull.enqueue(QUEUE, JOB),
        lambda: bull.pause(QUEUE),
        lambda: bull.resume(QUEUE),
        lambda: bull.promote(QUEUE, "later"),
        lambda: bull.replay(QUEUE, "dead"),
        lambda: bull.replay_all(QUEUE),
        lambda: bull.obliterate(QUEUE),
        lambda: bull.remove(QUEUE, "done"),
        lambda: bull.clean(QUEUE, "completed", 0),
    ]
    for call in refused:
        with pytest.raises(BrokenQueue, match=f"{BASE}{suffix} "):
            await call()
    report = await sweep(bull)

    assert twins.dump(QUEUE) == before
    assert report.queues[QUEUE].broken is not None
    assert f"{BASE}{suffix} " in report.queues[QUEUE].broken
    assert (report.queues[NEXT].broken, report.queues[NEXT].promoted) == (None, 1)
    assert isinstance(await bull.claim(NEXT, token="t", lease_ms=1000), ClaimedJob)


SETTLING: dict[str, Callable[[Bull, ClaimedJob], Awaitable[object]]] = {
    "finish": lambda bull, job: bull.finish(job, returnvalue="1", retention=KEEP),
    "finish and claim": lambda bull, job: bull.finish(
        job, returnvalue="1", retention=KEEP, claim_next=ClaimNext("next", 1000)
    ),
    "fail": lambda bull, job: bull.fail(job, failure=Failure("x"), attempts_made=1, retention=KEEP),
    "retry now": lambda bull, job: bull.retry(job, failure=Failure("x"), attempts_made=1, delay_ms=0),
    "retry later": lambda bull, job: bull.retry(job, failure=Failure("x"), attempts_made=1, delay_ms=9000),
    "snooze": lambda bull, job: bull.snooze(job, delay_ms=9000, reason="x"),
    "release": lambda bull, job: bull.release(job),
}


@pytest.mark.parametrize("verb", SETTLING)
@pytest.mark.parametrize("suffix", [*KEYS, "running", "running:lock", "running:logs"])
@pytest.mark.breaks(
    "wrong_kind",
    "endless_window",
    "stray_key",
    "endless_lock",
    "lock_without_run",
    "log_without_job",
    reason="a key spoilt by hand stays so",
)
async def test_a_job_is_settled_whole_or_not_at_all(
    bull: Bull, raw: redis.Redis, twins: Twins, running: ClaimedJob, suffix: str, verb: str
) -> None:
    """Whether it can depends on the keys it takes; a queue that is red elsewhere need not hold up what is done."""
    spoil(raw, suffix)
    before = twins.dump(QUEUE)
    try:
        await SETTLING[verb](bull, running)
    except BrokenQueue:
        assert twins.dump(QUEUE) == before
    else:
        assert not raw.exists(BASE + "running:lock")
        assert places_of(raw, "running") == 1


@pytest.mark.breaks(
    "stuck", "lock_without_run", "early_end", reason="obliterating forgets a job that stands nowhere, as bull does"
)
@pytest.mark.parametrize("suffix", [*KEYS, "meta-paused", "stalled-check", "metrics:completed", "running"])
async def test_a_broken_queue_is_mended_by_force_and_works_again(
    bull: Bull, raw: redis.Redis, twins: Twins, running: ClaimedJob, suffix: str
) -> None:
    """What its wrong key held is lost in any case; the open runs get their jobs from Postgres."""
    raw.rpush(BASE + "active", "vanished")
    spoil(raw, suffix)
    assert await bull.obliterate(QUEUE, force=True, batch=2)
    assert (await sweep(bull)).queues[QUEUE].broken is None
    assert (await bull.finish(running, returnvalue="1", retention=KEEP)).settled is not Settled.DONE
    await bull.enqueue(QUEUE, JOB)
    assert isinstance(await bull.claim(QUEUE, token="t", lease_ms=1000), ClaimedJob)
    left = twins.dump(QUEUE).keys() - {"new", "new:lock", "active", "id", "limiter", "limiter:index", "stalled-check"}
    assert left <= LISTED_BY.get(suffix, set()), "only what nobody can find any more"


def places_of(raw: redis.Redis, job_id: str) -> int:
    """How many lists and sets of states have the job."""
    found = 0
    for name in set(KEYS) - {"priority"}:
        match raw.type(BASE + name):
            case "list":
                found += raw.lrange(BASE + name, 0, -1).count(job_id)
            case "zset":
                found += raw.zscore(BASE + name, job_id) is not None
    return found


@pytest.mark.parametrize("suffix", [*KEYS, "new"])
@pytest.mark.breaks("wrong_kind", "endless_window", "stray_key", reason="that is the claim")
async def test_a_broken_successors_queue_is_named_and_the_job_finishes(
    bull: Bull, raw: redis.Redis, twins: Twins, running: ClaimedJob, suffix: str
) -> None:
    raw.set(f"bull:{NEXT}:{suffix}", "by hand")
    before = twins.dump(NEXT)
    reply = await bull.finish(running, returnvalue="1", retention=KEEP, successor=Successor(NEXT, JOB))
    assert (reply.settled, reply.successor_created) == (Settled.DONE, None)
    assert reply.broken is not None
    assert f"bull:{NEXT}:{suffix} " in reply.broken
    assert twins.dump(NEXT) == before


@pytest.fixture
async def recurring(bull: Bull, node: Node, raw: redis.Redis, claim: Claimer) -> ClaimedJob:
    """A run of a schedule, taken, its next one not scheduled yet."""
    await node.queue(QUEUE, "add", "report", {}, {"repeat": {"every": 24 * 3600 * 1000}})
    assert await bull.promote(QUEUE, raw.zrange(BASE + "delayed", 0, -1)[0])
    return await claim()


@pytest.mark.breaks("wrong_kind", "endless_window", "stray_key", reason="the queue stays broken")
@pytest.mark.parametrize("suffix", [*KEYS, "the run itself", "its next run"])
async def test_a_run_is_scheduled_whole_or_not_at_all(
    bull: Bull, raw: redis.Redis, twins: Twins, recurring: ClaimedJob, suffix: str
) -> None:
    if suffix == "its next run":
        assert await bull.schedule_next(recurring)
        (suffix,) = raw.zrange(BASE + "delayed", 0, -1)
        raw.delete(BASE + "delayed")
    spoil(raw, recurring.id if suffix == "the run itself" else suffix)
    before = twins.dump(QUEUE)
    with pytest.raises(BrokenQueue):
        await bull.schedule_next(recurring)
    assert twins.dump(QUEUE) == before


@pytest.mark.breaks("entry_without_job", reason="that is the claim")
@pytest.mark.parametrize("how", ["removed", "vanished"])
async def test_a_run_without_a_schedule_or_whose_job_vanished_has_no_next(
    bull: Bull, raw: redis.Redis, twins: Twins, recurring: ClaimedJob, how: str
) -> None:
    raw.delete(BASE + ("repeat" if how == "removed" else recurring.id))
    before = twins.dump(QUEUE)
    assert not await bull.schedule_next(recurring)
    assert twins.dump(QUEUE) == before


@pytest.mark.parametrize(
    "repeat", ["true", '"daily"', "[1]", '{"every":-5}', '{"cron":"61 * * * *"}', '{"cron":"* * * * *","tz":"Mars"}']
)
async def test_a_schedule_nobody_can_read_ends_and_is_named(
    bull: Bull, raw: redis.Redis, claim: Claimer, enqueue: Enqueuer, repeat: str
) -> None:
    """The job itself runs; a Node worker would hold it until it is failed."""
    await enqueue("a")
    raw.hset(BASE + "a", "opts", '{"repeat":' + repeat + "}")
    job = await claim()
    with capture_logs() as logs:
        assert not await bull.schedule_next(job)
    assert [(line["log_level"], line["job_id"]) for line in logs] == [("error", "a")]
    assert (await bull.finish(job, returnvalue="1", retention=KEEP)).settled is Settled.DONE


async def test_a_debounce_key_that_names_nobody_swallows_no_job(bull: Bull, raw: redis.Redis) -> None:
    raw.lpush(BASE + "de:x", "by hand")
    added = await bull.enqueue(QUEUE, NewJob(id="a", data="{}", opts={"debounce": {"id": "x"}}))
    assert added.created
    assert await bull.remove(QUEUE, "a")


@pytest.mark.breaks("stray_key", reason="what is no job stays as it was")
async def test_an_entry_that_is_no_job_is_dropped_and_the_next_one_claimed(
    bull: Bull, raw: redis.Redis, claim: Claimer, enqueue: Enqueuer
) -> None:
    """A vanished hash, which bull would run with no data and complete; and a key that was never a job."""
    await enqueue("vanished", "text", "real")
    raw.delete(BASE + "vanished")
    spoil(raw, "text")
    assert (await claim()).id == "real"
    assert raw.lrange(BASE + "active", 0, -1) == ["real"]
    assert not raw.exists(BASE + "vanished")
    assert raw.get(BASE + "text") == "by hand"


@pytest.mark.parametrize("how", ["vanished", "text"])
@pytest.mark.breaks("stray_key", reason="what is no job stays as it was")
async def test_the_sweep_drops_what_is_no_job_and_does_the_rest(
    bull: Bull, raw: redis.Redis, enqueue: Enqueuer, how: str
) -> None:
    await enqueue("due", "left")
    raw.delete(BASE + "wait")
    raw.zadd(BASE + "delayed", {"due": 1, "x": 2})
    raw.rpush(BASE + "active", "left", "y")
    raw.sadd(BASE + "stalled", "left", "y")
    if how == "text":
        spoil(raw, "x")
        spoil(raw, "y")
    report = (await sweep(bull)).queues[QUEUE]
    assert report.broken is None
    assert report.returned == ("left",)
    assert raw.lrange(BASE + "wait", 0, -1) == ["due", "left"]
    assert not raw.exists(BASE + "active", BASE + "delayed")


async def test_a_job_that_vanished_while_it_ran_is_gone_and_leaves_nothing(
    bull: Bull, raw: redis.Redis, running: ClaimedJob
) -> None:
    raw.delete(BASE + "running")
    assert not await bull.progress(QUEUE, "running", 50)
    assert (await bull.finish(running, returnvalue="1", retention=KEEP)).settled is Settled.GONE
    assert not raw.keys(BASE + "running*")
    assert "running" not in raw.lrange(BASE + "active", 0, -1)


@pytest.mark.parametrize("target", ["completed", "failed", "delayed"])
@pytest.mark.breaks("missing_field", "end_and_score", reason="moved by hand, without its end")
async def test_a_job_that_was_moved_from_active_belongs_to_whoever_moved_it(
    bull: Bull, raw: redis.Redis, running: ClaimedJob, target: str
) -> None:
    raw.lrem(BASE + "active", 0, "running")
    raw.zadd(BASE + target, {"running": 1_700_000_000_000 * 4096})
    for verb in SETTLING.values():
        await verb(bull, running)
    assert await bull.state(QUEUE, "running") == target
    assert not raw.hexists(BASE + "running", "returnvalue")


# ------------------------------------------------------------- upstream's own repair scripts, command by command


async def test_a_job_that_was_failed_over_our_head_stays_failed_and_can_be_retried(
    bull: Bull, node: Node, raw: redis.Redis, running: ClaimedJob, claim: Claimer
) -> None:
    """clear-stuck-jobs, fail-stuck-job: what is active for two minutes is failed, whoever holds its lock."""
    await node.job(QUEUE, "running", "moveToFailed", "stuck", True)
    for verb in SETTLING.values():
        assert getattr(settled := await verb(bull, running), "settled", settled) is Settled.LOST
    shown = await node.queue(QUEUE, "getJob", "running")
    assert (shown["failedReason"], shown["returnvalue"]) == ("stuck", None)
    assert await bull.replay(QUEUE, "running")
    assert {(await claim()).id for _ in range(2)} == {"waits", "running"}


async def test_a_job_that_was_retried_over_our_head_is_its_next_holders(bull: Bull, node: Node, claim: Claimer) -> None:
    """The same scripts, on a job with attempts left."""
    await node.queue(QUEUE, "add", {}, {"jobId": "a", "attempts": 3})
    first = await claim()
    await node.job(QUEUE, "a", "moveToFailed", "stuck", True)
    second = await claim()
    assert await bull.renew([Held(QUEUE, "a", first.token), Held(QUEUE, "a", second.token)], 30_000) == {first.token}
    for verb in SETTLING.values():
        assert getattr(settled := await verb(bull, first), "settled", settled) is Settled.LOST
    assert (await bull.finish(second, returnvalue="1", retention=KEEP)).settled is Settled.DONE


@pytest.mark.breaks("stuck", reason="obliterating forgets who stands nowhere, as bull does")
async def test_an_id_put_into_failed_as_into_a_set_makes_the_queue_red_until_it_is_mended(
    bull: Bull, raw: redis.Redis, claim: Claimer, enqueue: Enqueuer
) -> None:
    """clear-stalled-jobs: LREM active, SADD failed; where nothing had failed yet, that makes a set of it."""
    await enqueue("a", "b")
    job = await claim()
    raw.lrem(BASE + "active", 0, "a")
    raw.sadd(BASE + "failed", "a")
    with pytest.raises(BrokenQueue, match="failed is a set"):
        await bull.claim(QUEUE, token="t", lease_ms=1000)
    assert (await bull.finish(job, returnvalue="1", retention=KEEP)).settled is Settled.LOST
    assert await bull.obliterate(QUEUE, force=True)
    assert (await sweep(bull)).queues[QUEUE].broken is None


async def test_a_pause_without_bulls_flag_holds_what_waited_until_somebody_resumes(
    bull: Bull, node: Node, raw: redis.Redis, claim: Claimer, enqueue: Enqueuer
) -> None:
    """manage-upstash-queue: HSET meta, DEL paused, RENAMENX wait paused. Bull's workers run what comes, so do we."""
    await enqueue("a", "b")
    raw.hset(BASE + "meta", "paused", 1)
    raw.delete(BASE + "paused")
    raw.renamenx(BASE + "wait", BASE + "paused")
    await enqueue("c")
    assert (await claim()).id == "c"
    assert await bull.claim(QUEUE, token="t", lease_ms=1000) == Empty()
    await bull.resume(QUEUE)
    assert [(await claim()).id for _ in range(2)] == ["a", "b"]
    assert not await node.queue(QUEUE, "isPaused")


@pytest.mark.breaks(
    "unreadable_field", reason="null for a retention, which bull writes and then fails on: wire spec 2.3"
)
async def test_null_retention_loses_no_job_as_it_does_in_node(
    bull: Bull, node: Node, raw: redis.Redis, claim: Claimer
) -> None:
    """Wire spec 2.3: bull's own scripts fail half-way on such options, after the job has left active."""
    for job_id in ("a", "b"):
        await node.queue(QUEUE, "add", {}, {"jobId": job_id, "removeOnComplete": None, "removeOnFail": None})
    await bull.finish(await claim(), returnvalue="1", retention=KEEP)
    await claim()
    raw.delete(BASE + "b:lock")
    for _ in range(2):
        raw.delete(BASE + "stalled-check", "bull:po:guard")
        report = await sweep(bull)
    assert report.queues[QUEUE].returned == ("b",)
    await bull.fail(await claim(), failure=Failure("x"), attempts_made=1, retention=KEEP)
    assert [await bull.state(QUEUE, job_id) for job_id in ("a", "b")] == ["completed", "failed"]


@pytest.mark.parametrize("text", ["", "not json", "[1,", '{"a":NaN}', "null", b"\xff\xfe", b'{"a":"\xed\xa0\x80"}'])
@pytest.mark.breaks("unreadable_field", reason="that is the claim")
async def test_data_that_are_no_json_are_handed_to_the_stage_as_they_are(
    bull: Bull, raw: redis.Redis, claim: Claimer, enqueue: Enqueuer, text: str | bytes
) -> None:
    """Whose envelope check refuses them with a reason; a Node worker would hold the job until it is failed."""
    await enqueue("a")
    raw.hset(BASE + "a", "data", text)
    job = await claim()
    assert job.data == text or isinstance(text, bytes)
    await bull.fail(job, failure=Failure("not readable"), attempts_made=1, retention=KEEP)
    (listed,) = await bull.list_jobs(QUEUE, "failed")
    assert listed.failed_reason == "not readable"


@pytest.mark.parametrize("opts", ["", "{broken", "[]", "null", '{"lifo":null,"stackTraceLimit":"x","priority":{}}'])
@pytest.mark.parametrize(
    "fields", [{}, {"priority": "x", "stalledCounter": "x", "attemptsMade": "", "stacktrace": "{}"}]
)
@pytest.mark.breaks("unreadable_field", reason="that is the claim")
async def test_a_jobs_nonsense_costs_the_job_nothing(
    bull: Bull, raw: redis.Redis, claim: Claimer, enqueue: Enqueuer, opts: str, fields: dict[str, str]
) -> None:
    await enqueue("a")
    raw.hset(BASE + "a", mapping=fields | {"opts": opts})
    assert await bull.retry(await claim(), failure=Failure("x"), attempts_made=1, delay_ms=0) is Settled.DONE
    await claim()
    raw.delete(BASE + "a:lock")
    raw.sadd(BASE + "stalled", "a")
    assert (await sweep(bull)).queues[QUEUE].returned == ("a",)
    job = await claim()
    assert job.stalled_count == 1
    await bull.fail(job, failure=Failure("x"), attempts_made=2, retention=KEEP)
    assert await bull.replay(QUEUE, "a")


@pytest.mark.parametrize("job_id", ["nan", "inf", "9" * 400, "0x10", "1e3", "-1"])
async def test_an_id_that_looks_like_a_number_can_be_retried_later(
    bull: Bull, node: Node, claim: Claimer, job_id: str
) -> None:
    await node.queue(QUEUE, "add", {}, {"jobId": job_id})
    assert await bull.retry(await claim(), failure=Failure("x"), attempts_made=1, delay_ms=9000) is Settled.DONE
    assert await bull.state(QUEUE, job_id) == "delayed"


async def test_a_stalled_check_that_never_ends_gets_an_end(bull: Bull, raw: redis.Redis) -> None:
    raw.set(BASE + "stalled-check", 1)
    await sweep(bull)
    assert 0 < raw.pttl(BASE + "stalled-check") <= 60_000


async def test_an_empty_queue_with_a_wrong_limiter_says_so_instead_of_ending_the_process(
    bull: Bull, raw: redis.Redis
) -> None:
    raw.lpush(BASE + "limiter", "x")
    with pytest.raises(BrokenQueue, match="limiter"):
        await bull.claim(QUEUE, token="t", lease_ms=1000)
    raw.delete(BASE + "limiter")
    assert await bull.claim(QUEUE, token="t", lease_ms=1000) == Empty()
