"""Puts jobs into queues from outside the worker: the next one of a run, or the first of an upload."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import TYPE_CHECKING

import structlog

from pipeline import flow
from pipeline.errors import PipelineError
from pipeline.hand_off import hand_off, promote
from pipeline.queue.job import Enqueued, NewJob

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable

    from app.db.uploads import Upload
    from pipeline.queue.bull import Bull
    from pipeline.run_store import DueRun, NextJob

_UPSTREAM_OPTIONS = {"removeOnComplete": 10, "removeOnFail": 50, "backoff": {"type": "exponential", "delay": 2000}}
_UPSTREAM_ATTEMPTS = 3

_log = structlog.get_logger()


async def enqueue_next(bull: Bull, job: NextJob) -> Enqueued:
    """Enqueue the job a run waits for; its id makes that once, however often this is called."""
    return await bull.enqueue(job.stage, hand_off(job))


async def try_enqueue_next(bull: Bull, job: NextJob) -> bool:
    """The same after a person's command: done is done, and if Redis is away the reconciler enqueues later."""
    return await _tried(enqueue_next(bull, job), job)


async def try_promote(bull: Bull, turns: Iterable[DueRun]) -> None:
    """Let parked runs go whose turn has come; whoever cannot be told is let in by the reconciler."""
    for turn in turns:
        try:
            await promote(bull, turn)
        except PipelineError as error:
            _log.warning("not let in, the reconciler will", run_id=turn.next.run_id, reason=str(error))


async def enqueue_upload(bull: Bull, upload: Upload) -> Enqueued:
    """Enqueue an upload as upstream's cron does, but under the id its run waits for: the reconciler adds no second."""
    job = NewJob(upload.first.job_id, upload_envelope(upload), attempts=_UPSTREAM_ATTEMPTS, opts=_UPSTREAM_OPTIONS)
    return await bull.enqueue(flow.FIRST, job)


async def try_enqueue_upload(bull: Bull, upload: Upload) -> bool:
    """The same for one that was answered: its run is accepted, so if Redis is away the reconciler starts it."""
    return await _tried(enqueue_upload(bull, upload), upload.first)


async def _tried(enqueued: Awaitable[Enqueued], job: NextJob) -> bool:
    try:
        await enqueued
    except PipelineError as error:
        _log.warning("job not enqueued, the reconciler will", run_id=job.run_id, stage=job.stage, reason=str(error))
        return False
    return True


def upload_envelope(upload: Upload) -> str:
    """The job's data: every field upstream sends, and no bytes."""
    _, _, subtype = upload.mime.partition("/")
    payload = {
        "uploadId": upload.upload_id,
        "merchantId": upload.merchant_id,
        "fileUrl": None,
        "fileName": upload.name,
        "fileSize": upload.size,
        "mimeType": upload.mime,
        "fileType": subtype or PurePath(upload.name).suffix[1:].lower() or "unknown",
        "supplierId": None,
        "purchaseOrderId": None,
        "source": "cron-processing",
        "queuedAt": upload.at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
    sent = {"stage": flow.upstream_name(flow.FIRST), "workflowId": upload.workflow_id, "data": payload}
    return json.dumps(sent, ensure_ascii=False, separators=(",", ":"))
