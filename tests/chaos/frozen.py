"""A whole worker process, as `python -m app worker` starts it, whose stages do what a test is about to frighten."""

from __future__ import annotations

import inspect
import multiprocessing
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from multiprocessing.process import BaseProcess
from typing import Any

import anyio.to_thread

from app import logs, worker_main
from app.bootstrap import open_worker
from app.settings import load_settings
from pipeline import flow
from pipeline.contract import Done, StageInput, StageResult
from pipeline.domain.results import Enrichment
from tests.support import loopback

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__, "tests.chaos.doomed"])


class CallsTheVendor:
    """Asks for its lease, calls the vendor, waits for the answer. One path per run, so that calls can be told apart."""

    def __init__(self, vendor: str) -> None:
        self._vendor = vendor

    async def run(self, given: StageInput) -> StageResult:
        given.still_ours()
        async with loopback(timeout=None) as http:
            await http.get(f"{self._vendor}/{given.run.id}")
        return Done(Enrichment(skipped="by the test"))


class ThenBlocks(CallsTheVendor):
    """The second job it is given hangs for good: on the loop, or awaiting what never comes."""

    def __init__(self, vendor: str, block: Callable[[], object]) -> None:
        super().__init__(vendor)
        self._block = block
        self._jobs = 0

    async def run(self, given: StageInput) -> StageResult:
        self._jobs += 1
        if self._jobs == 2:
            blocked = self._block()
            if inspect.isawaitable(blocked):
                await blocked
        return await super().run(given)


def _burn() -> None:
    while True:
        pass


BLOCKS: Mapping[str, Callable[[], object]] = {
    "sleeps": lambda: time.sleep(3600),
    "burns": _burn,
    "never lets go": lambda: re.match("(a+)+$", "a" * 64 + "b"),
    "in a thread": lambda: anyio.to_thread.run_sync(time.sleep, 3600),
}


@contextmanager
def worker_process(settings: Mapping[str, Any], vendor: str, *, block: str = "") -> Iterator[BaseProcess]:
    """Start it; kill what is left of it afterwards."""
    process = _context.Process(target=_work, args=(dict(settings), vendor, block), daemon=True)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def _work(settings: dict[str, Any], vendor: str, block: str) -> None:
    logs.configure("text")
    sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 ends with the process
    stage = ThenBlocks(vendor, BLOCKS[block]) if block else CallsTheVendor(vendor)

    @asynccontextmanager
    async def scripted(*given: Any, **named: Any) -> AsyncIterator[Any]:
        async with open_worker(*given, **named) as worker:
            worker.runner._stages = dict.fromkeys(flow.NAMES, stage)
            yield worker

    worker_main.open_worker = scripted
    sys.exit(worker_main.main(load_settings(**settings)))
