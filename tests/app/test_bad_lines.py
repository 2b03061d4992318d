"""What the three connections do when the line is slow, silent, cut short, or talks nonsense."""

from __future__ import annotations

import asyncio
import time

import pytest
import redis
import structlog

from app.connections import Connections, open_connections
from app.redis_link import PENDING_MAX
from app.redis_socket import Address
from pipeline.clock import SystemClock
from pipeline.errors import RedisUnavailable, ReplyLost
from pipeline.queue.bull import Bull
from pipeline.queue.job import ClaimedJob, Held, NewJob
from tests.app.answering_proxy import answering_proxy
from tests.app.changes import Changes
from tests.app.redis_proxy import proxy_to
from tests.pipeline.queue.support import QUEUE, MovedClock
from tests.support import CHAOS_IN_FULL, eventually

CLOCK = SystemClock()
CALLERS = 300
CALLS_EACH = 5


@pytest.mark.parametrize("latency_ms", [0, 1, 20, 80])
async def test_three_hundred_callers_share_round_trips_however_long_these_are(redis_url: str, latency_ms: int) -> None:
    async def ask(opened: Connections, caller: int) -> None:
        for number in range(CALLS_EACH):
            text = f"{caller}.{number}"
            assert await opened.commands.call("ECHO", text) == text

    async with proxy_to(redis_url) as proxy, open_connections(proxy.url(), CLOCK) as opened:
        await opened.commands.call("PING")
        proxy.latency_s = latency_ms / 1000
        before = proxy.turns
        await asyncio.gather(*(ask(opened, caller) for caller in range(CALLERS)))
        # One call each per round trip, and as many again for replies that arrived in more than one piece.
        assert proxy.turns - before <= 2 * CALLS_EACH + 2


async def test_a_long_reply_on_a_slow_line_is_waited_for_and_only_silence_is_given_up(redis_url: str) -> None:
    async with (
        proxy_to(redis_url) as proxy,
        open_connections(proxy.url(), CLOCK, call_timeout_s=0.3) as opened,
    ):
        document = "x" * 200_000
        await opened.commands.call("SET", "bull:long", document)
        proxy.slice_bytes, proxy.slice_pause_s = 10_000, 0.05  # twenty pieces: a second
        assert await opened.commands.call("GET", "bull:long") == document
        proxy.swallow_replies = True
        with pytest.raises(ReplyLost):
            await opened.commands.call("GET", "bull:long")


async def test_a_loop_that_was_held_up_takes_what_has_arrived_meanwhile(redis_url: str) -> None:
    changes = Changes()
    async with open_connections(redis_url, CLOCK, call_timeout_s=0.2, on_change=changes.note) as opened:
        await changes.until("ready")
        calls = [asyncio.create_task(opened.commands.call("ECHO", str(number))) for number in range(10)]
        for _ in range(3):  # the owner has sent them
            await asyncio.sleep(0)
        time.sleep(0.3)  # noqa: ASYNC251  -- what is under test
        assert await asyncio.gather(*calls) == [str(number) for number in range(10)]
        assert await opened.commands.call("ECHO", "after") == "after"
    assert not [change for change in changes.seen if change.state == "reconnecting"]


async def test_a_line_that_died_under_one_connection_is_asked_for_under_the_others(redis_url: str) -> None:
    """They would have been silent for four minutes before anyone asked."""
    changes = Changes()
    async with (
        proxy_to(redis_url) as proxy,
        open_connections(
            proxy.url(), CLOCK, call_timeout_s=0.2, connect_timeout_s=0.2, on_change=changes.note
        ) as opened,
    ):
        await changes.until("ready")
        proxy.frozen = True
        with pytest.raises(ReplyLost):
            await opened.commands.call("PING")
        await changes.until("reconnecting", "events", "leases")
        proxy.frozen = False
        await changes.until("ready")


async def test_silent_for_240_seconds_each_connection_asks_for_a_sign_of_life(
    redis_url: str, redis_admin: redis.Redis
) -> None:
    clock, changes = MovedClock(), Changes()
    async with open_connections(redis_url, clock, on_change=changes.note, name="moved") as opened:
        await changes.until("ready")
        clock.move(239)
        assert await opened.leases.call("ECHO", "in use") == "in use"
        assert last_commands(redis_admin) == {
            "moved:commands": "hello",
            "moved:events": "hello",
            "moved:leases": "echo",
        }

        clock.move(1)
        await eventually(lambda: they_are(redis_admin, {"moved:commands": "ping", "moved:events": "ping"}))
        assert last_commands(redis_admin)["moved:leases"] == "echo"
        clock.move(239)
        await eventually(lambda: they_are(redis_admin, {"moved:leases": "ping"}))
        assert [state.reconnects for state in opened.states()] == [0, 0, 0]


def last_commands(raw: redis.Redis) -> dict[str, str]:
    return {client["name"]: client["cmd"] for client in raw.client_list() if client["name"].startswith("moved:")}


async def they_are(raw: redis.Redis, expected: dict[str, str]) -> bool:
    return last_commands(raw).items() >= expected.items()


@pytest.mark.parametrize(("ping_s", "survive"), [(0.1, True), (1000, False)])
async def test_a_provider_that_cuts_idle_lines_cuts_none_that_asks_in_time(
    redis_url: str, *, ping_s: float, survive: bool
) -> None:
    async with proxy_to(redis_url) as proxy:
        proxy.cut_idle_s = 0.5
        async with open_connections(proxy.url(), CLOCK, ping_s=ping_s) as opened:

            async def long_enough() -> bool:
                if survive:
                    return proxy.chunks_sent >= 3 * 20
                return proxy.idle_cuts >= 3 and reconnects() > 0

            def reconnects() -> int:
                return sum(state.reconnects for state in opened.states())

            await eventually(long_enough)
            assert (reconnects() == 0) is survive
        assert (proxy.idle_cuts == 0) is survive


async def test_a_renewal_does_not_wait_behind_the_work(redis_url: str) -> None:
    size, count = (50_000, 2_000) if CHAOS_IN_FULL else (10_000, 2_000)
    changes = Changes()
    async with proxy_to(redis_url) as proxy, open_connections(proxy.url(), CLOCK, on_change=changes.note) as opened:
        bull = Bull(opened.commands, leases=opened.leases)
        await changes.until("ready")
        await bull.enqueue(QUEUE, NewJob(id="a", data="{}"))
        job = await bull.claim(QUEUE, token="w:1", lease_ms=30_000)
        assert isinstance(job, ClaimedJob)
        assert await bull.renew([Held(QUEUE, "a", "w:1")], 30_000) == set()  # the script is there
        proxy.latency_s = 0.02
        work = [asyncio.create_task(opened.commands.call("SET", "bull:big", "x" * size)) for _ in range(count)]
        await asyncio.sleep(0)
        assert await bull.renew([Held(QUEUE, "a", "w:1")], 30_000) == set()
        waiting = sum(not one.done() for one in work)
        assert await asyncio.gather(*work) == ["OK"] * count
    assert waiting > count / 2


async def test_who_gave_up_waiting_keeps_nobody_else_out(redis_url: str) -> None:
    changes = Changes()
    async with (
        proxy_to(redis_url) as proxy,
        open_connections(proxy.url(), CLOCK, call_timeout_s=0.1, on_change=changes.note) as opened,
    ):
        await changes.until("ready")
        await proxy.close_door()
        proxy.reset()
        await changes.until("reconnecting")
        calls = [opened.commands.call("PING") for _ in range(PENDING_MAX)]
        crowd = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(one) for one in crowd} == {RedisUnavailable}
        one = asyncio.create_task(opened.commands.call("PING"))
        await proxy.open_door()
        await changes.until("ready", "commands")
        await asyncio.wait([one])  # answered, or given up: but not turned away for those who are gone
        assert "wait for Redis already" not in str(one.exception())
        assert await opened.commands.call("PING") == "PONG"


# ------------------------------------------------------------------------------- what a server may say


SAYINGS = {
    "LOADING": b"-LOADING Redis is loading the dataset in memory\r\n",
    "MASTERDOWN": b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n",
    "MISCONF": b"-MISCONF Redis is configured to save RDB snapshots, but it is currently unable to persist\r\n",
    "BUSY": b"-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n",
    "NOAUTH": b"-NOAUTH Authentication required.\r\n",
    "READONLY": b"-READONLY You can't write against a read only replica.\r\n",
    "OOM": b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
    "NOSCRIPT": b"-NOSCRIPT No matching script.\r\n",
    "NOPERM": b"-NOPERM User po has no permissions to access a channel\r\n",
}


@pytest.mark.parametrize("code", ["LOADING", "MASTERDOWN", "MISCONF", "BUSY", "NOAUTH"])
async def test_a_server_that_does_not_serve_yet_is_not_ready_and_says_so_once(redis_url: str, code: str) -> None:
    changes = Changes()
    async with answering_proxy(redis_url) as proxy:
        proxy.answer = lambda word: SAYINGS[code] if word == "PING" else None
        with structlog.testing.capture_logs() as logs:
            async with open_connections(proxy.url(), CLOCK, on_change=changes.note, random=lambda: 0.01) as opened:

                async def asked_often() -> bool:
                    return proxy.answered >= 15

                await eventually(asked_often)
                assert {(state.state, state.last_error) for state in opened.states()} == {
                    ("reconnecting", SAYINGS[code].decode()[1:].strip())
                }
                proxy.answer = lambda _word: None
                await changes.until("ready")
                assert [state.changes for state in opened.states()] == [2, 2, 2]
    told = [(log["connection"], log["state"]) for log in logs if log["event"] == "redis connection changed"]
    expected = [(name, state) for name in ("commands", "events", "leases") for state in ("reconnecting", "ready")]
    assert sorted(one for one in told if one[1] != "closed") == sorted(expected)


@pytest.mark.parametrize("code", ["NOAUTH", "MASTERDOWN", "READONLY"])
async def test_a_server_that_is_no_longer_ours_is_left_for_whoever_answers_at_its_address(
    redis_url: str, code: str
) -> None:
    """NOAUTH on a socket that had logged in: it never logs in again, so the next one must."""
    changes = Changes()
    async with answering_proxy(redis_url) as proxy, open_connections(
        proxy.url(), CLOCK, on_change=changes.note
    ) as opened:  # fmt: skip
        await changes.until("ready")
        proxy.answer = lambda word: SAYINGS[code] if word == "ECHO" else None
        with pytest.raises(RedisUnavailable, match=code):
            await opened.commands.call("ECHO", "a")
        proxy.answer = lambda _word: None
        await changes.until("ready", "commands")
        assert await opened.commands.call("ECHO", "a") == "a"
        assert [state.reconnects for state in opened.states()] == [1, 0, 0]


async def test_a_server_that_refuses_the_channels_is_said_to_once_and_the_work_goes_on(
    redis_url: str, redis_admin: redis.Redis
) -> None:
    """Valkey gives a new user no channels. Without wake-ups the sweep finds the work."""
    address, changes = Address.parse(redis_url), Changes()
    rights = {"keys": ["*"], "passwords": ["+x"], "commands": ["+@all"], "enabled": True}
    redis_admin.acl_setuser("deaf", reset=True, reset_channels=True, **rights)
    listening = asyncio.Event()
    try:
        async with open_connections(
            f"redis://deaf:x@{address.host}:{address.port}", CLOCK, on_change=changes.note, random=lambda: 0.01
        ) as opened:
            listener = asyncio.create_task(
                opened.events.listen(["a*"], on_message=lambda *_: None, on_subscribed=listening.set)
            )

            async def refused() -> bool:
                return "NOPERM" in str(opened.states()[2].last_error)

            await eventually(refused)
            for _ in range(20):
                await asyncio.sleep(0.01)
            assert await opened.commands.call("PING") == "PONG"
            assert opened.states()[2].state == "reconnecting"
            assert opened.states()[2].changes <= 3
            redis_admin.acl_setuser("deaf", enabled=True, channels=["*"])
            await asyncio.wait_for(listening.wait(), 5)
            listener.cancel()
            await asyncio.wait([listener])
    finally:
        redis_admin.acl_deluser("deaf")


async def test_a_reply_that_nobody_asked_for_is_nobodys(redis_url: str) -> None:
    async with answering_proxy(redis_url) as proxy, open_connections(proxy.url(), CLOCK) as opened:
        assert await opened.commands.call("ECHO", "a") == "a"
        proxy.answer = lambda word: b"$1\r\nb\r\n$1\r\nc\r\n" if word == "GET" else None
        assert await opened.commands.call("GET", "bull:x") == "b"
        proxy.answer = lambda _word: None
        assert await opened.commands.call("ECHO", "d") == "d"


async def test_what_is_not_redis_protocol_ends_the_socket_and_nobody_gets_a_part_of_it(redis_url: str) -> None:
    async with answering_proxy(redis_url) as proxy, open_connections(proxy.url(), CLOCK) as opened:
        assert await opened.commands.call("ECHO", "a") == "a"
        proxy.answer = lambda word: b"HTTP/1.1 400 Bad Request\r\n" if word == "GET" else None
        with pytest.raises(ReplyLost):
            await opened.commands.call("GET", "bull:x")
        assert await opened.commands.call("ECHO", "d") == "d"
        assert "not Redis' protocol" in str(opened.states()[0].last_error)


async def test_a_greeting_that_is_cut_short_is_begun_again(redis_url: str) -> None:
    """At every byte of its answer: half a greeting is none."""
    changes = Changes()
    async with proxy_to(redis_url) as proxy:
        async with open_connections(proxy.url(), CLOCK, on_change=changes.note):
            await changes.until("ready")
        size = proxy.carried[True] // 3
        for count in range(1, size, 1 if CHAOS_IN_FULL else 17):
            proxy.reset_after(count, replies=True)
            async with open_connections(proxy.url(), CLOCK, on_change=changes.note, random=lambda: 0.0) as opened:
                await changes.until("ready")
                assert await opened.commands.call("ECHO", "a") == "a"
                assert proxy.was_reset.is_set()
                assert sum(state.reconnects for state in opened.states()) == 1


async def test_a_password_that_was_changed_is_shown_until_the_server_takes_ours_again(
    redis_url: str, redis_admin: redis.Redis
) -> None:
    changes, address = Changes(), Address.parse(redis_url)
    async with proxy_to(redis_url) as proxy, open_connections(proxy.url(), CLOCK, on_change=changes.note) as opened:
        await changes.until("ready")
        redis_admin.config_set("requirepass", "rotated")
        try:
            proxy.reset()
            await changes.until("reconnecting")

            async def all_told() -> bool:
                return all("WRONGPASS" in str(state.last_error) for state in opened.states())

            await eventually(all_told)
        finally:
            redis_admin.config_set("requirepass", str(address.password))
        await changes.until("ready")
        assert await opened.commands.call("ECHO", "a") == "a"
        assert [state.changes for state in opened.states()] == [3, 3, 3]


async def test_a_server_that_goes_on_refusing_is_asked_every_five_seconds_at_most(redis_url: str) -> None:
    address, changes, clock = Address.parse(redis_url), Changes(), MovedClock()
    async with open_connections(
        f"redis://:wrong@{address.host}:{address.port}", clock, on_change=changes.note, random=lambda: 1.0
    ) as opened:
        await changes.until("reconnecting")
        delays = []
        for _ in range(9):
            seen = opened.states()[0].retry_in_s
            delays.append(seen)
            clock.move(float(seen or 0))

            async def tried_again(seen: float | None = seen) -> bool:
                return opened.states()[0].retry_in_s != seen or seen == 5.0

            await eventually(tried_again)
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
