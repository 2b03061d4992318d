"""A repeatable job on the line: its next run stands before it is run, whatever becomes of this one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import redis

from pipeline import flow
from pipeline.contract import Reject, StageInput, StageResult
from pipeline.queue.job import NewJob
from pipeline.settling import Outcome
from tests.app.held import held
from tests.pipeline.line import MERCHANT, Killed, Line, open_line

BASE = f"bull:{flow.FIRST}:"
DAY_MS = 24 * 3600 * 1000


@pytest.fixture
async def line(redis_url: str, database_url: str) -> AsyncIterator[Line]:
    async with held(open_line(redis_url, database_url)) as opened:
        yield opened


@pytest.fixture
async def schedule(line: Line, redis_admin: redis.Redis) -> redis.Redis:
    """A schedule as bull leaves it, its first run waiting."""
    payload = {"uploadId": "upload-1", "merchantId": MERCHANT, "fileName": "order.csv"}
    envelope = {"workflowId": "wf_upload-1", "stage": "ai_parsing", "data": payload}
    opts = {"repeat": {"every": DAY_MS, "count": 1}}
    await line.bull.enqueue(flow.FIRST, NewJob(id="first", data=json.dumps(envelope), opts=opts))
    redis_admin.zadd(BASE + "repeat", {f"__default__:::{DAY_MS}": 1})
    return redis_admin


def next_runs(raw: redis.Redis) -> list[str]:
    return list(raw.zrange(BASE + "delayed", 0, -1))


async def test_the_next_run_is_there_when_this_one_is_rejected(line: Line, schedule: redis.Redis) -> None:
    async def reject(_given: StageInput) -> StageResult:
        assert len(next_runs(schedule)) == 1
        raise Reject("missing_file", "the file is gone")

    line.script(flow.FIRST, reject)
    assert (await line.step(flow.FIRST)).outcome is Outcome.DEAD
    assert len(next_runs(schedule)) == 1


@pytest.mark.parametrize(("gap", "scheduled"), [("claim", 0), ("load", 1)])
async def test_a_worker_that_dies_leaves_the_schedule_to_whoever_gets_the_job_next(
    line: Line, schedule: redis.Redis, gap: str, scheduled: int
) -> None:
    """Before it was scheduled it is so when the job has stalled and come back; after that it is not done twice."""
    line.deadly.gap = gap
    with pytest.raises(Killed):
        await line.step(flow.FIRST)
    assert len(next_runs(schedule)) == scheduled
    line.deadly.gap = ""
    schedule.delete(BASE + "first:lock")
    for _ in range(2):
        schedule.delete(BASE + "stalled-check", "bull:po:guard")
        await line.bull.sweep([flow.FIRST], guard_ms=1, stalled_interval_ms=60_000)
    assert (await line.step(flow.FIRST)).outcome is Outcome.FINISHED
    assert len(next_runs(schedule)) == 1
