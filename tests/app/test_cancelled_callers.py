"""Callers that are cancelled at any moment: everybody else still gets his own reply, and nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from app.connections import open_connections
from app.redis_link import CommandLink, _Request
from pipeline.clock import SystemClock
from pipeline.errors import CommandRefused, RedisUnavailable
from pipeline.queue.bull import Commands
from pipeline.queue.scripts import Script
from tests.app.redis_proxy import CHUNK, Proxy, proxy_to
from tests.support import CHAOS_IN_FULL

SEED = 20261125
OPERATIONS = 100_000 if CHAOS_IN_FULL else 10_000
AT_ONCE = 250
RESETS_EVERY = 5
"""Crowds between two resets of all sockets."""
SLICED_EVERY = 20
"""Crowds between two that speak a byte at a time."""

SOURCE = "return {ARGV[1], redis.call('GET', KEYS[1])}"
ANSWER = Script(
    "answer", SOURCE, hashlib.sha1(SOURCE.encode(), usedforsecurity=False).hexdigest(), ("key",), (), (), {}, {}
)


class Crowd:
    """Asks for what only one caller can be told, and checks that he is told it."""

    def __init__(self, commands: Commands, chance: random.Random) -> None:
        self.ended: Counter[str] = Counter()
        self._commands = commands
        self._chance = chance
        self._numbers = itertools.count()

    async def ask(self) -> None:
        """One caller; what he says is his alone, and so is his key."""
        mine = f"{next(self._numbers)}:" + "x" * self._chance.choice((0, 3, 70, 900))
        try:
            answered = await self._ask(self._chance.choice(("echo", "set-get", "script", "error")), mine)
        except RedisUnavailable:
            self.ended["unavailable"] += 1
            return
        assert answered == mine
        self.ended["answered"] += 1

    async def _ask(self, way: str, mine: str) -> str:
        key = f"bull:{mine.partition(':')[0]}"
        match way:
            case "echo":
                return str(await self._commands.call("ECHO", mine))
            case "set-get":
                assert await self._commands.call("SET", key, mine, "PX", 60_000) == "OK"
                return str(await self._commands.call("GET", key))
            case "script":
                said, stored = await self._commands.run(ANSWER, [key], [mine])
                assert stored is None
                return str(said)
            case _:
                with pytest.raises((CommandRefused, RedisUnavailable)) as told:
                    await self._commands.call("EVAL", "return redis.error_reply('MINE ' .. ARGV[1])", 0, mine)
                if isinstance(told.value, RedisUnavailable):
                    raise told.value
                return str(told.value).removeprefix("MINE ")

    async def come(self, count: int) -> None:
        """So many callers at once; half of them are cancelled, each at a moment of its own."""
        loop = asyncio.get_running_loop()
        callers = [asyncio.create_task(self.ask()) for _ in range(count)]
        for caller in self._chance.sample(callers, count // 2):
            match self._chance.randrange(3):
                case 0:
                    caller.cancel()  # before it has begun
                case 1:
                    loop.call_soon(loop.call_soon, caller.cancel)  # it waits, and is not sent yet, or just so
                case _:
                    loop.call_later(self._chance.uniform(0, 0.004), caller.cancel)
        for result in await asyncio.gather(*callers, return_exceptions=True):
            if isinstance(result, asyncio.CancelledError):
                self.ended["cancelled"] += 1
            elif result is not None:
                raise result


async def test_cancelling_callers_at_random_moments_never_mixes_replies_and_leaves_nothing_behind(
    redis_url: str,
) -> None:
    chance = random.Random(SEED)
    async with (
        proxy_to(redis_url) as proxy,
        open_connections(proxy.url(), SystemClock(), random=lambda: 0.0) as opened,
    ):
        crowd = Crowd(opened.commands, chance)
        for faults in itertools.islice(_faults(proxy, chance), OPERATIONS // AT_ONCE):
            faults()
            await crowd.come(AT_ONCE)
        assert await opened.commands.call("ECHO", "after") == "after"
        resets = opened.states()[0].reconnects
        assert isinstance(opened.commands, CommandLink)
        assert not opened.commands._pending
    gc.collect()
    assert [one for one in gc.get_objects() if type(one) is _Request] == []
    assert crowd.ended.total() == OPERATIONS
    assert min(crowd.ended["answered"], crowd.ended["cancelled"]) > OPERATIONS / 5, crowd.ended
    assert crowd.ended["unavailable"] > 0
    assert resets >= OPERATIONS / AT_ONCE / RESETS_EVERY / 2


def _faults(proxy: Proxy, chance: random.Random) -> Iterator[Callable[[], None]]:
    """What happens to the line under each crowd: mostly nothing, now and then a reset at some byte, or slices."""
    loop = asyncio.get_running_loop()
    for number in itertools.count():

        def strike(number: int = number) -> None:
            proxy.slice_bytes = 1 if number % SLICED_EVERY == SLICED_EVERY - 1 else CHUNK
            match number % RESETS_EVERY:
                case 0:
                    loop.call_later(chance.uniform(0, 0.004), proxy.reset)
                case 1:
                    proxy.reset_after(chance.randrange(1, 20_000), replies=chance.random() < 0.5)

        yield strike
