"""A line between us and a server that fails in the ways lines fail. It knows bytes, not what they say."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

CHUNK = 65536


class Proxy:
    """All lines through one door. What it is told holds for open lines at once, and for new ones.

    frozen            half-open: what is sent vanishes, both ways, without a word; such a line stays dead
    swallow_replies   what we send arrives, what comes back vanishes
    refusing          lines are accepted and reset
    latency_s         of a round trip; nothing is held up behind it
    slice_bytes       bytes that go on at a time, in both directions, with `slice_pause_s` between them
    cut_idle_s        lines on which nothing moved for so long are cut; set it before they are opened
    """

    def __init__(self, target: str, tls: ssl.SSLContext | None = None) -> None:
        self.frozen = False
        self.swallow_replies = False
        self.refusing = False
        self.latency_s = 0.0
        self.slice_bytes = CHUNK
        self.slice_pause_s = 0.0
        self.cut_idle_s: float | None = None
        self.replies_swallowed = asyncio.Event()
        self.was_reset = asyncio.Event()
        self.port = 0
        self.chunks_sent = 0
        self.turns = 0
        """Requests that came after a reply: round trips, as long as one line is busy."""
        self.carried = {False: 0, True: 0}
        """Bytes of requests (False) and of replies (True) that came in."""
        self.idle_cuts = 0
        self._target = urlsplit(target)
        self._tls = tls
        self._door: asyncio.Server | None = None
        self._lines: dict[Line, asyncio.Task[None]] = {}
        self._reset_after: dict[bool, int] = {}
        self._answered = True

    def url(self, scheme: str = "redis", query: str = "") -> str:
        login, at, _ = self._target.netloc.rpartition("@")
        return f"{scheme}://{login}{at}127.0.0.1:{self.port}{self._target.path}{query}"

    def aim(self, target: str) -> None:
        """Lead new lines to another server: the one that took the first one's place."""
        self._target = urlsplit(target)

    async def open_door(self) -> None:
        """Listen, on the same port as before."""
        self._door = await asyncio.start_server(self._accept, "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._door.sockets[0].getsockname()[1]

    async def close_door(self) -> None:
        """Connection refused, by the kernel."""
        if self._door is not None and self._door.sockets:
            # asyncio forgets a socket it has accepted and not yet attached when its server closes: let those in first.
            asyncio.get_running_loop().remove_reader(self._door.sockets[0].fileno())
            for _ in range(3):
                await asyncio.sleep(0)
            self._door.close()

    def cut(self) -> None:
        """End all lines."""
        for line in list(self._lines):
            line.end()

    def reset(self) -> None:
        """End all lines with an RST to both ends."""
        for line in list(self._lines):
            line.reset()

    def reset_after(self, count: int, *, replies: bool) -> None:
        """Let that many more bytes pass in this direction, then reset the line that carried the last; once."""
        self.was_reset.clear()
        self._reset_after = {replies: count}

    async def close(self) -> None:
        await self.close_door()
        self.cut()
        if self._lines:
            await asyncio.wait(self._lines.values())

    @property
    def connected(self) -> int:
        return len(self._lines)

    def seen(self, data: bytes, *, reply: bool) -> None:
        """Count what came in."""
        self.carried[reply] += len(data)
        if reply:
            self._answered = True
            return
        self.chunks_sent += 1
        self.turns += self._answered
        self._answered = False

    def bytes_left(self, data: bytes, *, reply: bool) -> bytes | None:
        """What of `data` may still pass before a reset that was ordered; None if there is no reset in it."""
        left = self._reset_after.get(reply)
        if left is None:
            return None
        if left > len(data):
            self._reset_after[reply] = left - len(data)
            return None
        self._reset_after.clear()
        return data[:left]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        line = Line(self, reader, writer)
        task = asyncio.create_task(line.run(str(self._target.hostname), self._target.port))
        self._lines[line] = task
        task.add_done_callback(lambda _: self._lines.pop(line))


class Line:
    """One connection to us and the one it leads to."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._near = (reader, writer)
        self._writers = [writer]
        self._dead = False
        self._moved_at = asyncio.get_running_loop().time()

    async def run(self, host: str, port: int | None) -> None:
        try:
            far = await asyncio.open_connection(host, port)
        except OSError:
            self.end()
            return
        self._writers.append(far[1])
        pumps = [
            asyncio.ensure_future(self._pump(self._near[0], far[1], reply=False)),
            asyncio.ensure_future(self._pump(far[0], self._near[1], reply=True)),
        ]
        try:
            await self._until_over(pumps)
        finally:
            self.end()
            for pump in pumps:
                pump.cancel()
            await asyncio.wait(pumps)

    def end(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def reset(self) -> None:
        """Close at once, with an RST: SO_LINGER of 0 (socket(7))."""
        for writer in self._writers:
            sock = writer.get_extra_info("socket")
            if sock.fileno() != -1:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.end()

    async def _until_over(self, pumps: Sequence[asyncio.Future[None]]) -> None:
        """Return when one end is closed, or nothing has moved for too long."""
        while True:
            patience_s = self._proxy.cut_idle_s
            idle_s = asyncio.get_running_loop().time() - self._moved_at
            if patience_s is not None and idle_s >= patience_s:
                self._proxy.idle_cuts += 1
                return
            left_s = None if patience_s is None else patience_s - idle_s
            if (await asyncio.wait(pumps, timeout=left_s, return_when=asyncio.FIRST_COMPLETED))[0]:
                return

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, reply: bool) -> None:
        """Carry one direction. Requests are late by the latency of a round trip, replies go straight on."""
        late: deque[tuple[float, bytes]] = deque()
        arrived = asyncio.Event()
        loop = asyncio.get_running_loop()

        async def deliver() -> None:
            while True:
                while late:
                    due_at, data = late.popleft()
                    if due_at > loop.time():
                        await asyncio.sleep(due_at - loop.time())
                    await self._pass_on(data, writer, reply=reply)
                arrived.clear()
                await arrived.wait()

        delivering = asyncio.ensure_future(deliver())
        try:
            while data := await reader.read(CHUNK):
                self._proxy.seen(data, reply=reply)
                late.append((loop.time() + (0.0 if reply else self._proxy.latency_s), data))
                arrived.set()
        except ConnectionError:
            pass
        finally:
            delivering.cancel()

    async def _pass_on(self, data: bytes, writer: asyncio.StreamWriter, *, reply: bool) -> None:
        proxy = self._proxy
        self._moved_at = asyncio.get_running_loop().time()
        self._dead = self._dead or proxy.frozen
        if self._dead:
            return
        if reply and proxy.swallow_replies:
            proxy.replies_swallowed.set()
            return
        last = proxy.bytes_left(data, reply=reply)
        if last is not None:
            data = last
        for start in range(0, len(data), proxy.slice_bytes):
            writer.write(data[start : start + proxy.slice_bytes])
            if proxy.slice_bytes < len(data):
                await asyncio.sleep(proxy.slice_pause_s)  # the other end reads each slice by itself
        if last is not None:
            self.reset()
            proxy.was_reset.set()


@asynccontextmanager
async def proxy_to(url: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[Proxy]:
    proxy = Proxy(url, tls)
    await proxy.open_door()
    try:
        yield proxy
    finally:
        await proxy.close()
