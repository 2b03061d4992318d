"""One socket to Redis: opened with its password, database and name; bytes go out, replies come in, in order.

The driver is hiredis on an asyncio transport. No retries live down here: a client that sends a command again
because its reply was lost runs an INCRBY four times.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

import hiredis

from app.names import resolve
from app.redis_errors import translate
from pipeline.errors import CommandRefused

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

KEEPALIVE_IDLE_S = 60
KEEPALIVE_INTERVAL_S = 10
KEEPALIVE_PROBES = 3
UNACKNOWLEDGED_MAX_MS = 30_000
"""TCP_USER_TIMEOUT: sent data that no one acknowledges for so long ends the connection."""

_NOTHING = object()


class SocketLost(Exception):
    """The socket is gone, or was never there."""


def pack(*args: str | bytes | int) -> bytes:
    """Write one command as Redis reads it."""
    packed: bytes = hiredis.pack_command(args)  # type: ignore[arg-type]  # its stub means a tuple of any length
    return packed


@dataclass(frozen=True, slots=True)
class Address:
    """Where Redis is and how to get in, from a redis:// or rediss:// URL."""

    host: str
    port: int
    username: str | None
    password: str | None = field(repr=False)
    db: int
    tls: ssl.SSLContext | None

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read `redis[s]://[user:password@]host[:port][/db]`; `?ssl_ca_certs=` and `?ssl_cert_reqs=none` too."""
        parts = urlsplit(url)
        if parts.scheme not in ("redis", "rediss") or not parts.hostname:
            raise ValueError("the Redis URL must begin with redis:// or rediss:// and name a host")
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        return cls(
            host=parts.hostname,
            port=parts.port or 6379,
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            db=int(query.get("db") or parts.path.strip("/") or 0),
            tls=_tls(query) if parts.scheme == "rediss" else None,
        )

    def greeting(self, name: str) -> list[tuple[str | int, ...]]:
        """The commands that make a fresh socket ours, and ask whether this server serves, and as a primary."""
        login = (self.username, self.password) if self.username else (self.password,)
        commands: list[tuple[str | int, ...]] = []
        if self.password is not None:
            commands.append(("AUTH", *(part for part in login if part is not None)))
        if self.db:
            commands.append(("SELECT", self.db))
        return [*commands, ("CLIENT", "SETNAME", name), ("PING",), ("HELLO",)]


class RedisSocket(asyncio.Protocol):
    """An open socket. `news` is set whenever a reply or the end arrived, and may be set by others too."""

    def __init__(self, news: asyncio.Event) -> None:
        self._news = news
        self._replies: deque[Any] = deque()
        self._reader = hiredis.Reader(encoding="utf-8", errors="replace", notEnoughData=_NOTHING)
        self._transport: asyncio.Transport | None = None
        self._end: str | None = None
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time()

    @classmethod
    async def open(cls, address: Address, *, name: str, timeout_s: float, news: asyncio.Event) -> Self:
        """Connect, log in, choose the database, take the name. Raises SocketLost, also if we are not served."""
        self = cls(news)
        try:
            async with asyncio.timeout(timeout_s):
                await self._connect(address)
                await self._greet(address, name)
        except (OSError, TimeoutError) as error:
            self.close()
            raise SocketLost(str(error) or f"no connection within {timeout_s:g} s") from error
        except BaseException:
            self.close()
            raise
        return self

    def write(self, data: bytes) -> None:
        """Send; never waits, because what is in flight is bounded above."""
        self.raise_if_lost()
        if self._transport is not None:
            self._heard_at = self._loop.time()  # the other side's time to answer begins
            self._transport.write(data)

    async def reply(self, *, within_s: float) -> Any:
        """Return the next reply; an error is returned, not raised, because it is somebody's answer."""
        return await self.reply_unless(lambda: False, within_s=within_s)

    async def reply_unless(self, interrupted: Callable[[], bool], *, within_s: float | None) -> Any:
        """Return the next reply, or None if `interrupted`, which is asked whenever there is news.

        SocketLost once nothing at all has arrived for `within_s`: a long reply on a slow line is no silence.
        """
        while not self._replies:
            self.raise_if_lost()
            if interrupted():
                return None
            self._news.clear()
            if not await self._news_before(None if within_s is None else self._heard_at + within_s):
                raise SocketLost(f"no reply within {within_s:g} s")
        return self._replies.popleft()

    async def _news_before(self, deadline: float | None) -> bool:
        """Wait for news; False if none came. A loop that was held up looks at what has arrived before it judges."""
        heard_at = self._heard_at
        try:
            async with asyncio.timeout_at(deadline):
                await self._news.wait()
        except TimeoutError:
            return self._heard_at != heard_at
        return True

    def raise_if_lost(self) -> None:
        """Raise SocketLost if the other side is known to be gone."""
        if self._end is not None:
            raise SocketLost(self._end)

    def raise_if_unasked(self) -> None:
        """Raise SocketLost if a reply lies here that nobody asked for: it would be taken for the next one's."""
        if self._replies:
            raise SocketLost("a reply came that nobody asked for")

    def close(self) -> None:
        """Close at once; nothing is left to say."""
        if self._transport is not None:
            self._transport.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _connect(self, address: Address) -> None:
        """To the first of the host's addresses that takes the connection. Raises OSError."""

        async def connect_to(host: str) -> None:
            await asyncio.get_running_loop().create_connection(
                lambda: self,
                host,
                address.port,
                ssl=address.tls,
                server_hostname=address.host if address.tls else None,
            )

        *others, last = await resolve(address.host, address.port)
        for host in others:
            with suppress(OSError):
                return await connect_to(host)
        return await connect_to(last)

    async def _greet(self, address: Address, name: str) -> None:
        commands = address.greeting(name)
        self.write(b"".join(pack(*command) for command in commands))
        for command in commands:
            _judge(command[0], await self.reply_unless(lambda: False, within_s=None))

    # -- asyncio.Protocol -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport and let the kernel watch the line."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  -- what create_connection promises
        self._transport = transport
        _watch_line(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        """Cut what arrived into replies."""
        self._heard_at = self._loop.time()
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not _NOTHING:
                self._replies.append(reply)
        except hiredis.ProtocolError as error:
            self._end = f"not Redis' protocol: {error}"
            self.close()
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Remember how it ended and wake the owner."""
        self._end = self._end or (str(exc) if exc else "closed by the other side")
        self._news.set()


def _judge(command: str | int, reply: Any) -> None:
    """Raise SocketLost if this answer to the greeting means that we are not served here.

    A server that denies us the name, or does not know HELLO, still serves; one that says LOADING or NOAUTH does not.
    A replica does not either, except in a cluster: there it names the node that does.
    """
    if isinstance(reply, hiredis.ReplyError):
        if command in ("AUTH", "SELECT") or not isinstance(translate(str(reply)), CommandRefused):
            raise SocketLost(str(reply))
    elif command == "HELLO" and isinstance(reply, list):
        told = dict(zip(reply[::2], reply[1::2], strict=False))
        if told.get("role") == "replica" and told.get("mode") != "cluster":
            raise SocketLost("this server is a replica")


def _tls(query: dict[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=query.get("ssl_ca_certs"))
    if query.get("ssl_cert_reqs") == "none":  # the operator's explicit word, as in redis-py's URLs
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _watch_line(sock: socket.socket) -> None:
    """Let the kernel notice a peer that is gone without a word. Options a platform lacks are left out."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in {
        "TCP_KEEPIDLE": KEEPALIVE_IDLE_S,
        "TCP_KEEPINTVL": KEEPALIVE_INTERVAL_S,
        "TCP_KEEPCNT": KEEPALIVE_PROBES,
        "TCP_USER_TIMEOUT": UNACKNOWLEDGED_MAX_MS,
    }.items():
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
