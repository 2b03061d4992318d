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
EFFECT_GAPS = ("intent", "vendor-call", "confirm")

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__])


def start_server() -> None:
    """Start the fork server now; it lives as long as this process."""
    process = _context.Process(target=int)
    process.start()
    process.join()


def die_at(given: Mapping[str, Any], stage: str, gap: str, *, passes: int = 0, patience_s: float = 30) -> int:
    """Run a worker for one stage until it kills itself at `gap` (after passing it `passes` times); its exit code."""
    process = _context.Process(target=_doomed, args=(dict(given), stage, gap, passes), daemon=True)
    process.start()
    process.join(patience_s)
    if process.exitcode is None:
        process.kill()
        process.join()
        return 0
    return process.exitcode


def _doomed(given: dict[str, Any], stage: str, gap: str, passes: int) -> None:
    logs.configure("text")
    sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 the process ends by kill -9
    anyio.run(_work, given, stage, gap, passes)


async def _work(given: dict[str, Any], stage: str, gap: str, passes: int) -> None:
    left = passes

    def reach(here: str) -> None:
        nonlocal left
        if here != gap:
            return
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    # One slot: orders that ran beside the doomed one would be recorded, and the next to die would find none to run.
    flow.BY_NAME[stage] = replace(flow.BY_NAME[stage], concurrency=1)
    settings = load_settings(**given, stages=stage)
    async with open_core(settings) as core, open_worker(core, reach=reach) as worker:
        if gap == "failure-record":
            worker.runner._stages = {stage: _Failing()}
        elif gap == "release":
            worker.runner._stages = {stage: _Draining(worker)}
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
    """A stage during which its process is told to stop, twice."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def run(self, given: StageInput) -> StageResult:
        self._worker.stop()
        self._worker.stop()
        await anyio.sleep_forever()
        raise AssertionError(given.stage)
