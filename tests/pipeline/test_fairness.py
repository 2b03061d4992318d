"""One shop's thousand orders do not keep another shop waiting: the door, who passes it when, and who dies there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import anyio
import pytest
import redis
from sqlalchemy import select

from app.db.door import APART_S, ASK_AGAIN_S
from app.db.people import People
from app.db.tables import runs
from app.enqueue import enqueue_next, try_promote
from pipeline import flow
from pipeline.contract import Done, Reject, Review, StageInput, StageResult
from pipeline.domain.purchase_order import Doubt
from pipeline.domain.results import Enrichment
from pipeline.errors import VendorUnavailable
from pipeline.hand_off import promote
from pipeline.queue.job import JobRecord, NewJob, RateLimit
from pipeline.run_store import DueRun, NextJob
from pipeline.settling import Outcome
from tests.app.held import held
from tests.pipeline.line import Killed, Line, add_merchant, open_line
from tests.support import eventually

OTHER = "merchant-2"
SHARE = 2
SECOND = flow.NAMES[1]
QUIET = timedelta(milliseconds=1)


@pytest.fixture
async def line(redis_url: str, database_url: str) -> AsyncIterator[Line]:
    """A line that lets two orders of a shop in at a time."""
    async with held(open_line(redis_url, database_url, open_runs=SHARE)) as opened:
        await add_merchant(opened.database, OTHER)
        yield opened


async def arrive(line: Line, *uploads: str) -> None:
    """These orders come in and ask at the door, in this order."""
    for upload in uploads:
        await line.add_upload(upload)
    for _ in uploads:
        await line.step(flow.FIRST)


async def parked(line: Line) -> list[str]:
    """Uploads at the door, the oldest first."""
    statement = select(runs.c.upload_id).where(runs.c.parked_at.is_not(None)).order_by(runs.c.created_at)
    async with line.database.transaction() as connection:
        return list(await connection.scalars(statement))


async def job_state(line: Line, upload: str) -> str | None:
    """Where the first job of that order is."""
    job_id = str((await line.run_row(upload))["job_id"]).partition("@")[0]
    return await line.bull.state(flow.FIRST, job_id)


async def cancel(line: Line, upload: str) -> None:
    cancelled = await People(line.database, open_runs=SHARE).cancel((await line.run_row(upload))["id"], "ann")
    await try_promote(line.bull, cancelled.turns)


# ---------------------------------------------------------------------------------------- at the door


async def test_beyond_its_shops_share_an_order_is_accepted_and_parked(line: Line) -> None:
    await arrive(line, "a", "b", "c")
    run = await line.run_row("c")
    assert (run["state"], run["due_stage"], run["fence"]) == ("running", flow.FIRST, 0)
    assert run["summary"] == "waits for its turn: of one shop at most 2 orders are under way at a time"
    assert await job_state(line, "c") == "delayed"
    assert (await parked(line), await line.journal("c"), line.stages[flow.FIRST].calls) == (["c"], [], 2)


async def test_another_shops_order_passes_all_that_are_parked(line: Line) -> None:
    await arrive(line, "a", "b", "c", "d")
    await line.add_upload("other", merchantId=OTHER)
    assert (await line.step(flow.FIRST)).outcome is Outcome.FINISHED


async def test_replicas_that_ask_at_once_do_not_both_take_the_last_place(line: Line) -> None:
    """Without the lock on the merchant each of them would count one place free."""
    for number in range(5):
        await line.add_upload(f"upload-{number}")
    jobs = [await line.claim(flow.FIRST) for _ in range(5)]
    await asyncio.gather(*(line.runner.attempt(job, None) for job in jobs))
    assert line.stages[flow.FIRST].calls == SHARE
    assert len(await parked(line)) == 5 - SHARE


async def test_an_order_that_a_person_promotes_out_of_turn_is_put_back_politely(line: Line) -> None:
    await arrive(line, "a", "b", "c", "d")
    for upload in ("d", "c"):
        await line.bull.promote(flow.FIRST, (await line.run_row(upload))["job_id"].partition("@")[0])
        assert (await line.step(flow.FIRST)).outcome is Outcome.RELEASED
    assert (await parked(line), line.stages[flow.FIRST].calls) == (["c", "d"], SHARE)


async def test_a_younger_order_does_not_take_the_place_of_one_that_waits_longer(line: Line) -> None:
    await arrive(line, "a", "b", "c")
    await line.add_upload("young")
    await cancel(line, "a")  # c goes to the end of the queue, behind the newcomer
    await line.step(flow.FIRST)
    assert await parked(line) == ["c", "young"]
    await line.step(flow.FIRST)
    assert await parked(line) == ["young"]


async def test_what_a_person_sends_back_is_never_parked(line: Line) -> None:
    async def refuse(given: StageInput) -> StageResult:
        if given.run.entry == 0 and given.run.upload_id == "a":
            raise Reject("no", "no")
        return Done(Enrichment())

    line.script(flow.FIRST, refuse)
    await arrive(line, "a", "b", "c", "d")
    assert await parked(line) == ["d"]
    again = await People(line.database).retry((await line.run_row("a"))["id"], "ann")
    await enqueue_next(line.bull, again)
    assert (await line.step(flow.FIRST)).outcome is Outcome.FINISHED
    assert (await line.run_row("a"))["due_stage"] == SECOND


async def test_an_order_under_way_is_not_asked_again_after_its_vendor_was_down(line: Line) -> None:
    """It is one of those the others are counted behind; parked between two attempts it would wait for itself."""

    async def down_at_first(given: StageInput) -> StageResult:
        if given.attempt == 1:
            raise VendorUnavailable("the model is down")
        return Done(Enrichment())

    line.script(flow.FIRST, down_at_first)
    await arrive(line, "a", "b", "c")
    await line.bull.promote(flow.FIRST, "2")
    assert (await line.step(flow.FIRST)).outcome is Outcome.FINISHED
    assert await parked(line) == ["c"]


async def add_again(line: Line, job: JobRecord) -> None:
    """As upstream's cron does: the same upload under another number."""
    await line.bull.enqueue(flow.FIRST, NewJob(id=None, data=job.data, attempts=3))


async def test_an_order_that_is_parked_is_one_order_however_often_it_is_added(line: Line) -> None:
    await arrive(line, "a", "b", "c")
    job = await line.bull.job(flow.FIRST, "3")
    assert job is not None
    await add_again(line, job)
    assert (await line.step(flow.FIRST)).outcome is Outcome.FINISHED
    assert await job_state(line, "c") == "delayed"
    assert (await line.bull.counts(flow.FIRST)).waiting == 0


async def test_parked_jobs_ask_again_by_themselves_and_never_all_at_once(line: Line, redis_admin: redis.Redis) -> None:
    await arrive(line, *(f"upload-{number}" for number in range(8)))
    now_ms = float(redis_admin.time()[0]) * 1000
    due = [score / 4096 for _, score in redis_admin.zrange("bull:ai-parsing:delayed", 0, -1, withscores=True)]
    assert len(due) == 8 - SHARE
    assert due[0] > now_ms + (ASK_AGAIN_S - 60) * 1000
    assert due[-1] - due[0] >= (len(due) - 1) * APART_S * 1000


# ------------------------------------------------------------------------------------ leaving the line


async def completes(line: Line) -> None:
    await line.walk(SECOND, flow.STATUS)


async def needs_review(line: Line) -> None:
    async def doubt(given: StageInput) -> StageResult:
        return Review((Doubt(code="x", message="look"),))

    line.script(SECOND, doubt)
    await line.step(SECOND)
    await line.step(flow.STATUS)


async def fails(line: Line) -> None:
    async def refuse(given: StageInput) -> StageResult:
        raise Reject("no", "no")

    line.script(SECOND, refuse)
    await line.step(SECOND)


async def is_cancelled(line: Line) -> None:
    await cancel(line, "a")


@pytest.mark.parametrize("ends", [completes, needs_review, fails, is_cancelled])
async def test_a_run_that_leaves_the_line_lets_the_oldest_of_its_shop_in(
    line: Line, ends: Callable[[Line], Awaitable[None]]
) -> None:
    await arrive(line, "a", "b", "c", "d")
    await ends(line)
    assert [await job_state(line, upload) for upload in ("c", "d")] == ["waiting", "delayed"]
    line.script(flow.FIRST, line.stages[flow.STATUS].script)
    assert (await line.step(flow.FIRST)).outcome is Outcome.FINISHED
    run = await line.run_row("c")
    assert (run["parked_at"], run["summary"], run["due_stage"]) == (None, "", SECOND)


async def test_two_runs_that_leave_at_once_leave_no_place_empty(line: Line) -> None:
    await arrive(line, "a", "b", "c", "d", "e")
    for queue in flow.NAMES[1 : flow.NAMES.index(flow.STATUS)]:
        await line.step(queue)
        await line.step(queue)
    jobs = [await line.claim(flow.STATUS) for _ in range(2)]
    await asyncio.gather(*(line.runner.attempt(job, None) for job in jobs))
    assert [await job_state(line, upload) for upload in "cde"] == ["waiting", "waiting", "delayed"]


async def test_whoever_dies_before_letting_anyone_in_comes_back_to_it(line: Line) -> None:
    await arrive(line, "a", "b", "c")
    await line.walk(SECOND, "shopify-sync")
    job = await line.claim(flow.STATUS)
    line.deadly.gap = "record"
    with pytest.raises(Killed):
        await line.runner.attempt(job, None)
    line.deadly.gap = ""
    assert ((await line.run_row("a"))["state"], await job_state(line, "c")) == ("completed", "delayed")
    await line.bull.release(job)
    await line.step(flow.STATUS)
    assert await job_state(line, "c") == "waiting"


async def test_a_parked_order_that_is_cancelled_gives_its_turn_to_the_next(line: Line) -> None:
    await arrive(line, "a", "b", "c", "d")
    await cancel(line, "a")
    await cancel(line, "c")
    assert (await line.run_row("c"))["parked_at"] is None
    assert await job_state(line, "d") == "waiting"
    assert [(await line.step(flow.FIRST)).outcome for _ in range(2)] == [Outcome.FINISHED] * 2  # c's is not due
    assert (line.stages[flow.FIRST].calls, await parked(line)) == (3, [])


async def test_a_run_of_another_shop_lets_nobody_in(line: Line) -> None:
    await line.add_upload("other", merchantId=OTHER)
    await line.step(flow.FIRST)
    await arrive(line, "a", "b", "c")
    await completes(line)
    assert await job_state(line, "c") == "delayed"


# ------------------------------------------------------------------------------- forgotten, and wiped


async def test_a_larger_share_takes_effect_at_the_next_look_of_the_reconciler(line: Line) -> None:
    await arrive(line, "a", "b", "c", "d", "e")
    line.store._open_runs = 4
    assert (await line.reconciler.run_once()).promoted == 2
    assert [await job_state(line, upload) for upload in "cde"] == ["waiting", "waiting", "delayed"]


async def test_a_smaller_share_puts_nobody_out_and_lets_nobody_in(line: Line) -> None:
    await arrive(line, "a", "b", "c")
    line.store._open_runs = 1
    await completes(line)
    assert (await job_state(line, "c"), (await line.reconciler.run_once()).promoted) == ("delayed", 0)


async def test_only_those_whose_turn_it_is_are_looked_after(line: Line) -> None:
    """A thousand parked runs would cost the reconciler of every replica a thousand questions a minute."""
    await arrive(line, "a", "b", "c", "d")
    due = await line.store.list_due(quiet_for=QUIET, after="", limit=100)
    assert {run.next.stage for run in due} == {SECOND}


async def test_a_parked_job_that_somebody_removed_comes_back_when_its_turn_comes(line: Line) -> None:
    await arrive(line, "a", "b", "c")
    await line.bull.remove(flow.FIRST, "3")
    await cancel(line, "a")
    line.reconciler._quiet = QUIET
    await line.reconciler.run_once()
    assert (await line.step(flow.FIRST)).outcome is Outcome.FINISHED
    assert (await line.run_row("c"))["due_stage"] == SECOND


async def test_a_number_that_means_another_job_by_now_is_not_promoted(line: Line) -> None:
    """Bull counts from 1 again when Redis was emptied."""
    await line.bull.enqueue(flow.FIRST, NewJob(id=None, data="{}", delay_ms=60_000))
    stale = DueRun(NextJob("run", flow.FIRST, 0, "wf"), "1@1700000000000")
    assert not await promote(line.bull, stale)
    assert await line.bull.state(flow.FIRST, "1") == "delayed"


async def test_when_redis_comes_back_empty_the_parked_ask_once_more_and_keep_their_order(
    line: Line, redis_admin: redis.Redis
) -> None:
    uploads = [f"upload-{number:02}" for number in range(12)]
    await arrive(line, *uploads)
    redis_admin.flushall()
    assert (await line.reconciler.run_once(redis_was_emptied=True)).added == 12
    assert (await line.bull.counts(flow.FIRST)).waiting == 12 - SHARE
    for _ in uploads[SHARE:]:
        assert (await line.step(flow.FIRST)).outcome is Outcome.RELEASED
    assert (await parked(line), (await line.bull.counts(flow.FIRST)).delayed) == (uploads[SHARE:], 12 - SHARE)
    await completes(line)
    assert await job_state(line, uploads[SHARE]) == "waiting"


# ------------------------------------------------------------------------------------------ the promise


class Held:
    """One shop's orders stop in this stage until they are let go; everybody else's pass."""

    def __init__(self) -> None:
        self.go_on = anyio.Event()

    async def __call__(self, given: StageInput) -> StageResult:
        if given.run.merchant.id != OTHER:
            await self.go_on.wait()
        return Done(Enrichment())


async def test_at_every_stage_an_order_waits_behind_no_more_of_another_shop_than_its_share(line: Line) -> None:
    """Forty orders of one shop are there when another shop's one arrives: none of its queues lets more than two by."""
    gate = Held()
    line.script(SECOND, gate)
    worker = line.worker()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        for number in range(40):
            await line.add_upload(f"upload-{number}")
        await eventually(lambda: delayed(line, 40 - SHARE), within_s=60)
        await line.add_upload("other", merchantId=OTHER)
        gate.go_on.set()
        await eventually(lambda: over(line, "other"), within_s=60)
        worker.stop()
    for queue in flow.NAMES[: flow.NAMES.index(flow.SYNC)]:
        jobs = await line.bull.list_jobs(queue, "completed", 0, -1)
        [ours] = [job for job in jobs if run_of(job) == await run_id(line, "other")]
        assert ours.processed_on_ms is not None
        ahead = [job for job in jobs if job.processed_on_ms and ours.timestamp_ms <= job.processed_on_ms]
        ahead = [job for job in ahead if (job.processed_on_ms or 0) < ours.processed_on_ms]
        assert len(ahead) <= SHARE, queue


async def test_all_orders_of_one_shop_pass_though_only_some_at_a_time(line: Line) -> None:
    worker = line.worker()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        for number in range(10):
            await line.add_upload(f"upload-{number}")
        await eventually(lambda: through(line, 10), within_s=60)
        worker.stop()
    assert {stage.calls for stage in line.stages.values()} == {10}
    assert await parked(line) == []


async def test_parking_uses_up_nothing_of_the_limiters_window(line: Line) -> None:
    """Three starts in ten minutes: two orders of the shop, and one of another behind thirty that are parked."""
    gate = Held()
    first = line.script(flow.FIRST, gate)
    worker = line.worker(limits={flow.FIRST: RateLimit(3, 600_000)}, stages=(flow.FIRST,))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        await line.add_upload("a")
        await eventually(lambda: began(line, 1))
        for number in range(30):
            await line.add_upload(f"upload-{number}")
        await line.add_upload("other", merchantId=OTHER)
        await eventually(lambda: began(line, 2))
        gate.go_on.set()
        await eventually(lambda: began(line, 3))
        assert (await line.run_row("other"))["due_stage"] in (flow.FIRST, SECOND)
        worker.stop()
    assert first.calls == 3


async def delayed(line: Line, count: int) -> bool:
    return (await line.bull.counts(flow.FIRST)).delayed == count


async def through(line: Line, count: int) -> bool:
    return (await line.bull.counts(flow.IMAGES)).completed == count


async def began(line: Line, count: int) -> bool:
    return line.stages[flow.FIRST].calls == count


async def over(line: Line, upload: str) -> bool:
    async with line.database.transaction() as connection:
        state = await connection.scalar(select(runs.c.state).where(runs.c.upload_id == upload))
    return state == "completed"


async def run_id(line: Line, upload: str) -> str:
    return str((await line.run_row(upload))["id"])


def run_of(job: JobRecord) -> str:
    """The run a finished job was for."""
    return str(json.loads(job.returnvalue or "{}").get("runId"))
