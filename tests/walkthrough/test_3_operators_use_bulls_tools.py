"""What people do to queues with npm bull, or with a page built on it, while orders flow: nothing is lost by it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from app.core import open_core
from app.settings import Settings
from pipeline import flow
from pipeline.worker import Worker
from tests.conformance.oracle import Node, NodeError
from tests.shop import check_once, connect_merchant, settled, working
from tests.walkthrough.upstream import Upstream, small_order
from tests.walkthrough.waiting import all_due_at, until

pytestmark = pytest.mark.interop

MIDWAY = "data-normalization"


async def test_a_queue_paused_in_node_is_left_alone_until_node_resumes_it(
    settings: Settings, sandbox: str, upstream: Upstream, node: Node
) -> None:
    orders = [small_order(number) for number in range(4)]
    uploads = [upstream.store(number, lines) for number, lines in enumerate(orders)]
    async with open_core(settings) as core:
        await connect_merchant(core, sandbox)
        async with working(settings) as (_, worker):
            await upstream.enqueue(*uploads[:2])
            await node.queue(MIDWAY, "pause")
            await upstream.enqueue(*uploads[2:])
            await until(lambda: _is_still(worker, node, MIDWAY))
            # Each job that arrived woke us, and we claimed none.
            held = await node.queue(MIDWAY, "getWaiting")
            assert await node.queue(MIDWAY, "isPaused") is True
            assert [await node.job(MIDWAY, job["id"], "getState") for job in held] == ["paused"] * len(held)
            await node.queue(MIDWAY, "resume")
            rows = await settled(core, len(orders))
        assert len(held) >= 2  # at least those that were added after the pause
        assert {row.state for row in rows} == {"completed"}
        await check_once(core, sandbox, orders)


async def test_a_failed_job_retried_in_node_completes_once_its_cause_is_gone(
    settings: Settings, sandbox: str, upstream: Upstream, node: Node
) -> None:
    lines = small_order(0)
    async with open_core(settings) as core, working(settings):
        (job_id,) = await upstream.enqueue(upstream.store(0, lines))
        with pytest.raises(NodeError, match="merchant 'merchant-1' is not known here; add it with `merchants add`"):
            await node.job(flow.FIRST, job_id, "finished")
        (failed,) = await node.queue(flow.FIRST, "getFailed")
        (row,) = await settled(core, 1)
        assert (row.state, row.failure) == ("failed", failed["failedReason"])
        await connect_merchant(core, sandbox)
        await node.job(flow.FIRST, job_id, "retry")
        assert (await node.job(flow.FIRST, job_id, "finished"))["outcome"] == "finished"
        (row,) = await settled(core, 1)
        assert (row.state, row.failure) == ("completed", "")
        await check_once(core, sandbox, [lines])
    assert (await node.queue(flow.FIRST, "getJobCounts"))["failed"] == 0


async def _remove(node: Node) -> None:
    for job in await node.queue(MIDWAY, "getWaiting"):
        await node.job(MIDWAY, job["id"], "remove")


async def _clean(node: Node) -> None:
    # Bull compares the time a job was added with the time of cleaning, and a millisecond may not have passed.
    async def cleaned() -> bool:
        await node.queue(MIDWAY, "clean", 0, "paused")
        return await node.queue(MIDWAY, "getPausedCount") == 0

    await until(cleaned)


async def _obliterate(node: Node) -> None:
    await node.queue(MIDWAY, "obliterate")


@pytest.mark.parametrize("destroy", [_remove, _clean, _obliterate])
async def test_a_job_destroyed_in_node_comes_back_because_its_run_is_open(
    destroy: Callable[[Node], Awaitable[None]], settings: Settings, sandbox: str, upstream: Upstream, node: Node
) -> None:
    """Redis holds work, never facts: Postgres says which stage is due, and the reconciler adds its job again."""
    lines = small_order(0)
    impatient = settings.model_copy(
        update={"lease_seconds": 2, "heartbeat_seconds": 0.5, "stalled_seconds": 0.5, "reconcile_seconds": 0.5}
    )
    async with open_core(impatient) as core:
        await connect_merchant(core, sandbox)
        await node.queue(MIDWAY, "pause")
        async with working(impatient) as (_, worker):
            await upstream.enqueue(upstream.store(0, lines))
            await all_due_at(core, MIDWAY, 1)
            await until(lambda: _is_still(worker, node, MIDWAY))
            (lost,) = await node.queue(MIDWAY, "getWaiting")
            await destroy(node)
            await node.queue(MIDWAY, "resume")
            (row,) = await settled(core, 1)
        assert row.state == "completed"
        await check_once(core, sandbox, [lines])
    came_back = await node.queue(MIDWAY, "getJob", lost["id"])
    assert came_back["timestamp"] > lost["timestamp"]


async def _is_still(worker: Worker, node: Node, queue: str) -> bool:
    """Whether nothing runs any more and no job waits anywhere but in this queue."""
    if worker.running:
        return False
    elsewhere = [name for name in flow.NAMES if name != queue]
    return not any([await node.queue(name, "count") for name in elsewhere]) and not worker.running
