"""A worker that is killed in a chosen gap: forked from a warm server, so that dying is cheap."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import anyio

from app import logs
from app.bootstrap import open_worker
from app.core import open_core
from app.settings import load_settings
from pipeline import flow
from pipeline.contract import Retry, StageInput, StageResult
from pipeline.worker import Worker

ENGINE_GAPS = ("claim", "load", "record", "settle", "failure-record", "release")
RELEASED = "released"
"""Behind each release: while a process hands back what it holds, this is between one job and the next."""
EFFECT_GAPS = ("intent", "vendor-call", "confirm")

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__, "tests.chaos.replica", "tests.chaos.crew"])


def start_server() -> None:
    """Start the fork server now; it lives as long as this process."""
    process = CONTEXT.Process(target=int)
    process.start()
    process.join()


def die_at(
    given: Mapping[str, Any], stage: str, gap: str, *, passes: int = 0, slots: int = 1, patience_s: float = 30
) -> int:
    """Run a worker for one stage until it kills itself at `gap` (after passing it `passes` times); its exit code.

    One slot, as a rule: orders that ran beside the doomed one would be recorded, and the next to die would find none.
    """
    process = CONTEXT.Process(target=_doomed, args=(dict(given), stage, gap, passes, slots), daemon=True)
    process.start()
    process.join(patience_s)
    if process.exitcode is None:
        process.kill()
        process.join()
        return 0
    return process.exitcode


def _doomed(given: dict[str, Any], stage: str, gap: str, passes: int, slots: int) -> None:
    logs.configure("text")
    sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 the process ends by kill -9
    anyio.run(_work, given, stage, gap, passes, slots)


async def _work(given: dict[str, Any], stage: str, gap: str, passes: int, slots: int) -> None:
    left = passes
    draining: _Draining | None = None

    def reach(here: str) -> None:
        nonlocal left
        if here == RELEASED and draining is not None:
            draining.one_is_released()
        if here != gap:
            return
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    flow.BY_NAME[stage] = replace(flow.BY_NAME[stage], concurrency=slots)
    settings = load_settings(**given, stages=stage)
    async with open_core(settings) as core, open_worker(core, reach=reach) as worker:
        if gap == "failure-record":
            worker.runner._stages = {stage: _Failing()}
        elif gap in ("release", RELEASED):
            draining = _Draining(worker, slots)
            worker.runner._stages = {stage: draining}
        await worker.run()


class _Failing:
    """A stage whose first attempt fails in a way that counts; others hang until the process is gone."""

    def __init__(self) -> None:
        self._failed = False

    async def run(self, given: StageInput) -> StageResult:
        if self._failed:
            await anyio.sleep_forever()
        self._failed = True
        raise Retry(f"{given.stage} fails on purpose")


class _Draining:
    """A stage during which its process is told to stop, twice: as soon as all slots are in it.

    The slots then let go one after the other, so that it is certain which are handed back when the process dies.
    """

    def __init__(self, worker: Worker, slots: int) -> None:
        self._worker = worker
        self._turns = [anyio.Event() for _ in range(slots)]
        self._turns[0].set()
        self._inside = 0
        self._released = 0

    def one_is_released(self) -> None:
        self._released += 1
        if self._released < len(self._turns):
            self._turns[self._released].set()

    async def run(self, given: StageInput) -> StageResult:
        turn = self._turns[self._inside]
        self._inside += 1
        if self._inside == len(self._turns):
            self._worker.stop()
            self._worker.stop()
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await turn.wait()
        raise AssertionError(given.stage)
