"""A socket that is always being kept open: owned by one task, opened again when lost, its state shown.

`CommandLink` takes calls from any number of tasks. They wait for a future each; the owner sends all that is
pending as one pipeline and hands the replies out in order. A cancelled caller leaves its place in that order
untouched. `EventLink` listens.

A socket that nothing went over for long is doubted: asked for a sign of life, and given up without one. So is a
socket whose neighbour was lost, because a line that dies without a word takes the silent ones too.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import anyio
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

NOT_HERE = frozenset({"READONLY", "MASTERDOWN", "NOAUTH"})
"""Said by a server that became a replica, or forgot who we are: a new socket may lead to the primary, and logs in."""

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
    changes: int = 0
    retry_in_s: float | None = None


@dataclass(frozen=True, slots=True)
class LinkConfig:
    """What the three connections have in common."""

    address: Address
    client_name: str
    connect_timeout_s: float
    call_timeout_s: float
    """How long a command may wait to be sent, and the other side may be silent while it owes a reply."""
    ping_s: float
    """A socket that nothing went over for so long is asked for a sign of life; providers cut idle ones at 300 s."""
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
        self._doubted = False
        self._used_at = clock.monotonic()

    async def own(self) -> None:
        """Own the socket until cancelled."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._doubt_when_silent)
                await self._keep_open()
        finally:
            self._enter("closed")
            self._on_closed()

    def doubt(self) -> None:
        """Ask the socket for a sign of life, unless it gives one by itself."""
        self._doubted = True
        self._used_at = self._clock.monotonic()
        self._news.set()

    async def _doubt_when_silent(self) -> None:
        while True:
            left_s = self._used_at + self._config.ping_s - self._clock.monotonic()
            if left_s > 0:
                await self._clock.sleep(left_s)
            else:
                self.doubt()

    def _used(self) -> None:
        """Something is going over the socket, which is as good as a PING."""
        self._doubted = False
        self._used_at = self._clock.monotonic()

    async def _keep_open(self) -> None:
        failures = 0
        while True:
            ready_at = None
            try:
                with await self._open() as sock:
                    await self._prepare(sock)
                    self._enter("ready")
                    self._used()
                    ready_at = self._clock.monotonic()
                    await self._serve(sock)
            except SocketLost as lost:
                lasted = ready_at is not None and self._clock.monotonic() - ready_at > LASTED_S
                failures = 1 if lasted else failures + 1
                await self._back_off(failures, str(lost))

    async def _prepare(self, sock: RedisSocket) -> None:
        """Do what has to be done before a fresh socket counts as ready."""

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
            changes=self.state.changes + changed,
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
            self.fail(RedisUnavailable(f"not sent to Redis within {timeout_s:g} s"))

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
        self._pending: dict[_Request, None] = {}  # in order; a caller that gives up takes its request out

    async def call(self, *args: Argument) -> Any:
        """Send one command; see `pipeline.queue.bull.Commands`."""
        self._admit()
        timeout_s = self._config.call_timeout_s
        request = _Request(pack(*args))
        self._pending[request] = None
        self._news.set()
        expiry = asyncio.get_running_loop().call_later(timeout_s, request.expire, timeout_s)
        try:
            return await request.reply
        finally:
            expiry.cancel()
            self._pending.pop(request, None)

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
        """Wait for commands; for a socket in doubt, make one up."""
        while True:
            sock.raise_if_lost()
            sock.raise_if_unasked()
            batch = [request for request in self._pending if not request.reply.done()]
            self._pending.clear()
            if not batch and self._doubted:
                batch = [_sign_of_life()]
            if batch:
                self._used()
                return batch
            self._news.clear()
            await self._news.wait()

    async def _exchange(self, sock: RedisSocket, batch: list[_Request]) -> None:
        """Send a batch and hand out its replies. A socket that falls silent meanwhile is given up."""
        for request in batch:
            request.sent = True
        sock.write(b"".join([request.packed for request in batch]))
        moved: list[_Request] = []
        not_here = ""
        for request in batch:
            reply = await sock.reply(within_s=self._config.call_timeout_s)
            if self._follow(reply):
                moved.append(request)
                continue
            request.answer(reply)
            not_here = not_here or _not_here(reply)
        if moved:
            self._put_back(moved)
            raise SocketLost(f"our slot is on {self._address.host}:{self._address.port}")
        if not_here:
            raise SocketLost(not_here)

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
        self._pending = dict.fromkeys(requests) | self._pending

    def _on_closed(self) -> None:
        for request in self._pending:
            request.fail(RedisUnavailable("the connection was closed"))
        self._pending.clear()


def _not_here(reply: Any) -> str:
    """Return what the server said if it means that this socket is of no use, whatever we ask it."""
    return str(reply) if isinstance(reply, hiredis.ReplyError) and code_of(str(reply)) in NOT_HERE else ""


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
        self._asked: _Subscription | None = None
        self._confirmed: _Subscription | None = None
        self._owed = False

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

    async def _prepare(self, sock: RedisSocket) -> None:
        """Subscribe again: a server that refuses us that is not ready."""
        self._asked = self._confirmed = None
        self._owed = False
        while self._wanted is not None and self._wanted is not self._confirmed:
            await self._step(sock)

    async def _serve(self, sock: RedisSocket) -> None:
        while True:
            await self._step(sock)

    async def _step(self, sock: RedisSocket) -> None:
        """Say what there is to say, then pass on the next message."""
        if self._wanted is not None and self._must_subscribe():
            self._asked = self._wanted
            self._say(sock, pack("PSUBSCRIBE", *self._wanted.patterns))
        elif self._must_ask():
            self._say(sock, _PING)
        within_s = self._config.call_timeout_s if self._owed else None
        message = await sock.reply_unless(lambda: self._must_subscribe() or self._must_ask(), within_s=within_s)
        if message is not None:
            self._used()
            self._owed = False
            self._pass_on(message)

    def _say(self, sock: RedisSocket, data: bytes) -> None:
        sock.write(data)
        self._used()
        self._owed = True

    def _must_subscribe(self) -> bool:
        return self._wanted is not None and self._wanted is not self._asked

    def _must_ask(self) -> bool:
        return self._doubted and not self._owed

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
                self._confirmed = wanted
                wanted.on_subscribed()
