"""Repeatable jobs: refused out loud, not kept going.

Whoever takes a job with `opts.repeat` must schedule the next one (wire spec, rule 7 and 3.14). We do not:

- no queue of the flow has ever carried one: upstream's cron lives outside of Bull and adds ordinary jobs;
- half of it would be worse than none. `every` is arithmetic, but cron needs cron-parser's dialect (seconds, L, #,
  time zones and their changes), and a schedule that runs at other times than in Node is a fault nobody sees;
- the id of the next run is an md5 over Node's spelling of the schedule: one character off, and each schedule runs
  twice, once for each side.

So the job itself runs like any other, the log says once per queue that its schedule ends, and `doctor` and the
start of a worker name every queue that has schedules.
"""

from __future__ import annotations

import pytest
import redis
from structlog.testing import capture_logs

from app.connections import Connections
from app.server_checks import check_server
from pipeline.queue.bull import Bull
from pipeline.queue.job import Retention
from pipeline.queue.keys import Keys
from tests.conformance.oracle import Node
from tests.pipeline.queue.support import BASE, NEXT, QUEUE, Claimer

pytestmark = pytest.mark.interop

EVERY_MINUTE = {"repeat": {"every": 60_000}}


async def test_a_repeatable_job_runs_once_and_the_log_says_so_once(
    bull: Bull, node: Node, raw: redis.Redis, claim: Claimer
) -> None:
    for name in ("first", "second"):
        await node.queue(QUEUE, "add", name, {}, EVERY_MINUTE)
    raw.zadd(BASE + "delayed", dict.fromkeys(raw.zrange(BASE + "delayed", 0, -1), 1))
    await bull.sweep([QUEUE], guard_ms=1, stalled_interval_ms=60_000)
    with capture_logs() as logs:
        for _ in range(2):
            job = await claim()
            assert job.opts["repeat"]["every"] == 60_000
            await bull.finish(job, returnvalue="null", retention=Retention(age_s=3600))
    (said,) = [line for line in logs if "repeatable job" in line["event"]]
    assert (said["log_level"], said["queue"]) == ("error", QUEUE)
    assert (await node.queue(QUEUE, "getJobCounts"))["delayed"] == 0


async def test_the_doctor_and_a_starting_worker_name_the_queues_that_have_schedules(
    node: Node, connections: Connections
) -> None:
    await node.queue(QUEUE, "add", "every", {}, EVERY_MINUTE)
    await node.queue(QUEUE, "add", "cron", {}, {"repeat": {"cron": "0 3 * * *"}})
    (finding,) = await check_server(connections.commands, Keys(), [QUEUE, NEXT])
    assert (finding.level, finding.what) == ("warn", "repeatable jobs")
    assert f"{QUEUE} has 2" in finding.text


async def test_an_ordinary_job_is_nothing_to_talk_about(node: Node, claim: Claimer) -> None:
    await node.queue(QUEUE, "add", {}, {"attempts": 3})
    with capture_logs() as logs:
        await claim()
    assert logs == []
