"""What can happen to three connections to Redis: each fault burns as long as its block runs, and is healed after it.

Some are done to the line, some are Redis' own doing, and some are only said in its name, where a real server can
hardly be made to say them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import wraps

import anyio
import redis.asyncio

from tests.app.answering_proxy import AnsweringProxy
from tests.app.redis_proxy import CHUNK, Proxy
from tests.support import CHAOS_IN_FULL

SEED = 20261125
NOWHERE = ("127.0.0.1", "1")
PAUSED_MS = 7000 if CHAOS_IN_FULL else 1500
"""Longer than a call is waited for."""


@dataclass(frozen=True)
class Fire:
    """What a fault may touch: the line, what is said on it, and the server by a connection of its own."""

    proxy: Proxy
    speaker: AnsweringProxy
    admin: redis.asyncio.Redis
    password: str


Fault = Callable[[Fire], AbstractAsyncContextManager[None]]


Burn = Callable[[Fire], AsyncIterator[None]]


def _burning(burn: Burn) -> Fault:
    """A fault is healed however the block ends: a test that fails in the fire must not leave it to the next one."""

    @wraps(burn)
    @asynccontextmanager
    async def burning(fire: Fire) -> AsyncIterator[None]:
        steps = burn(fire)
        await anext(steps)
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await anext(steps, None)

    return burning


# ----------------------------------------------------------------------------------------------- the line


@_burning
async def half_open(fire: Fire) -> AsyncIterator[None]:
    fire.proxy.frozen = True
    yield
    fire.proxy.frozen = False


@_burning
async def replies_lost(fire: Fire) -> AsyncIterator[None]:
    """What we ask is done, and nobody says so."""
    fire.proxy.swallow_replies = True
    yield
    fire.proxy.swallow_replies = False


@_burning
async def refused(fire: Fire) -> AsyncIterator[None]:
    await fire.proxy.close_door()
    fire.proxy.reset()
    yield
    await fire.proxy.open_door()


@_burning
async def let_in_and_thrown_out(fire: Fire) -> AsyncIterator[None]:
    fire.proxy.refusing = True
    fire.proxy.cut()
    yield
    fire.proxy.refusing = False


@_burning
async def reset_now_and_then(fire: Fire) -> AsyncIterator[None]:
    async with _again_and_again(fire.proxy.reset, 0.05, 0.3):
        yield


@_burning
async def reset_at_any_byte(fire: Fire) -> AsyncIterator[None]:
    chance = random.Random(SEED)

    def strike() -> None:
        fire.proxy.reset_after(chance.randrange(1, 1500), replies=chance.random() < 0.5)

    async with _again_and_again(strike, 0.02, 0.2):
        yield


@_burning
async def a_byte_at_a_time(fire: Fire) -> AsyncIterator[None]:
    fire.proxy.slice_bytes = 1
    yield
    fire.proxy.slice_bytes = CHUNK


@_burning
async def far_away(fire: Fire) -> AsyncIterator[None]:
    fire.proxy.latency_s = 0.08
    yield
    fire.proxy.latency_s = 0.0


# --------------------------------------------------------------------------------------- Redis' own doing


@_burning
async def out_of_memory(fire: Fire) -> AsyncIterator[None]:
    await fire.admin.config_set("maxmemory", 1)
    yield
    await fire.admin.config_set("maxmemory", 0)


@_burning
async def became_a_replica(fire: Fire) -> AsyncIterator[None]:
    await fire.admin.execute_command("REPLICAOF", *NOWHERE)
    yield
    await fire.admin.execute_command("REPLICAOF", "NO", "ONE")


@_burning
async def replica_without_its_master(fire: Fire) -> AsyncIterator[None]:
    """It says MASTERDOWN."""
    await fire.admin.config_set("replica-serve-stale-data", "no")
    await fire.admin.execute_command("REPLICAOF", *NOWHERE)
    yield
    await fire.admin.execute_command("REPLICAOF", "NO", "ONE")
    await fire.admin.config_set("replica-serve-stale-data", "yes")


@_burning
async def password_changed(fire: Fire) -> AsyncIterator[None]:
    """Nobody is thrown out by that: the next loss shows it."""
    await fire.admin.config_set("requirepass", "rotated")
    fire.proxy.reset()
    yield
    await fire.admin.config_set("requirepass", fire.password)


@_burning
async def scripts_flushed_all_the_time(fire: Fire) -> AsyncIterator[None]:
    async with _again_and_again(fire.admin.script_flush, 0.0, 0.01):
        yield


@_burning
async def paused_clients(fire: Fire) -> AsyncIterator[None]:
    """The pause ends by itself, whoever asked for it."""
    await fire.admin.execute_command("CLIENT", "PAUSE", PAUSED_MS, "ALL")
    yield
    await fire.admin.ping()


@_burning
async def busy_with_a_script(fire: Fire) -> AsyncIterator[None]:
    """It says BUSY to all but the one that kills the script."""
    await fire.admin.config_set("busy-reply-threshold", 200)
    stuck = asyncio.create_task(fire.admin.execute_command("EVAL", "while true do end", 0))
    yield
    await fire.admin.execute_command("SCRIPT", "KILL")
    await asyncio.gather(stuck, return_exceptions=True)
    with suppress(redis.exceptions.ResponseError):  # on a busy machine any script may take 200 ms, once
        await fire.admin.config_set("busy-reply-threshold", 5000)
    await fire.admin.config_set("busy-reply-threshold", 5000)


def killed(kind: str) -> Fault:
    @_burning
    async def kill(fire: Fire) -> AsyncIterator[None]:
        async def strike() -> None:
            await fire.admin.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")

        async with _again_and_again(strike, 0.1, 0.3):
            yield

    return kill


# ------------------------------------------------------------------------------------- said in its name

READS = frozenset({"HGET", "HGETALL", "EXISTS"})
CALLS = frozenset({"EVALSHA", "EVAL"}) | READS
GREETING = frozenset({"PING"})


def said(reply: str, words: frozenset[str]) -> Fault:
    """These commands are answered with this error."""

    @_burning
    async def say(fire: Fire) -> AsyncIterator[None]:
        fire.speaker.answer = lambda word: f"-{reply}\r\n".encode() if word in words else None
        yield
        fire.speaker.answer = lambda _word: None

    return say


FAULTS: dict[str, Fault] = {
    "half open": half_open,
    "replies lost": replies_lost,
    "refused": refused,
    "let in and thrown out": let_in_and_thrown_out,
    "reset now and then": reset_now_and_then,
    "reset at any byte": reset_at_any_byte,
    "a byte at a time": a_byte_at_a_time,
    "80 ms away": far_away,
    "OOM": out_of_memory,
    "READONLY": became_a_replica,
    "MASTERDOWN": replica_without_its_master,
    "WRONGPASS": password_changed,
    "SCRIPT FLUSH": scripts_flushed_all_the_time,
    "CLIENT PAUSE": paused_clients,
    "BUSY": busy_with_a_script,
    "CLIENT KILL normal": killed("normal"),
    "CLIENT KILL pubsub": killed("pubsub"),
    "LOADING, said": said("LOADING Redis is loading the dataset in memory", CALLS | GREETING),
    "MISCONF, said": said("MISCONF Redis is configured to save RDB snapshots, but cannot", CALLS | GREETING),
    "NOAUTH, said": said("NOAUTH Authentication required.", CALLS | GREETING),
    "NOSCRIPT, said": said("NOSCRIPT No matching script.", frozenset({"EVALSHA"})),
    "NOREPLICAS, said": said("NOREPLICAS Not enough good replicas to write.", CALLS),
}

UNFELT = frozenset({a_byte_at_a_time, far_away, scripts_flushed_all_the_time})
"""Only slower: nobody loses, or hears, anything."""


@asynccontextmanager
async def _again_and_again(strike: Callable[[], object], least_s: float, most_s: float) -> AsyncIterator[None]:
    """Told to stop, not cancelled: redis-py may swallow a cancellation, and would strike for ever."""
    chance, over = random.Random(SEED), asyncio.Event()

    async def strikes() -> None:
        while not over.is_set():
            struck = strike()
            if asyncio.iscoroutine(struck):
                await struck
            await asyncio.sleep(chance.uniform(least_s, most_s))

    task = asyncio.create_task(strikes())
    try:
        yield
    finally:
        over.set()
        await task
