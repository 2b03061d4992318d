"""A COMMIT whose outcome nobody knows: what stands in the journal decides, nothing is lost, doubled or counted twice.

Each verb of the journal twice: the COMMIT never arrived, or it did and its answer never came. The caller sees
the same in both, an ended connection.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from itertools import repeat

import pytest
from sqlalchemy import select, update

from app.db.errors import ConflictError
from app.db.people import People
from app.db.tables import queue_pauses, runs, stage_runs
from app.enqueue import enqueue_next
from pipeline import flow
from pipeline.contract import Done, Reject, Retry, Review, StageInput, StageResult
from pipeline.domain.purchase_order import Doubt
from pipeline.domain.results import Enrichment
from pipeline.errors import DatabaseUnavailable, RedisUnavailable, VendorUnavailable
from pipeline.run_store import NextJob
from pipeline.settling import Outcome
from tests.app.held import held
from tests.chaos.lost_commits import WAYS, CommitLine, Way, commit_line_to
from tests.pipeline.line import Line, Scripted, open_line

both_ways = pytest.mark.parametrize("way", WAYS)
ANSWER: Way = "never answered"


@dataclass
class Blind:
    """A line of attempts whose next COMMIT can be lost."""

    line: Line
    commits: CommitLine

    def script(self, stage: str, way: Way, *answers: StageResult | Exception) -> Scripted:
        """A stage that gives these answers, the last one again and again; the COMMIT after the first is lost."""
        coming = iter([*answers, *repeat(answers[-1], 9)])

        async def play(_given: StageInput) -> StageResult:
            if stage_played.calls == 1:
                self.commits.lose_next(way)
            answer = next(coming)
            if isinstance(answer, Exception):
                raise answer
            return answer

        stage_played = self.line.script(stage, play)
        return stage_played

    async def step(self, queue: str = flow.FIRST) -> Outcome:
        return (await self.line.step(queue)).outcome

    async def states(self) -> list[str]:
        return [state for *_, state in await self.line.journal()]

    async def live_jobs(self) -> list[str]:
        """Every job that will still run, in whatever queue."""
        return [
            f"{queue} {job.id}"
            for queue in flow.NAMES
            for state in ("waiting", "paused", "active", "delayed")
            for job in await self.line.bull.list_jobs(queue, state)
        ]

    async def finish(self) -> None:
        """Reconcile, take the run through the rest of the line, and see that each stage was recorded once."""
        await self.line.reconciler.run_once()
        assert len(await self.live_jobs()) == 1
        await self.line.walk(first=(await self.line.run_row())["due_stage"])
        run = await self.line.run_row()
        assert (run["state"], run["due_stage"]) == ("completed", None)
        finished = [(stage, entry) for stage, entry, _, state in await self.line.journal() if state == "finished"]
        assert len(finished) == len(set(finished))
        assert await self.live_jobs() == []


@pytest.fixture
async def blind(redis_url: str, database_url: str) -> AsyncIterator[Blind]:
    async with held(commit_line_to(database_url)) as commits, held(open_line(redis_url, commits.url)) as line:
        yield Blind(line, commits)
        assert commits.lost == 1


@both_ways
async def test_an_acceptance_nobody_confirmed_is_one_run_and_one_reading(blind: Blind, way: Way) -> None:
    await blind.line.add_upload()
    blind.commits.lose_next(way)
    assert await blind.step() is Outcome.RELEASED
    assert blind.line.stages[flow.FIRST].calls == 0
    assert await blind.step() is Outcome.FINISHED
    assert blind.line.stages[flow.FIRST].calls == 1
    assert (await blind.states())[-1] == "finished"
    await blind.finish()


@both_ways
async def test_a_result_nobody_confirmed_is_recorded_once(blind: Blind, way: Way) -> None:
    """Arrived: the journal says so, and the attempt goes on as if it had been told. Else the stage runs again."""
    stage = blind.script(flow.FIRST, way, Done(Enrichment()))
    await blind.line.add_upload()
    if way == ANSWER:
        assert await blind.step() is Outcome.FINISHED
        assert stage.calls == 1
    else:
        assert await blind.step() is Outcome.RELEASED
        assert await blind.step() is Outcome.FINISHED
        assert stage.calls == 2
    assert (await blind.states()).count("finished") == 1
    await blind.finish()


@both_ways
async def test_a_failure_nobody_confirmed_is_counted_once_or_not_at_all(blind: Blind, way: Way) -> None:
    """Three failures in the journal end the run, whatever of them Redis was told."""
    stage = blind.script(flow.FIRST, way, Retry("it hiccuped"))
    job_id = await blind.line.add_upload()
    assert await blind.step() is Outcome.RELEASED
    outcomes = [await blind.step()]
    while outcomes[-1] is Outcome.RETRIED:
        outcomes.append(await blind.step())
    assert outcomes[-1] is Outcome.DEAD
    assert (await blind.states()).count("failed") == 3
    assert stage.calls == (3 if way == ANSWER else 4)
    dead = await blind.line.bull.job(flow.FIRST, job_id)
    assert dead is not None
    assert (dead.attempts_made, dead.failed_reason) == (3, "it hiccuped")
    assert await blind.line.bull.state(flow.FIRST, job_id) == "failed"


@both_ways
async def test_a_last_failure_nobody_confirmed_ends_the_run_with_its_reason(blind: Blind, way: Way) -> None:
    stage = blind.script(flow.FIRST, way, Reject("missing_file", "the file is gone"))
    job_id = await blind.line.add_upload()
    assert await blind.step() is Outcome.RELEASED
    assert await blind.step() is Outcome.DEAD
    assert stage.calls == (1 if way == ANSWER else 2)
    assert (await blind.states()).count("failed") == 1
    run, dead = await blind.line.run_row(), await blind.line.bull.job(flow.FIRST, job_id)
    assert dead is not None
    assert (run["state"], run["failure"], dead.failed_reason) == ("failed", "the file is gone", "the file is gone")


@both_ways
async def test_a_wait_nobody_confirmed_counts_nothing(blind: Blind, way: Way) -> None:
    down = VendorUnavailable("the model is down", retry_after_s=30)
    blind.script(flow.FIRST, way, down, Done(Enrichment()))
    await blind.line.add_upload()
    assert await blind.step() is Outcome.RELEASED
    assert await blind.step() is Outcome.FINISHED
    states = await blind.states()
    assert states.count("waited") == (1 if way == ANSWER else 0)
    assert "failed" not in states
    await blind.finish()


@both_ways
async def test_an_end_of_patience_nobody_confirmed_says_whose_fault_it_was(blind: Blind, way: Way) -> None:
    down = VendorUnavailable("the model is down", retry_after_s=0.001)
    job_id = await blind.line.add_upload()

    async def is_down(_given: StageInput) -> StageResult:
        raise down

    blind.line.script(flow.FIRST, is_down)
    await blind.step()
    async with blind.line.database.transaction() as connection:
        long = timedelta(hours=2)
        await connection.execute(
            update(stage_runs).values(started_at=stage_runs.c.started_at - long, ended_at=stage_runs.c.ended_at - long)
        )
    await blind.line.bull.promote(flow.FIRST, job_id)
    blind.script(flow.FIRST, way, down)
    assert await blind.step() is Outcome.RELEASED
    assert await blind.step() is Outcome.DEAD
    assert (await blind.states()).count("failed") == 1
    assert "the model is down" in (await blind.line.run_row())["failure"]


@both_ways
async def test_a_hand_back_nobody_confirmed_costs_nothing(blind: Blind, way: Way) -> None:
    """Redis refused something, the attempt is closed as released, and that COMMIT is lost as well."""
    blind.script(flow.FIRST, way, RedisUnavailable("READONLY"), Done(Enrichment()))
    job_id = await blind.line.add_upload()
    assert await blind.step() is Outcome.RELEASED
    assert await blind.line.bull.state(flow.FIRST, job_id) == "waiting"
    assert await blind.step() is Outcome.FINISHED
    assert "failed" not in await blind.states()
    await blind.finish()


# ------------------------------------------------------------------------------------------- people's commands


async def _in_review(blind: Blind) -> str:
    async def review(_given: StageInput) -> StageResult:
        return Review((Doubt(code="low_confidence", message="look"),), Enrichment())

    blind.line.script("image-attachment", review)
    await blind.line.add_upload()
    await blind.line.walk(last="image-attachment")
    await blind.step(flow.STATUS)
    return str((await blind.line.run_row())["id"])


async def _dead(blind: Blind) -> str:
    async def refuse(_given: StageInput) -> StageResult:
        raise Reject("no", "no")

    plain = blind.line.stages[flow.FIRST]
    blind.line.script(flow.FIRST, refuse)
    await blind.line.add_upload()
    await blind.step()
    blind.line.stages[flow.FIRST] = plain
    return str((await blind.line.run_row())["id"])


@both_ways
@pytest.mark.parametrize(("arrange", "command"), [(_in_review, People.approve), (_dead, People.retry)])
async def test_a_persons_command_nobody_confirmed_is_obeyed_once(
    blind: Blind,
    way: Way,
    arrange: Callable[[Blind], Awaitable[str]],
    command: Callable[[People, str, str], Awaitable[NextJob]],
) -> None:
    """Whoever repeats it is told that it was done, or does it now; without them the reconciler brings the job."""
    run_id = await arrange(blind)
    people = People(blind.line.database)
    blind.commits.lose_next(way)
    with pytest.raises(DatabaseUnavailable):
        await command(people, run_id, "ann")
    if way == ANSWER:
        with pytest.raises(ConflictError, match="it is running"):
            await command(people, run_id, "ann")
    else:
        await enqueue_next(blind.line.bull, await command(people, run_id, "ann"))
    assert (await blind.line.run_row())["entry"] == 1
    await blind.finish()


@both_ways
async def test_a_cancellation_nobody_confirmed_leaves_nothing_running(blind: Blind, way: Way) -> None:
    await blind.line.add_upload()
    await blind.step()
    run_id = (await blind.line.run_row())["id"]
    people = People(blind.line.database)
    blind.commits.lose_next(way)
    with pytest.raises(DatabaseUnavailable):
        await people.cancel(run_id, "ann")
    if way == ANSWER:
        with pytest.raises(ConflictError, match="it is cancelled"):
            await people.cancel(run_id, "ann")
    else:
        await people.cancel(run_id, "ann")
    assert await blind.step("database-save") is Outcome.FINISHED
    assert blind.line.stages["database-save"].calls == 0
    assert (await blind.line.reconciler.run_once()).added == 0
    assert await blind.live_jobs() == []
    assert (await blind.line.run_row())["state"] == "cancelled"


@both_ways
async def test_a_pause_nobody_confirmed_can_simply_be_said_again(blind: Blind, way: Way) -> None:
    people = People(blind.line.database)
    blind.commits.lose_next(way)
    with pytest.raises(DatabaseUnavailable):
        await people.pause_queue(flow.SYNC, "ann")
    assert await blind.line.store.list_paused() == (frozenset({flow.SYNC}) if way == ANSWER else frozenset())
    await people.pause_queue(flow.SYNC, "ann")
    async with blind.line.database.transaction() as connection:
        assert list(await connection.scalars(select(queue_pauses.c.queue))) == [flow.SYNC]
        assert list(await connection.scalars(select(runs.c.id))) == []
