"""Reads documents in child processes that may die: out of memory, too slow, crashed by a hostile file.

A warm child answers in milliseconds; starting one costs most of a second, so children live on and are
replaced only after an overrun, a crash, a cancelled caller or `max_documents`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from pydantic import ValidationError

from app.adapters.reading_child import LENGTH
from pipeline.contract import Reject, Retry
from pipeline.domain.purchase_order import ExtractedOrder
from pipeline.ports import Document, Reading

_MAX_REPLY = 96 * 1024 * 1024
_CHILD = "app.adapters.reading_child"


@dataclass(frozen=True, slots=True)
class ReaderLimits:
    """What one document may cost and how many are read at once."""

    children: int = 2
    memory_bytes: int = 1536 * 1024 * 1024
    cpu_s: int = 30
    deadline_s: float = 45.0
    start_s: float = 30.0
    max_documents: int = 200


class ChildReader:
    """The `Reader` port over a bounded pool of child processes. Use as `async with`: none is left afterwards."""

    def __init__(self, limits: ReaderLimits | None = None) -> None:
        self._limits = limits or ReaderLimits()
        self._slots = asyncio.Semaphore(self._limits.children)
        self._idle: list[_Child] = []
        self._alive: set[_Child] = set()

    async def __aenter__(self) -> Self:
        """Start the first child, so that the first document does not wait for it."""
        self._idle.append(await self._start())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill every child, also those still reading, and wait until they are gone."""
        await asyncio.gather(*(self._end(child) for child in tuple(self._alive)))

    async def read(self, document: Document, own_names: Sequence[str]) -> Reading:
        """Read one document; see `pipeline.ports.Reader`. Cancelling kills the child that was reading."""
        head = json.dumps({"own_names": list(own_names)}).encode()
        async with self._slots:
            reply = await self._ask(head + b"\n" + document.content)
        return _reading(reply)

    async def _ask(self, request: bytes) -> dict[str, Any]:
        """One request, one whole reply. A child that gave anything less is never asked again."""
        child = self._idle.pop() if self._idle else await self._start()
        try:
            async with asyncio.timeout(self._limits.deadline_s):
                reply = await child.ask(request)
        except TimeoutError:
            await self._end(child)
            raise Retry(f"reading took longer than {self._limits.deadline_s:g} s and was stopped") from None
        except (EOFError, OSError, ValueError):
            await self._end(child)
            raise Retry("the reading process died in the middle of the document") from None
        except BaseException:
            # Cancelled: the kill is sent before anything is awaited, so even a second cancel leaves no reader.
            await self._end(child)
            raise
        if child.documents < self._limits.max_documents:
            self._idle.append(child)
        else:
            await self._end(child)
        return reply

    async def _start(self) -> _Child:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            _CHILD,
            str(self._limits.memory_bytes),
            str(self._limits.cpu_s),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            env={"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"},
            start_new_session=True,
            limit=_MAX_REPLY,  # never pause reading: a killed child whose pipe is paused is never seen to have ended
        )
        child = _Child(process)
        self._alive.add(child)
        try:
            async with asyncio.timeout(self._limits.start_s):
                await child.receive()
        except (TimeoutError, EOFError, OSError, ValueError):
            await self._end(child)
            raise Retry("the reading process did not start") from None
        except BaseException:
            await self._end(child)
            raise
        return child

    async def _end(self, child: _Child) -> None:
        await child.end()
        self._alive.discard(child)


class _Child:
    """One process and the frames to and from it."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.documents = 0

    async def ask(self, request: bytes) -> dict[str, Any]:
        """Send a request and wait for the reply."""
        pipe = self._process.stdin
        if pipe is None:
            raise EOFError
        pipe.write(LENGTH.pack(len(request)))
        pipe.write(request)
        await pipe.drain()
        self.documents += 1
        return await self.receive()

    async def receive(self) -> dict[str, Any]:
        """The next frame. What is not a JSON object of a sane size is an error: the child is not ours any more."""
        pipe = self._process.stdout
        if pipe is None:
            raise EOFError
        (length,) = LENGTH.unpack(await pipe.readexactly(LENGTH.size))
        if length > _MAX_REPLY:
            raise ValueError("a reply beyond all limits")
        reply = json.loads(await pipe.readexactly(length))
        if not isinstance(reply, dict):
            raise ValueError("a reply that is no object")  # noqa: TRY004 - hostile input, not a programming error
        return reply

    async def end(self) -> None:
        """Kill and reap."""
        with suppress(ProcessLookupError):
            self._process.kill()
        if self._process.stdin is not None:
            self._process.stdin.close()
        await self._process.wait()


def _reading(reply: dict[str, Any]) -> Reading:
    """The reply as the port's value, checked field by field: it comes from a process that opened hostile bytes."""
    try:
        if refused := reply.get("refused"):
            raise Reject(str(refused["code"]), str(refused["message"]))
        if failed := reply.get("failed"):
            raise Retry(f"reading failed with {failed}")
        order = reply["order"]
        return Reading(
            order=None if order is None else ExtractedOrder.model_validate(order),
            unreadable=str(reply["unreadable"]),
            text=str(reply["text"]),
            pages=tuple(base64.b64decode(page, validate=True) for page in reply["pages"]),
        )
    except (ValidationError, KeyError, TypeError, binascii.Error):
        raise Retry("the reading process answered nonsense") from None
