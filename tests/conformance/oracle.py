"""npm bull as a second opinion: the original, driven from a test."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

INTEROP = Path(__file__).parent.parent / "interop"


class NodeError(Exception):
    """What npm bull threw."""


class Node:
    """A Node process with npm bull."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self.ran: list[str] = []
        self.errors: list[str] = []
        self.news = asyncio.Event()

    async def queue(self, queue: str, call: str, *args: object) -> Any:
        """Call a method of the Queue."""
        return await self._ask(queue=queue, call=call, args=args)

    async def job(self, queue: str, job_id: str, call: str, *args: object) -> Any:
        """Call a method of the Job."""
        return await self._ask(queue=queue, job=job_id, call=call, args=args)

    async def take(self, queue: str) -> dict[str, Any]:
        """Take the next job as a worker does."""
        return await self._ask(queue=queue, next=True)

    async def process(self, queue: str) -> None:
        """Run jobs from now on; `ran` says which are done."""
        await self._ask(queue=queue, process=True)

    async def read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            message = json.loads(line)
            if "id" in message:
                waiting = self._waiting.pop(message["id"])
                if "thrown" in message:
                    waiting.set_exception(NodeError(message["thrown"]))
                else:
                    waiting.set_result(message.get("value"))
            elif "ran" in message:
                self.ran.append(message["ran"])
            elif "error" in message:
                self.errors.append(message["error"])
            self.news.set()

    async def _ask(self, **request: object) -> Any:
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": number, **request}).encode() + b"\n")
        async with asyncio.timeout(20):
            return await answer


@asynccontextmanager
async def npm_bull(node: str, redis_url: str) -> AsyncIterator[Node]:
    process = await asyncio.create_subprocess_exec(
        node,
        INTEROP / "oracle.js",
        redis_url,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 22,
    )
    driven = Node(process)
    reading = asyncio.create_task(driven.read())
    try:
        yield driven
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
        await reading
    assert driven.errors == []
