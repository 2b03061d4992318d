"""A line between us and Postgres on which one COMMIT can be lost: on its way there, or its answer on the way back.

Either way the caller only sees its connection end, and cannot know which of the two it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

WAYS = ("never arrived", "never answered")
Way = Literal["never arrived", "never answered"]

_COMMIT = b"COMMIT;\0"


@dataclass
class CommitLine:
    """Passes everything on, but loses the next COMMIT when told to."""

    target: str
    port: int = 0
    lost: int = 0
    _lose_next: Way | None = None
    _serving: set[asyncio.Task[None]] = field(default_factory=set)

    def lose_next(self, way: Way) -> None:
        self._lose_next = way

    @property
    def url(self) -> str:
        parts = urlsplit(self.target)
        login, _, _ = parts.netloc.rpartition("@")
        return f"postgresql://{login}@127.0.0.1:{self.port}{parts.path}"

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def close(self) -> None:
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parts = urlsplit(self.target)
        up_reader, up_writer = await asyncio.open_connection(parts.hostname, parts.port)
        committing = asyncio.Event()

        async def answers() -> None:
            while data := await up_reader.read(65536):
                if committing.is_set():
                    return
                writer.write(data)

        async def requests() -> None:
            while data := await reader.read(65536):
                if _COMMIT in data and self._lose_next is not None:
                    way, self._lose_next = self._lose_next, None
                    self.lost += 1
                    if way == "never arrived":
                        return
                    committing.set()
                up_writer.write(data)

        pumps = [asyncio.ensure_future(answers()), asyncio.ensure_future(requests())]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in (writer, up_writer):
                end.transport.abort()
            await asyncio.gather(*pumps, return_exceptions=True)


@asynccontextmanager
async def commit_line_to(url: str) -> AsyncIterator[CommitLine]:
    line = CommitLine(url)
    server = await asyncio.start_server(line.accept, "127.0.0.1", 0)
    line.port = server.sockets[0].getsockname()[1]
    try:
        yield line
    finally:
        server.close()
        await line.close()
