"""Puts jobs into queues from outside the worker: the next one of a run, or the first of an upload."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import TYPE_CHECKING

import structlog

from pipeline import flow
from pipeline.errors import PipelineError
from pipeline.hand_off import hand_off
from pipeline.queue.job import Enqueued, NewJob

if TYPE_CHECKING:
    from app.db.uploads import Upload
    from pipeline.queue.bull import Bull
    from pipeline.run_store import NextJob

_UPSTREAM_OPTIONS = {"removeOnComplete": 10, "removeOnFail": 50, "backoff": {"type": "exponential", "delay": 2000}}
_UPSTREAM_ATTEMPTS = 3

_log = structlog.get_logger()


async def enqueue_next(bull: Bull, job: NextJob) -> Enqueued:
    """Enqueue the job a run waits for; its id makes that once, however often this is called."""
    return await bull.enqueue(job.stage, hand_off(job))


async def try_enqueue_next(bull: Bull, job: NextJob) -> bool:
    """The same after a person's command: done is done, and if Redis is away the reconciler enqueues later."""
    try:
        await enqueue_next(bull, job)
    except PipelineError as error:
        _log.warning("job not enqueued, the reconciler will", run_id=job.run_id, stage=job.stage, reason=str(error))
        return False
    return True


async def enqueue_upload(bull: Bull, upload: Upload) -> Enqueued:
    """Enqueue an upload exactly as upstream's cron does; Redis numbers the job."""
    job = NewJob(None, upload_envelope(upload), attempts=_UPSTREAM_ATTEMPTS, opts=_UPSTREAM_OPTIONS)
    return await bull.enqueue(flow.FIRST, job)


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
