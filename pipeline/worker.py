"""One process: its roles, the order they start and stop in, and the slots that take jobs.

start  heartbeat, notifier, sweeper, reconciler, claimers: whoever holds a lease finds it renewed
stop   claimers first; what runs may finish within the grace period, then is drained and handed back;
       heartbeat last, because until then every lease held is still worked under
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import anyio
import structlog
from anyio.abc import TaskGroup

from pipeline import flow
from pipeline.clock import Clock
from pipeline.errors import BrokenQueue, ReplyLost, Temporary
from pipeline.queue.backoff import Random
from pipeline.queue.bull import Bull
from pipeline.queue.heartbeat import Heartbeat
from pipeline.queue.job import Claim, ClaimedJob, ClaimNext, Empty, Limited, RateLimit, SweepReport
from pipeline.queue.notifier import Events, Notifier
from pipeline.queue.sweeper import Sweeper
from pipeline.queue.timer import wait_until
from pipeline.reconciler import Reconciler
from pipeline.run_store import Pauses
from pipeline.runner import Outcome, Runner

_log = structlog.get_logger()

Observe = Callable[[str, Outcome, float], None]
"""Told of every settled attempt: queue, outcome, seconds."""


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """How one process works. `name` is unique per process and begins every token."""

    name: str
    stages: tuple[str, ...] = flow.NAMES
    lease_s: float = 120.0
    guard_s: float = 5.0
    stalled_s: float = 60.0
    retry_delay_s: float = 5.0
    grace_s: float = 30.0
    limits: Mapping[str, RateLimit] = field(default_factory=dict)


class Claimer:
    """The slots of one queue: claims while one is free, sleeps while nothing waits."""

    def __init__(self, queue: str, worker: Worker) -> None:
        self.queue = queue
        self._worker = worker
        self._concurrency = flow.BY_NAME[queue].concurrency
        self._running = 0
        self._changed = anyio.Event()
        self._clock = worker.clock
        self._unanswered = ""

    @property
    def running(self) -> int:
        """Attempts under way."""
        return self._running

    def wake(self) -> None:
        """Something may have changed: work, a pause, a free slot."""
        self._changed.set()

    async def run(self) -> None:
        """Claim until the worker stops claiming; then wait for what runs."""
        async with anyio.create_task_group() as slots:
            while not self._worker.stopping.is_set():
                self._changed = anyio.Event()
                pause_s = await self._fill(slots)
                if not self._worker.stopping.is_set():
                    await self._sleep(pause_s)

    async def _sleep(self, seconds: float) -> None:
        """Sleep until something changes, or until then."""
        end = self._clock.monotonic() + seconds
        await wait_until(self._changed, self._clock, lambda: end - self._clock.monotonic())

    async def _fill(self, slots: TaskGroup) -> float:
        """Claim into every free slot; return for how many seconds there is nothing more to do."""
        while self._running < self._concurrency and not self._worker.stopping.is_set():
            # Asked before every claim: an attempt handed back meanwhile may have said that nothing can be served.
            if not self._worker.may_claim(self.queue):
                return self._worker.hold_s or self._worker.config.guard_s
            claim = await self._claim()
            if isinstance(claim, ClaimedJob):
                self._running += 1
                slots.start_soon(self._slot, claim)
            elif isinstance(claim, Limited):
                return max(0.01, claim.retry_after_ms / 1000)
            elif isinstance(claim, Empty):
                return IDLE_S
            else:
                return self._worker.config.retry_delay_s
        return IDLE_S

    async def _claim(self) -> Claim | None:
        """One claim; None when Redis or the queue cannot serve. A lost reply is asked for, never sent again.

        And asked for until there is an answer: a job we hold unknowingly lies for a lease and counts as stalled.
        """
        try:
            if not self._unanswered:
                token = self._worker.new_token()
                try:
                    return await self._worker.bull.claim(
                        self.queue, token=token, lease_ms=self._worker.lease_ms, limit=self._worker.limit(self.queue)
                    )
                except ReplyLost:
                    self._unanswered = token
            adopted = await self._worker.bull.adopt(self.queue, self._unanswered)
            self._unanswered = ""
            return adopted.claimed or Empty()
        except BrokenQueue as error:
            _log.error("queue is broken", queue=self.queue, reason=str(error))
        except Temporary as error:
            _log.warning("claim failed", queue=self.queue, reason=str(error))
        return None

    async def _slot(self, job: ClaimedJob | None) -> None:
        """Run a job, then whatever its settling call claimed for this slot."""
        try:
            while job is not None:
                started = self._clock.monotonic()
                stopping = self._worker.stopping.is_set() or not self._worker.may_claim(self.queue)
                settled = await self._worker.runner.attempt(job, None if stopping else self._claim_next())
                self._worker.observe(self.queue, settled.outcome, self._clock.monotonic() - started)
                if settled.hold:
                    self._worker.hold()
                job = settled.next
        except Exception as error:  # noqa: BLE001 our own bug: the job comes back when its lease is over, the others go on
            _log.error("slot broke", exc_info=error, queue=self.queue)
        finally:
            self._running -= 1
            self.wake()

    def _claim_next(self) -> ClaimNext:
        return ClaimNext(self._worker.new_token(), self._worker.lease_ms, self._worker.limit(self.queue))


IDLE_S = 3600.0
"""A claimer that found nothing sleeps until it is woken; the sweep wakes it whenever something waits."""


class Worker:
    """Holds the roles together. `run` returns after a clean stop."""

    def __init__(
        self,
        *,
        bull: Bull,
        events: Events,
        runner: Runner,
        heartbeat: Heartbeat,
        reconciler: Reconciler,
        pauses: Pauses,
        clock: Clock,
        random: Random,
        config: WorkerConfig,
        observe: Observe = lambda _queue, _outcome, _seconds: None,
    ) -> None:
        self.bull = bull
        self.runner = runner
        self.clock = clock
        self.config = config
        self.observe = observe
        self.stopping = anyio.Event()
        self.lease_ms = round(config.lease_s * 1000)
        self._heartbeat = heartbeat
        self._reconciler = reconciler
        self._pauses = pauses
        self._paused: frozenset[str] = frozenset()
        self._held_until = clock.monotonic()
        self._tokens = 0
        self._swept_at: float | None = None
        self.last_report: SweepReport | None = None
        self._hurry = anyio.Event()
        self._claimers = {queue: Claimer(queue, self) for queue in config.stages}
        self._sweeper = Sweeper(
            bull,
            clock,
            flow.NAMES,
            on_report=self._on_report,
            random=random,
            guard_s=config.guard_s,
            stalled_s=config.stalled_s,
        )
        self._notifier = Notifier(
            events,
            bull.keys,
            flow.NAMES,
            on_wake=self._wake,
            on_delayed=lambda _queue, due_ms: self._sweeper.due_at(due_ms),
            on_resubscribed=self._sweeper.nudge,
        )

    # ------------------------------------------------------------------------------- start and stop

    async def run(self) -> None:
        """Work until `stop` is called, then hand everything back."""
        async with anyio.create_task_group() as leases:
            leases.start_soon(self._heartbeat.run)
            async with anyio.create_task_group() as roles:
                for role in (self._notifier.run, self._sweeper.run, self._reconciler.run):
                    roles.start_soon(role)
                async with anyio.create_task_group() as claimers:
                    for claimer in self._claimers.values():
                        claimers.start_soon(claimer.run)
                    await self.stopping.wait()
                    await self._drain()
                roles.cancel_scope.cancel()
            leases.cancel_scope.cancel()
        _log.info("worker stopped")

    def stop(self) -> None:
        """Stop claiming; a second call skips the grace period. What is handed back counts nothing."""
        if self.stopping.is_set():
            self._hurry.set()
        self.stopping.set()
        for claimer in self._claimers.values():
            claimer.wake()

    async def _drain(self) -> None:
        _log.info("worker stopping", running=self.running, grace_s=self.config.grace_s)
        deadline = self.clock.monotonic() + self.config.grace_s

        def left_s() -> float:
            return deadline - self.clock.monotonic() if self.running else 0.0

        async def watch_running() -> None:
            while self.running:
                await self.clock.sleep(0.02)
            self._hurry.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch_running)
            await wait_until(self._hurry, self.clock, left_s)
            tasks.cancel_scope.cancel()
        self.runner.drain()

    # --------------------------------------------------------------------- what the claimers ask for

    @property
    def running(self) -> int:
        """Attempts under way in this process."""
        return sum(claimer.running for claimer in self._claimers.values())

    @property
    def hold_s(self) -> float:
        """Seconds for which nothing is claimed, because Redis or Postgres could not serve."""
        return max(0.0, self._held_until - self.clock.monotonic())

    def hold(self) -> None:
        """Claim nothing for a while."""
        self._held_until = self.clock.monotonic() + self.config.retry_delay_s

    def may_claim(self, queue: str) -> bool:
        """Whether people and servers let us."""
        return queue not in self._paused and self.hold_s == 0

    def new_token(self) -> str:
        """A token nobody has used: this process' name and a number."""
        self._tokens += 1
        return f"{self.config.name}:{self._tokens}"

    def limit(self, queue: str) -> RateLimit | None:
        """The queue's limit for the whole fleet."""
        return self.config.limits.get(queue)

    # ------------------------------------------------------------------------------------- the roles

    @property
    def swept_s_ago(self) -> float | None:
        """Seconds since the last sweep was answered: a worker that does not sweep does not consume."""
        return None if self._swept_at is None else self.clock.monotonic() - self._swept_at

    def _wake(self, queue: str) -> None:
        if queue in self._paused:
            self._sweeper.nudge()  # resumed, perhaps: only Postgres knows
        claimer = self._claimers.get(queue)
        if claimer is not None:
            claimer.wake()

    async def _on_report(self, report: SweepReport) -> None:
        self._swept_at = self.clock.monotonic()
        self.last_report = report
        await self._keep_pauses(report)
        for name, queue in report.queues.items():
            if queue.waiting and name in self._claimers:
                self._claimers[name].wake()
        if not report.epoch_present:
            await self._reconciler.run_once(redis_was_emptied=True)

    async def _keep_pauses(self, report: SweepReport) -> None:
        """Postgres says what is paused; a queue that somebody resumed in Redis alone is paused again."""
        self._paused = await self._pauses.list_paused()
        for name in self._paused:
            if name in report.queues and not report.queues[name].paused:
                _log.warning("queue was resumed by somebody else, pausing it again", queue=name)
                try:
                    await self.bull.pause(name)
                except BrokenQueue as error:
                    _log.error("queue is broken", queue=name, reason=str(error))
