"""A worker that certain documents kill, as a process of its own: forked from the warm server of `doomed`."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from multiprocessing.process import BaseProcess
from typing import Any

import anyio

from app import logs
from app.bootstrap import open_worker
from app.core import open_core
from app.db.documents import DocumentStore
from app.settings import load_settings
from pipeline import flow
from pipeline.contract import Stage, StageInput, StageResult

POISON = b"POISON"
KILLS_AFTER_S = 0.15
OTHERS_TAKE_S = 0.3
"""A neighbour is in the middle of its attempt, whenever the poison kills."""

SLOTS = 12


def start(given: Mapping[str, Any]) -> BaseProcess:
    """Start the worker; it ends by SIGKILL when it reads poison."""
    process = multiprocessing.get_context("forkserver").Process(target=_mortal, args=(dict(given),), daemon=True)
    process.start()
    return process


def _mortal(given: dict[str, Any]) -> None:
    logs.configure("text")
    sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 the process ends by kill -9
    anyio.run(_work, given)


async def _work(given: dict[str, Any]) -> None:
    flow.BY_NAME[flow.FIRST] = replace(flow.BY_NAME[flow.FIRST], concurrency=SLOTS)
    async with open_core(load_settings(**given)) as core, open_worker(core) as worker:
        stages = dict(worker.runner._stages)
        stages[flow.FIRST] = _Deadly(stages[flow.FIRST], DocumentStore(core.database))
        worker.runner._stages = stages
        await worker.run()


class _Deadly:
    """The first stage as it is, only slower; reading poison kills the process."""

    def __init__(self, stage: Stage, documents: DocumentStore) -> None:
        self._stage = stage
        self._documents = documents

    async def run(self, given: StageInput) -> StageResult:
        assert given.run.document_id is not None
        document = await self._documents.find(given.run.document_id)
        if document is not None and POISON in (document.content or b""):
            await anyio.sleep(KILLS_AFTER_S)
            os.kill(os.getpid(), signal.SIGKILL)
        await anyio.sleep(OTHERS_TAKE_S)
        return await self._stage.run(given)
