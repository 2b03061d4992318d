"""When a repeatable job runs next, and under which id: Bull's arithmetic on values alone (wire spec 3.14).

Whoever takes such a job schedules the next one. Names and moments must be Bull's to the last character: the next
run's id is an md5 over them, and two spellings of one schedule run it twice.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pipeline.queue import cron
from pipeline.queue.wire import dump


class UnreadableScheduleError(ValueError):
    """Nobody can say when such a job runs next; Node's workers would not even run it."""


@dataclass(frozen=True, slots=True)
class NextRun:
    """The job to add for `at_ms`. `schedule` is its member in Bull's zset of schedules, `opts` are Bull's JSON."""

    schedule: str
    job_id: str
    at_ms: int
    delay_ms: int
    opts: str


def next_run(name: str, opts: Mapping[str, Any], now_ms: int) -> NextRun | None:
    """Say what follows a job of that name and options; None if its schedule is over."""
    try:
        return _next_run(name, opts, now_ms)
    except (TypeError, AttributeError, ValueError, OverflowError, LookupError, OSError, RecursionError) as error:
        raise UnreadableScheduleError(str(error)) from error


def _next_run(name: str, opts: Mapping[str, Any], now_ms: int) -> NextRun | None:
    repeat = opts["repeat"]
    count = (repeat.get("count") or 0) + 1
    limit, end = repeat.get("limit"), repeat.get("endDate")
    if limit is not None and count > limit:
        return None
    if end is not None and now_ms > _moment_ms(end):
        return None
    at_ms = _next_ms(repeat, max(now_ms, int(opts.get("prevMillis") or 0)))
    if at_ms is None:
        return None
    named = f"{repeat.get('jobId') or ''}:"
    schedule = _schedule(name, named, repeat)
    job_id = f"repeat:{_md5(name + named + _md5(schedule))}:{at_ms}"
    delay_ms = max(0, at_ms - now_ms)
    # lodash's defaultsDeep: what is new comes first, the job's own options follow in their order
    new = {
        "repeat": {"count": count, "key": schedule} | _without(repeat, "count", "key"),
        "jobId": job_id,
        "delay": delay_ms,
        "timestamp": now_ms,
        "prevMillis": at_ms,
    }
    return NextRun(schedule, job_id, at_ms, delay_ms, dump(new | _without(opts, *new)))


def _next_ms(repeat: Mapping[str, Any], after_ms: int) -> int | None:
    every, zone_name, end = (repeat.get(field) for field in ("every", "tz", "endDate"))
    if every and repeat.get("cron"):
        raise ValueError("both every and cron")
    if every:
        if every != int(every) or every < 0:
            raise ValueError(f"every {every} ms")
        return (after_ms // int(every) + 1) * int(every)
    zone = _zone(zone_name) if zone_name else None
    end_ms = _moment_ms(end, zone, zone) if end else None
    start_ms = _moment_ms(repeat["startDate"]) if repeat.get("startDate") else 0
    return cron.next_after(cron.parse(repeat["cron"]), max(after_ms, start_ms), zone, end_ms=end_ms)


def _zone(name: str) -> tzinfo | None:
    """The names luxon knows: IANA's in any case, `utc`, `utc+5:30`, and the machine's own zone."""
    lowered = name.lower()
    if lowered in {"local", "system"}:
        return None
    if offset := re.fullmatch(r"(?:utc|gmt)|utc([+-]\d{1,2})(?::(\d\d))?", lowered):
        hours, minutes = int(offset[1] or 0), int(offset[2] or 0)
        return timezone(timedelta(hours=hours, minutes=math.copysign(minutes, hours)))
    try:
        return ZoneInfo(name)
    except ZoneInfoNotFoundError:
        return ZoneInfo(next((known for known in available_timezones() if known.lower() == lowered), name))


def _schedule(name: str, named: str, repeat: Mapping[str, Any]) -> str:
    end = f"{_moment_ms(repeat['endDate'])}:" if repeat.get("endDate") else ":"
    pattern = f"{repeat.get('tz') or ''}:{repeat['cron']}" if repeat.get("cron") else str(int(repeat["every"]))
    return f"{name}:{named}{end}{pattern}"


def _moment_ms(value: Any, of_date: tzinfo | None = UTC, of_time: tzinfo | None = None) -> int:
    """A date of Node: milliseconds, or ISO 8601 in a zone (none given: JavaScript's choice; None: this machine's)."""
    if isinstance(value, int | float):
        return int(value)
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=of_date if len(value) == len("2027-01-01") else of_time)
    return round(moment.timestamp() * 1000)


def _without(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
