"""Every transition by npm bull and by us from the same start: the same keys, fields, scores, messages, in order.

Each step of `twins` compares the full dump of both queues and all that was published. A test whose name or docstring
says why is one where we differ on purpose; everything else must be equal.
"""

from __future__ import annotations

import json

import pytest

from pipeline.queue.bull import Bull
from pipeline.queue.job import Empty, Failure, Held, NewJob, RateLimit, Retention, Settled
from tests.conformance.oracle import Node, NodeError
from tests.conformance.twins import OURS, THEIRS, Twins
from tests.pipeline.queue.support import Published

pytestmark = pytest.mark.interop

MINUTE_MS = 60_000

# --------------------------------------------------------------------------------------------------- add

FORMS = {
    "a number of Redis": (NewJob(id=None, data='{"a":1}'), {}),
    "an id": (NewJob(id="po-1", data='{"a":1}'), {}),
    "delayed": (NewJob(id="po-1", data="{}", delay_ms=MINUTE_MS), {"delay": MINUTE_MS}),
    "delayed, numbered": (NewJob(id=None, data="{}", delay_ms=MINUTE_MS), {"delay": MINUTE_MS}),
    "in front": (NewJob(id="po-1", data="{}", front=True), {"lifo": True}),
    "in front, later": (
        NewJob(id="po-1", data="{}", front=True, delay_ms=MINUTE_MS),
        {"lifo": True, "delay": MINUTE_MS},
    ),
    "prioritised": (NewJob(id="po-1", data="{}", opts={"priority": 3}), {"priority": 3}),
    "prioritised, later": (
        NewJob(id="po-1", data="{}", opts={"priority": 3}, delay_ms=MINUTE_MS),
        {"priority": 3, "delay": MINUTE_MS},
    ),
    "attempts": (NewJob(id="po-1", data="{}", attempts=3), {"attempts": 3}),
    "upstream's options": (
        NewJob(
            id=None,
            data='{"workflowId":"w","data":{"text":"é\u2028\\"/\U0001f4a9"}}',
            attempts=3,
            opts={"removeOnComplete": 10, "removeOnFail": 50, "backoff": {"type": "exponential", "delay": 2000}},
        ),
        {
            "removeOnComplete": 10, "removeOnFail": 50, "delay": 0,
            "attempts": 3, "backoff": {"type": "exponential", "delay": 2000},
        },
    ),
    "an absent option": (NewJob(id="po-1", data="{}", opts={"removeOnComplete": None}), {}),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
async def test_add(twins: Twins, form: str) -> None:
    job, opts = FORMS[form]
    await twins.given("a")
    await twins.given("b", priority=3)
    await twins.enqueue(job, **opts)


async def test_add_under_a_name(twins: Twins) -> None:
    await twins.enqueue(NewJob(id="po-1", data="{}", name="parse"), name="parse")


@pytest.mark.parametrize("form", FORMS)
async def test_add_while_paused(twins: Twins, form: str) -> None:
    job, opts = FORMS[form]
    await twins.given("a")
    await twins.pause()
    await twins.enqueue(job, **opts)


async def test_add_twice(twins: Twins) -> None:
    await twins.enqueue(NewJob(id="po-1", data='{"first":1}'))
    await twins.enqueue(NewJob(id="po-1", data='{"second":1}', delay_ms=MINUTE_MS), delay=MINUTE_MS)


async def test_a_number_that_is_taken_is_stepped_over_where_bull_overwrites_the_job(
    bull: Bull, node: Node, twins: Twins
) -> None:
    """On purpose: bull's counter runs into a custom id "2" and replaces that job; its id then stands twice in wait."""
    await twins.given("1")
    await twins.given("3")
    await node.queue(THEIRS, "add", {"new": 1})
    await bull.enqueue(OURS, NewJob(id=None, data='{"new":1}'))
    assert twins.raw.lrange(f"bull:{THEIRS}:wait", 0, -1) == ["3", "3", "1"]
    assert twins.raw.hget(f"bull:{THEIRS}:3", "data") == '{"new":1}'
    assert twins.raw.lrange(f"bull:{OURS}:wait", 0, -1) == ["4", "3", "1"]
    assert twins.raw.hget(f"bull:{OURS}:3", "data") == '{"job":"3"}'


# ----------------------------------------------------------------------------------------- claim, progress


async def test_claim_serves_in_bulls_order(twins: Twins) -> None:
    for job_id, opts in {
        "a": {}, "p3": {"priority": 3}, "p1": {"priority": 1}, "b": {}, "front": {"lifo": True},
        "p1b": {"priority": 1}, "p9": {"priority": 9}, "c": {},
    }.items():  # fmt: skip
        await twins.given(job_id, **opts)
    for _ in range(8):
        await twins.claim()


@pytest.mark.parametrize("value", [0, 42, 99.5, {"percent": 10, "text": "é"}, "half", [1, None]])
async def test_progress(twins: Twins, value: object) -> None:
    await twins.given("a")
    await twins.claim()
    await twins.progress("a", value)


async def test_renewing_takes_back_the_mark_of_the_stalled_check(bull: Bull, node: Node, twins: Twins) -> None:
    await twins.given("a")
    job = await twins.claim()
    await twins.check_stalled()
    twins.by_hand("PEXPIRE", "a:lock", 1000)
    await node.job(THEIRS, "a", "extendLock", 30_000)
    assert await bull.renew([Held(OURS, job.id, job.token)], 30_000) == set()
    twins.compare()
    assert twins.raw.pttl(f"bull:{OURS}:a:lock") > 20_000


# ------------------------------------------------------------------------------------------ finish, fail


@pytest.mark.parametrize("value", [None, True, 0, 1.5, "é\u2028\"'/", {"lines": [1, {"sku": "Ä"}]}, []])
async def test_finish(twins: Twins, value: object) -> None:
    await twins.given("a")
    await twins.claim()
    await twins.finish("a", value)


async def test_finish_and_claim_the_next(twins: Twins) -> None:
    for job_id, opts in {"a": {}, "b": {}, "p": {"priority": 2}}.items():
        await twins.given(job_id, **opts)
    await twins.claim()
    await twins.finish("p", and_claim=True)
    await twins.finish("a", and_claim=True)
    await twins.finish("b", and_claim=True, only_we=[("drained", "")])  # bull says so with its next look


@pytest.mark.parametrize("reason", ["boom", 'no "supplier"', "é\u2028", ""])
async def test_fail(twins: Twins, reason: str) -> None:
    await twins.given("a")
    await twins.claim()
    await twins.fail("a", reason)


BACKOFFS = {
    "none": ({}, [0, 0]),
    "a number": ({"backoff": 60_000}, [60_000, 60_000]),
    "fixed": ({"backoff": {"type": "fixed", "delay": 60_000}}, [60_000, 60_000]),
    "exponential": ({"backoff": {"type": "exponential", "delay": 60_000}}, [60_000, 180_000]),
}


@pytest.mark.parametrize("form", BACKOFFS)
@pytest.mark.parametrize("numbered", [False, True])
async def test_fail_and_retry(twins: Twins, form: str, numbered: bool) -> None:
    """On purpose: a retry at once is announced; bull is silent and a sleeping worker would not wake."""
    job_id = "4711" if numbered else "a"  # the score's low bits come from the id
    opts, delays = BACKOFFS[form]
    await twins.given("other")
    await twins.claim()
    await twins.given(job_id, attempts=3, **opts)
    for delay_ms in delays:
        await twins.claim()
        await twins.fail(job_id, retry_in_ms=delay_ms, only_we=[] if delay_ms else [("waiting", job_id)])
        if delay_ms:
            await twins.promote(job_id)
    await twins.claim()
    await twins.fail(job_id)


@pytest.mark.parametrize("opts", [{"priority": 2}, {"lifo": True}, {"priority": 5, "lifo": True}])
@pytest.mark.parametrize("paused", [False, True])
async def test_a_retry_at_once_goes_where_bull_would_put_it(
    twins: Twins, opts: dict[str, object], paused: bool
) -> None:
    await twins.given("a", attempts=2, **opts)
    await twins.claim()
    await twins.given("b")
    await twins.given("p1", priority=1)
    await twins.given("p3", priority=3)
    if paused:
        await twins.pause()
    await twins.fail("a", retry_in_ms=0, only_we=[("waiting", "a")])


@pytest.mark.parametrize("limit", [0, 1, 2, 30])
async def test_the_last_traces_are_kept(twins: Twins, limit: int) -> None:
    """`stackTraceLimit` counts like bull's, 0 as none; without one we keep ten (below)."""
    await twins.given("a", attempts=9, stackTraceLimit=limit)
    for _ in range(4):
        await twins.claim()
        await twins.fail("a", retry_in_ms=0, only_we=[("waiting", "a")])


async def test_never_more_than_ten_traces_are_kept_where_bull_has_no_bound(
    bull: Bull, node: Node, twins: Twins
) -> None:
    """On purpose: a job that is retried for a day must not grow until nobody can read it."""
    await twins.given("a", attempts=99)
    twins.by_hand("HSET", "a", "stacktrace", "[" + ",".join(['"old"'] * 10) + "]")
    job = await twins.claim()
    await node.job(THEIRS, "a", "moveToFailed", "boom")
    await bull.retry(job, failure=Failure("boom", ["new"]), attempts_made=1, delay_ms=0)
    kept = {queue: json.loads(twins.raw.hget(f"bull:{queue}:a", "stacktrace")) for queue in (THEIRS, OURS)}
    assert len(kept[THEIRS]) == 11
    assert kept[OURS] == ["old"] * 9 + ["new"]


async def test_without_the_lock_nothing_at_all_is_written(bull: Bull, node: Node, twins: Twins) -> None:
    """On purpose: bull counts the attempt and writes its reason before it looks at the lock."""
    await twins.given("a", attempts=3)
    job = await twins.claim()
    twins.by_hand("SET", "a:lock", "another worker's")
    before = twins.dump(OURS)
    with pytest.raises(NodeError, match="Lock mismatch"):
        await node.job(THEIRS, "a", "moveToFailed", "boom")
    settled = await bull.retry(job, failure=Failure("boom"), attempts_made=1, delay_ms=0)
    assert settled is Settled.LOST
    assert twins.dump(OURS) == before
    assert twins.raw.hget(f"bull:{THEIRS}:a", "attemptsMade") == "1"
    with pytest.raises(NodeError, match="Lock mismatch"):
        await node.job(THEIRS, "a", "moveToCompleted", 1, False, True)
    assert (await bull.finish(job, returnvalue="1", retention=Retention())).settled is Settled.LOST
    assert twins.dump(OURS) == before


async def test_a_job_that_was_moved_from_active_is_let_go_as_bull_lets_it_go(
    bull: Bull, node: Node, twins: Twins
) -> None:
    await twins.given("a")
    job = await twins.claim()
    twins.by_hand("LREM", "active", 0, "a")
    twins.by_hand("LPUSH", "wait", "a")
    with pytest.raises(NodeError, match="not in the active state"):
        await node.job(THEIRS, "a", "moveToCompleted", 1, False, True)
    assert (await bull.finish(job, returnvalue="1", retention=Retention())).settled is Settled.LOST
    twins.compare()
    await twins.claim()


# --------------------------------------------------------------------------------------------- retention


@pytest.mark.parametrize("state", ["completed", "failed"])
@pytest.mark.parametrize(
    ("option", "retention"),
    [
        (True, Retention(count=0)),
        (False, Retention()),
        (2, Retention(count=2)),
        ({"count": 1}, Retention(count=1)),
        ({"age": 3600}, Retention(age_s=3600)),
        ({"age": 1800, "count": 2}, Retention(age_s=1800, count=2)),
    ],
)
async def test_retention(twins: Twins, state: str, option: object, retention: Retention) -> None:
    await twins.given_in(state, "a", "b", "c")
    long_ago, some_time_ago = (int(twins.raw.time()[0] - ago_s) * 1000 for ago_s in (7200, 2700))
    twins.by_hand("ZADD", state, long_ago, "a", some_time_ago, "b")
    await twins.given("d", removeOnComplete=option, removeOnFail=option)
    await twins.given_log("d", "a row")
    await twins.claim()
    await (twins.finish("d", None, retention) if state == "completed" else twins.fail("d", "boom", retention))


async def test_a_debounce_without_end_ends_with_its_job(twins: Twins) -> None:
    for job_id, debounce in {"a": {"id": "x"}, "b": {"id": "y", "ttl": 60_000}}.items():
        await twins.given(job_id, debounce=debounce)
        await twins.claim()
        await twins.finish(job_id)


# --------------------------------------------------------------------------------------- delayed, stalled


@pytest.mark.parametrize("paused", [False, True])
async def test_promote(twins: Twins, paused: bool) -> None:
    await twins.given("w")
    await twins.given("p1", priority=1)
    await twins.given("p5", priority=5)
    if paused:
        await twins.pause()
    for job_id, opts in {"a": {}, "p2": {"priority": 2}, "l": {"lifo": True}}.items():
        await twins.given(job_id, delay=MINUTE_MS, **opts)
        await twins.promote(job_id)


async def test_promote_what_is_not_delayed(bull: Bull, node: Node, twins: Twins) -> None:
    await twins.given("a")
    with pytest.raises(NodeError, match="not in a delayed state"):
        await node.job(THEIRS, "a", "promote")
    assert not await bull.promote(OURS, "a")
    twins.compare()


@pytest.mark.parametrize("paused", [False, True])
async def test_what_is_due_is_promoted(twins: Twins, paused: bool) -> None:
    await twins.given("w")
    await twins.given("p5", priority=5)
    for job_id, opts in {"a": {}, "p2": {"priority": 2}, "l": {"lifo": True}, "b": {}}.items():
        await twins.given(job_id, delay=MINUTE_MS, **opts)
    if paused:
        await twins.pause()
    await twins.promote_due("a", "p2", "l", "b")


async def test_promoting_does_not_announce_the_next_due_time(twins: Twins) -> None:
    """On purpose: every poll of every Node worker says when the next job is due, although nothing has changed."""
    await twins.given("a", delay=MINUTE_MS)
    await twins.given("b", delay=MINUTE_MS)
    await twins.promote_due("a", only_bull=[("delayed", "in 60 s")])


async def test_a_due_job_that_was_left_in_active_is_taken_from_there(twins: Twins) -> None:
    await twins.given("a", delay=MINUTE_MS)
    twins.by_hand("LPUSH", "active", "a")
    await twins.promote_due("a")


async def test_a_due_job_that_somebody_runs_stays_his_where_bull_takes_it_from_him(
    bull: Bull, node: Node, twins: Twins
) -> None:
    """On purpose: it was put into delayed by hand. Its second entry is dropped when it is claimed."""
    await twins.given("a")
    job = await twins.claim()
    twins.by_hand("ZADD", "delayed", 1, "a")
    await node.queue(THEIRS, "updateDelayTimer")
    await bull.sweep([OURS], guard_ms=1, stalled_interval_ms=30_000)
    assert not twins.raw.exists(f"bull:{THEIRS}:active")
    assert twins.raw.lrange(f"bull:{OURS}:active", 0, -1) == ["a"]
    assert await bull.claim(OURS, token="t", lease_ms=1000) == Empty()
    assert (await bull.finish(job, returnvalue="1", retention=Retention())).settled is Settled.DONE


@pytest.mark.parametrize("paused", [False, True])
async def test_a_stalled_job_returns(twins: Twins, paused: bool) -> None:
    await twins.given("a")
    await twins.given("p", priority=2)
    await twins.given("b")
    for _ in range(2):
        await twins.claim()
    twins.by_hand("DEL", "p:lock")
    twins.by_hand("DEL", "a:lock")
    if paused:
        await twins.pause()
    await twins.check_stalled()
    twins.by_hand("SREM", "stalled", "a")  # renewed meanwhile: one at a time, the order of a set is nobody's
    await twins.check_stalled()


async def test_a_job_that_stalls_again_still_returns_where_bull_fails_it(bull: Bull, node: Node, twins: Twins) -> None:
    """On purpose: the sweep never fails a job. Whoever claims it decides, after asking Postgres."""
    await twins.given("a")
    twins.by_hand("HSET", "a", "stalledCounter", 1)  # as often as bull allows
    await twins.claim()
    twins.by_hand("DEL", "a:lock")
    await twins.check_stalled()
    twins.by_hand("DEL", "stalled-check")
    await node.queue(THEIRS, "moveUnlockedJobsToWait")
    await bull.sweep([OURS], guard_ms=1, stalled_interval_ms=30_000)
    assert await node.job(THEIRS, "a", "getState") == "failed"
    assert await bull.state(OURS, "a") == "waiting"
    assert twins.raw.hget(f"bull:{OURS}:a", "stalledCounter") == "2"


# ----------------------------------------------------------------------------------------- pause, resume


async def test_pause_arrive_resume(twins: Twins) -> None:
    await twins.given("before")
    await twins.pause()
    await twins.given("from node", priority=2)
    await twins.enqueue(NewJob(id="from us", data="{}"))
    await twins.pause()
    await twins.resume()
    for _ in range(3):
        await twins.claim()
    await twins.resume()


async def test_resume_keeps_what_a_stranger_pushed_into_wait_where_bull_destroys_it(
    bull: Bull, node: Node, twins: Twins
) -> None:
    """On purpose: bull renames one list over the other."""
    await twins.given("a")
    await twins.pause()
    await twins.given("b")
    twins.by_hand("LREM", "paused", 0, "b")
    twins.by_hand("LPUSH", "wait", "b")
    await node.queue(THEIRS, "resume")
    await bull.resume(OURS)
    assert twins.raw.lrange(f"bull:{THEIRS}:wait", 0, -1) == ["a"]
    assert twins.raw.lrange(f"bull:{OURS}:wait", 0, -1) == ["a", "b"]


# ---------------------------------------------------------------------------------------------- by hand


@pytest.mark.parametrize("paused", [False, True])
async def test_retry_by_hand(twins: Twins, paused: bool) -> None:
    for job_id, opts in {"a": {}, "p": {"priority": 2}, "l": {"lifo": True}}.items():
        await twins.given_in("failed", job_id, **opts)
    await twins.given("w")
    await twins.given("p1", priority=1)
    if paused:
        await twins.pause()
    for job_id in ("a", "p", "l"):
        await twins.replay(job_id)


async def test_retrying_what_did_not_fail_changes_nothing_where_bull_strips_its_moments(
    bull: Bull, node: Node, twins: Twins
) -> None:
    """On purpose: bull deletes finishedOn and processedOn, then looks whether the job is a failed one."""
    await twins.given_in("completed", "a")
    before = twins.dump(OURS)
    with pytest.raises(NodeError, match="has not failed"):
        await node.job(THEIRS, "a", "retry")
    assert not await bull.replay(OURS, "a")
    assert twins.dump(OURS) == before
    assert not twins.raw.hexists(f"bull:{THEIRS}:a", "finishedOn")


async def test_retrying_a_locked_job_is_refused(bull: Bull, node: Node, twins: Twins) -> None:
    await twins.given_in("failed", "a")
    twins.by_hand("SET", "a:lock", "somebody")
    with pytest.raises(NodeError, match="locked"):
        await node.job(THEIRS, "a", "retry")
    assert not await bull.replay(OURS, "a")
    twins.compare()


@pytest.mark.parametrize("state", ["waiting", "prioritised", "paused", "delayed", "completed", "failed", "active"])
async def test_remove(twins: Twins, state: str) -> None:
    if state == "prioritised":
        await twins.given("a", priority=3)
    else:
        await twins.given_in(state, "a")
    await twins.given("b")
    await twins.given_log("a", "a row")
    await twins.remove("a")


async def test_a_locked_job_is_not_removed(bull: Bull, node: Node, twins: Twins) -> None:
    await twins.given("a")
    await twins.claim()
    with pytest.raises(NodeError, match="Could not remove job a"):
        await node.job(THEIRS, "a", "remove")
    assert not await bull.remove(OURS, "a")
    twins.compare()


@pytest.mark.parametrize("ttl", [{}, {"ttl": 60_000}])
@pytest.mark.parametrize("state", ["waiting", "failed"])
async def test_a_removed_job_debounces_nobody(twins: Twins, ttl: dict[str, int], state: str) -> None:
    """Or the next job of that kind would be swallowed in favour of one that is not there."""
    await twins.given_in(state, "a", debounce={"id": "x", **ttl})
    await twins.remove("a")
    await twins.given("b", debounce={"id": "x", **ttl})


async def test_a_limit_lets_delayed_jobs_be_cleaned_too_where_bull_finds_none(
    bull: Bull, node: Node, twins: Twins
) -> None:
    """On purpose: with a limit bull looks for them by score, which is no moment there."""
    await twins.given_in("delayed", "a", "b")
    twins.aged("delayed", "a", 90)
    assert await node.queue(THEIRS, "clean", 10_000, "delayed", 5) == []
    assert await bull.clean(OURS, "delayed", 10_000, 5) == ["a"]
    assert await node.queue(THEIRS, "clean", 10_000, "delayed") == ["a"]
    twins.compare()


async def test_a_debounce_that_has_passed_to_a_later_job_stays_where_bull_deletes_it(
    bull: Bull, node: Node, twins: Twins
) -> None:
    """On purpose: removing the old job must not let a third one run beside the second."""
    await twins.given_in("completed", "a", debounce={"id": "x"})
    await twins.given("b", debounce={"id": "x"})
    await node.job(THEIRS, "a", "remove")
    assert await bull.remove(OURS, "a")
    assert not twins.raw.exists(f"bull:{THEIRS}:de:x")
    assert twins.raw.get(f"bull:{OURS}:de:x") == "b"


@pytest.mark.parametrize("state", ["waiting", "paused", "completed", "failed", "active"])
async def test_clean(twins: Twins, state: str) -> None:
    """A second ago, because bull wants jobs strictly older, and we take those of this very millisecond too."""
    await twins.given_in(state, "a", "b", "c")
    await twins.given("locked")
    twins.by_hand("SET", "locked:lock", "somebody")
    for job_id, age_s in {"a": 90, "b": 60, "locked": 60, "c": 5}.items():
        twins.aged(state, job_id, age_s)
    assert await twins.clean(state, older_than_ms=10_000, limit=1) == ["a"]
    assert await twins.clean(state, older_than_ms=10_000, limit=1000) == ["b"]


async def test_clean_frees_what_a_waiting_job_debounced(twins: Twins) -> None:
    await twins.given("a", debounce={"id": "x", "ttl": 60_000})
    twins.by_hand("HSET", "a", "timestamp", 1_700_000_000_000)
    assert await twins.clean("waiting", older_than_ms=1000, limit=10) == ["a"]


# ------------------------------------------------------------------------------------- ours alone, limits


async def test_a_job_over_the_limit_stays_in_wait_where_bull_moves_it_to_delayed(
    bull: Bull, twins: Twins, published: Published
) -> None:
    """On purpose: bull's way loses order, and with bounceBack loses the job (wire spec 3.3). The counter is bull's."""
    await twins.given("a")
    await twins.given("b")
    limit = RateLimit(1, 60_000)
    await bull.claim(OURS, token="t1", lease_ms=1000, limit=limit)
    published()
    before = twins.dump(OURS)
    await bull.claim(OURS, token="t2", lease_ms=1000, limit=limit)
    assert published() == []
    assert twins.dump(OURS) == before
    assert (before["limiter"], before["wait"]) == (("string", True, "1"), ("list", False, ["b"]))


async def test_a_snooze_reads_as_a_backoff_that_counted_nothing(bull: Bull, node: Node, twins: Twins) -> None:
    """Bull has no such step: to Node the job is delayed, and its log says why."""
    await twins.given("a", attempts=2)
    job = await twins.claim()
    await bull.snooze(job, delay_ms=MINUTE_MS, reason="the vendor is down")
    twins.raw.delete(f"bull:{OURS}:a:logs")
    await node.job(THEIRS, "a", "moveToDelayed", int(twins.raw.time()[0] * 1000 + MINUTE_MS))
    twins.compare()


async def test_a_release_reads_as_a_job_that_just_arrived_in_front(bull: Bull, node: Node, twins: Twins) -> None:
    """Bull has no such step either: its stalled check would bring the job back, and count that."""
    await twins.given("a")
    await twins.given("b", priority=1)
    job = await twins.claim()
    assert job.id == "b"
    await bull.release(job)
    assert await node.job(OURS, "b", "getState") == "waiting"
    fields = twins.raw.hgetall(f"bull:{OURS}:b")
    assert not fields.keys() & {"attemptsMade", "stalledCounter", "failedReason"}
    assert (await node.take(OURS))["id"] == "b"
