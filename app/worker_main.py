"""A worker process from start to exit: checks, signals, the page's server, and a clean end.

Exit codes: 0 after a clean stop, 1 when the installation refuses to start (the reason is the last log line),
70 when the watchdog ended a wedged process (so is it), and SIGPROF where not even the watchdog could run.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator

import anyio
import structlog

from app import stop_signals
from app.admin.metrics import Metrics
from app.admin.server import CannotServeError, serve_admin
from app.bootstrap import open_shops, open_token_keeper, open_worker
from app.core import Core, open_core
from app.db import migrate
from app.server_checks import check_server
from app.settings import Settings, SettingsError
from app.shop_check import check_shops
from app.watchdog import Limits, Watchdog, leave_within
from pipeline import flow
from pipeline.errors import Temporary
from pipeline.worker import Worker

LEAVE_WITHIN_S = 5.0
"""From the moment all work is handed back to the end of the process: closing takes a few seconds at most."""

_log = structlog.get_logger()


class RefusedToStartError(RuntimeError):
    """Something must be put right by the operator first; the message says what."""


REFUSALS = (RefusedToStartError, SettingsError, CannotServeError)
"""Why a worker does not start: the operator is told, and needs no traceback."""


def main(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT."""
    stop_signals.leave_when_told()
    code = 0
    try:
        anyio.run(_main, settings)
    except* REFUSALS as refused:
        for error in singly(refused):
            _log.error("refused to start", reason=str(error))
        code = 1
    stop_signals.ignore()
    return code


def singly(group: BaseExceptionGroup[Exception]) -> Iterator[Exception]:
    """The errors of a group, however deep the task groups put them."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from singly(error)
        else:
            yield error


async def _main(settings: Settings) -> None:
    stop = Stop()
    with stop_signals.told(asyncio.get_running_loop(), stop.hear):
        async with open_core(settings) as core:
            await work(core, stop)
            leave_within(LEAVE_WITHIN_S)


class Stop:
    """What a signal does: nothing new is started, and a worker that runs is told, each time anew."""

    def __init__(self) -> None:
        self.heard = anyio.Event()
        self.starting = anyio.CancelScope()
        """Holds what waits for servers: one that is not there yet must not keep us from stopping."""
        self.worker: Worker | None = None

    def hear(self, number: signal.Signals) -> None:
        """Called on the loop for each signal."""
        _log.info("signal received", signal=number.name)
        self.heard.set()
        self.starting.cancel()
        if self.worker is not None:
            self.worker.stop()


async def work(core: Core, stop: Stop, *, started: Callable[[str], None] = lambda _page: None) -> None:
    """Serve the page, and consume the stages this process is for, until a signal comes."""
    metrics = Metrics()
    async with anyio.create_task_group() as tasks:
        async with open_worker(core, observe=metrics.attempt_settled) as worker:
            watchdog = watchdog_of(core.settings, worker, metrics)
            tasks.start_soon(lambda: serve_admin(core, worker, metrics, started, watchdog))
            if core.settings.stage_names:
                with stop.starting:
                    await check_start(core)
                if not stop.heard.is_set():
                    _log.info("worker started", worker=core.name, stages=list(core.settings.stage_names))
                    stop.worker = worker
                    tasks.start_soon(watchdog.run)
                    tasks.start_soon(look_at_shops, core)
                    tasks.start_soon(keep_connected, core)
                    await worker.run()
            else:
                _log.info("serving the page only", worker=core.name)
                tasks.start_soon(watchdog.run)
                await stop.heard.wait()
        tasks.cancel_scope.cancel()


async def look_at_shops(core: Core) -> None:
    """Say which scopes are missing; beside the work, which waits for no shop."""
    async with open_shops(core) as shops:
        await check_shops(core, shops)


async def keep_connected(core: Core) -> None:
    """Renew the tokens of shops that send no orders, until cancelled."""
    async with open_token_keeper(core) as keeper:
        await keeper.run()


def watchdog_of(settings: Settings, worker: Worker, metrics: Metrics) -> Watchdog:
    """What ends this process if it hangs; a process that only serves the page has no roles to watch."""
    config = worker.config
    limits = Limits.of(
        lease_s=settings.lease_seconds,
        beat_s=settings.heartbeat_seconds,
        pause_s=max(config.idle_s, config.guard_s, settings.heartbeat_seconds, settings.reconcile_seconds),
    )
    rounds = (lambda: worker.rounds) if config.stages else dict
    return Watchdog(limits, worker.clock, rounds=rounds, lag_seen=metrics.loop_was_late)


async def check_start(core: Core) -> None:
    """Wait until both servers answer, and refuse what would lose orders. Raises RefusedToStartError."""
    while True:
        try:
            findings = await check_server(
                core.connections.commands,
                core.bull.keys,
                flow.NAMES,
                allow_eviction=core.settings.allow_eviction,
            )
            revision = await migrate.current(core.database)
            break
        except Temporary as error:
            _log.warning("waiting for servers", reason=str(error))
            await core.clock.sleep(core.settings.retry_delay_seconds)
    for finding in findings:
        _log.warning("server check", what=finding.what, text=finding.text)
    refusals = [finding.text for finding in findings if finding.level == "refuse"]
    if revision is None:
        refusals.append("the database has no tables yet: run `python -m app migrate`")
    elif revision < migrate.OLDEST_ACCEPTED:
        refusals.append(f"the database is at revision {revision}, older than {migrate.OLDEST_ACCEPTED}: run migrate")
    if refusals:
        raise RefusedToStartError("; ".join(refusals))
