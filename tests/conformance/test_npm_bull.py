"""npm bull 4.16.5 cannot tell our queues from its own: it adds, reads, retries, pauses and removes our jobs.

Nor can 4.15.1.
"""

from __future__ import annotations

import asyncio
import json

import pytest
import redis

from pipeline.queue.bull import Bull
from pipeline.queue.job import (
    ClaimedJob,
    Empty,
    Failure,
    NewJob,
    Paused,
    RateLimit,
    Retention,
    Settled,
    Successor,
)
from tests.conformance.oracle import EVERY_RELEASE, Node, NodeError
from tests.pipeline.queue.support import BASE, NEXT, QUEUE, Claimer, Enqueuer

pytestmark = [pytest.mark.interop, EVERY_RELEASE]

KEEP = Retention(age_s=3600)


async def test_jobs_node_adds_are_claimed_in_the_order_node_would_run_them(
    bull: Bull, node: Node, claim: Claimer
) -> None:
    added = [
        ("a", {}), ("b", {}), ("p3", {"priority": 3}), ("p1", {"priority": 1}), ("c", {}),
        ("p2", {"priority": 2}), ("p3b", {"priority": 3}), ("p9", {"priority": 9}),
    ]  # fmt: skip
    for name, opts in added:
        await node.queue(QUEUE, "add", {"n": name, "text": "é\u2028"}, opts | {"jobId": name, "attempts": 3})
    jobs = [await claim() for _ in added]
    assert [job.id for job in jobs] == ["p1", "p2", "p3", "p3b", "p9", "a", "b", "c"]
    assert json.loads(jobs[0].data or "") == {"n": "p1", "text": "é\u2028"}
    assert jobs[0].opts["attempts"] == 3


async def test_jobs_we_add_run_in_node_in_the_same_order(bull: Bull, node: Node) -> None:
    for job_id, opts in {
        "a": {},
        "p2": {"priority": 2},
        "p1": {"priority": 1},
        "b": {},
        "p2b": {"priority": 2},
    }.items():
        await bull.enqueue(QUEUE, NewJob(id=job_id, data='{"é":1}', opts=opts))
    await bull.enqueue(QUEUE, NewJob(id="front", data="{}", front=True))
    assert [(await node.take(QUEUE))["id"] for _ in range(6)] == ["front", "p1", "p2", "p2b", "a", "b"]


async def test_node_reads_a_job_of_ours_in_every_state(bull: Bull, node: Node, claim: Claimer) -> None:
    await bull.enqueue(QUEUE, NewJob(id="po-1", data='{"run":7}', attempts=3, name="parse"))
    job = await node.queue(QUEUE, "getJob", "po-1")
    assert (job["name"], job["data"], job["opts"]["attempts"], job["attemptsMade"]) == ("parse", {"run": 7}, 3, 0)
    assert job["timestamp"] == job["opts"]["timestamp"]
    assert await node.job(QUEUE, "po-1", "getState") == "waiting"
    claimed = await claim()
    assert await node.job(QUEUE, "po-1", "getState") == "active"
    await bull.progress(QUEUE, "po-1", 40)
    await bull.retry(claimed, failure=Failure("first", ["trace 1"]), attempts_made=1, delay_ms=60_000)
    job = await node.queue(QUEUE, "getJob", "po-1")
    assert await node.job(QUEUE, "po-1", "getState") == "delayed"
    assert (job["failedReason"], job["stacktrace"], job["attemptsMade"], job["progress"]) == (
        "first", ["trace 1"], 1, 40,
    )  # fmt: skip


async def test_finished_resolves_in_node_with_our_value(bull: Bull, node: Node, claim: Claimer) -> None:
    await bull.enqueue(QUEUE, NewJob(id="po-1", data="{}"))
    waiting = asyncio.create_task(node.job(QUEUE, "po-1", "finished"))
    job = await claim()
    await bull.finish(job, returnvalue='{"lines":[1,2]}', retention=KEEP)
    assert await waiting == {"lines": [1, 2]}
    stored = await node.queue(QUEUE, "getJob", "po-1")
    assert stored["returnvalue"] == {"lines": [1, 2]}
    assert stored["finishedOn"] >= stored["processedOn"]
    assert await node.job(QUEUE, "po-1", "isCompleted")


async def test_finished_rejects_in_node_with_our_reason_and_node_can_retry(
    bull: Bull, node: Node, claim: Claimer
) -> None:
    await bull.enqueue(QUEUE, NewJob(id="po-1", data="{}"))
    waiting = asyncio.create_task(node.job(QUEUE, "po-1", "finished"))
    await bull.fail(await claim(), failure=Failure('no "supplier"', ["t"]), attempts_made=1, retention=KEEP)
    with pytest.raises(NodeError, match='no "supplier"'):
        await waiting
    (failed,) = await node.queue(QUEUE, "getFailed")
    assert (failed["id"], failed["failedReason"], failed["stacktrace"]) == ("po-1", 'no "supplier"', ["t"])
    await node.job(QUEUE, "po-1", "retry")
    again = await claim()
    assert (again.id, again.attempts_made) == ("po-1", 1)


async def test_a_job_node_retries_in_bulk_without_a_word_is_found_by_the_sweep(
    bull: Bull, node: Node, claim: Claimer
) -> None:
    await bull.enqueue(QUEUE, NewJob(id="po-1", data="{}"))
    await bull.fail(await claim(), failure=Failure("x"), attempts_made=1, retention=KEEP)
    await node.queue(QUEUE, "retryJobs")
    assert (await bull.sweep([QUEUE], guard_ms=1, stalled_interval_ms=60_000)).queues[QUEUE].waiting == 1


async def test_delayed_jobs_of_either_side_are_due_for_the_other(
    bull: Bull, node: Node, raw: redis.Redis, claim: Claimer
) -> None:
    await bull.enqueue(QUEUE, NewJob(id="ours", data="{}", delay_ms=60_000))
    await node.queue(QUEUE, "add", {}, {"jobId": "theirs", "delay": 60_000})
    assert {job["id"] for job in await node.queue(QUEUE, "getDelayed")} == {"ours", "theirs"}
    await node.job(QUEUE, "ours", "promote")
    assert (await claim()).id == "ours"
    raw.zincrby(BASE + "delayed", -61_000 * 4096, "theirs")
    await bull.sweep([QUEUE], guard_ms=1, stalled_interval_ms=60_000)
    assert (await claim()).id == "theirs"


async def test_a_pause_of_either_side_holds_for_both(bull: Bull, node: Node, claim: Claimer) -> None:
    await node.queue(QUEUE, "add", {}, {"jobId": "before"})
    await node.queue(QUEUE, "pause")
    assert await bull.is_paused(QUEUE)
    await bull.enqueue(QUEUE, NewJob(id="meanwhile", data="{}"))
    assert await bull.claim(QUEUE, token="t", lease_ms=1000) == Paused()
    await bull.resume(QUEUE)
    assert not await node.queue(QUEUE, "isPaused")
    await bull.pause(QUEUE)
    assert await node.queue(QUEUE, "isPaused")
    await node.queue(QUEUE, "add", {}, {"jobId": "last"})
    assert (await node.queue(QUEUE, "getJobCounts"))["paused"] == 3
    await node.queue(QUEUE, "resume")
    assert [(await claim()).id for _ in range(3)] == ["before", "meanwhile", "last"]


async def test_both_count_alike(bull: Bull, node: Node, claim: Claimer) -> None:
    for number in range(7):
        await bull.enqueue(QUEUE, NewJob(id=f"j{number}", data="{}", delay_ms=60_000 * (number > 4)))
    await bull.finish(await claim(), returnvalue="null", retention=KEEP)
    await bull.fail(await claim(), failure=Failure("x"), attempts_made=1, retention=KEEP)
    await claim()
    ours = await bull.counts(QUEUE)
    assert await node.queue(QUEUE, "getJobCounts") == {
        "waiting": ours.waiting, "active": ours.active, "completed": ours.completed,
        "failed": ours.failed, "delayed": ours.delayed, "paused": ours.paused,
    }  # fmt: skip
    assert (ours.waiting, ours.active, ours.completed, ours.failed, ours.delayed) == (2, 1, 1, 1, 2)
    jobs = await node.queue(QUEUE, "getJobs", ["waiting", "active", "completed", "failed", "delayed"])
    assert len(jobs) == 7


async def test_node_may_not_remove_what_we_run_and_may_remove_the_rest(
    bull: Bull, node: Node, enqueue: Enqueuer, claim: Claimer
) -> None:
    await enqueue("a", "b")
    await claim()
    with pytest.raises(NodeError, match="Could not remove job a"):
        await node.job(QUEUE, "a", "remove")
    await node.job(QUEUE, "b", "remove")
    assert await bull.state(QUEUE, "b") is None


async def test_a_job_node_holds_is_not_ours_to_end(
    bull: Bull, node: Node, enqueue: Enqueuer, claim: Claimer, raw: redis.Redis
) -> None:
    await enqueue("a")
    ours = await claim()
    raw.delete(BASE + "a:lock")
    raw.lrem(BASE + "active", 0, "a")
    raw.lpush(BASE + "wait", "a")
    theirs = await node.take(QUEUE)
    assert theirs["id"] == "a"
    assert (await bull.finish(ours, returnvalue="1", retention=KEEP)).settled is Settled.LOST
    await node.job(QUEUE, "a", "moveToCompleted", "theirs", False, True)
    assert (await node.queue(QUEUE, "getJob", "a"))["returnvalue"] == "theirs"


async def test_a_successor_of_ours_runs_in_node(bull: Bull, node: Node, enqueue: Enqueuer, claim: Claimer) -> None:
    await node.process(NEXT)
    await enqueue("a")
    successor = Successor(NEXT, NewJob(id="a-next", data='{"run":7}'))
    await bull.finish(await claim(), returnvalue="1", retention=KEEP, successor=successor)
    assert await node.job(NEXT, "a-next", "finished") == {"run": 7}


async def test_a_mixed_fleet_runs_every_job_once(bull: Bull, node: Node, raw: redis.Redis) -> None:
    total = 150
    for number in range(total):
        if number % 2:
            await bull.enqueue(QUEUE, NewJob(id=f"j{number}", data="{}"))
        else:
            await node.queue(QUEUE, "add", {}, {"jobId": f"j{number}"})
    await node.process(QUEUE)
    ours: list[str] = []
    while isinstance(job := await bull.claim(QUEUE, token=f"t{len(ours)}", lease_ms=30_000), ClaimedJob):
        ours.append(job.id)
        assert (await bull.finish(job, returnvalue="1", retention=KEEP)).settled is Settled.DONE
    while len(ours) + len(node.ran) < total:
        await asyncio.sleep(0.01)
    assert ours
    assert node.ran
    assert sorted(ours + node.ran) == sorted(f"j{number}" for number in range(total))


async def test_nodes_limiter_counter_is_ours_too(
    bull: Bull, node: Node, enqueue: Enqueuer, claim: Claimer, raw: redis.Redis
) -> None:
    await enqueue("a", "b")
    await claim(limit=RateLimit(1, 60_000))
    assert raw.get(BASE + "limiter") == "1"
    assert not isinstance(
        await bull.claim(QUEUE, token="t", lease_ms=1, limit=RateLimit(1, 60_000)), (ClaimedJob, Empty)
    )
    assert (await node.queue(QUEUE, "getJobCounts"))["waiting"] == 1
