"""Every transition by npm bull and by us from the same start: the same keys, fields, scores, messages, in order.

Each step of `twins` compares the full dump of both queues and all that was published. A test whose name or docstring
says why is one where we differ on purpose; everything else must be equal.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.queue.bull import Bull
from pipeline.queue.job import Empty, Failure, Held, NewJob, RateLimit, Retention, Settled
from tests.conformance.oracle import Node, NodeError
from tests.conformance.twins import OURS, THEIRS, Twins
from tests.pipeline.queue.support import Published

pytestmark = pytest.mark.interop

MINUTE_MS = 60_000

# --------------------------------------------------------------------------------------------------- add

PRIORITIES = [1, 3, 0, -1, -7, 2.5, 0.5, -0.5, 2**21, 2**53, 1e21, -1e21]

FORMS = {
    "a number of Redis": (NewJob(id=None, data='{"a":1}'), {}),
    "an id": (NewJob(id="po-1", data='{"a":1}'), {}),
    "delayed": (NewJob(id="po-1", data="{}", delay_ms=MINUTE_MS), {"delay": MINUTE_MS}),
    "delayed, numbered": (NewJob(id=None, data="{}", delay_ms=MINUTE_MS), {"delay": MINUTE_MS}),
    "a delay as text": (NewJob(id=None, data="{}", delay_ms=MINUTE_MS), {"delay": str(MINUTE_MS)}),
    "in front": (NewJob(id="po-1", data="{}", front=True), {"lifo": True}),
    "in front, later": (
        NewJob(id="po-1", data="{}", front=True, delay_ms=MINUTE_MS),
        {"lifo": True, "delay": MINUTE_MS},
    ),
    "in front, prioritised": (
        NewJob(id="po-1", data="{}", opts={"priority": 5}, front=True),
        {"priority": 5, "lifo": True},
    ),
    **{
        f"priority {priority}{later}": (
            NewJob(id="po-1", data="{}", opts={"priority": priority}, delay_ms=delay_ms),
            {"priority": priority} | ({"delay": delay_ms} if delay_ms else {}),
        )
        for priority in PRIORITIES
        for later, delay_ms in {"": 0, ", later": MINUTE_MS}.items()
    },
    "attempts": (NewJob(id="po-1", data="{}", attempts=3), {"attempts": 3}),
    "attempts as text": (NewJob(id="po-1", data="{}", attempts=3), {"attempts": "3"}),
    "backoff as number": (
        NewJob(id="po-1", data="{}", opts={"backoff": {"type": "fixed", "delay": 250}}), {"backoff": 250},
    ),
    **{
        f"{option} {value}": (NewJob(id="po-1", data="{}", opts={option: value}), {option: value})
        for option, values in {
            "backoff": [{"type": "exponential", "delay": 9}, {"type": "moon", "options": {"phase": 1}}],
            "removeOnComplete": [True, False, 0, 5, {"age": 60}, {"age": 60, "count": 5}, {"count": 0}],
            "removeOnFail": [True, False, 0, 5, {"age": 60}, {"age": 60, "count": 5}, {"count": 0}],
            "timeout": [1234],
            "stackTraceLimit": [0, 3],
            "preventParsingData": [True, False],
            "debounce": [{"id": "x"}, {"id": "x", "ttl": 60_000}, {"id": 7, "ttl": 60_000}],
        }.items()
        for value in values
    },
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


@pytest.mark.parametrize("ttl", [{}, {"ttl": 60_000}])
async def test_a_debounced_job_gives_way_until_the_one_before_it_has_ended(twins: Twins, ttl: dict[str, int]) -> None:
    """Or until its time is over, where there is one. Whoever adds; a duplicate id is told apart before."""
    debounce = {"debounce": {"id": "x", **ttl}}
    await twins.enqueue(NewJob(id="a", data="{}", opts=debounce), **debounce)
    await twins.enqueue(NewJob(id="b", data="{}", opts=debounce), **debounce)
    await twins.enqueue(NewJob(id="a", data="{}", opts=debounce), **debounce)
    await twins.enqueue(NewJob(id=None, data="{}", opts=debounce, delay_ms=MINUTE_MS), **debounce, delay=MINUTE_MS)
    await twins.given("c", **debounce)
    await twins.claim()
    await twins.finish("a")
    await twins.enqueue(NewJob(id="d", data="{}", opts=debounce), **debounce)


@pytest.mark.breaks("one_place", "counter_behind", reason="bull adds it twice: wire spec 4.4")
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
        "p1b": {"priority": 1}, "p9": {"priority": 9}, "c": {}, "below": {"priority": -2}, "between": {"priority": 2.5},
        "last": {"priority": 1e21}, "zero": {"priority": 0}, "below too": {"priority": -1},
    }.items():  # fmt: skip
        await twins.given(job_id, **opts)
    for _ in range(13):
        await twins.claim()


@pytest.mark.parametrize(
    "value", [0, 42, 99.5, -1, {"percent": 10, "text": "é"}, "half", "", [1, None], {}, True, None]
)
async def test_progress(twins: Twins, value: object) -> None:
    await twins.given("a")
    await twins.claim()
    await twins.progress("a", value)


async def test_data_and_log_that_node_writes_while_we_run_a_job(bull: Bull, twins: Twins) -> None:
    await twins.given("a")
    await twins.given_log("a", "before")
    await twins.claim()
    await twins.update("a", {"é": [1]})
    await twins.given_log("a", "while it runs")
    assert await bull.data(OURS, "a") == '{"é":[1]}'
    await twins.finish("a")


async def test_starts_are_counted_as_bull_counts_them(twins: Twins) -> None:
    limit = RateLimit(3, 60_000)
    await twins.limited(limit)
    for job_id in ("a", "b", "c"):
        await twins.given(job_id)
    for count in ("1", "2", "3"):
        await twins.claim(limit)
        assert twins.raw.get(f"bull:{OURS}:limiter") == count


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
@pytest.mark.breaks("counter_behind", reason="one of the jobs has a number of its own")
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


@pytest.mark.parametrize(
    "opts",
    [
        {"priority": 2},
        {"lifo": True},
        {"priority": 5, "lifo": True},
        {"priority": -1},
        {"priority": 2.5},
        {"priority": 0},
    ],
)
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


@pytest.mark.breaks("endless_lock", reason="another holder's lock, set by hand")
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
        (0, Retention(count=0)),
        (2, Retention(count=2)),
        (1000, Retention(count=1000)),
        ({"count": 0}, Retention(count=0)),
        ({"count": 1}, Retention(count=1)),
        ({"age": 0}, Retention(age_s=0)),
        ({"age": 3600}, Retention(age_s=3600)),
        ({"age": 1800, "count": 2}, Retention(age_s=1800, count=2)),
        ({"age": 1800, "count": 1}, Retention(age_s=1800, count=1)),
        ({"age": 1800, "count": 0}, Retention(age_s=1800, count=0)),
    ],
)
@pytest.mark.breaks("end_and_score", reason="jobs are aged by their score alone")
async def test_retention(twins: Twins, state: str, option: object, retention: Retention) -> None:
    await twins.given_in(state, "a", "b", "c")
    long_ago, some_time_ago = (int(twins.raw.time()[0] - ago_s) * 1000 for ago_s in (7200, 2700))
    twins.by_hand("ZADD", state, long_ago, "a", some_time_ago, "b")
    await twins.given("d", removeOnComplete=option, removeOnFail=option)
    await twins.given_log("d", "a row")
    await twins.claim()
    await (twins.finish("d", None, retention) if state == "completed" else twins.fail("d", "boom", retention))


@pytest.mark.breaks("entry_without_job", reason="ended jobs by their entries alone")
async def test_not_more_than_a_hundred_are_let_go_at_once_where_bull_has_no_bound(
    bull: Bull, node: Node, twins: Twins
) -> None:
    """On purpose: a shorter retention must not stop Redis for as long as ten thousand jobs take. The rest follows."""
    for number in range(120):
        twins.by_hand("ZADD", "completed", 1_700_000_000_000 + number, f"old-{number}")
    await twins.given("a", removeOnComplete={"age": 60})
    job = await twins.claim()
    await node.job(THEIRS, "a", "moveToCompleted", 1, False, True)
    await bull.finish(job, returnvalue="1", retention=Retention(age_s=60))
    assert [twins.raw.zcard(f"bull:{queue}:completed") for queue in (THEIRS, OURS)] == [1, 21]


async def test_a_debounce_without_end_ends_with_its_job(twins: Twins) -> None:
    for job_id, debounce in {"a": {"id": "x"}, "b": {"id": "y", "ttl": 60_000}}.items():
        await twins.given(job_id, debounce=debounce)
        await twins.claim()
        await twins.finish(job_id)


# --------------------------------------------------------------------------------------- delayed, stalled


KINDS: dict[str, dict[str, Any]] = {
    "a": {}, "p2": {"priority": 2}, "l": {"lifo": True}, "below": {"priority": -1}, "p2.5": {"priority": 2.5}, "b": {},
}  # fmt: skip


@pytest.mark.parametrize("paused", [False, True])
async def test_promote(twins: Twins, paused: bool) -> None:
    await twins.given("w")
    await twins.given("p1", priority=1)
    await twins.given("p5", priority=5)
    if paused:
        await twins.pause()
    for job_id, opts in KINDS.items():
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
    for job_id, opts in KINDS.items():
        await twins.given(job_id, delay=MINUTE_MS, **opts)
    if paused:
        await twins.pause()
    await twins.promote_due(*KINDS)


async def test_promoting_does_not_announce_the_next_due_time(twins: Twins) -> None:
    """On purpose: every poll of every Node worker says when the next job is due, although nothing has changed."""
    await twins.given("a", delay=MINUTE_MS)
    await twins.given("b", delay=MINUTE_MS)
    await twins.promote_due("a", only_bull=[("delayed", "in 60 s")])


async def test_a_due_job_that_was_left_in_active_is_taken_from_there(twins: Twins) -> None:
    await twins.given("a", delay=MINUTE_MS)
    twins.by_hand("LPUSH", "active", "a")
    await twins.promote_due("a")


@pytest.mark.breaks("lock_without_run", reason="bull takes it from its holder: wire spec 3.9")
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


async def test_arrivals_of_every_kind_from_both_sides_while_paused_and_between(twins: Twins) -> None:
    """New, retried, promoted, due and stalled ones: all wait with the others, and run in the order bull has."""
    await twins.given("held", attempts=2)
    await twins.claim()
    for turn in ("first", "second"):
        await twins.pause()
        for kind, opts in KINDS.items():
            await twins.given(f"{turn} {kind} of node", **opts)
            await twins.enqueue(our_form(f"{turn} {kind} of us", opts), **opts)
            await twins.given(f"{turn} {kind} later", delay=MINUTE_MS, **opts)
        await twins.promote(f"{turn} b later")
        await twins.promote_due(*(f"{turn} {kind} later" for kind in KINDS if kind != "b"))
        await twins.resume()
        await twins.given(f"{turn} between of node", priority=3)
        await twins.enqueue(NewJob(id=f"{turn} between of us", data="{}"))
        await twins.claim()
    await twins.pause()
    await twins.fail("held", retry_in_ms=0, only_we=[("waiting", "held")])
    await twins.resume()
    for _ in range(twins.raw.llen(f"bull:{OURS}:wait")):
        await twins.claim()


def our_form(job_id: str, opts: dict[str, Any]) -> NewJob:
    """What we enqueue where bull adds with these options."""
    return NewJob(job_id, "{}", opts={"priority": opts["priority"]} if "priority" in opts else {}, front="lifo" in opts)


@pytest.mark.breaks("stuck", reason="bull destroys it: wire spec 0, rule 1")
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


@pytest.mark.parametrize("batch", [1, 2, 1000])
@pytest.mark.parametrize("paused", [False, True])
async def test_retry_all_by_hand(twins: Twins, paused: bool, batch: int) -> None:
    """On purpose: each one is announced; bull is silent and a sleeping worker would not wake."""
    failed = {"a": {}, "p": {"priority": 2}, "l": {"lifo": True}, "b": {}, "below": {"priority": -1}}
    for number, (job_id, opts) in enumerate(failed.items()):
        await twins.given_in("failed", job_id, **opts)
        twins.by_hand("ZADD", "failed", 1_700_000_000_000 + number, job_id)
    await twins.given("w")
    await twins.given("p1", priority=1)
    if paused:
        await twins.pause()
    assert await twins.replay_all(batch, only_we=[("waiting", job_id) for job_id in failed]) == len(failed)
    if not paused:
        for _ in range(7):
            await twins.claim()


@pytest.mark.breaks("lock_without_run", "endless_lock", "missing_field", reason="that is the claim")
async def test_retrying_all_spares_what_somebody_runs_where_bull_does_not(bull: Bull, node: Node, twins: Twins) -> None:
    """On purpose: it was moved into failed by hand, and would be run twice at once."""
    await twins.given_in("failed", "a", "b")
    twins.by_hand("SET", "a:lock", "somebody")
    await node.queue(THEIRS, "retryJobs")
    assert await bull.replay_all(OURS) == 1
    assert twins.raw.lrange(f"bull:{THEIRS}:wait", 0, -1) == ["b", "a"]
    assert twins.raw.lrange(f"bull:{OURS}:wait", 0, -1) == ["b"]
    assert await bull.state(OURS, "a") == "failed"
    assert await bull.replay_all(OURS) == 0


@pytest.mark.breaks("missing_field", reason="bull strips them: wire spec 3.12")
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


@pytest.mark.breaks("endless_lock", "lock_without_run", reason="locked by hand")
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
@pytest.mark.breaks(
    "endless_lock", "lock_without_run", "missing_field", "one_place", reason="locked, and put there, by hand"
)
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


# ------------------------------------------------------------------------------------------- obliterate


async def everything(twins: Twins, node: Node, *, active: bool) -> None:
    """Jobs in every state, a schedule, a log, and nothing in the order of the day."""
    await twins.given_in("completed", "done", "done too")
    await twins.given_in("failed", "dead")
    await twins.given_log("dead", "a row")
    if active:
        await twins.given("runs")
        await twins.claim()
    await twins.given("later", delay=MINUTE_MS)
    await twins.given("waits")
    await twins.given("first", priority=1)
    for queue in (THEIRS, OURS):
        await node.queue(queue, "add", "report", {}, {"repeat": {"every": 7 * 24 * 60 * MINUTE_MS}})


@pytest.mark.parametrize("batch", [1, 2, 1000])
@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize(("active", "force"), [(False, False), (False, True), (True, True)])
async def test_obliterate(twins: Twins, node: Node, batch: int, paused: bool, active: bool, force: bool) -> None:
    await everything(twins, node, active=active)
    if paused:
        await twins.pause()
    await twins.obliterate(force=force, batch=batch)
    assert twins.dump(OURS) == {}


async def test_a_queue_that_works_is_only_paused(bull: Bull, node: Node, twins: Twins) -> None:
    await everything(twins, node, active=True)
    with pytest.raises(NodeError, match="active jobs"):
        await node.queue(THEIRS, "obliterate")
    assert not await bull.obliterate(OURS)
    twins.compare()
    await twins.finish("runs")


async def test_a_job_that_is_obliterated_while_it_runs_is_gone_for_its_holder(
    bull: Bull, node: Node, twins: Twins
) -> None:
    await twins.given("a")
    job = await twins.claim()
    await twins.obliterate(force=True, batch=1000)
    with pytest.raises(NodeError, match="Missing key for job a"):
        await node.job(THEIRS, "a", "moveToCompleted", 1, False, True)
    assert (await bull.finish(job, returnvalue="1", retention=Retention())).settled is Settled.GONE
    assert twins.dump(OURS) == twins.dump(THEIRS) == {}


async def test_an_obliterated_job_debounces_nobody_where_bull_forgets_the_key(
    bull: Bull, node: Node, twins: Twins
) -> None:
    """On purpose: bull deletes the job first, and then asks it for the name of its key."""
    await twins.given("a", debounce={"id": "x"})
    await node.queue(THEIRS, "obliterate")
    assert await bull.obliterate(OURS)
    assert (list(twins.dump(THEIRS)), list(twins.dump(OURS))) == (["de:x"], [])


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
