"""A line between us and Redis that can be cut, frozen, or made to swallow replies."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class Proxy:
    """One line. Everything in flight when it is told something obeys it at once."""

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self._open: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.swallow_replies = False
        self.frozen = False
        self.refusing = False
        self.latency_s = 0.0
        self.chunks_sent = 0
        self.replies_swallowed = asyncio.Event()

    def url(self, scheme: str = "redis", query: str = "") -> str:
        login, at, _ = self._target.netloc.rpartition("@")
        return f"{scheme}://{login}{at}127.0.0.1:{self.port}{self._target.path}{query}"

    def aim(self, target: str) -> None:
        """Lead new connections to another server: the one that took the first one's place."""
        self._target = urlsplit(target)

    def cut(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    @property
    def connected(self) -> int:
        return len(self._open) // 2

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        up_reader, up_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        ends = {writer, up_writer}
        self._open |= ends
        pumps = [
            asyncio.ensure_future(self._pump(reader, up_writer, replies=False)),
            asyncio.ensure_future(self._pump(up_reader, writer, replies=True)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._open -= ends
            for end in ends:
                end.transport.abort()
            await asyncio.wait(pumps)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, replies: bool) -> None:
        try:
            while data := await reader.read(65536):
                if self.frozen:
                    continue
                if replies and self.swallow_replies:
                    self.replies_swallowed.set()
                    continue
                if not replies:
                    self.chunks_sent += 1
                    await asyncio.sleep(self.latency_s)
                writer.write(data)
        except ConnectionError:
            pass


@asynccontextmanager
async def proxy_to(url: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[Proxy]:
    proxy = Proxy(url)
    serving: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(proxy.serve(reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
        if serving:
            await asyncio.wait(serving)
