"""When a repeatable job runs next: arithmetic, seen without Redis. tests/conformance asks bull for the same."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.queue.repeat import NextRun, UnreadableScheduleError, next_run

NOW = 1_795_460_584_514  # 2026-11-23, 19:03:04.514 UTC
MINUTE = {"every": 60_000}


def following(repeat: object, name: str = "r", **opts: Any) -> NextRun:
    found = next_run(name, {"repeat": repeat, **opts}, NOW)
    assert found is not None
    return found


def test_names_are_bulls_own() -> None:
    """Seen in Redis, written by bull 4.16.5 (wire spec 3.14)."""
    found = following(MINUTE)
    assert found.schedule == "r:::60000"
    assert found.job_id == f"repeat:a92cb3576013eed42e228200b485cf81:{found.at_ms}"
    assert following({"cron": "0 * * * *", "tz": "UTC"}, "c").schedule == "c:::UTC:0 * * * *"


@pytest.mark.parametrize(
    ("previous", "expected"),
    [
        (None, 1_795_460_640_000),
        (1_795_460_580_000, 1_795_460_640_000),
        (1_795_460_640_000, 1_795_460_700_000),  # taken before its time
        (1_700_000_000_000, 1_795_460_640_000),  # overdue: what was missed is not made up for
    ],
)
def test_every_is_the_next_multiple_after_now_and_after_the_run_before(previous: int | None, expected: int) -> None:
    found = following(MINUTE, prevMillis=previous)
    assert (found.at_ms, found.delay_ms) == (expected, expected - NOW)
    assert json.loads(found.opts)["prevMillis"] == expected


def test_the_run_counts_and_keeps_what_its_producer_asked_for() -> None:
    found = following(MINUTE | {"count": 2, "key": "an old one"}, jobId="repeat:x:1", attempts=3, delay=5)
    opts = json.loads(found.opts)
    assert opts["repeat"] == {"count": 3, "key": "r:::60000", "every": 60_000}
    assert list(opts) == ["repeat", "jobId", "delay", "timestamp", "prevMillis", "attempts"]
    assert (opts["jobId"], opts["timestamp"], opts["attempts"]) == (found.job_id, NOW, 3)


@pytest.mark.parametrize("over", [{"limit": 2, "count": 2}, {"endDate": NOW - 1}, {"endDate": "2026-11-23T19:03:04Z"}])
def test_a_schedule_that_is_over_has_no_next_run(over: dict[str, object]) -> None:
    assert next_run("r", {"repeat": MINUTE | over}, NOW) is None


def test_cron_ends_with_its_date_and_begins_with_its_other() -> None:
    yearly = {"cron": "0 0 1 1 *", "tz": "UTC"}
    assert next_run("r", {"repeat": yearly | {"endDate": "2026-12-31"}}, NOW) is None
    assert following(yearly | {"startDate": "2031-06-01"}).at_ms == 1_956_528_000_000  # 2032-01-01


@pytest.mark.parametrize(
    "repeat",
    [
        True, "daily", [], {}, {"every": -1}, {"every": 0.5}, {"every": "60000"}, {"every": []}, {"cron": 5},
        {"cron": "* * * * * * *"}, {"cron": "61 * * * *"}, {"cron": "0 0 31 2 *"}, {"cron": "@never"},
        {"every": 1, "cron": "* * * * *"}, {"cron": "* * * * *", "tz": "Mars/Olympus"},
        {"cron": "* * * * *", "tz": "../etc/passwd"}, {"cron": "* * * * *", "tz": 5},
        {"cron": "* * * * *", "tz": "utc+99"}, MINUTE | {"limit": "x"},
        MINUTE | {"count": "x"}, MINUTE | {"endDate": "soon"}, MINUTE | {"endDate": [1]},
        {"cron": "* * * * *", "startDate": 10**30}, {"cron": "* * * * *", "startDate": "9999-12-31T23:59:59Z"},
    ],
)  # fmt: skip
def test_what_nobody_can_read_is_named(repeat: object) -> None:
    with pytest.raises(UnreadableScheduleError):
        next_run("r", {"repeat": repeat}, NOW)


@pytest.mark.parametrize("previous", ["x", [1], 10**400, float("nan"), float("inf")])
def test_a_moment_of_the_run_before_that_nobody_can_read_is_named(previous: object) -> None:
    with pytest.raises(UnreadableScheduleError):
        next_run("r", {"repeat": {"cron": "* * * * *"}, "prevMillis": previous}, NOW)
