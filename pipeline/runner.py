"""One attempt at one job: load, run, record, settle.

The order of the four is the whole safety of the service. Postgres decides whether the job is due and raises
the fence (load); the stage works and writes nothing itself (run); one fenced transaction makes the result
true and says what is due next (record); one script tells Redis (settle). Whatever dies between two of them
is healed by the next claim of the same job, which asks the journal first.
"""

from __future__ import annotations

import enum
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import anyio
import structlog

from pipeline import flow
from pipeline.apart import Apart
from pipeline.clock import Clock
from pipeline.contract import Done, Reject, Retry, Review, Stage, StageInput, StageResult
from pipeline.domain import intake
from pipeline.errors import (
    DatabaseBusy,
    DatabaseUnavailable,
    LeaseLost,
    Permanent,
    RedisUnavailable,
    Temporary,
    VendorUnavailable,
)
from pipeline.hand_off import LIVE
from pipeline.ports import Progress
from pipeline.queue.backoff import Random, full_jitter
from pipeline.queue.bull import Bull
from pipeline.queue.heartbeat import Heartbeat
from pipeline.queue.job import ClaimedJob
from pipeline.queue.lease import Lease
from pipeline.run_store import (
    VENDOR_WAIT,
    AskLive,
    Dead,
    Failed,
    Later,
    Loaded,
    NotDue,
    Ready,
    Recorded,
    RunStore,
    Suspect,
    Ticket,
    Trouble,
    job_ref,
)
from pipeline.settling import SHIELDED_S, NoSlots, Outcome, Settlement, Settler, Slots
from pipeline.solitude import Solitude

BACKOFF_CAP_S = 60.0
WAIT_BASE_S = 5.0
"""A vendor that names no time is asked again after 5 s, 10 s, .. 60 s."""

AFTERMATH = timedelta(minutes=5)
"""On top of a stage's patience. After an outage of just that long everybody comes back at once, whoever was put off
right before its end last of all; a vendor that throttles the crowd would have served it a minute later."""

BROKEN_S = 30.0
"""A job whose attempt broke outside its stage (our own bug, or a journal nobody can read) is put off so long."""

_log = structlog.get_logger()


class _Interrupted(enum.Enum):
    """Why a stage was cancelled from outside."""

    LEASE = "lease"
    TIME = "time"
    DRAIN = "drain"


def _reason(noticed: _Interrupted, lease: Lease) -> _Interrupted:
    """Why a stage is cut off. A suspended machine wakes to find lease and time limit over; its sleep is no failure."""
    return _Interrupted.LEASE if noticed is _Interrupted.TIME and lease.lost else noticed


def _nowhere(_gap: str) -> None:
    """Production: every gap between two writes is just passed."""


class Runner:
    """Takes claimed jobs through their attempt. One for the whole process; it knows only who still insists."""

    def __init__(
        self,
        *,
        bull: Bull,
        runs: RunStore,
        stages: Mapping[str, Stage],
        heartbeat: Heartbeat,
        progress: Progress,
        clock: Clock,
        random: Random,
        worker: str,
        reach: Callable[[str], None] = _nowhere,
    ) -> None:
        self._bull = bull
        self._runs = runs
        self._stages = stages
        self._heartbeat = heartbeat
        self._progress = progress
        self._clock = clock
        self._random = random
        self._worker = worker
        self._reach = reach
        self._draining = anyio.Event()
        self._settler = Settler(bull, runs, heartbeat, clock)
        self.solitude = Solitude()

    def drain(self) -> None:
        """Cancel what still runs, at a safe point; each attempt hands its job back."""
        self._draining.set()
        self._settler.drain()

    async def attempt(self, job: ClaimedJob, slots: Slots | None = None) -> Settlement:
        """Take one claimed job through load, run, record and settle."""
        self._reach("claim")
        self._heartbeat.hold(job)
        try:
            with structlog.contextvars.bound_contextvars(queue=job.queue, job_id=job.id):
                if self.solitude.taken:
                    return await self.release(job)  # claimed just before; another process may take it
                await self._bull.schedule_next(job)
                with self.solitude.beside():
                    loaded = await self._load(job)
                    if not isinstance(loaded, Suspect):
                        self._reach("load")
                        return await self._answer(job, loaded, slots or NoSlots())
                return await self._attempt_alone(job, loaded, slots or NoSlots())
        except DatabaseBusy as error:
            # This order's trouble alone: at the head of its queue, with all claims held, it would starve the others.
            return await self._settler.put_off(job, self._wait_s(1), str(error))
        except (RedisUnavailable, DatabaseUnavailable) as error:
            _log.warning("attempt handed back", reason=str(error), queue=job.queue, job_id=job.id)
            await self.release(job)
            return Settlement(Outcome.RELEASED, hold=True)
        except Exception as error:  # noqa: BLE001 one order's trouble must not end the process and all others
            _log.error("attempt broke", exc_info=error, queue=job.queue, job_id=job.id)
            return await self._settler.put_off(job, BROKEN_S, f"{type(error).__name__} outside the stage")
        finally:
            self._heartbeat.drop(job)

    async def _attempt_alone(self, job: ClaimedJob, suspect: Suspect, slots: Slots) -> Settlement:
        """The attempt of a run under which workers died: while nothing else runs here that could die of it."""
        if self.solitude.taken:
            return await self.release(job)  # one suspect at a time
        async with self.solitude.alone():
            if job.lease.lost:
                return Settlement(Outcome.LOST, alone=True)
            _log.warning("suspect runs alone", crashes=suspect.crashes)
            loaded = await self._load(job, alone=True)
            self._reach("load")
            settled = await self._answer(job, loaded, slots)
        return replace(settled, alone=True)

    async def _answer(self, job: ClaimedJob, loaded: Loaded, slots: Slots) -> Settlement:
        match loaded:
            case Ready():
                return await self._work(job, loaded, slots)
            case NotDue():
                return await self._skip(job, loaded, slots)
            case Dead():
                return await self._bury(job, loaded)
            case Later():
                return await self._settler.put_off(job, loaded.after_s, loaded.reason, unstarted=True)
            case AskLive() | Suspect():
                return await self._settler.put_off(job, 1.0, "the run changes faster than it can be asked about")

    # ------------------------------------------------------------------------------------------- load

    async def _load(self, job: ClaimedJob, *, alone: bool = False) -> Loaded:
        ticket = await self._ticket(job)
        loaded = await self._runs.load(ticket, alone=alone)
        if isinstance(loaded, AskLive):
            # Asked outside the transaction: a row lock must not wait for the network.
            live = await self._is_live(loaded)
            loaded = await self._runs.load(
                ticket, live=loaded.ref if live else None, not_live=None if live else loaded.ref, alone=alone
            )
        return loaded

    async def _ticket(self, job: ClaimedJob) -> Ticket:
        data = job.data if job.data is not None else await self._bull.data(job.queue, job.id)
        request: intake.HandOff | intake.Intake | str
        try:
            request = intake.parse(data)
        except intake.BadEnvelopeError as error:
            request = str(error)
        if isinstance(request, intake.Intake) and job.queue != flow.FIRST:
            request = f"stage ai_parsing does not belong in queue {job.queue}"
        return Ticket(
            stage=job.queue,
            job_id=job.id,
            timestamp_ms=job.timestamp_ms,
            attempts_made=job.attempts_made,
            stalled=job.stalled_count,
            worker=self._worker,
            request=request,
        )

    async def _is_live(self, asked: AskLive) -> bool:
        job_id = asked.ref.partition("@")[0]
        found = await self._bull.job(asked.stage, job_id)
        if found is None or job_ref(job_id, found.timestamp_ms) != asked.ref:
            return False
        return await self._bull.state(asked.stage, job_id) in LIVE

    # -------------------------------------------------------------------------------------------- run

    async def _work(self, job: ClaimedJob, ready: Ready, slots: Slots) -> Settlement:
        with structlog.contextvars.bound_contextvars(run_id=ready.run.id, attempt=ready.attempt):
            await self._tell(ready, "started")
            ended = await self._run(job, ready)
            if isinstance(ended, Done | Review):
                return await self._finish(job, ready, ended, slots)
            if isinstance(ended, _Interrupted):
                return await self._interrupted(job, ready, ended)
            return await self._raised(job, ready, ended)

    async def _interrupted(self, job: ClaimedJob, ready: Ready, why: _Interrupted) -> Settlement:
        match why:
            case _Interrupted.DRAIN:
                return await self._hand_back(job, ready)
            case _Interrupted.LEASE:
                return await self._lose(ready)
            case _Interrupted.TIME:
                limit_s = flow.BY_NAME[ready.stage].time_limit.total_seconds()
                trouble = Trouble("stuck", f"{ready.stage} made no progress for {limit_s:g} s")
                return await self._fail(job, ready, trouble, final=False)

    async def _raised(self, job: ClaimedJob, ready: Ready, error: Exception) -> Settlement:
        """What an exception means is its type: lost, waiting for a vendor, handed back, or a counted failure."""
        match error:
            case LeaseLost():
                return await self._lose(ready)
            case VendorUnavailable():
                return await self._wait(job, ready, error)
            case DatabaseBusy():
                await self._let_go(ready, "released")
                raise error
            case Temporary():
                _log.warning("attempt handed back", reason=str(error))
                await self._hand_back(job, ready)
                return Settlement(Outcome.RELEASED, hold=True)
            case Reject() | Permanent():
                return await self._fail(job, ready, Trouble(_code(error), str(error)), final=True)
            case Retry():
                return await self._fail(job, ready, Trouble("failed", str(error)), final=False, after_s=error.after_s)
            case _:
                # Our own bug: the person sees its kind, the journal and the log keep the trace.
                _log.error("stage raised", exc_info=error)
                trouble = Trouble("error", f"{type(error).__name__} in {ready.stage}", _trace(error))
                return await self._fail(job, ready, trouble, final=False)

    async def _run(self, job: ClaimedJob, ready: Ready) -> StageResult | Exception | _Interrupted:
        """Run the stage until it ends, its lease is lost, it makes no progress, or we drain; the first one counts.

        Except that a result which arrived all the same is kept: the fence decides whether it may be written.
        A stage that does not end although it is told to is left behind without a lease: it may do nothing more.
        """
        limit_s = flow.BY_NAME[ready.stage].time_limit.total_seconds()
        progressed_at = self._clock.monotonic()
        done = 0.0
        interrupted: _Interrupted | None = None

        async def progress(fraction: float, message: str) -> None:
            nonlocal progressed_at, done
            progressed_at, done = self._clock.monotonic(), fraction
            await self._tell(ready, "progress", fraction=fraction, message=message)

        async def waits(message: str) -> None:
            nonlocal progressed_at
            progressed_at = self._clock.monotonic()
            await self._tell(ready, "waiting", fraction=done, message=message)

        async def stuck() -> None:
            while (left_s := progressed_at + limit_s - self._clock.monotonic()) > 0:
                await self._clock.sleep(left_s)

        given = StageInput(
            run=ready.run,
            stage=ready.stage,
            attempt=ready.attempt,
            earlier=ready.earlier,
            still_ours=job.lease.check,
            review=ready.review,
            progress=progress,
            waits=waits,
        )
        stage = Apart(self._stages[ready.stage].run(given))
        try:
            async with anyio.create_task_group() as tasks:

                async def watch(event: Callable[[], Awaitable[None]], why: _Interrupted) -> None:
                    nonlocal interrupted
                    await event()
                    interrupted = interrupted or _reason(why, job.lease)
                    tasks.cancel_scope.cancel()

                tasks.start_soon(watch, job.lease.wait_lost, _Interrupted.LEASE)
                tasks.start_soon(watch, stuck, _Interrupted.TIME)
                tasks.start_soon(watch, self._draining.wait, _Interrupted.DRAIN)
                await stage.ended.wait()
                tasks.cancel_scope.cancel()
        finally:
            ended = await stage.end(self._clock)
            if not ended:
                self._leave_behind(job, stage)
        result = stage.result() if ended else None
        return result if isinstance(result, Done | Review) else interrupted or result or _Interrupted.DRAIN

    def _leave_behind(self, job: ClaimedJob, stage: Apart[StageResult]) -> None:
        """Go on without it, so that neither its slot nor its job is held by code that obeys nobody."""
        job.lease.revoke()
        _log.error("stage does not end, left behind")
        stage.when_ended(lambda: _log.warning("stage that was left behind has ended"))

    # --------------------------------------------------------------------------------- record, settle

    async def _finish(self, job: ClaimedJob, ready: Ready, result: StageResult, slots: Slots) -> Settlement:
        with anyio.CancelScope(shield=True):
            try:
                recorded = await self._record(ready, result)
            except LeaseLost:
                return Settlement(Outcome.LOST)
            except Temporary:
                raise
            except Exception as error:  # noqa: BLE001 a result that cannot be written is a failure of the attempt
                return await self._raised(job, ready, error)
            self._reach("record")
            if ready.stage == flow.STATUS:
                await self._settler.let_in(ready.run.id)
            outcome = "review" if isinstance(result, Review) else "finished"
            reply = await self._settler.finish(job, ready.run.id, outcome, recorded.summary, recorded.next, slots)
            self._reach("settle")
            await self._tell(ready, outcome, summary=recorded.summary)
        _log.info("stage finished", run_id=ready.run.id, outcome=outcome, next=recorded.next and recorded.next.stage)
        return Settlement(Outcome.FINISHED, reply)

    async def _record(self, ready: Ready, result: StageResult) -> Recorded:
        try:
            return await self._runs.record(ready, result)
        except DatabaseUnavailable:
            # The commit may or may not have happened. Only the journal knows, so ask it while we may.
            with anyio.move_on_after(SHIELDED_S):
                while True:
                    try:
                        recorded = await self._runs.find_recorded(ready)
                    except DatabaseUnavailable:
                        await self._clock.sleep(0.5)
                        continue
                    if recorded is None:
                        break
                    return recorded
            raise

    async def _skip(self, job: ClaimedJob, found: NotDue, slots: Slots) -> Settlement:
        with anyio.CancelScope(shield=True):
            # Perhaps its worker died when the run was over but nobody had been let in for it.
            await self._settler.let_in(found.run_id)
            reply = await self._settler.finish(job, found.run_id, "skipped", found.reason, found.hand_on, slots)
        _log.info("job not due", run_id=found.run_id, reason=found.reason)
        return Settlement(Outcome.FINISHED, reply)

    # --------------------------------------------------------------------- fail, wait, release, lose

    async def _fail(
        self, job: ClaimedJob, ready: Ready, trouble: Trouble, *, final: bool, after_s: float | None = None
    ) -> Settlement:
        """Postgres first, then Redis: a crash between the two finds the failure counted and does not count again."""
        spec = flow.BY_NAME[ready.stage]
        with anyio.CancelScope(shield=True):
            try:
                failed = await self._runs.fail(ready, trouble, final=final, attempts=spec.attempts)
            except LeaseLost:
                return Settlement(Outcome.LOST)
            self._reach("failure-record")
            if failed.final:
                return await self._end(job, ready, failed, trouble)
            delay_s = after_s
            if delay_s is None:
                base_s = spec.backoff.total_seconds()
                delay_s = full_jitter(failed.failures, base_s=base_s, cap_s=BACKOFF_CAP_S, random=self._random)
            await self._settler.retry(job, trouble, failures=failed.failures, delay_s=delay_s)
            await self._tell(ready, "retrying", message=trouble.message, delay_s=delay_s)
        _log.warning("attempt failed", code=trouble.code, reason=trouble.message, failures=failed.failures)
        return Settlement(Outcome.RETRIED)

    async def _end(self, job: ClaimedJob, ready: Ready, failed: Failed, trouble: Trouble) -> Settlement:
        await self._settler.let_in(ready.run.id)
        await self._settler.dead_letter(job, failed.message, failed.failures, trouble.stack)
        await self._tell(ready, "failed", code=trouble.code, message=failed.message)
        _log.error("run failed", code=trouble.code, reason=failed.message, failures=failed.failures)
        return Settlement(Outcome.DEAD)

    async def _bury(self, job: ClaimedJob, dead: Dead) -> Settlement:
        with anyio.CancelScope(shield=True):
            if dead.run_id:
                await self._settler.let_in(dead.run_id)
            await self._settler.dead_letter(job, dead.message, dead.failures, "")
        _log.error("job is dead", run_id=dead.run_id, code=dead.code, reason=dead.message)
        return Settlement(Outcome.DEAD)

    async def _wait(self, job: ClaimedJob, ready: Ready, error: VendorUnavailable) -> Settlement:
        """A vendor is down: nobody's fault, nothing counted, asked again until patience runs out.

        It does not run out where the vendor is well and we must wait: then failing would only make a person retry
        every run, when what they have to do, or the hour that must pass, lets them all go on.
        """
        spec = flow.BY_NAME[ready.stage]
        trouble = Trouble(VENDOR_WAIT if error.patient else "vendor_unavailable", str(error))
        patience = None if error.patient else spec.patience + AFTERMATH
        with anyio.CancelScope(shield=True):
            try:
                failed = await self._runs.wait(ready, trouble, patience=patience)
            except LeaseLost:
                return Settlement(Outcome.LOST)
            self._reach("failure-record")
            if failed is not None:
                return await self._end(job, ready, failed, trouble)
            # Asked again when patience ends at the latest, whatever the vendor says: only an attempt can say so.
            after_s = min(error.retry_after_s or self._wait_s(ready.attempt), spec.patience.total_seconds())
            if error.uncalled:  # many wait for one thing: they must not all come back in the same moment
                after_s += self._random() * min(after_s, BACKOFF_CAP_S)
            await self._tell(ready, "waiting", message=trouble.message, delay_s=after_s)
        return await self._settler.put_off(job, after_s, trouble.message, unstarted=error.uncalled)

    def _wait_s(self, attempt: int) -> float:
        """When a vendor that names no time is asked again."""
        return WAIT_BASE_S + full_jitter(
            attempt, base_s=WAIT_BASE_S, cap_s=BACKOFF_CAP_S - WAIT_BASE_S, random=self._random
        )

    async def _hand_back(self, job: ClaimedJob, ready: Ready) -> Settlement:
        """Drained or cut off: the attempt is closed as released, then the job goes to the head of its queue."""
        await self._let_go(ready, "released")
        self._reach("release")
        return await self.release(job)

    async def release(self, job: ClaimedJob) -> Settlement:
        """Hand a job back to the head of its queue, uncounted."""
        settled = await self._settler.release(job)
        self._reach("released")
        return settled

    async def _lose(self, ready: Ready) -> Settlement:
        """Somebody else may own the job: say that this attempt is over, and touch nothing else."""
        _log.warning("lease lost, attempt abandoned")
        await self._let_go(ready, "lost")
        return Settlement(Outcome.LOST)

    async def _let_go(self, ready: Ready, state: str) -> None:
        with anyio.CancelScope(shield=True), anyio.move_on_after(SHIELDED_S):
            try:
                await self._runs.let_go(ready, state)
            except DatabaseUnavailable as error:
                _log.warning("end of attempt not written", state=state, reason=str(error))  # the next load closes it

    # ------------------------------------------------------------------------------------------- tell

    async def _tell(self, ready: Ready, event: str, **details: Any) -> None:
        """Progress is a courtesy: it may be late or lost, and never holds the work up."""
        with anyio.move_on_after(1.0):
            try:
                await self._progress.tell(ready.run.id, ready.stage, event, details)
            except Exception as error:  # noqa: BLE001 a refused or broken courtesy must not cost an attempt either
                _log.debug("progress not told", reason=type(error).__name__)


def _code(error: Reject | Permanent) -> str:
    return str(getattr(error, "code", "refused"))


def _trace(error: Exception) -> str:
    """The trace without values: file, line and function of each frame, and the error's type."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"  {frame.filename.rsplit('/', 1)[-1]}:{frame.lineno} in {frame.name}" for frame in frames]
    return "\n".join([type(error).__name__, *places])
