"""What the service is for: upstream adds a job with npm bull, and the order ends in the merchant's shop."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import pytest
import redis

from app.core import open_core
from app.settings import Settings
from pipeline import flow
from tests.conformance.oracle import Node
from tests.shop import MERCHANT, articles, check_once, connect_merchant, settled, working
from tests.walkthrough.upstream import INLINE_SHAPES, Upstream, small_order

pytestmark = pytest.mark.interop

NOT_COMPLETED = ("waiting", "active", "delayed", "paused", "failed")


async def test_five_orders_added_at_once_pass_eleven_queues_into_the_shop(
    settings: Settings, sandbox: str, upstream: Upstream, node: Node
) -> None:
    orders = [articles(number) for number in range(5)]
    async with open_core(settings) as core:
        await connect_merchant(core, sandbox)
        async with working(settings):
            ids = await upstream.enqueue(*(upstream.store(number, lines) for number, lines in enumerate(orders)))
            told = await asyncio.gather(*(node.job(flow.FIRST, job_id, "finished") for job_id in ids))
            rows = await settled(core, len(orders))
        assert {row.state for row in rows} == {"completed"}
        await check_once(core, sandbox, orders)
    # Node, waiting on job.finished(), was told which run became of its job and what was read.
    assert {(value["stage"], value["outcome"]) for value in told} == {(flow.FIRST, "finished")}
    assert {value["runId"] for value in told} == {row.run_id for row in rows}
    assert all(value["summary"] for value in told)
    for queue in flow.NAMES:
        assert await node.queue(queue, "getJobCounts") == _counts(completed=len(orders)), queue


async def test_a_file_inside_the_job_is_read_in_each_shape_upstream_ever_sent(
    settings: Settings, sandbox: str, upstream: Upstream, node: Node
) -> None:
    orders = [small_order(number) for number in range(len(INLINE_SHAPES))]
    async with open_core(settings) as core:
        await connect_merchant(core, sandbox)
        async with working(settings):
            sent = zip(orders, INLINE_SHAPES, strict=True)
            await upstream.enqueue(*(upstream.hold(number, *held) for number, held in enumerate(sent)))
            rows = await settled(core, len(orders))
        assert {row.state for row in rows} == {"completed"}
        await check_once(core, sandbox, orders)
    assert (await node.queue(flow.FIRST, "getJobCounts"))["failed"] == 0


async def test_bulls_getters_answer_for_our_jobs_in_every_queue(
    settings: Settings, sandbox: str, upstream: Upstream, node: Node
) -> None:
    async with open_core(settings) as core:
        await connect_merchant(core, sandbox)
        async with working(settings):
            ids = await upstream.enqueue(*(upstream.store(number, small_order(number)) for number in range(2)))
            rows = await settled(core, 2)
    runs = {row.run_id for row in rows}
    for queue in flow.NAMES:
        assert await node.queue(queue, "getJobCounts") == _counts(completed=2), queue
        assert await node.queue(queue, "isPaused") is False
        assert await node.queue(queue, "getJobs", list(NOT_COMPLETED)) == []
        completed = await node.queue(queue, "getJobs", ["completed"])
        assert {job["returnvalue"]["runId"] for job in completed} == runs
        for listed in completed:
            job = await node.queue(queue, "getJob", listed["id"])
            assert job == listed
            _check_completed(queue, job)
            assert await node.job(queue, job["id"], "getState") == "completed"
            assert await node.job(queue, job["id"], "isCompleted") is True
            assert await node.queue(queue, "getJobLogs", job["id"]) == {"logs": [], "count": 0}
    assert {job["id"] for job in await node.queue(flow.FIRST, "getCompleted")} == set(ids)


def _check_completed(queue: str, job: dict[str, Any]) -> None:
    """Each field that tools show of a job that succeeded at its first attempt."""
    value = job["returnvalue"]
    assert (value["stage"], value["outcome"], bool(value["summary"])) == (queue, "finished", True)
    assert job["timestamp"] <= job["processedOn"] <= job["finishedOn"]
    assert (job["name"], job["attemptsMade"], job["delay"], job["stacktrace"]) == ("__default__", 0, 0, [])
    assert "failedReason" not in job or job["failedReason"] is None
    assert 0 <= job["progress"] <= 100
    assert job["data"]["stage"] == flow.upstream_name(queue)


async def test_upstreams_page_sees_each_order_completed_and_hears_it_once(
    settings: Settings, sandbox: str, upstream: Upstream, node: Node, redis_admin: redis.Redis
) -> None:
    uploads = [upstream.store(number, small_order(number)) for number in range(3)]
    with redis_admin.pubsub(ignore_subscribe_messages=True) as page:
        page.subscribe(f"merchant:{MERCHANT}:completion")
        page.get_message(timeout=5)  # Redis' word that it listens
        async with open_core(settings) as core:
            await connect_merchant(core, sandbox)
            async with working(settings):
                await upstream.enqueue(*uploads)
                await settled(core, len(uploads))
                # The cron may add a job again; the page must not say "completed" again.
                again = await upstream.enqueue(*uploads)
                await asyncio.gather(*(node.job(flow.FIRST, job_id, "finished") for job_id in again))
        heard = [json.loads(message["data"]) for message in iter(page.get_message, None)]
    assert Counter(message["workflowId"] for message in heard) == Counter(upload.workflow_id for upload in uploads)
    assert {message["poId"] for message in heard} == {upload.purchase_order_id for upload in uploads}
    for upload in uploads:
        kept = json.loads(str(redis_admin.get(f"workflow:{upload.workflow_id}")))
        assert (kept["status"], kept["progress"], kept["data"]["uploadId"]) == ("completed", 100, upload.upload_id)


def _counts(**given: int) -> dict[str, int]:
    return dict.fromkeys((*NOT_COMPLETED, "completed"), 0) | given
