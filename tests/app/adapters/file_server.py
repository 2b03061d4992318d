"""A real HTTP server on loopback that answers exactly the bytes a test wrote, at the pace it chose."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Request:
    path: str
    headers: Mapping[str, str]


Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class FileServer:
    """`answers` by path; a path without one is 404. `requests` are all that came."""

    base: str = ""
    port: int = 0
    answers: dict[str, Answer] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)


def reply(
    body: bytes = b"", *, status: int = 200, length: int | None = None, keep: bool = False, **headers: str
) -> Answer:
    """A whole answer; `length` may lie, `keep` says that the connection may be used again."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status} Status", f"Content-Length: {len(body) if length is None else length}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        lines.append(f"Connection: {'keep-alive' if keep else 'close'}")
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await writer.drain()
        if keep:
            await asyncio.sleep(60)  # cut off when the server ends

    return answer


def endless(chunk: bytes = b"x" * 65536, *, pause_s: float = 0.0) -> Answer:
    """A chunked body that never ends."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            await writer.drain()
            await asyncio.sleep(pause_s)

    return answer


@asynccontextmanager
async def file_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[FileServer]:
    """Serve until the block ends, over TLS if asked; whatever is still being answered is cut off."""
    server = FileServer()
    open_connections: set[asyncio.Task[None]] = set()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
            path = head[0].split(" ")[1]
            server.requests.append(Request(path, headers))
            await server.answers.get(path, reply(status=404))(writer)

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(converse(reader, writer))
        open_connections.add(task)
        task.add_done_callback(open_connections.discard)

    listener = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    server.base = f"{'http' if tls is None else 'https'}://127.0.0.1:{server.port}"
    try:
        yield server
    finally:
        listener.close()
        for task in open_connections:
            task.cancel()
        await asyncio.gather(*open_connections, return_exceptions=True)
