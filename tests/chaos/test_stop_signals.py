"""SIGTERM at any moment of a process's life, and as often as somebody likes: it ends well, and says so."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import pytest

from app.settings import Settings
from tests.chaos.watching import until
from tests.shop import settings_for
from tests.support import CHAOS_IN_FULL
from tests.walkthrough.test_4_three_connections import ROOT, environment_of

STARTS = 20 if CHAOS_IN_FULL else 3
START_TAKES_S = 2.0
"""Roughly: some signals come while it imports, some while it connects, some when it works."""
SEED = 20261125


@pytest.fixture
def settings(redis_url: str, database_url: str) -> Settings:
    return settings_for(redis_url, database_url, "http://127.0.0.1:9")


async def test_a_worker_told_to_stop_while_it_starts_ends_well(settings: Settings, tmp_path: Path) -> None:
    chance = random.Random(SEED)
    for start in range(STARTS):
        async with ends_well(settings, tmp_path) as worker:
            await until(lambda pid=worker.pid: has_a_handler(pid), every_s=0.002)
            await anyio.sleep(chance.uniform(0, START_TAKES_S) if start else 0)
            os.kill(worker.pid, signal.SIGTERM)


async def test_a_worker_told_again_and_again_until_it_is_gone_ends_well(settings: Settings, tmp_path: Path) -> None:
    """Whoever stops a service twice may meet it in its very last lines."""
    async with ends_well(settings, tmp_path) as worker:
        await until(lambda: is_at_work(tmp_path))
        with anyio.fail_after(30), suppress(ProcessLookupError):
            while worker.returncode is None:
                os.kill(worker.pid, signal.SIGTERM)
                await anyio.sleep(0.002)


@asynccontextmanager
async def ends_well(settings: Settings, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """`python -m app worker`, as a container runs it; when the block ends it must exit with 0."""
    environment = environment_of(settings) | {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    with (folder / "worker.log").open("wb") as log:
        worker = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "app", "worker", cwd=folder, env=environment, stdout=log, stderr=log
        )
    try:
        yield worker
        with anyio.fail_after(30):
            code = await worker.wait()
        assert code == 0, (folder / "worker.log").read_text()[-2000:]
    finally:
        with suppress(ProcessLookupError):
            worker.kill()
        await worker.wait()


async def has_a_handler(pid: int, number: int = signal.SIGTERM) -> bool:
    """Before it has one it is Python that starts, not we. As Linux shows it."""
    status = await anyio.Path(f"/proc/{pid}/status").read_text()
    (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (number - 1) & 1)


async def is_at_work(folder: Path) -> bool:
    return "worker started" in await anyio.Path(folder / "worker.log").read_text()
