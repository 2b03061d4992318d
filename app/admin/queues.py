"""The queues as Redis has them, in upstream's JSON shapes; what changes something is a POST here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.db.errors import ConflictError, InvalidError, NotFoundError
from app.enqueue import try_enqueue_next
from pipeline import flow
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from app.admin.deps import AdminDeps
    from app.db.people import People
    from pipeline.queue.bull import Bull
    from pipeline.queue.job import JobRecord

UPSTREAM_ORDER = (
    "ai-parsing",
    "database-save",
    "product-draft-creation",
    "image-attachment",
    "shopify-sync",
    "status-update",
    "data-normalization",
    "merchant-config",
    "ai-enrichment",
    "shopify-payload",
    "background-image-processing",
)
"""The order in which upstream lists its queues."""

FAILED_SHOWN = 100
AT_ONCE = 1000
TRACE_MAX = 4_000
REASON_MAX = 2_000

_IDS = ("uploadId", "merchantId", "purchaseOrderId", "supplierId", "runId", "entry", "flowVersion")
"""What of a job's data is shown: ids. No name, no address (it may be signed), no document."""


class Again(BaseModel):
    """What to retry: a dead letter by queue and job, or a failed run by its id."""

    queue: str = ""
    job_id: str = Field(default="", alias="jobId", max_length=200)
    run_id: str = Field(default="", alias="runId", max_length=100)


class WhichQueue(BaseModel):
    """A queue by name."""

    queue: str


def queues_router(deps: AdminDeps) -> APIRouter:
    """/api/queue-admin."""
    router = APIRouter(prefix="/api/queue-admin", tags=["queues"])
    queues = _Queues(deps.bull, deps.people)
    router.add_api_route("/status", queues.status, methods=["GET"])
    router.add_api_route("/failed-jobs", queues.failed_jobs, methods=["GET"])
    router.add_api_route("/clean-failed", queues.clean_failed, methods=["POST"])
    router.add_api_route("/retry", queues.retry, methods=["POST"])
    router.add_api_route("/retry-failed", queues.retry_failed, methods=["POST"])
    router.add_api_route("/pause", queues.pause, methods=["POST"])
    router.add_api_route("/resume", queues.resume, methods=["POST"])
    return router


class _Queues:
    """The endpoints. A queue that cannot be read has an error in its place; the others are still shown."""

    def __init__(self, bull: Bull, people: People) -> None:
        self._bull = bull
        self._people = people

    async def status(self) -> dict[str, Any]:
        """How many jobs each queue has in each state. `paused` is whether people hold it."""
        return {"success": True, "queues": [await self._status(queue) for queue in UPSTREAM_ORDER]}

    async def _status(self, queue: str) -> dict[str, Any]:
        try:
            counts = await self._bull.counts(queue)
            paused = await self._bull.is_paused(queue)
        except PipelineError as error:
            return {"queue": queue, "error": str(error)}
        return {
            "queue": queue,
            "paused": paused,
            "waiting": counts.waiting,
            "active": counts.active,
            "completed": counts.completed,
            "failed": counts.failed,
            "delayed": counts.delayed,
            "pausedJobs": counts.paused,
        }

    async def failed_jobs(self) -> dict[str, Any]:
        """The newest dead letters of each queue, with why they died; ids only, never a document."""
        total = 0
        shown: list[dict[str, Any]] = []
        for queue in UPSTREAM_ORDER:
            try:
                total += (await self._bull.counts(queue)).failed
                jobs = await self._bull.list_jobs(queue, "failed", 0, FAILED_SHOWN - 1)
            except PipelineError as error:
                shown.append({"queue": queue, "error": str(error)})
            else:
                shown += [_dead_letter(queue, job) for job in jobs]
        return {"success": True, "totalFailed": total, "failedJobs": shown}

    async def clean_failed(self) -> dict[str, Any]:
        """Remove all dead letters from Redis. The runs stay failed in Postgres, and can be retried there."""
        details = [await self._clean(queue) for queue in UPSTREAM_ORDER]
        total = sum(detail.get("cleaned", 0) for detail in details)
        message = f"Cleaned {total} failed jobs"
        return {"success": True, "message": message, "totalCleaned": total, "details": details}

    async def _clean(self, queue: str) -> dict[str, Any]:
        cleaned = 0
        try:
            while removed := len(await self._bull.clean(queue, "failed", 0, AT_ONCE)):
                cleaned += removed
        except PipelineError as error:
            return {"queue": queue, "error": str(error)}
        return {"queue": queue, "cleaned": cleaned}

    async def retry(self, again: Again) -> dict[str, Any]:
        """Give a dead letter or a failed run another chance."""
        if again.run_id:
            job = await self._people.retry(again.run_id, "api")
            await try_enqueue_next(self._bull, job)
            return {"success": True, "message": f"run {again.run_id} goes on at {job.stage}", "jobId": job.job_id}
        if not again.queue or not again.job_id:
            raise InvalidError("say which: queue and jobId, or runId")
        if again.queue not in flow.BY_NAME:
            raise NotFoundError(f"there is no queue {again.queue}")
        await self._replay(again.queue, again.job_id)
        return {"success": True, "message": f"job {again.job_id} waits in {again.queue}", "jobId": again.job_id}

    async def _replay(self, queue: str, job_id: str) -> None:
        """As Bull's own retry does; the worker sees that a person meant it and re-enters the run."""
        if await self._bull.replay(queue, job_id):
            return
        state = await self._bull.state(queue, job_id)
        if state is None:
            raise NotFoundError(f"there is no job {job_id} in {queue}")
        raise ConflictError(f"job {job_id} is {state}; only failed jobs are retried")

    async def retry_failed(self, which: WhichQueue) -> dict[str, Any]:
        """Give every dead letter of a queue another chance, after an outage say; not those that fail meanwhile."""
        if which.queue not in flow.BY_NAME:
            raise NotFoundError(f"there is no queue {which.queue}")
        left = (await self._bull.counts(which.queue)).failed
        retried = 0
        while left > retried and (some := await self._bull.replay_all(which.queue, min(left - retried, AT_ONCE))):
            retried += some
        return {"success": True, "message": f"{retried} jobs wait in {which.queue} again", "retried": retried}

    async def pause(self, which: WhichQueue) -> dict[str, Any]:
        """Hold a queue for the whole fleet. Postgres remembers it, so a starting Node cannot undo it."""
        await self._people.pause_queue(which.queue, "api")
        await self._bull.pause(which.queue)
        return {"success": True, "message": f"{which.queue} is paused", "queue": which.queue, "paused": True}

    async def resume(self, which: WhichQueue) -> dict[str, Any]:
        """Let a queue go on."""
        await self._people.resume_queue(which.queue, "api")
        await self._bull.resume(which.queue)
        return {"success": True, "message": f"{which.queue} goes on", "queue": which.queue, "paused": False}


def _dead_letter(queue: str, job: JobRecord) -> dict[str, Any]:
    return {
        "queue": queue,
        "jobId": job.id,
        "data": ids_of(job.data),
        "failedReason": (job.failed_reason or "")[:REASON_MAX],
        "stacktrace": [trace[:TRACE_MAX] for trace in job.stacktrace[-3:]],
        "attemptsMade": job.attempts_made,
        "timestamp": job.timestamp_ms,
        "processedOn": job.processed_on_ms,
        "finishedOn": job.finished_on_ms,
    }


def ids_of(data: str) -> dict[str, Any]:
    """The ids in a job's data, in its own envelope; empty if nobody can read it."""
    try:
        envelope = json.loads(data)
    except ValueError:
        return {}
    if not isinstance(envelope, dict):
        return {}
    inner = envelope.get("data")
    known = inner if isinstance(inner, dict) else {}
    shown = {name: _short(envelope[name]) for name in ("workflowId", "stage") if name in envelope}
    return shown | {"data": {name: _short(known[name]) for name in _IDS if name in known}}


def _short(value: Any) -> Any:
    """An id is a short text or a number; anything else in its place is not repeated."""
    return value if value is None or isinstance(value, int) else str(value)[:200] if isinstance(value, str) else None
