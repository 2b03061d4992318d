"""Tells upstream's user interface how an order moves, in the keys and channels it already reads.

    workflow:<workflowId>                 JSON the upload poller reads; rewritten from Postgres at every event, so it
                                          never says more than is true, and never expires under a live run
    merchant:<id>:progress                {type, poId, workflowId, stage, progress 0-100, message, timestamp}
    merchant:<id>:stage                   {type, stage, poId, workflowId, status, message, timestamp}
    merchant:<id>:completion              {type, stage, poId, workflowId, timestamp}
    merchant:<id>:error                   {type, stage, poId, workflowId, error, timestamp}

Upstream's page shows an order as finished at the first completion it hears, whatever the stage. So there is one
per run, sent when status-update has recorded `completed`, and nothing about that order afterwards: pictures are
attached in silence. A run that needs review sends none; it is done with the upload but not with the order.
Receipts are unknown to upstream and stay unsaid.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import func, select

from app.db.tables import documents, purchase_orders, runs, stage_runs
from pipeline import flow
from pipeline.clock import Clock, SystemClock
from pipeline.errors import CommandRefused, PipelineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import RowMapping

    from app.db.session import Database
    from pipeline.queue.bull import Commands

KEPT_AFTER_END_S = 24 * 3600
REMEMBERED_MAX = 1_000

_ENDS = {
    "ai-parsing": 40,
    "database-save": 60,
    "data-normalization": 61,
    "merchant-config": 62,
    "ai-enrichment": 64,
    "shopify-payload": 65,
    "product-draft-creation": 75,
    "image-attachment": 85,
    "shopify-sync": 98,
    "status-update": 100,
}
"""Per cent of the whole at the end of each stage, as upstream's page expects them; pictures come after 100."""

_SHOWN = tuple(_ENDS)
_NOT_YET = 99
"""What a run shows that is through with its document and waits for a person: 100 would read as finished."""
_OVER = {"completed", "failed", "cancelled"}
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Facts:
    """A run as Postgres has it, with when each of its stages began and ended."""

    run: RowMapping
    times: Mapping[str, tuple[datetime, datetime | None]]

    @property
    def order_id(self) -> str | None:
        """The purchase order as upstream knows it, ours if upstream named none."""
        found: str | None = self.run["upstream_order_id"] or self.run["order_id"]
        return found

    @property
    def current(self) -> str:
        """The stage the run is at; for one that was cancelled, the last it began."""
        began = {stage: times[0] for stage, times in self.times.items()}
        last = max(began, key=lambda stage: began[stage], default=flow.FIRST)
        found: str = self.run["failed_stage"] or self.run["due_stage"] or last
        return found


class UpstreamProgress:
    """Implements `pipeline.ports.Progress`. Whatever goes wrong here is logged once and costs nothing."""

    def __init__(self, commands: Commands, database: Database, clock: Clock | None = None) -> None:
        self._commands = commands
        self._database = database
        self._clock = clock or SystemClock()
        self._said: OrderedDict[str, str] = OrderedDict()
        self._failing = False

    async def tell(self, run_id: str, stage: str, event: str, details: Mapping[str, Any]) -> None:
        """One event: started, progress, finished, review, retrying, waiting, failed."""
        percent = _percent(stage, event, details)
        if event == "progress" and not self._is_news(run_id, f"{stage} {percent} {details.get('message', '')}"):
            return
        try:
            await self._tell(run_id, stage, event, percent, details)
            self._failing = False
        except PipelineError as error:
            if not self._failing:
                _log.warning("progress not told", run_id=run_id, stage=stage, error=type(error).__name__)
            self._failing = True

    async def _tell(self, run_id: str, stage: str, event: str, percent: int, details: Mapping[str, Any]) -> None:
        facts = await self._facts(run_id)
        if facts is None or facts.run["kind"] != "order" or not facts.run["workflow_id"]:
            return
        refused = await self._keep(facts, percent)
        if stage in _ENDS:
            channel, message = _message(facts, stage, event, percent, details)
            await self._publish(facts.run["merchant_id"], channel, message)
        if refused is not None:
            raise refused

    async def _keep(self, facts: _Facts, percent: int) -> CommandRefused | None:
        """Rewrite the key; it gets an end only when the run has one.

        Redis may refuse it alone: the key lies on another node of the cluster, or is not in our access list.
        """
        key = f"workflow:{facts.run['workflow_id']}"
        value = _dump(_metadata(facts, percent))
        is_over = facts.run["state"] in _OVER and facts.run["due_stage"] is None
        try:
            await self._commands.call("SET", key, value, *(("EX", KEPT_AFTER_END_S) if is_over else ()))
        except CommandRefused as error:
            return error
        return None

    async def _publish(self, merchant_id: str, channel: str, message: Mapping[str, Any]) -> None:
        stamped = {"type": channel, **message, "timestamp": int(self._clock.now().timestamp() * 1000)}
        await self._commands.call("PUBLISH", f"merchant:{merchant_id}:{channel}", _dump(stamped))

    async def _facts(self, run_id: str) -> _Facts | None:
        run = (
            select(runs, documents.c.name, documents.c.mime, purchase_orders.c.number)
            .outerjoin(documents, documents.c.id == runs.c.document_id)
            .outerjoin(purchase_orders, purchase_orders.c.id == runs.c.order_id)
            .where(runs.c.id == run_id)
        )
        times = (
            select(stage_runs.c.stage, func.min(stage_runs.c.started_at), func.max(stage_runs.c.ended_at))
            .where(stage_runs.c.run_id == run_id)
            .group_by(stage_runs.c.stage)
        )
        async with self._database.transaction() as connection:
            row = (await connection.execute(run)).mappings().one_or_none()
            if row is None:
                return None
            found = await connection.execute(times)
            return _Facts(row, {stage: (began, ended) for stage, began, ended in found})

    def _is_news(self, run_id: str, words: str) -> bool:
        """Whether this run's last message was another one."""
        if self._said.get(run_id) == words:
            return False
        self._said[run_id] = words
        self._said.move_to_end(run_id)
        if len(self._said) > REMEMBERED_MAX:
            self._said.popitem(last=False)
        return True


def _percent(stage: str, event: str, details: Mapping[str, Any]) -> int:
    """How far the whole order is; the part of a stage that is done lies between its neighbours' ends."""
    if stage not in _ENDS:
        return 100
    end = _ENDS[stage]
    before = _SHOWN.index(stage)
    start = _ENDS[_SHOWN[before - 1]] if before else 0
    fraction = 1.0 if event in {"finished", "review"} else float(details.get("fraction") or 0)
    return int(start + (end - start) * min(max(fraction, 0.0), 1.0))


def _message(
    facts: _Facts, stage: str, event: str, percent: int, details: Mapping[str, Any]
) -> tuple[str, Mapping[str, Any]]:
    """What is said about one event, and on which channel."""
    text = str(details.get("message") or "")
    channel, fields = "progress", {"progress": percent, "message": text or f"{stage} {event}"}
    match event:
        case "started":
            channel, fields = "stage", {"status": "started", "message": text or f"{stage} started"}
        case "retrying":
            again = {"message": text or f"{stage} runs again", "retryCount": details.get("attempt")}
            channel, fields = "stage", {"status": "retrying", **again}
        case "failed":
            channel, fields = "error", {"error": facts.run["failure"] or text}
        case "finished" if stage == flow.STATUS and facts.run["state"] == "completed":
            channel, fields = "completion", {"message": facts.run["summary"]}
        case "finished" if stage == flow.STATUS:
            fields = {"progress": _NOT_YET, "message": f"Needs review: {facts.run['summary']}"}
        case "review":
            fields = {"progress": percent, "message": f"Needs review: {text}"}
    about = {"stage": flow.upstream_name(stage), "poId": facts.order_id, "workflowId": facts.run["workflow_id"]}
    return channel, {**about, **fields}


def _metadata(facts: _Facts, percent: int) -> Mapping[str, Any]:
    """The workflow key's value, in the shape upstream's orchestrator writes."""
    run = facts.run
    over = run["state"] in {"completed", "needs_review"}
    failed = run["state"] in {"failed", "cancelled"}
    current = facts.current
    value = {
        "workflowId": run["workflow_id"],
        "status": "completed" if over else "failed" if failed else "active",
        "currentStage": "completed" if over else flow.upstream_name(current),
        "stages": {flow.upstream_name(stage): _stage(facts, stage, current) for stage in _SHOWN},
        "startedAt": _iso(run["created_at"]),
        "updatedAt": _iso(run["updated_at"]),
        "progress": 100 if over else percent,
        "data": {
            "uploadId": run["upload_id"],
            "fileName": run["name"],
            "mimeType": run["mime"],
            "merchantId": run["merchant_id"],
            "supplierId": run["supplier_id"],
            "purchaseOrderId": facts.order_id,
        },
    }
    if over:
        review = run["state"] == "needs_review"
        result = {"finalStatus": "review_needed" if review else "completed", "requiresReview": review}
        value |= {"completedAt": _iso(run["finished_at"]), "result": {**result, "summary": run["summary"]}}
    if failed:
        message = run["failure"] or run["summary"]
        error = {"stage": flow.upstream_name(current), "message": message}
        value |= {"failedAt": _iso(run["finished_at"]), "error": error}
    return value


def _stage(facts: _Facts, stage: str, current: str) -> Mapping[str, Any]:
    """One stage of the key, told by where it lies on the line: the line is never walked backwards."""
    run = facts.run
    began, ended = facts.times.get(stage, (None, None))
    value = {
        "updatedAt": _iso(ended or began or run["updated_at"]),
        "startedAt": _iso(began),
        "completedAt": _iso(ended),
    }
    behind = current not in _SHOWN or _SHOWN.index(stage) < _SHOWN.index(current)
    if run["state"] in {"completed", "needs_review"} or behind:
        return {"status": "completed", **value}
    if stage != current:
        return {"status": "pending", "updatedAt": _iso(run["updated_at"])}
    if run["state"] in {"failed", "cancelled"}:
        return {"status": "failed", **value, "error": run["failure"] or run["summary"]}
    return {"status": "processing", **value}


def _iso(moment: datetime | None) -> str | None:
    """As JavaScript writes it."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _dump(value: Mapping[str, Any]) -> str:
    """Without what is unknown: upstream's readers take a missing field better than a null."""
    return json.dumps(
        {name: entry for name, entry in value.items() if entry is not None}, ensure_ascii=False, separators=(",", ":")
    )
