"""Stands before Redis and answers the commands it was told to itself, each in its turn: LOADING, NOSCRIPT, anything.

What it answers, Redis never sees. It reads RESP2 (https://redis.io/docs/latest/develop/reference/protocol-spec/).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import hiredis

Answer = Callable[[str], bytes | None]
"""Given a command's first word, what to say to it; None asks Redis."""


def ask_redis(_word: str) -> None:
    """Interfere with nothing."""


class AnsweringProxy:
    """What `answer` says is sent instead of Redis' own reply; it may be changed at any time."""

    def __init__(self, target: str) -> None:
        self.answer: Answer = ask_redis
        self.answered = 0
        self.port = 0
        self._target = urlsplit(target)
        self._lines: set[asyncio.Task[None]] = set()

    def url(self) -> str:
        login, at, _ = self._target.netloc.rpartition("@")
        return f"redis://{login}{at}127.0.0.1:{self.port}{self._target.path}"

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._lines.add(task)
        task.add_done_callback(self._lines.discard)

    async def close(self) -> None:
        for line in self._lines:
            line.cancel()
        if self._lines:
            await asyncio.wait(self._lines)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        conversation = Conversation(self, writer, far_writer)
        pumps = [
            asyncio.ensure_future(_feed(reader, conversation.asked)),
            asyncio.ensure_future(_feed(far_reader, conversation.replied)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            for end in (writer, far_writer):
                end.transport.abort()

    def say(self, word: str) -> bytes | None:
        said = self.answer(word)
        self.answered += said is not None
        return said


class Conversation:
    """The commands of one connection, and whose turn it is to answer: ours (bytes) or Redis' (None)."""

    def __init__(self, proxy: AnsweringProxy, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._near = near
        self._far = far
        self._turns: deque[bytes | None] = deque()
        self._listening = False

    def asked(self, frame: bytes) -> None:
        reader = hiredis.Reader(encoding="utf-8", errors="replace")
        reader.feed(frame)
        word = str(reader.gets()[0]).upper()
        said = self._proxy.say(word)
        self._turns.append(said)
        if said is None:
            self._listening = self._listening or word == "PSUBSCRIBE"  # from here on replies come unasked
            self._far.write(frame)
        self._say_ours()

    def replied(self, frame: bytes) -> None:
        self._near.write(frame)
        if not self._listening and self._turns:
            self._turns.popleft()
            self._say_ours()

    def _say_ours(self) -> None:
        if self._listening:
            for said in filter(None, self._turns):
                self._near.write(said)
            self._turns.clear()
        while self._turns and (said := self._turns[0]) is not None:
            self._near.write(said)
            self._turns.popleft()


async def _feed(reader: asyncio.StreamReader, take: Callable[[bytes], None]) -> None:
    """Cut what comes into whole values."""
    buffer = b""
    try:
        while data := await reader.read(65536):
            buffer += data
            start = 0
            while (end := end_of_value(buffer, start)) is not None:
                take(buffer[start:end])
                start = end
            buffer = buffer[start:]
    except ConnectionError:
        pass


def end_of_value(buffer: bytes, start: int) -> int | None:
    """Where the RESP2 value that begins at `start` ends; None while it is not all there."""
    line_end = buffer.find(b"\r\n", start)
    if line_end < 0:
        return None
    kind, size = buffer[start : start + 1], buffer[start + 1 : line_end]
    end: int | None = line_end + 2
    if kind == b"$" and int(size) >= 0:
        end = line_end + 2 + int(size) + 2
        return end if end <= len(buffer) else None
    if kind == b"*":
        for _ in range(int(size)):
            end = None if end is None else end_of_value(buffer, end)
    return end


@asynccontextmanager
async def answering_proxy(url: str) -> AsyncIterator[AnsweringProxy]:
    proxy = AnsweringProxy(url)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
