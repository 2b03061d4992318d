"""What Bull's fields look like in Redis: written strictly, read leniently, because other hands write them too."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

from pipeline.queue.job import ClaimNext, Failure, JobRecord, QueueSweep, RateLimit, Retention

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.queue.scripts import Argument


DIGITS_BELOW = 1e21
"""From here on JavaScript writes numbers with an exponent."""


def strict_json(text: str) -> str:
    """Refuse what would jam Bull's readers: one NaN makes every page of `getJobs()` fail (wire spec, rule 4)."""
    parse_strictly(text)
    return text


def parse_strictly(text: str) -> Any:
    """Parse what JavaScript would parse; ValueError (or RecursionError) where its `JSON.parse` fails."""
    return json.loads(text, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def dump(value: Any) -> str:
    """Write JSON as JavaScript does, so that Bull's copy and ours are the same text."""
    return printable(json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")))


def printable(text: str) -> str:
    """Replace half characters (a vendor's error message may hold them), which cannot be sent."""
    return text.encode("utf-8", "replace").decode("utf-8")


def event(job_id: str, **payload: Any) -> str:
    """Write the message of Bull's channels `completed`, `failed` and `progress`."""
    return dump({"jobId": job_id, **payload})


def retention_args(retention: Retention) -> dict[str, Argument | None]:
    """Name a retention's limits as the scripts do."""
    age_ms = None if retention.age_s is None else retention.age_s * 1000
    return {"keep_age_ms": age_ms, "keep_count": retention.count}


def limit_args(limit: RateLimit | None) -> dict[str, Argument | None]:
    """Name a limit's parts as the scripts do; all absent means unlimited."""
    return {"limit_max": limit.max if limit else None, "limit_ms": limit.duration_ms if limit else None}


def claim_args(claim: ClaimNext | None) -> dict[str, Argument | None]:
    """Name the parts of a claim that a settling call makes; all absent means none."""
    limit = limit_args(claim.limit if claim else None)
    return {"claim_token": claim.token if claim else None, "claim_lease_ms": claim.lease_ms if claim else None, **limit}


def failure_args(failure: Failure) -> dict[str, Argument | None]:
    """Name a failure's parts as the scripts do."""
    return {"reason": printable(failure.reason), "stacktrace": dump(failure.stacktrace)}


def queue_sweep(found: Sequence[Any]) -> QueueSweep:
    """Read what the sweep found in one queue."""
    waiting, active, delayed, next_due_ms, returned, promoted, paused, broken = found
    return QueueSweep(
        waiting=waiting,
        active=active,
        delayed=delayed,
        next_due_ms=None if next_due_ms < 0 else next_due_ms,
        returned=tuple(returned),
        promoted=promoted,
        paused=bool(paused),
        broken=broken,
    )


def job_record(job_id: str, fields: Sequence[str]) -> JobRecord:
    """Read a job's hash."""
    of: Mapping[str, str] = dict(zip(fields[::2], fields[1::2], strict=True))
    return JobRecord(
        id=job_id,
        name=of.get("name", ""),
        data=of.get("data", "{}"),
        opts=json_object(of.get("opts")),
        timestamp_ms=number(of.get("timestamp")),
        delay_ms=number(of.get("delay")),
        priority=number(of.get("priority")),
        attempts_made=number(of.get("attemptsMade")),
        stalled_count=number(of.get("stalledCounter")),
        processed_on_ms=number(of["processedOn"]) if "processedOn" in of else None,
        finished_on_ms=number(of["finishedOn"]) if "finishedOn" in of else None,
        failed_reason=of.get("failedReason"),
        stacktrace=json_strings(of.get("stacktrace")),
        returnvalue=of.get("returnvalue"),
        progress=of.get("progress"),
    )


def number(text: str | None) -> int:
    """A field that Bull means as an integer; Node may have written a fraction, or nothing."""
    try:
        return int(float(text or 0))
    except (ValueError, OverflowError):
        return 0


def numeral(value: float) -> str:
    """Write a number as JavaScript does, without a point where none is needed."""
    return str(int(value)) if value == int(value) and abs(value) < DIGITS_BELOW else repr(float(value))


def json_object(text: str | None) -> Mapping[str, Any]:
    """Options of a job someone else wrote: unreadable ones count as none, the data decide what happens."""
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def json_strings(text: str | None) -> tuple[str, ...]:
    """Read a list of strings; anything else counts as none."""
    try:
        value = json.loads(text or "[]")
    except (ValueError, RecursionError):
        return ()
    return tuple(map(str, value)) if isinstance(value, list) else ()
