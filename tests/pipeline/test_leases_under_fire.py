"""Never two holders who both believe: a stale worker hangs up, writes nothing, and knows it.

Cut off from Redis, asleep with its machine, its loop blocked by a stage, or its stage hung: real Redis, real Postgres,
real sockets. What needs whole processes and signals is in tests/chaos/test_frozen_workers.py.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import anyio.to_thread
import pytest
import redis
from sqlalchemy import event, select
from structlog.testing import capture_logs

from app.db.effects import PostgresEffects
from app.db.session import Database
from app.db.tables import effects, stage_runs
from app.names import resolve
from pipeline import flow
from pipeline.clock import Clock
from pipeline.contract import Done, Reject, Retry, StageInput, StageResult
from pipeline.domain.results import Enrichment
from pipeline.effects import Ledger
from pipeline.errors import DatabaseUnavailable, LeaseLost, VendorUnavailable
from pipeline.queue.job import ClaimedJob
from pipeline.settling import Outcome, Settlement
from tests.app.redis_proxy import Proxy, proxy_to
from tests.pipeline.clocks import Fast, Suspended
from tests.pipeline.line import Line, Script, open_line
from tests.slow_vendor import SlowVendor, slow_vendor
from tests.support import eventually, loopback
from tests.written import everything

LEASE_S = 2.0
BEAT_S = 0.5
STAGE = flow.FIRST
RESULT = Done(Enrichment(skipped="by the test"))


@asynccontextmanager
async def quick_line(redis_url: str, database_url: str, clock: Clock | None = None) -> AsyncIterator[Line]:
    async with open_line(redis_url, database_url, clock=clock, lease_s=LEASE_S, beat_s=BEAT_S) as line:
        yield line


def calling(vendor: SlowVendor) -> Script:
    """A stage that asks before its call, and then waits for an answer that never comes."""

    async def call(given: StageInput) -> StageResult:
        given.still_ours()
        async with loopback(timeout=None) as http:
            await http.get(vendor.url)
        return RESULT

    return call


async def take_over(line: Line) -> Settlement:
    """What the rest of the fleet does: sweep until the job is back, then run it."""

    async def returned() -> bool:
        await line.bull.sweep([STAGE], guard_ms=1, stalled_interval_ms=1)
        return (await line.bull.counts(STAGE)).waiting == 1

    await eventually(returned)
    return await line.step(STAGE)


@asynccontextmanager
async def attempting(line: Line, job: ClaimedJob) -> AsyncIterator[Callable[[], Awaitable[Settlement]]]:
    """The attempt under way beside a heartbeat; yields what waits for its end."""
    settled: asyncio.Future[Settlement] = asyncio.get_running_loop().create_future()

    async def attempt() -> None:
        settled.set_result(await line.runner.attempt(job, None))

    async def outcome() -> Settlement:
        with anyio.fail_after(30):
            return await settled

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(line.heartbeat.run)
        tasks.start_soon(attempt)
        yield outcome
        tasks.cancel_scope.cancel()


# ------------------------------------------------------------------------------------------ cut off from Redis


def _freeze(proxy: Proxy) -> None:
    proxy.frozen = True


def _swallow(proxy: Proxy) -> None:
    """Renewals arrive and are obeyed; only their answers are lost."""
    proxy.swallow_replies = True


def _refuse(proxy: Proxy) -> None:
    proxy.refusing = True
    proxy.cut()


@pytest.mark.parametrize("cut_off", [_freeze, _swallow, _refuse])
async def test_a_holder_that_cannot_renew_hangs_up_while_the_lock_is_still_its_own(
    redis_url: str, database_url: str, redis_admin: redis.Redis, cut_off: Callable[[Proxy], None]
) -> None:
    """The vendor sees the connection end at a moment when nobody else could have begun."""
    async with (
        proxy_to(redis_url) as proxy,
        slow_vendor() as vendor,
        quick_line(proxy.url(), database_url) as stale,
        quick_line(redis_url, database_url) as fleet,
    ):
        job_id = await fleet.add_upload()
        stale.script(STAGE, calling(vendor))
        job = await stale.claim(STAGE, lease_ms=round(LEASE_S * 1000))
        holders: list[Any] = []
        lock = fleet.bull.keys.job(STAGE, job_id) + ":lock"
        vendor.on_close = lambda _path: holders.append(redis_admin.get(lock))
        async with attempting(stale, job) as outcome:
            await vendor.called.wait()
            cut_off(proxy)
            assert (await outcome()).outcome is Outcome.LOST
            await vendor.closed.wait()
        assert holders == [job.token]
        assert (await take_over(fleet)).outcome is Outcome.FINISHED
        assert [state for *_, state in await fleet.journal()] == ["lost", "finished"]
        proxy.cut()


# ---------------------------------------------------------------------------------------- asleep with its machine


async def test_a_holder_whose_machine_was_suspended_hangs_up_as_soon_as_it_is_awake(
    redis_url: str, database_url: str, redis_admin: redis.Redis
) -> None:
    """Its timers stood still; the lease, which counts the time suspended, is over, and somebody else has the job."""
    clock = Suspended()
    async with (
        slow_vendor() as vendor,
        open_line(redis_url, database_url, clock=clock, lease_s=600, beat_s=150) as stale,
        quick_line(redis_url, database_url) as fleet,
    ):
        job_id = await fleet.add_upload()
        stale.script(STAGE, calling(vendor))
        job = await stale.claim(STAGE, lease_ms=600_000)
        async with attempting(stale, job) as outcome:
            await vendor.called.wait()
            redis_admin.delete(fleet.bull.keys.job(STAGE, job_id) + ":lock")  # ten minutes went by on the server
            assert (await take_over(fleet)).outcome is Outcome.FINISHED
            before = await everything(fleet, redis_admin)
            clock.suspended_s = 900
            with anyio.fail_after(20):
                await vendor.closed.wait()
            assert (await outcome()).outcome is Outcome.LOST
        assert await everything(fleet, redis_admin) == before


# ------------------------------------------------------------------------------------- its loop blocked by a stage


async def _returns(_given: StageInput, _line: Line) -> StageResult:
    return RESULT


async def _asks(given: StageInput, _line: Line) -> StageResult:
    given.still_ours()
    raise AssertionError("it still believes")


def _raising(error: Exception) -> Callable[[StageInput, Line], Awaitable[StageResult]]:
    async def fail(_given: StageInput, _line: Line) -> StageResult:
        raise error

    return fail


async def _begins_an_effect(given: StageInput, line: Line) -> StageResult:
    async def call(_parameters: Any) -> Any:
        raise AssertionError("a stale worker called the vendor")

    await Ledger(PostgresEffects(line.database)).once(given, "product:1", {}, call=call, ask=call)
    return RESULT


async def _progresses(given: StageInput, _line: Line) -> StageResult:
    await given.progress(0.5, "half")
    return RESULT


ENDINGS: dict[str, Callable[[StageInput, Line], Awaitable[StageResult]]] = {
    "returns its result": _returns,
    "asks for its lease": _asks,
    "reports progress": _progresses,
    "fails": _raising(Retry("it hiccuped")),
    "rejects the order": _raising(Reject("no", "no")),
    "finds a vendor down": _raising(VendorUnavailable("down")),
    "finds Postgres down": _raising(DatabaseUnavailable("down")),
    "has a bug": _raising(ZeroDivisionError()),
    "begins an effect": _begins_an_effect,
}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_worker_blocked_until_another_has_done_the_job_writes_nothing(
    redis_url: str, database_url: str, redis_admin: redis.Redis, ending: str
) -> None:
    """Its loop stood still through lease, takeover and end; it wakes up believing what it believed before."""
    clock = Suspended()
    before: list[list[Any]] = []

    async def fleet_does_it() -> None:
        async with quick_line(redis_url, database_url) as fleet:
            assert (await take_over(fleet)).outcome is Outcome.FINISHED
            before.append(await everything(fleet, redis_admin))

    async with quick_line(redis_url, database_url, clock) as stale:

        async def blocks_the_loop(given: StageInput) -> StageResult:
            # A lease goes by, here and on the server.
            clock.suspended_s += LEASE_S
            redis_admin.delete(stale.bull.keys.job(STAGE, job.id) + ":lock")
            other = threading.Thread(target=anyio.run, args=[fleet_does_it])
            other.start()
            other.join()
            return await ENDINGS[ending](given, stale)

        stale.script(STAGE, blocks_the_loop)
        await stale.add_upload()
        job = await stale.claim(STAGE, lease_ms=round(LEASE_S * 1000))
        async with attempting(stale, job) as outcome:
            assert (await outcome()).outcome in (Outcome.LOST, Outcome.RELEASED)
            assert await everything(stale, redis_admin) == before[0]
        assert [state for *_, state in await stale.journal()] == ["crashed", "finished"]


async def test_an_effect_whose_answer_comes_after_the_lease_is_not_confirmed_by_the_stale_worker(
    redis_url: str, database_url: str, redis_admin: redis.Redis
) -> None:
    """The intent stays a question for whoever has the run now."""
    clock = Suspended()

    async def fleet_loads_it() -> None:
        async with quick_line(redis_url, database_url) as fleet:
            fleet.script(STAGE, _raises_vendor_down)
            assert (await take_over(fleet)).outcome is Outcome.RELEASED

    async with quick_line(redis_url, database_url, clock) as stale:

        async def call_that_outlives_the_lease(_parameters: Any) -> dict[str, Any]:
            clock.suspended_s += LEASE_S
            redis_admin.delete(stale.bull.keys.job(STAGE, job.id) + ":lock")
            other = threading.Thread(target=anyio.run, args=[fleet_loads_it])
            other.start()
            other.join()
            return {"id": "gid://1"}

        async def has_an_effect(given: StageInput) -> StageResult:
            ledger = Ledger(PostgresEffects(stale.database))
            with pytest.raises(LeaseLost):
                await ledger.once(given, "product:1", {}, call=call_that_outlives_the_lease, ask=_never)
            raise LeaseLost("as the ledger said")

        stale.script(STAGE, has_an_effect)
        await stale.add_upload()
        job = await stale.claim(STAGE, lease_ms=round(LEASE_S * 1000))
        assert (await stale.runner.attempt(job, None)).outcome is Outcome.LOST
        async with stale.database.transaction() as connection:
            assert await connection.scalar(select(effects.c.state)) == "intent"


async def _raises_vendor_down(_given: StageInput) -> StageResult:
    raise VendorUnavailable("down")


async def _never(_effect: Any) -> Any:
    raise AssertionError("not asked")


# --------------------------------------------------------------------------- the default executor has no free thread


@contextmanager
def exhausted_executor() -> Iterator[None]:
    """Every thread of the loop's default executor hangs, and a queue stands before them."""
    loop = asyncio.get_running_loop()
    released = threading.Event()
    hanging = [loop.run_in_executor(None, released.wait) for _ in range(80)]
    try:
        yield
    finally:
        released.set()
        for one in hanging:
            one.add_done_callback(lambda done: done.cancelled() or done.exception())


async def test_with_every_thread_of_the_executor_hung_redis_is_found_again_and_leases_hold(
    redis_url: str, database_url: str
) -> None:
    """Redis is reached by a name, which asyncio would look up in exactly those threads."""
    async with proxy_to(redis_url) as proxy:
        by_name = proxy.url().replace("127.0.0.1", "localhost")
        async with quick_line(by_name, database_url) as line:
            await line.add_upload()
            job = await line.claim(STAGE, lease_ms=round(LEASE_S * 1000))
            went_on = anyio.Event()

            async def outlives_its_first_lease(given: StageInput) -> StageResult:
                await went_on.wait()
                given.still_ours()
                return RESULT

            line.script(STAGE, outlives_its_first_lease)
            with exhausted_executor():
                async with attempting(line, job) as outcome:
                    proxy.cut()
                    first_lease_ends = job.lease.deadline + LEASE_S

                    async def renewed_since() -> bool:
                        return job.lease.lost or job.lease.deadline > first_lease_ends

                    await eventually(renewed_since)
                    report = await line.bull.sweep([STAGE], guard_ms=1, stalled_interval_ms=60_000)
                    went_on.set()
                    assert (await outcome()).outcome is Outcome.FINISHED
                assert report.queues[STAGE].active == 1


async def test_with_every_thread_of_the_executor_hung_a_new_connection_to_postgres_is_given_up_and_found_later(
    database_url: str,
) -> None:
    """The driver does look names up there. What is open goes on; what must be opened is an outage, with a deadline."""
    database = Database(database_url.replace("127.0.0.1", "localhost"))

    @event.listens_for(database.engine.sync_engine, "do_connect")
    def give_up_early(_dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]) -> None:
        assert parameters["timeout"] <= 10
        parameters["timeout"] = 1

    async def ask() -> None:
        async with database.transaction():
            pass

    await ask()
    with exhausted_executor():
        await ask()
        await database.engine.dispose()
        with anyio.fail_after(20), pytest.raises(DatabaseUnavailable):
            await ask()
    await ask()
    await database.close()


async def test_a_name_is_looked_up_while_the_executor_is_exhausted() -> None:
    with exhausted_executor(), anyio.fail_after(20):
        assert set(await resolve("localhost", 80)) & {"127.0.0.1", "::1"}


# ------------------------------------------------------------------------------------------------ a stage that hangs


async def _for_ever(_released: threading.Event) -> None:
    await anyio.sleep_forever()


async def _swallowing_a_while(_released: threading.Event) -> None:
    """A library that loses a cancellation, twice."""
    for _ in range(3):
        try:
            await anyio.sleep_forever()
        except asyncio.CancelledError:
            continue
    raise AssertionError("asked three times")


async def _swallowing_and_failing(_released: threading.Event) -> None:
    try:
        await anyio.sleep_forever()
    except asyncio.CancelledError:
        raise VendorUnavailable("the call was cut") from None


async def _deaf(released: threading.Event) -> None:
    while not released.is_set():
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            continue


async def _in_a_thread(released: threading.Event) -> None:
    await anyio.to_thread.run_sync(released.wait)


async def _in_a_thread_of_the_executor(released: threading.Event) -> None:
    await asyncio.to_thread(released.wait)


HANGS = (_for_ever, _swallowing_a_while, _swallowing_and_failing, _deaf, _in_a_thread, _in_a_thread_of_the_executor)


async def test_a_stage_that_hangs_is_cut_off_counted_and_tried_again_though_its_lease_is_renewed(
    redis_url: str, database_url: str
) -> None:
    """The time limit is three leases: renewing alone would keep each of these six for ever."""
    released = threading.Event()
    hangs = iter(HANGS)
    hung: dict[Any, StageInput] = {}
    over: list[Any] = []

    async def hang_in_its_own_way(given: StageInput) -> StageResult:
        hang = next(hangs)
        hung[hang] = given
        try:
            await hang(released)
        finally:
            over.append(hang)
        return RESULT

    lease_s = flow.BY_NAME[STAGE].time_limit.total_seconds() / 3
    async with open_line(redis_url, database_url, clock=Fast(60), lease_s=lease_s, beat_s=lease_s / 4) as line:
        line.script(STAGE, hang_in_its_own_way)
        jobs = [await line.add_upload(f"upload-{number}") for number in range(len(HANGS))]
        with capture_logs() as said:
            async with anyio.create_task_group() as beating:
                beating.start_soon(line.heartbeat.run)
                async with anyio.create_task_group() as attempts:
                    for _ in jobs:
                        attempts.start_soon(
                            _attempt_once, line, await line.claim(STAGE, lease_ms=round(lease_s * 1000))
                        )
                beating.cancel_scope.cancel()
        events = [entry["event"] for entry in said]
        assert events.count("attempt failed") == len(HANGS)
        assert "lease lost" not in events
        assert await _ended(line) == [("failed", "stuck")] * len(HANGS)
        for job_id in jobs:
            found = await line.bull.job(STAGE, job_id)
            assert found is not None
            assert (found.attempts_made, await line.bull.state(STAGE, job_id)) == (1, "waiting")

        # One obeys nobody. It was left behind, holds neither slot nor job, and is refused whatever it asks for.
        assert set(HANGS) - set(over) == {_deaf}
        assert events.count("stage does not end, left behind") == 1
        with pytest.raises(LeaseLost):
            hung[_deaf].still_ours()

        line.script(STAGE, _plainly)
        for _ in jobs:
            assert (await line.step(STAGE)).outcome is Outcome.FINISHED
        released.set()
        await eventually(lambda: _all_over(over))
        assert await _ended(line) == [("failed", "stuck")] * len(HANGS) + [("finished", None)] * len(HANGS)


async def _attempt_once(line: Line, job: ClaimedJob) -> None:
    assert (await line.runner.attempt(job, None)).outcome is Outcome.RETRIED


async def _all_over(over: list[Any]) -> bool:
    return set(over) == set(HANGS)


async def _ended(line: Line) -> list[tuple[str, str | None]]:
    """How the attempts ended, and why."""
    async with line.database.transaction() as connection:
        found = await connection.execute(select(stage_runs.c.state, stage_runs.c.error_code))
        return sorted((state, code or None) for state, code in found)


async def _plainly(_given: StageInput) -> StageResult:
    return RESULT
