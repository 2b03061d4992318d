"""A worker as a container runs it, signals and all, but forked from a warm server: a hundred start in a minute."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from app import logs, worker_main
from app.settings import Settings, load_settings
from tests.chaos.doomed import CONTEXT

LEAVES_WITHIN_S = 30
"""Only for the broken case: a container's stop_grace_period over, it would be killed."""


class Replica:
    """One process. Told to stop, it leaves with an exit code."""

    def __init__(self, settings: Settings, log: Path) -> None:
        given = settings.model_dump(exclude_none=True)
        self._log = log
        self._process = CONTEXT.Process(target=_work, args=(given, log), daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def stop(self) -> None:
        """SIGTERM, as docker sends it; nothing if it has left already."""
        if self._process.is_alive():
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: nothing is handed back."""
        self._process.kill()

    async def left(self) -> int:
        """Wait until it is gone; return its exit code."""
        await anyio.to_thread.run_sync(self._process.join, LEAVES_WITHIN_S)
        code = self._process.exitcode
        assert code is not None, f"still there after {LEAVES_WITHIN_S} s: {self._log.read_text()[-2000:]}"
        return code


@asynccontextmanager
async def replicas_of(folder: Path) -> AsyncIterator[Callable[[Settings], Replica]]:
    """Starts replicas, their logs in `folder`; none outlives the block, however it ends."""
    started: list[Replica] = []

    def start(settings: Settings) -> Replica:
        started.append(Replica(settings, folder / f"worker-{len(started)}.log"))
        return started[-1]

    try:
        yield start
    finally:
        with anyio.CancelScope(shield=True):
            for replica in started:
                replica.kill()
                await replica.left()


def _work(given: Mapping[str, Any], log: Path) -> None:
    logs.configure("json", file=log)
    sys.exit(worker_main.main(load_settings(**given)))
