"""Upstream's cron adds an upload again under a new job id whenever it thinks nothing happened. Nothing may."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import select

from app.core import Core, open_core
from app.db.tables import stage_runs
from app.settings import Settings
from pipeline import flow
from tests.conformance.oracle import Node
from tests.shop import articles, check_once, connect_merchant, settled, working
from tests.walkthrough.upstream import Upstream
from tests.walkthrough.waiting import all_due_at

pytestmark = pytest.mark.interop

MIDWAY = "merchant-config"


async def test_one_upload_enqueued_five_times_is_one_run_read_once(
    settings: Settings, sandbox: str, upstream: Upstream, node: Node
) -> None:
    """Two jobs before there is a worker (it takes both at once), two while the run is midway, one afterwards."""
    lines = articles(0)
    upload = upstream.store(0, lines)
    async with open_core(settings) as core:
        await connect_merchant(core, sandbox)
        await node.queue(MIDWAY, "pause")
        before = await upstream.enqueue(upload, upload)
        async with working(settings):
            await all_due_at(core, MIDWAY, 1)
            during = await upstream.enqueue(upload, upload)
            # They are answered while the run itself still waits.
            told = [await node.job(flow.FIRST, job_id, "finished") for job_id in (*before, *during)]
            await all_due_at(core, MIDWAY, 1)
            await node.queue(MIDWAY, "resume")
            (row,) = await settled(core, 1)
            (after,) = await upstream.enqueue(upload)
            told.append(await node.job(flow.FIRST, after, "finished"))
        assert row.state == "completed"
        assert await settled(core, 1) == [row]
        assert await _readings(core) == [(row.run_id, 1, "finished")]
        await check_once(core, sandbox, [lines])
    states = await asyncio.gather(*(node.job(flow.FIRST, job_id, "getState") for job_id in (*before, *during, after)))
    assert states == ["completed"] * 5
    assert {value["runId"] for value in told} == {row.run_id}
    # One of the first two did the work, whichever came first; the others say why there was none for them.
    assert sorted(value["outcome"] for value in told[:2]) == ["finished", "skipped"]
    assert [(value["outcome"], value["summary"]) for value in told[2:]] == [
        ("skipped", f"the run is running and waits for {MIDWAY}"),
        ("skipped", f"the run is running and waits for {MIDWAY}"),
        ("skipped", "the run is completed and waits for nobody"),
    ]


async def _readings(core: Core) -> list[tuple[str, int, str]]:
    """Every attempt at reading a document, of every run."""
    async with core.database.transaction() as connection:
        found = await connection.execute(
            select(stage_runs.c.run_id, stage_runs.c.attempt, stage_runs.c.state).where(
                stage_runs.c.stage == flow.FIRST
            )
        )
        return [(run_id, attempt, state) for run_id, attempt, state in found]
