"""Waiting for a vendor: shown as a wait, counted as nothing, and with an end only where it is an outage."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from app.db.tables import runs, stage_runs
from pipeline import flow
from pipeline.contract import Done, StageInput, StageResult
from pipeline.domain.results import Enrichment
from pipeline.errors import Problem, VendorRefused, VendorUnavailable
from pipeline.queue.job import ClaimedJob, RateLimit
from pipeline.runner import Outcome
from tests.app.held import held
from tests.pipeline.line import Line, open_line
from tests.pipeline.test_runner import raises

PARKED = "the shop is parked: the shop refused the access token: connect the shop again"


@pytest.fixture
async def line(redis_url: str, database_url: str) -> AsyncIterator[Line]:
    async with held(open_line(redis_url, database_url)) as opened:
        yield opened


async def again(line: Line, *, after: timedelta) -> Outcome:
    """The delayed job runs once more, when that much time has passed."""
    async with line.database.transaction() as connection:
        await connection.execute(
            update(stage_runs).values(
                started_at=stage_runs.c.started_at - after, ended_at=stage_runs.c.ended_at - after
            )
        )
    [job] = await line.bull.list_jobs(flow.FIRST, "delayed")
    await line.bull.promote(flow.FIRST, job.id)
    return (await line.step(flow.FIRST)).outcome


async def test_a_run_of_a_parked_shop_waits_for_as_long_as_it_takes(line: Line) -> None:
    await raises(line, flow.FIRST, VendorUnavailable(PARKED, retry_after_s=900, patient=True))
    await line.add_upload()
    await line.step(flow.FIRST)
    for _ in range(3):
        assert await again(line, after=timedelta(days=2)) is Outcome.RELEASED
    run = await line.run_row()
    assert (run["state"], run["due_stage"], run["summary"]) == ("running", flow.FIRST, PARKED)
    assert {state for *_, state in await line.journal()} == {"waited"}


async def test_a_wait_uses_up_nothing_of_the_patience_with_a_later_outage(line: Line) -> None:
    down = VendorUnavailable("the shop is down", retry_after_s=900)
    await raises(line, flow.FIRST, down)
    await line.add_upload()
    await line.step(flow.FIRST)
    await raises(line, flow.FIRST, VendorUnavailable(PARKED, retry_after_s=900, patient=True))
    assert await again(line, after=timedelta(minutes=50)) is Outcome.RELEASED
    await raises(line, flow.FIRST, down)
    assert await again(line, after=timedelta(days=2)) is Outcome.RELEASED
    assert await again(line, after=timedelta(minutes=50)) is Outcome.RELEASED
    assert await again(line, after=timedelta(minutes=50)) is Outcome.DEAD
    assert "the shop is down" in (await line.run_row())["failure"]


async def test_what_a_run_waited_for_is_forgotten_when_it_goes_on(line: Line) -> None:
    await raises(line, flow.FIRST, VendorUnavailable("waits 12 s for the shop's points", patient=True))
    await line.add_upload()
    await line.step(flow.FIRST)
    assert (await line.run_row())["summary"] == "waits 12 s for the shop's points"

    async def works(_given: StageInput) -> StageResult:
        async with line.database.transaction() as connection:
            assert await connection.scalar(select(runs.c.summary)) == ""
        return Done(Enrichment())

    line.script(flow.FIRST, works)
    assert await again(line, after=timedelta()) is Outcome.FINISHED


async def test_a_completed_order_says_how_it_ended_while_its_pictures_wait(line: Line) -> None:
    await line.add_upload()
    await line.walk(last=flow.STATUS)
    before = (await line.run_row())["summary"]
    await raises(line, flow.IMAGES, VendorUnavailable("the shop is down"))
    await line.step(flow.IMAGES)
    run = await line.run_row()
    assert (run["state"], run["summary"], run["due_stage"]) == ("completed", before, flow.IMAGES)
    assert before


async def test_a_stage_that_stands_still_says_so_where_it_stood(line: Line) -> None:
    told: list[tuple[str, Mapping[str, Any]]] = []

    class Watching:
        async def tell(self, _run_id: str, _stage: str, event: str, details: Mapping[str, Any]) -> None:
            told.append((event, details))

    line.runner._progress = Watching()

    async def waits(given: StageInput) -> StageResult:
        await given.progress(0.5, "half of it")
        await given.waits("waits 3.0 s for the shop's points")
        return Done(Enrichment())

    line.script(flow.FIRST, waits)
    await line.add_upload()
    await line.step(flow.FIRST)
    assert ("waiting", {"fraction": 0.5, "message": "waits 3.0 s for the shop's points"}) in told


async def test_a_hundred_runs_of_a_parked_shop_use_up_nothing_of_the_queues_limit(line: Line) -> None:
    await raises(line, flow.FIRST, VendorUnavailable(PARKED, retry_after_s=900, patient=True, uncalled=True))
    for number in range(4):
        await line.add_upload(f"upload-{number}")
    for _ in range(3):
        claim = await line.bull.claim(flow.FIRST, token=f"t{_}", lease_ms=60_000, limit=RateLimit(1, 600_000))
        assert isinstance(claim, ClaimedJob)
        settled = await line.runner.attempt(claim)
        assert settled.unstarted
    await raises(line, flow.FIRST, VendorUnavailable("HTTP 502"))
    claim = await line.bull.claim(flow.FIRST, token="t", lease_ms=60_000, limit=RateLimit(1, 600_000))
    assert isinstance(claim, ClaimedJob)
    assert not (await line.runner.attempt(claim)).unstarted


async def test_a_refusal_is_never_tried_again(line: Line) -> None:
    problems = (Problem("TAKEN", ("input", "handle"), "Taken."),)
    refused = await raises(line, flow.FIRST, VendorRefused("Taken.", code="TAKEN", problems=problems))
    await line.add_upload()
    assert (await line.step(flow.FIRST)).outcome is Outcome.DEAD
    counts = await line.bull.counts(flow.FIRST)
    assert (refused.calls, counts.waiting, counts.delayed, counts.failed) == (1, 0, 0, 1)
    async with line.database.transaction() as connection:
        assert await connection.scalar(select(func.count()).select_from(stage_runs)) == 1
    assert datetime.now(UTC) > (await line.run_row())["finished_at"]
