"""A vendor on loopback that answers when the test lets it: what is under way there can be seen from outside."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio


@dataclass
class SlowVendor:
    """Requests by path. `on_close` is called the moment a caller is gone without an answer."""

    url: str = ""
    answering: bool = False
    calls: Counter[str] = field(default_factory=Counter)
    under_way: Counter[str] = field(default_factory=Counter)
    most_under_way: int = 0
    on_close: Callable[[str], None] = lambda _path: None
    called: anyio.Event = field(default_factory=anyio.Event)
    closed: anyio.Event = field(default_factory=anyio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read one request, then wait for the caller to go away."""
        try:
            path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
            self.calls[path] += 1
            self.under_way[path] += 1
            self.most_under_way = max(self.most_under_way, self.under_way[path])
            self.called.set()
            if self.answering:
                self.under_way[path] -= 1
                writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
                await writer.drain()
                return
            try:
                await reader.read()
            finally:
                self.under_way[path] -= 1
                self.on_close(path)
                self.closed.set()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()


@asynccontextmanager
async def slow_vendor() -> AsyncIterator[SlowVendor]:
    vendor = SlowVendor()
    serving: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(vendor.serve(reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    vendor.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield vendor
    finally:
        server.close()
        for task in serving:
            task.cancel()
        if serving:
            await asyncio.wait(serving)
