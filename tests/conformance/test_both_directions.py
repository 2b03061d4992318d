"""What Node adds we take, in every form its options have; what we leave behind Bull's getters read like its own.

Asked of 4.16.5, the last release of bull, and of 4.15.1, which producers still run.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.queue.bull import DATA_MAX, Bull
from pipeline.queue.job import Failure, Retention
from tests.conformance.oracle import EVERY_RELEASE, LAST_RELEASE, Node
from tests.conformance.twins import BOTH, OURS, THEIRS, Twins
from tests.pipeline.queue.support import QUEUE, Claimer

pytestmark = [pytest.mark.interop, EVERY_RELEASE]

KEEP = Retention(age_s=3600)
DELAY_MS = 60_000

# ---------------------------------------------------------------------------------- from Node to us

OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "none": ({}, {"attempts": 1, "delay": 0}),
    "attempts as a text": ({"attempts": "2"}, {"attempts": 2}),
    "backoff as a number": ({"backoff": 250}, {"backoff": {"type": "fixed", "delay": 250}}),
    "backoff exponential": ({"backoff": {"type": "exponential", "delay": 9}}, {}),
    "backoff that only its worker knows": ({"backoff": {"type": "moon", "options": {"phase": 1}}}, {}),
    "keep nothing": ({"removeOnComplete": True, "removeOnFail": True}, {}),
    "keep all": ({"removeOnComplete": False, "removeOnFail": False}, {}),
    "keep some": ({"removeOnComplete": 1, "removeOnFail": 1}, {}),
    "keep for a time": ({"removeOnComplete": {"age": 1, "count": 1}, "removeOnFail": {"age": 1}}, {}),
    "keep null": ({"removeOnComplete": None, "removeOnFail": None}, {}),
    "a time limit": ({"timeout": 1}, {}),
    "traces": ({"stackTraceLimit": 3}, {}),
    "priority": ({"priority": 7}, {}),
    "in front": ({"lifo": True}, {}),
    "later": ({"delay": DELAY_MS}, {}),
    "an id": ({"jobId": "custom-1"}, {}),
    "an id with a colon": ({"jobId": "user:7"}, {}),
    "data as text": ({"preventParsingData": True}, {}),
    "debounced": ({"debounce": {"id": "x", "ttl": 5000}}, {}),
    "a moment of its own": ({"timestamp": 1_700_000_000_000}, {}),
}


@pytest.mark.parametrize("form", OPTIONS)
@pytest.mark.breaks(
    "unreadable_field", reason="null for a retention, which bull writes and then fails on: wire spec 2.3"
)
async def test_an_option_of_node_arrives_as_bull_wrote_it(bull: Bull, node: Node, claim: Claimer, form: str) -> None:
    given, normalised = OPTIONS[form]
    job_id = (await node.queue(QUEUE, "add", {"n": 1}, given))["id"]
    if "delay" in given:
        assert await bull.promote(QUEUE, job_id)
    job = await claim()
    stored = await node.queue(QUEUE, "getJob", job_id)
    assert job.id == job_id
    assert job.opts == stored["opts"]
    assert job.opts.items() >= (given | normalised).items()
    assert job.timestamp_ms == stored["timestamp"]


@pytest.mark.parametrize("form", ["keep nothing", "keep some", "keep for a time", "keep null"])
@pytest.mark.breaks(
    "unreadable_field", reason="null for a retention, which bull writes and then fails on: wire spec 2.3"
)
async def test_how_long_a_job_stays_is_our_decision_not_its_producers(
    bull: Bull, node: Node, claim: Claimer, form: str
) -> None:
    """On purpose: a job that is gone cannot tell a second add, or a lost reply, that it has run.

    Attempts, backoff and time limit are read like this too and decided elsewhere: by the flow, per stage.
    """
    given, _ = OPTIONS[form]
    for job_id in ("a", "b", "c", "d"):
        await node.queue(QUEUE, "add", {}, given | {"jobId": job_id})
    for _ in range(2):
        await bull.finish(await claim(), returnvalue="1", retention=KEEP)
        await bull.fail(await claim(), failure=Failure("x"), attempts_made=1, retention=KEEP)
    counts = await bull.counts(QUEUE)
    assert (counts.completed, counts.failed) == (2, 2)


@pytest.mark.parametrize(
    "data", [{}, [], "text", 0, 1.5, True, {"é\u2028": ["\U0001f4a9", None]}, "x" * DATA_MAX, {"big": ["é"] * DATA_MAX}]
)
async def test_data_of_node_arrive_as_they_were(bull: Bull, node: Node, claim: Claimer, data: object) -> None:
    job_id = (await node.queue(QUEUE, "add", "named", data))["id"]
    job = await claim()
    text = job.data if job.data is not None else await bull.data(QUEUE, job_id)
    assert json.loads(text) == ({} if data == 0 else data)  # what JavaScript takes for nothing, bull stores as {}
    assert job.name == "named"


async def test_data_that_node_does_not_parse_are_the_same_text_for_both(node: Node, claim: Claimer) -> None:
    added = await node.queue(QUEUE, "add", {"a": 1}, {"preventParsingData": True})
    stored = await node.queue(QUEUE, "getJob", added["id"])
    assert (await claim()).data == stored["data"] == '{"a":1}'


async def test_a_debounced_add_is_one_job(node: Node, bull: Bull, claim: Claimer) -> None:
    """Before 4.16 bull knew no such option and added all three."""
    swallowed = node.release == LAST_RELEASE
    for _ in range(3):
        await node.queue(QUEUE, "add", {}, {"debounce": {"id": "x"}})
    await bull.finish(await claim(), returnvalue="1", retention=KEEP)
    assert (await bull.counts(QUEUE)).waiting == (0 if swallowed else 2)
    await node.queue(QUEUE, "add", {}, {"debounce": {"id": "x"}})
    assert (await bull.counts(QUEUE)).waiting == (1 if swallowed else 3)


async def test_jobs_added_in_bulk_are_claimed_in_their_order(node: Node, claim: Claimer) -> None:
    await node.queue(QUEUE, "addBulk", [{"name": "n", "data": {"n": n}, "opts": {"jobId": f"j{n}"}} for n in range(5)])
    assert [(await claim()).id for _ in range(5)] == [f"j{n}" for n in range(5)]


# ---------------------------------------------------------------------------------- from us to Node

STATES = ["waiting", "active", "completed", "failed", "delayed", "paused"]
COUNTS = [
    f"get{state}Count" for state in ("Waiting", "Active", "Completed", "Failed", "Delayed", "Paused", "Repeatable")
]
LISTS = [f"get{state}" for state in ("Waiting", "Active", "Completed", "Failed", "Delayed")]
QUESTIONS = ["getState", "isCompleted", "isFailed", "isDelayed", "isActive", "isWaiting", "isPaused", "isStuck"]
MOMENTS = ("timestamp", "processedOn", "finishedOn")


def shown(job: dict[str, Any]) -> dict[str, Any]:
    """What `toJSON` shows, without moments and what a trace says."""
    moments = {field: job[field] and len(str(job[field])) for field in MOMENTS}
    return job | moments | {"stacktrace": len(job["stacktrace"] or []), "opts": job["opts"] | {"timestamp": 0}}


@pytest.mark.parametrize("paused", [False, True])
async def test_every_getter_shows_our_jobs_as_its_own(
    node: Node, twins: Twins, in_every_state: list[str], paused: bool
) -> None:
    if paused:
        await twins.pause()
    seen: dict[str, list[object]] = {queue: [] for queue in BOTH}
    for queue, answers in seen.items():
        answers += [await node.queue(queue, "getJobCounts"), await node.queue(queue, "count")]
        answers += [await node.queue(queue, "isPaused"), await node.queue(queue, "getCountsPerPriority", [0, 1, 2])]
        answers += [(getter, await node.queue(queue, getter)) for getter in COUNTS]
        for getter in LISTS:
            answers.append((getter, [shown(job) for job in await node.queue(queue, getter)]))
        for state in STATES:
            for ascending in (False, True):
                jobs = await node.queue(queue, "getJobs", [state], 0, -1, ascending)
                answers.append((state, [shown(job) for job in jobs]))
        for job_id in in_every_state:
            answers.append((job_id, [await node.job(queue, job_id, question) for question in QUESTIONS]))
            answers.append(await node.queue(queue, "getJobLogs", job_id))
    for ours, theirs in zip(seen[OURS], seen[THEIRS], strict=True):
        assert ours == theirs


async def test_both_name_the_state_of_each_job_alike(bull: Bull, node: Node, in_every_state: list[str]) -> None:
    """But for a job there is none of: bull calls it stuck, which we keep for one that is in no list."""
    for job_id in in_every_state:
        assert await bull.state(OURS, job_id) == await node.job(OURS, job_id, "getState")
    assert await bull.state(OURS, "nobody") is None


@pytest.mark.breaks("one_place", "paused_place", "missing_field", reason="that is the claim")
async def test_an_id_in_two_places_is_where_bull_looks_first(bull: Bull, node: Node, twins: Twins) -> None:
    await twins.given("a")
    for suffix in ("paused", "active"):
        twins.by_hand("LPUSH", suffix, "a")
        assert await bull.state(OURS, "a") == await node.job(OURS, "a", "getState")
    for suffix in ("delayed", "failed", "completed"):
        twins.by_hand("ZADD", suffix, 1, "a")
        assert await bull.state(OURS, "a") == await node.job(OURS, "a", "getState") == suffix


async def test_the_rows_of_a_snooze_are_the_jobs_log_in_node(bull: Bull, node: Node, claim: Claimer) -> None:
    await node.queue(QUEUE, "add", {}, {"jobId": "a"})
    await bull.snooze(await claim(), delay_ms=DELAY_MS, reason="the model is away")
    assert await node.queue(QUEUE, "getJobLogs", "a") == {"logs": ["the model is away"], "count": 1}


async def test_finished_is_answered_for_a_job_that_ended_before_it_was_asked(
    bull: Bull, node: Node, claim: Claimer
) -> None:
    await node.queue(QUEUE, "add", {}, {"jobId": "a"})
    await bull.finish(await claim(), returnvalue='{"lines":[1]}', retention=KEEP)
    assert await node.job(QUEUE, "a", "finished") == {"lines": [1]}
