"""What is refused is refused in the same words in Bull, on the run, in the API and in the log; and no token in any."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from app.admin.server import serve_admin
from app.core import Core
from app.db.tables import runs
from pipeline import flow
from pipeline.queue.job import NewJob
from pipeline.worker import Worker
from tests.chaos.watching import jobs_in, rows, until
from tests.shop import MERCHANT, TOKEN, connect_merchant, settings_for, settled, working
from tests.support import loopback

Arrange = Callable[[Core, str], Awaitable[None]]


async def _send(core: Core, **changed: Any) -> None:
    """A job as upstream adds it, with something wrong."""
    payload = {"uploadId": "upload-1", "merchantId": MERCHANT, "fileName": "order.csv"} | changed
    envelope = {"workflowId": "wf-1", "stage": "ai_parsing", "data": payload}
    await core.bull.enqueue(flow.FIRST, NewJob(None, json.dumps(envelope), attempts=3))


async def _bad_envelope(core: Core, _sandbox: str) -> None:
    await _send(core, merchantId=None)


async def _unknown_merchant(core: Core, _sandbox: str) -> None:
    await _send(core, merchantId="nobody")


async def _missing_file(core: Core, _sandbox: str) -> None:
    await _send(core, fileUrl=f"{MERCHANT}/order-1/gone.csv")


@pytest.mark.parametrize(
    ("arrange", "stage", "code", "words"),
    [
        (_bad_envelope, flow.FIRST, "bad_envelope", "merchantId is missing"),
        (_unknown_merchant, flow.FIRST, "unknown_merchant", "'nobody' is not known here"),
        (_missing_file, flow.FIRST, "missing_file", "no such file"),
    ],
)
async def test_a_refusal_reads_the_same_wherever_a_person_looks(
    redis_url: str,
    database_url: str,
    sandbox: str,
    tmp_path: Path,
    arrange: Arrange,
    stage: str,
    code: str,
    words: str,
) -> None:
    settings = settings_for(redis_url, database_url, sandbox, document_folder=tmp_path)
    with capture_logs() as logged:
        async with working(settings) as (core, worker):
            await connect_merchant(core, sandbox)
            await arrange(core, sandbox)
            await settled(core, 1)

            async def told_redis() -> bool:
                return bool(await jobs_in(core, "failed"))

            await until(told_redis)
            (run,) = await rows(core, select(runs))
            (job,) = await jobs_in(core, "failed")
            answers = await _api(core, worker, run["id"])
    reason = run["failure"]
    assert words in reason
    assert (run["state"], run["failed_stage"], run["failure_code"]) == ("failed", stage, code)
    (dead,) = answers["failed-jobs"]["failedJobs"]
    (listed,) = answers["orders"]["orders"]
    shown = answers["order"]["order"]
    (ended,) = (event for event in logged if event.get("code") == code and event["log_level"] == "error")
    said = {
        "in Bull": job.failed_reason,
        "among the dead letters": dead["failedReason"],
        "in the list": listed["failure"],
        "on its page": shown["run"]["failure"],
        "in its journal": shown["stages"][-1]["error"],
        "in the log": ended["reason"],
    }
    assert said == dict.fromkeys(said, reason)
    assert dead["queue"] == stage
    everything = " ".join(map(str, (logged, answers, job, run)))
    assert TOKEN not in everything


async def _api(core: Core, worker: Worker, run_id: str) -> dict[str, Any]:
    """What the worker's own page server answers."""
    address = ""
    listening = anyio.Event()

    def started(url: str) -> None:
        nonlocal address
        address = url
        listening.set()

    paths = {
        "failed-jobs": "/api/queue-admin/failed-jobs",
        "orders": "/api/orders",
        "order": f"/api/orders/{run_id}",
    }
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(serve_admin, core, worker, started=started))
        await listening.wait()
        async with loopback(base_url=address) as http:
            answers = {name: (await http.get(path)).raise_for_status().json() for name, path in paths.items()}
        tasks.cancel_scope.cancel()
    return answers
