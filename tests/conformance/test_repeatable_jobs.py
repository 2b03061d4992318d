"""Schedules: whoever takes a run of one adds the next, and whether that was bull or we cannot be told apart."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
import redis

from pipeline.queue.bull import Bull
from pipeline.queue.job import ClaimedJob, Retention
from tests.conformance.oracle import Node
from tests.conformance.twins import BOTH, OURS, THEIRS, Twins
from tests.pipeline.queue.support import BASE, QUEUE, Claimer

pytestmark = pytest.mark.interop

DAY_MS = 24 * 3600 * 1000
KEEP = Retention(age_s=3600)
FAR = 4_000_000_000_000

SCHEDULES: dict[str, dict[str, Any]] = {
    "every": {"repeat": {"every": 7 * DAY_MS}},
    "cron": {"repeat": {"cron": "0 3 1 * *"}},
    "cron with seconds": {"repeat": {"cron": "15 30 3 1 */2 *"}},
    "cron in a zone": {"repeat": {"cron": "30 2 L * *", "tz": "Europe/Berlin"}},
    "cron in a zone spelled otherwise": {"repeat": {"cron": "30 2 L * *", "tz": "america/NEW_york"}},
    "cron at an offset": {"repeat": {"cron": "30 2 L * *", "tz": "UTC+5:30"}},
    "cron at an offset to the west": {"repeat": {"cron": "30 2 L * *", "tz": "utc-3:30"}},
    "cron at no offset": {"repeat": {"cron": "30 2 L * *", "tz": "GMT"}},
    "cron in the machine's zone": {"repeat": {"cron": "30 2 L * *", "tz": "local"}},
    "until a moment": {"repeat": {"cron": "0 3 1 * *", "endDate": FAR}},
    "until a date": {"repeat": {"every": 7 * DAY_MS, "endDate": "2096-10-02"}},
    "until a time": {"repeat": {"cron": "0 3 * * 1", "endDate": "2096-10-02T09:06:40.000Z", "tz": "Asia/Kolkata"}},
    "from a date": {"repeat": {"cron": "0 3 1 * *", "startDate": "2090-01-01"}},
    "so many times": {"repeat": {"every": 7 * DAY_MS, "limit": 5}},
    "counted from": {"repeat": {"every": 7 * DAY_MS, "count": 3}},
    "with an id": {"repeat": {"every": 7 * DAY_MS}, "jobId": "report"},
    "a number as id": {"repeat": {"every": 7 * DAY_MS}, "jobId": 7},
    "with options": {
        "repeat": {"cron": "0 3 1 * *"}, "attempts": 3, "backoff": {"type": "exponential", "delay": 9},
        "removeOnComplete": {"age": 60}, "removeOnFail": 5, "priority": 4, "timeout": 1000, "stackTraceLimit": 2,
    },
    "in front": {"repeat": {"every": 7 * DAY_MS}, "lifo": True},
}  # fmt: skip


async def given_schedule(twins: Twins, node: Node, opts: Mapping[str, Any], name: str = "report") -> str:
    """Bull begins a schedule in both; the id of its first run."""
    for queue in BOTH:
        await node.queue(queue, "add", name, {"é": [1]}, opts)
    twins.compare()
    return delayed(twins)


def delayed(twins: Twins) -> str:
    """The one run that is still to come."""
    (run,) = twins.raw.zrange(f"bull:{OURS}:delayed", 0, -1)
    return str(run)


@pytest.mark.breaks("never_due", reason="a date beyond 2039, as bull writes it")
@pytest.mark.parametrize("form", SCHEDULES)
async def test_taking_a_run_schedules_the_next(twins: Twins, node: Node, form: str) -> None:
    """Twice: the first run has been added by a producer, the second by whoever took the first."""
    run = await given_schedule(twins, node, SCHEDULES[form])
    for _ in range(2):
        await twins.promote_due(run)
        await twins.claim()
        await twins.finish(run)
        assert delayed(twins) != run
        run = delayed(twins)
    assert await node.queue(OURS, "getRepeatableJobs") == await node.queue(THEIRS, "getRepeatableJobs")
    assert await node.queue(OURS, "getRepeatableCount") == 1


OVER: dict[str, dict[str, Any]] = {
    "its last run": {"limit": 1},
    "past its end": {"endDate": 1_700_000_000_000},
    "past its end, as a text": {"endDate": "2023-11-14T22:13:20.000Z"},
    "no moment before its end": {"every": None, "cron": "0 0 1 1 *", "tz": "UTC", "endDate": "2000-01-01"},
    "no such day": {"every": None, "cron": "0 0 31 2,4 *"},
}


@pytest.mark.parametrize("form", OVER)
async def test_the_last_run_schedules_nothing(twins: Twins, node: Node, form: str) -> None:
    run = await given_schedule(twins, node, {"repeat": {"every": DAY_MS}})
    for queue in BOTH:
        opts = json.loads(twins.raw.hget(f"bull:{queue}:{run}", "opts"))
        repeat = {name: value for name, value in (opts["repeat"] | OVER[form]).items() if value is not None}
        twins.raw.hset(f"bull:{queue}:{run}", "opts", json.dumps(opts | {"repeat": repeat}))
    await twins.promote_due(run)
    await twins.claim()
    assert not twins.raw.exists(f"bull:{OURS}:delayed")


async def test_a_schedule_that_was_removed_ends_although_a_run_of_it_waited(twins: Twins, node: Node) -> None:
    run = await given_schedule(twins, node, {"repeat": {"every": DAY_MS}})
    await twins.promote_due(run)
    for queue in BOTH:
        await node.queue(queue, "removeRepeatable", "report", {"every": DAY_MS})
    await twins.claim()
    assert not twins.raw.exists(f"bull:{OURS}:delayed", f"bull:{OURS}:repeat")


async def test_node_removes_a_run_that_we_have_scheduled(twins: Twins, node: Node) -> None:
    await twins.promote_due(await given_schedule(twins, node, SCHEDULES["with an id"]))
    await twins.claim()
    for queue in BOTH:
        (schedule,) = await node.queue(queue, "getRepeatableJobs")
        await node.queue(queue, "removeRepeatableByKey", schedule["key"])
    twins.compare()
    assert not twins.raw.exists(f"bull:{OURS}:delayed", f"bull:{OURS}:repeat")


async def test_a_schedule_passes_from_node_to_us_and_back(bull: Bull, node: Node, raw: redis.Redis) -> None:
    """One chain, one run each: what either adds is what the other would have added."""
    await node.queue(QUEUE, "add", "report", {}, {"repeat": {"every": DAY_MS, "limit": 5}})
    seen = []
    for turn in range(5):
        (run,) = raw.zrange(BASE + "delayed", 0, -1)
        await bull.promote(QUEUE, run)
        if turn % 2:
            job = await node.take(QUEUE)
            await node.job(QUEUE, job["id"], "moveToCompleted", None, False, True)
            seen.append(job["opts"]["repeat"]["count"])
        else:
            ours = await bull.claim(QUEUE, token=f"t{turn}", lease_ms=30_000)
            assert isinstance(ours, ClaimedJob)
            await bull.schedule_next(ours)
            await bull.finish(ours, returnvalue="1", retention=KEEP)
            seen.append(ours.opts["repeat"]["count"])
    assert seen == [1, 2, 3, 4, 5]
    assert not raw.exists(BASE + "delayed")


async def test_scheduled_twice_it_is_one_run(bull: Bull, node: Node, raw: redis.Redis, claim: Claimer) -> None:
    """A lost reply is sent again, and a job that stalled is scheduled by whoever takes it next: the id is the same."""
    await node.queue(QUEUE, "add", "report", {}, {"repeat": {"every": DAY_MS}})
    await bull.promote(QUEUE, raw.zrange(BASE + "delayed", 0, -1)[0])
    job = await claim()
    assert await bull.schedule_next(job)
    before = raw.zrange(BASE + "delayed", 0, -1, withscores=True)
    assert await bull.schedule_next(job)
    assert raw.zrange(BASE + "delayed", 0, -1, withscores=True) == before
    assert len(before) == 1


async def test_a_debounced_schedule_goes_on_where_bull_ends_it(twins: Twins, bull: Bull, node: Node) -> None:
    """On purpose: in bull the run that is taken debounces the next one, and that was the last of them."""
    run = await given_schedule(twins, node, {"repeat": {"every": DAY_MS}, "debounce": {"id": "x"}})
    await twins.promote_due(run)
    await node.take(THEIRS)
    ours = await bull.claim(OURS, token="t", lease_ms=30_000)
    assert isinstance(ours, ClaimedJob)
    assert await bull.schedule_next(ours)
    assert not twins.raw.exists(f"bull:{THEIRS}:delayed")
    assert delayed(twins) != run
