"""One process: its roles, the order they start and stop in, and the slots that take jobs.

start  heartbeat, notifier, sweeper, reconciler, claimers: whoever holds a lease finds it renewed
stop   claimers first; what runs may finish within the grace period, then is drained and handed back;
       heartbeat last, because until then every lease held is still worked under
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import anyio
import structlog

from pipeline import flow
from pipeline.claimer import Claimer, Gate, Observe
from pipeline.clock import Clock
from pipeline.errors import BrokenQueue
from pipeline.queue.backoff import Random
from pipeline.queue.bull import Bull
from pipeline.queue.heartbeat import Heartbeat
from pipeline.queue.job import RateLimit, SweepReport
from pipeline.queue.ledger import IdLedger
from pipeline.queue.notifier import Events, Notifier
from pipeline.queue.sweeper import Sweeper
from pipeline.queue.timer import wait_until
from pipeline.reconciler import Reconciler
from pipeline.run_store import Pauses
from pipeline.runner import Runner

ANSWER_S = 10.0
"""A round asks on both connections, five seconds each: what has not been answered then is overdue."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """How one process works. `name` is unique per process and begins every token."""

    name: str
    stages: tuple[str, ...] = flow.NAMES
    lease_s: float = 120.0
    guard_s: float = 5.0
    idle_s: float = 45.0
    stalled_s: float = 60.0
    retry_delay_s: float = 5.0
    grace_s: float = 30.0
    limits: Mapping[str, RateLimit] = field(default_factory=dict)


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
        self._heartbeat = heartbeat
        self._reconciler = reconciler
        self._pauses = pauses
        self._swept_at: float | None = None
        self.last_report: SweepReport | None = None
        self._hurry = anyio.Event()
        self._gate = Gate(
            clock,
            runner.solitude,
            name=config.name,
            lease_s=config.lease_s,
            hold_s=config.retry_delay_s,
            limits=config.limits,
        )
        self._gate.paused = frozenset(config.stages)  # Redis may have forgotten a pause: Postgres is asked first
        self._ledger = IdLedger(flow.NAMES)
        self._claimers: dict[str, Claimer] = {}
        for queue in config.stages:
            self._claimers[queue] = Claimer(
                queue,
                bull=bull,
                runner=runner,
                gate=self._gate,
                ledger=self._ledger,
                clock=clock,
                random=random,
                observe=observe,
                of=self._claimers,
                pause_s=config.retry_delay_s,
            )
        self._sweeper = Sweeper(
            bull,
            clock,
            flow.NAMES,
            on_report=self._on_report,
            random=random,
            guard_s=config.guard_s,
            idle_s=config.idle_s,
            stalled_s=config.stalled_s,
        )
        self._notifier = Notifier(
            events,
            bull.keys,
            flow.NAMES,
            on_waiting=self._waiting,
            on_taken=self._ledger.taken,
            on_resumed=self._resumed,
            on_delayed=lambda _queue, due_ms: self._sweeper.due_at(due_ms),
            on_resubscribed=self._look_again,
        )

    # ------------------------------------------------------------------------------- start and stop

    async def run(self) -> None:
        """Work until `stop` is called, then hand everything back."""
        async with anyio.create_task_group() as leases:
            leases.start_soon(self._heartbeat.run)
            async with anyio.create_task_group() as roles:
                for role in (self._notifier.run, self._sweeper.run, self._reconciler.run):
                    roles.start_soon(role)
                async with anyio.create_task_group() as slots:
                    for claimer in self._claimers.values():
                        slots.start_soon(claimer.run, slots)
                    await self._gate.closing.wait()
                    await self._drain()
                roles.cancel_scope.cancel()
            async with anyio.create_task_group() as tasks:
                for claimer in self._claimers.values():
                    tasks.start_soon(claimer.hand_back_unanswered)
            leases.cancel_scope.cancel()
        _log.info("worker stopped")

    def stop(self) -> None:
        """Stop claiming; a second call skips the grace period. What is handed back counts nothing."""
        if self._gate.closing.is_set():
            self._hurry.set()
        self._gate.closing.set()
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

    # ------------------------------------------------------------------------------- what health asks for

    @property
    def stopping(self) -> bool:
        """Whether we were told to stop."""
        return self._gate.closing.is_set()

    @property
    def running(self) -> int:
        """Slots in use in this process."""
        return sum(claimer.taken for claimer in self._claimers.values())

    @property
    def hold_s(self) -> float:
        """Seconds for which nothing is claimed, because Redis or Postgres could not serve."""
        return self._gate.hold_s

    @property
    def overdue(self) -> str:
        """Which answer from Redis should have come by now, and for how long there was none; empty while all is well.

        Without the sweep nothing returns or falls due, without the heartbeat what runs is lost: both mean consuming.
        """
        report = self.last_report
        if report is None or self._swept_at is None:
            return "not started"
        busy = any(queue.busy for queue in report.queues.values())
        sweep_s = self.config.guard_s if busy else self.config.idle_s
        beat = self._heartbeat
        roles = [("sweep", self._swept_at, sweep_s), ("heartbeat", beat.answered_at, beat.every_s)]
        for role, answered_at, pause_s in roles:
            silent_s = self.clock.monotonic() - answered_at
            if silent_s > pause_s + ANSWER_S:
                return f"no {role} for {silent_s:.0f} s"
        return ""

    @property
    def rounds(self) -> Mapping[str, int]:
        """Rounds each periodic role has ended, with an answer or an error: one that stands still hangs."""
        reconciled = self._reconciler.rounds
        # The sweep that finds Redis emptied rebuilds it, which may take many pages.
        return {
            "heartbeat": self._heartbeat.rounds,
            "sweep": self._sweeper.rounds + reconciled,
            "reconciler": reconciled,
        }

    @property
    def hindrance(self) -> str:
        """Why a role cannot do its work; empty while all can. A paused queue is not asked again, so it says nothing."""
        claimers = [claimer.hindrance for name, claimer in self._claimers.items() if name not in self._gate.paused]
        hindrances = [self._heartbeat.hindrance, self._sweeper.hindrance, *claimers]
        return next((one.reason for one in hindrances if one.reason), "")

    # ------------------------------------------------------------------------------------- the roles

    def _look_again(self) -> None:
        """We listen again: look after what we hold first, then for what we may have missed."""
        self._heartbeat.nudge()
        self._sweeper.nudge()

    def _waiting(self, queue: str, job_id: str) -> None:
        self._ledger.announced(queue, job_id)
        if queue in self._claimers:
            self._claimers[queue].wake()

    def _resumed(self, queue: str) -> None:
        if queue in self._gate.paused:
            self._sweeper.nudge()  # by somebody who may not: only Postgres knows
        elif queue in self._claimers:
            self._claimers[queue].doubt()

    async def _on_report(self, report: SweepReport) -> None:
        self._swept_at = self.clock.monotonic()
        self.last_report = report
        held = self._gate.paused
        await self._keep_pauses(report)
        opened = held - self._gate.paused  # what arrived since the sweep was announced to a closed gate
        for name, claimer in self._claimers.items():
            if report.queues[name].waiting or name in opened:
                claimer.doubt()
        if not report.epoch_present:
            await self._reconciler.run_once(redis_was_emptied=True)

    async def _keep_pauses(self, report: SweepReport) -> None:
        """Postgres says what is paused; a queue that somebody resumed in Redis alone is paused again."""
        self._gate.paused = await self._pauses.list_paused()
        for name in self._gate.paused:
            if name in report.queues and not report.queues[name].paused:
                _log.warning("queue was resumed by somebody else, pausing it again", queue=name)
                try:
                    await self.bull.pause(name)
                except BrokenQueue as error:
                    _log.error("queue is broken", queue=name, reason=str(error))
