"""A socket that is always being kept open: owned by one task, opened again when lost, its state shown.

`CommandLink` takes calls from any number of tasks. They wait for a future each; the owner sends all that is
pending as one pipeline and hands the replies out in order. A cancelled caller leaves its place in that order
untouched. `EventLink` listens.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import hiredis
import structlog

from app.redis_errors import code_of, moved_to, translate
from app.redis_socket import Address, RedisSocket, SocketLost, pack
from pipeline.errors import CommandRefused, RedisUnavailable, ReplyLost
from pipeline.queue.backoff import full_jitter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from pipeline.clock import Clock
    from pipeline.queue.backoff import Random
    from pipeline.queue.scripts import Argument, Script

PENDING_MAX = 10_000
RECONNECT_BASE_S = 0.1
RECONNECT_CAP_S = 5.0
LASTED_S = 10.0
"""A socket that lasted so long was a good one. A server that lets us in and throws us out is not asked faster."""

_PING = pack("PING")
_log = structlog.get_logger()

State = Literal["connecting", "ready", "reconnecting", "closed"]


@dataclass(frozen=True, slots=True)
class ConnectionState:
    """What `/ready` shows of one connection. `retry_in_s` is the last back-off while reconnecting."""

    name: str
    state: State
    since: datetime
    last_error: str | None = None
    reconnects: int = 0
    retry_in_s: float | None = None


@dataclass(frozen=True, slots=True)
class LinkConfig:
    """What the three connections have in common."""

    address: Address
    client_name: str
    connect_timeout_s: float
    call_timeout_s: float
    ping_s: float
    """A socket that was silent for so long is asked for a sign of life; providers cut idle ones at 300 s."""
    random: Random
    on_change: Callable[[ConnectionState], None]
    slot: int | None = None
    """The slot of a cluster that we follow to the node that has it."""


class _Link:
    """Keeps a socket open. A subclass says in `_serve` what happens on it."""

    def __init__(self, name: str, clock: Clock, config: LinkConfig) -> None:
        self.state = ConnectionState(name, "connecting", clock.now())
        self._clock = clock
        self._config = config
        self._address = config.address
        self._news = asyncio.Event()

    async def own(self) -> None:
        """Own the socket until cancelled."""
        failures = 0
        try:
            while True:
                opened_at = self._clock.monotonic()
                try:
                    with await self._open() as sock:
                        self._enter("ready")
                        await self._serve(sock)
                except SocketLost as lost:
                    lasted_s = self._clock.monotonic() - opened_at
                    failures = 1 if lasted_s > LASTED_S else failures + 1
                    await self._back_off(failures, str(lost))
        finally:
            self._enter("closed")
            self._on_closed()

    async def _serve(self, sock: RedisSocket) -> None:
        raise NotImplementedError

    def _on_closed(self) -> None:
        """Nobody will be answered any more."""

    async def _open(self) -> RedisSocket:
        config = self._config
        address, self._address = self._address, config.address  # of a node that is gone the first one knows more
        sock = await RedisSocket.open(
            address,
            name=f"{config.client_name}:{self.state.name}",
            timeout_s=config.connect_timeout_s,
            news=self._news,
        )
        self._address = address
        return sock

    async def _back_off(self, failures: int, error: str) -> None:
        delay = full_jitter(failures, base_s=RECONNECT_BASE_S, cap_s=RECONNECT_CAP_S, random=self._config.random)
        self._enter("reconnecting", error=error, retry_in_s=round(delay, 3))
        await self._clock.sleep(delay)

    def _enter(self, state: State, *, error: str | None = None, retry_in_s: float | None = None) -> None:
        """Change state; one log line and one call to `on_change` for each change, none for a further try."""
        changed = state != self.state.state
        self.state = replace(
            self.state,
            state=state,
            since=self._clock.now() if changed else self.state.since,
            last_error=error or self.state.last_error,
            reconnects=self.state.reconnects + (changed and state == "reconnecting"),
            retry_in_s=retry_in_s,
        )
        if changed:
            log = _log.warning if state == "reconnecting" else _log.info
            log(
                "redis connection changed",
                connection=self.state.name,
                state=state,
                error=error,
                retry_in_s=retry_in_s,
            )
            self._config.on_change(self.state)


class _Request:
    """One command and the caller that waits for its reply."""

    __slots__ = ("packed", "reply", "sent")

    def __init__(self, packed: bytes) -> None:
        self.packed = packed
        self.reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.sent = False

    def fail(self, error: Exception) -> None:
        if not self.reply.done():
            self.reply.set_exception(error)

    def expire(self, timeout_s: float) -> None:
        """Give up on a command that was never sent. One that was sent is the owner's to judge."""
        if not self.sent:
            self.fail(RedisUnavailable(f"not connected to Redis within {timeout_s:g} s"))

    def answer(self, reply: Any) -> None:
        if isinstance(reply, hiredis.ReplyError):
            self.fail(translate(str(reply)))
        elif not self.reply.done():
            self.reply.set_result(reply)


def _sign_of_life() -> _Request:
    """Make a PING that nobody waits for: its failure is the socket's, which the owner sees anyway."""
    request = _Request(_PING)
    request.reply.add_done_callback(lambda reply: reply.cancelled() or reply.exception())
    return request


class CommandLink(_Link):
    """Takes commands. While it reconnects they wait for it up to the call timeout, or with `fail_fast` not at all."""

    def __init__(self, name: str, clock: Clock, config: LinkConfig, *, fail_fast: bool) -> None:
        super().__init__(name, clock, config)
        self._fail_fast = fail_fast
        self._pending: list[_Request] = []

    async def call(self, *args: Argument) -> Any:
        """Send one command; see `pipeline.queue.bull.Commands`."""
        self._admit()
        timeout_s = self._config.call_timeout_s
        request = _Request(pack(*args))
        self._pending.append(request)
        self._news.set()
        expiry = asyncio.get_running_loop().call_later(timeout_s, request.expire, timeout_s)
        try:
            return await request.reply
        finally:
            expiry.cancel()

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        """EVALSHA; a server that does not know the script (restarted, failed over) gets its source."""
        try:
            return await self.call("EVALSHA", script.sha, len(keys), *keys, *args)
        except CommandRefused as error:
            if error.code != "NOSCRIPT":
                raise
        return await self.call("EVAL", script.source, len(keys), *keys, *args)

    def _admit(self) -> None:
        if self.state.state == "closed":
            raise RedisUnavailable("the connection was closed")
        if self._fail_fast and self.state.state != "ready":
            raise RedisUnavailable(f"not connected to Redis: {self.state.last_error or self.state.state}")
        if len(self._pending) >= PENDING_MAX:
            raise RedisUnavailable(f"{PENDING_MAX} commands wait for Redis already")

    async def _serve(self, sock: RedisSocket) -> None:
        while True:
            batch = await self._next_batch(sock)
            try:
                await self._exchange(sock, batch)
            finally:
                for request in batch:
                    if request.sent:
                        request.fail(ReplyLost("the connection ended before the reply came"))

    async def _next_batch(self, sock: RedisSocket) -> list[_Request]:
        """Wait for commands; after a long silence, make one up."""
        try:
            async with asyncio.timeout(self._config.ping_s):
                while True:
                    sock.raise_if_lost()
                    batch = [request for request in self._pending if not request.reply.done()]
                    self._pending.clear()
                    if batch:
                        return batch
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return [_sign_of_life()]

    async def _exchange(self, sock: RedisSocket, batch: list[_Request]) -> None:
        """Send a batch and hand out its replies. A socket that does not answer in time is given up."""
        for request in batch:
            request.sent = True
        sock.write(b"".join([request.packed for request in batch]))
        demoted = False
        moved: list[_Request] = []
        try:
            async with asyncio.timeout(self._config.call_timeout_s):
                for request in batch:
                    reply = await sock.reply()
                    if self._follow(reply):
                        moved.append(request)
                        continue
                    request.answer(reply)
                    demoted = demoted or _is_readonly(reply)
        except TimeoutError:
            raise SocketLost(f"no reply within {self._config.call_timeout_s:g} s") from None
        if moved:
            self._put_back(moved)
            raise SocketLost(f"our slot is on {self._address.host}:{self._address.port}")
        if demoted:
            raise SocketLost("this server became a replica")  # the name may lead to the new primary

    def _follow(self, reply: Any) -> bool:
        """Whether a cluster sends us to another node for our slot: the next socket leads there."""
        target = moved_to(str(reply), self._config.slot) if isinstance(reply, hiredis.ReplyError) else None
        if target is None:
            return False
        host, port = target
        self._address = replace(self._address, host=host or self._address.host, port=port)
        return True

    def _put_back(self, requests: list[_Request]) -> None:
        """Let them go first on the next socket: a node that sends us elsewhere has not run them."""
        for request in requests:
            request.sent = False
        self._pending[:0] = requests

    def _on_closed(self) -> None:
        for request in self._pending:
            request.fail(RedisUnavailable("the connection was closed"))
        self._pending.clear()


def _is_readonly(reply: Any) -> bool:
    return isinstance(reply, hiredis.ReplyError) and code_of(str(reply)) == "READONLY"


@dataclass(frozen=True, slots=True)
class _Subscription:
    patterns: tuple[str, ...]
    on_message: Callable[[str, str], None]
    on_subscribed: Callable[[], None]


class EventLink(_Link):
    """Listens for one subscriber, subscribing anew on every new socket."""

    def __init__(self, name: str, clock: Clock, config: LinkConfig) -> None:
        super().__init__(name, clock, config)
        self._wanted: _Subscription | None = None
        self._subscribed: _Subscription | None = None

    async def listen(
        self,
        patterns: Sequence[str],
        *,
        on_message: Callable[[str, str], None],
        on_subscribed: Callable[[], None],
    ) -> None:
        """Pass on what is published until cancelled; see `pipeline.queue.notifier.Events`."""
        self._wanted = _Subscription(tuple(patterns), on_message, on_subscribed)
        self._news.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._wanted = None

    async def _serve(self, sock: RedisSocket) -> None:
        self._subscribed = None
        while True:
            if self._wanted is not None and self._must_subscribe():
                self._subscribed = self._wanted
                sock.write(pack("PSUBSCRIBE", *self._wanted.patterns))
            message = await self._next(sock)
            if message is not None:
                self._pass_on(message)

    def _must_subscribe(self) -> bool:
        return self._wanted is not None and self._wanted is not self._subscribed

    async def _next(self, sock: RedisSocket) -> Any:
        """Return what came, None if there is a subscription to make. Asks for life after a long silence."""
        for wait_s, ask in ((self._config.ping_s, True), (self._config.call_timeout_s, False)):
            try:
                async with asyncio.timeout(wait_s):
                    return await sock.reply_unless(self._must_subscribe)
            except TimeoutError:
                if ask:
                    sock.write(_PING)
        raise SocketLost(f"silent, and no reply to PING within {self._config.call_timeout_s:g} s")

    def _pass_on(self, message: Any) -> None:
        wanted = self._wanted
        if isinstance(message, hiredis.ReplyError):
            raise SocketLost(str(message))
        if wanted is None:
            return
        match message:
            case ["pmessage", _, channel, payload]:
                wanted.on_message(channel, payload)
            case ["psubscribe", pattern, _] if pattern == wanted.patterns[-1]:
                wanted.on_subscribed()
