"""npm bull as a second opinion: the original, driven from a test."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from http import HTTPStatus
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

LAST_RELEASE = "bull"
EVERY_RELEASE = pytest.mark.parametrize("node_process", [LAST_RELEASE, "bull-4.15"], indirect=True)
"""4.16.5, the last one, and 4.15.1, by the names they are installed under in tests/interop."""

INTEROP = Path(__file__).parent.parent / "interop"


class NodeError(Exception):
    """What npm bull threw."""


class Node:
    """A Node process with npm bull. It outlives a test and so its event loop, hence the thread that reads."""

    def __init__(self, process: subprocess.Popen[bytes], release: str) -> None:
        self.release = release
        self._process = process
        self._numbers = count(1)
        self._waiting: dict[int, Future[Any]] = {}
        self.ran: list[str] = []
        self.errors: list[str] = []

    async def queue(self, queue: str, call: str, *args: object) -> Any:
        """Call a method of the Queue."""
        return await self._ask(queue=queue, call=call, args=args)

    async def job(self, queue: str, job_id: str, call: str, *args: object) -> Any:
        """Call a method of the Job."""
        return await self._ask(queue=queue, job=job_id, call=call, args=args)

    async def take(self, queue: str) -> dict[str, Any]:
        """Take the next job as a worker does."""
        taken: dict[str, Any] = await self._ask(queue=queue, next=True)
        return taken

    async def limit(self, queue: str, most: int, duration_ms: int) -> None:
        """Limit this process's worker of a queue it has not used yet."""
        await self._ask(queue=queue, limiter={"max": most, "duration": duration_ms})

    async def process(self, queue: str) -> None:
        """Run jobs from now on; `ran` says which are done."""
        await self._ask(queue=queue, process=True)

    async def start(self, queue: str, *, older_ms: int = 0) -> int:
        """Do to a queue what upstream does whenever it starts: resume it, remove and re-add jobs older than that."""
        again: int = await self._ask(queue=queue, start=older_ms)
        return again

    async def board(self, queue: str, method: str, route: str, **asked: Mapping[str, str]) -> Any:
        """Ask bull-board, as its page would; `params` fill the route, `query` follows it. An error is NodeError."""
        answer = await self._ask(queue=queue, board={"method": method, "route": f"/api/queues{route}", **asked})
        if answer["status"] >= HTTPStatus.BAD_REQUEST:
            raise NodeError(str(answer))
        return answer["body"]

    async def due_next(self, asked: Sequence[Mapping[str, object]]) -> list[list[int]]:
        """Ask cron-parser when each expression is due next, three times over."""
        moments: list[list[int]] = await self._ask(cron=asked)
        return moments

    async def forget(self) -> list[str]:
        """Close all queues, so that the next test finds none; return what bull complained of since the last time."""
        await self._ask(forget=True)
        errors = self.errors[:]
        self.ran.clear()
        self.errors.clear()
        return errors

    def read(self) -> None:
        """Hand each line to whom it is for, until the process ends."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            match json.loads(line):
                case {"id": int(number), "thrown": thrown}:
                    self._waiting.pop(number).set_exception(NodeError(thrown))
                case {"id": int(number), **answer}:
                    self._waiting.pop(number).set_result(answer.get("value"))
                case {"ran": job_id}:
                    self.ran.append(job_id)
                case {"error": error}:
                    self.errors.append(error)

    async def _ask(self, **request: object) -> Any:
        number = next(self._numbers)
        answer = self._waiting[number] = Future()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": number, **request}).encode() + b"\n")
        self._process.stdin.flush()
        async with asyncio.timeout(20):
            return await asyncio.wrap_future(answer)


@contextmanager
def npm_bull(node: str, redis_url: str, *, release: str = LAST_RELEASE, prefix: str = "bull") -> Iterator[Node]:
    """Start Node with a release of bull; it ends when its input does."""
    with subprocess.Popen(
        [node, INTEROP / "oracle.js", redis_url, prefix, release], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        driven = Node(process, release)
        reading = Thread(target=driven.read, name="npm bull")
        reading.start()
        try:
            yield driven
        finally:
            assert process.stdin is not None
            process.stdin.close()
            reading.join()
