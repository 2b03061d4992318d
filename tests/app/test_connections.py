"""The three connections, on a real server behind a line that fails in the ways lines fail."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import ssl
from pathlib import Path

import psutil
import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from app.connections import open_connections
from app.redis_errors import translate
from app.redis_link import PENDING_MAX
from app.redis_socket import Address
from app.server_checks import check_server, judge_version
from pipeline.clock import SystemClock
from pipeline.errors import BrokenQueue, CommandRefused, PipelineError, RedisUnavailable, ReplyLost
from pipeline.queue.keys import Keys
from pipeline.queue.scripts import load
from tests.app.changes import Changes
from tests.app.redis_proxy import proxy_to

CLOCK = SystemClock()


def our_names(raw: redis.Redis) -> list[str]:
    return sorted(client["name"] for client in raw.client_list() if client["name"].startswith("po:"))


async def test_there_are_exactly_three_sockets_with_names_also_after_a_loss(
    redis_url: str, redis_admin: redis.Redis
) -> None:
    changes = Changes()
    async with open_connections(redis_url, CLOCK, on_change=changes.note) as opened:
        await changes.until("ready")
        names = ["po:commands", "po:events", "po:leases"]
        assert our_names(redis_admin) == names
        for client in redis_admin.client_list():
            if client["name"] == "po:commands":
                redis_admin.client_kill(client["addr"])
        await changes.until("reconnecting", "commands")
        assert await opened.commands.call("PING") == "PONG"
        assert our_names(redis_admin) == names
        assert [state.reconnects for state in opened.states()] == [1, 0, 0]
    assert our_names(redis_admin) == []
    assert [state.state for state in opened.states()] == ["closed"] * 3


async def test_there_are_never_more_than_three_sockets_however_often_they_are_cut(redis_url: str) -> None:
    most = 0
    async with proxy_to(redis_url) as proxy:

        async def sample() -> None:
            nonlocal most
            while True:
                most = max(most, sockets_to(proxy.port))
                await asyncio.sleep(0.001)  # each look costs milliseconds, and three hundred lines of the kernel's

        sampling = asyncio.create_task(sample())
        changes = Changes()
        async with open_connections(proxy.url(), CLOCK, on_change=changes.note, random=lambda: 0.0):
            for _ in range(5):
                await changes.until("ready")
                proxy.cut()
            await changes.until("ready")
        sampling.cancel()
    assert most == 3


def sockets_to(port: int) -> int:
    """Count this process's open sockets that lead there."""
    lines = psutil.Process().net_connections("tcp")
    return sum(bool(line.raddr) and line.raddr.port == port and line.fd != -1 for line in lines)


async def test_what_many_tasks_ask_at_once_goes_out_as_one_pipeline(redis_url: str) -> None:
    async with proxy_to(redis_url) as proxy, open_connections(proxy.url(), CLOCK) as opened:
        await opened.commands.call("PING")
        before = proxy.chunks_sent
        replies = await asyncio.gather(*(opened.commands.call("ECHO", str(n)) for n in range(300)))
        assert replies == [str(n) for n in range(300)]
        assert proxy.chunks_sent - before <= 2


async def test_a_cancelled_caller_does_not_shift_the_replies_of_others(redis_url: str) -> None:
    async with proxy_to(redis_url) as proxy, open_connections(proxy.url(), CLOCK) as opened:
        await opened.commands.call("PING")
        proxy.latency_s = 0.02
        calls = [asyncio.create_task(opened.commands.call("ECHO", str(n))) for n in range(20)]
        await asyncio.sleep(0.01)
        for call in calls[::2]:
            call.cancel()
        assert await asyncio.gather(*calls[1::2]) == [str(n) for n in range(1, 20, 2)]
        assert await opened.commands.call("ECHO", "after") == "after"


async def test_a_lost_reply_is_said_to_be_lost_and_the_command_ran_once(
    redis_url: str, redis_admin: redis.Redis
) -> None:
    async with proxy_to(redis_url) as proxy, open_connections(proxy.url(), CLOCK) as opened:
        await opened.commands.call("PING")
        proxy.swallow_replies = True
        call = asyncio.create_task(opened.commands.call("INCR", "bull:n"))
        await proxy.replies_swallowed.wait()
        proxy.swallow_replies = False
        proxy.cut()
        with pytest.raises(ReplyLost):
            await call
        assert await opened.commands.call("GET", "bull:n") == "1"


async def test_a_command_that_was_never_sent_is_not_lost_it_waits_then_says_unavailable(redis_url: str) -> None:
    changes = Changes()
    async with (
        proxy_to(redis_url) as proxy,
        open_connections(proxy.url(), CLOCK, call_timeout_s=0.2, on_change=changes.note) as opened,
    ):
        await changes.until("ready")
        proxy.refusing = True
        proxy.cut()
        await changes.until("reconnecting")
        with pytest.raises(RedisUnavailable) as told:
            await opened.commands.call("INCR", "bull:n")
        assert not isinstance(told.value, ReplyLost)
        with pytest.raises(RedisUnavailable, match="not connected"):  # at once: Bull then asks `commands`
            await asyncio.wait_for(opened.leases.call("PING"), 0.1)
        proxy.refusing = False
        await changes.until("ready")
        assert await opened.commands.call("GET", "bull:n") is None  # given up is given up


async def test_a_command_sent_while_reconnecting_is_answered_when_the_line_is_back(redis_url: str) -> None:
    changes = Changes()
    async with (
        proxy_to(redis_url) as proxy,
        open_connections(proxy.url(), CLOCK, on_change=changes.note) as opened,
    ):
        await changes.until("ready")
        proxy.cut()
        await changes.until("reconnecting")
        assert await opened.commands.call("PING") == "PONG"


async def test_a_half_open_line_is_noticed_by_the_call_and_by_the_listener(redis_url: str) -> None:
    changes = Changes()
    timing = {"call_timeout_s": 0.1, "ping_s": 0.1, "connect_timeout_s": 0.1}
    async with (
        proxy_to(redis_url) as proxy,
        open_connections(proxy.url(), CLOCK, on_change=changes.note, **timing) as opened,
    ):
        await changes.until("ready")
        proxy.frozen = True
        with pytest.raises(ReplyLost):
            await opened.commands.call("PING")
        await changes.until("reconnecting", "commands", "events", "leases")
        proxy.frozen = False
        await changes.until("ready")


async def test_a_silent_line_is_asked_for_a_sign_of_life(redis_url: str, redis_admin: redis.Redis) -> None:
    changes = Changes()
    async with open_connections(redis_url, CLOCK, ping_s=0.03, on_change=changes.note):
        await changes.until("ready")
        async with asyncio.timeout(5):
            while last_commands(redis_admin) != {"ping"}:
                await asyncio.sleep(0.01)
    assert not [change for change in changes.seen if change.state == "reconnecting"]


def last_commands(raw: redis.Redis) -> set[str]:
    return {client["cmd"] for client in raw.client_list() if client["name"].startswith("po:")}


async def test_a_script_the_server_forgot_is_sent_again(redis_url: str, redis_admin: redis.Redis) -> None:
    async with open_connections(redis_url, CLOCK) as opened:
        script = load("counts")
        redis_admin.script_flush()
        assert await opened.commands.run(script, ["bull:q:"], []) == [0] * 6
        assert redis_admin.script_exists(script.sha) == [True]
        assert await opened.commands.run(script, ["bull:q:"], []) == [0] * 6


async def test_a_primary_that_became_a_replica_is_left(redis_url: str, redis_admin: redis.Redis) -> None:
    changes = Changes()
    async with open_connections(redis_url, CLOCK, on_change=changes.note) as opened:
        await changes.until("ready")
        redis_admin.execute_command("REPLICAOF", "127.0.0.1", "1")
        try:
            with pytest.raises(RedisUnavailable, match="READONLY"):
                await opened.commands.call("SET", "bull:x", 1)
            await changes.until("reconnecting", "commands")
        finally:
            redis_admin.execute_command("REPLICAOF", "NO", "ONE")
        assert await opened.commands.call("SET", "bull:x", 1) == "OK"


async def test_a_refused_password_is_shown_as_the_state(redis_url: str) -> None:
    changes = Changes()
    address = Address.parse(redis_url)
    wrong = f"redis://:wrong@{address.host}:{address.port}"
    async with open_connections(wrong, CLOCK, call_timeout_s=0.1, on_change=changes.note) as opened:
        await changes.until("reconnecting")
        assert all("WRONGPASS" in (state.last_error or "") for state in opened.states())
        with pytest.raises(RedisUnavailable):
            await opened.commands.call("PING")


async def test_a_user_of_the_access_list_and_a_database_come_from_the_url(
    redis_url: str, redis_admin: redis.Redis
) -> None:
    redis_admin.acl_setuser("po", enabled=True, passwords=["+p@ss/"], keys=["*"], channels=["*"], commands=["+@all"])
    address = Address.parse(redis_url)
    try:
        url = f"redis://po:p%40ss%2F@{address.host}:{address.port}/3"
        async with open_connections(url, CLOCK) as opened:
            assert await opened.commands.call("ACL", "WHOAMI") == "po"
            assert " db=3 " in await opened.commands.call("CLIENT", "INFO")
    finally:
        redis_admin.acl_deluser("po")


async def test_rediss_speaks_tls_and_checks_the_certificate(redis_url: str, tmp_path: Path) -> None:
    certificate, context = self_signed(tmp_path)
    async with proxy_to(redis_url, tls=context) as proxy:
        trusted = proxy.url("rediss", f"?ssl_ca_certs={certificate}")
        async with open_connections(trusted, CLOCK) as opened:
            assert await opened.commands.call("PING") == "PONG"
        changes = Changes()
        async with open_connections(proxy.url("rediss"), CLOCK, on_change=changes.note) as opened:
            await changes.until("reconnecting")
            assert "CERTIFICATE_VERIFY_FAILED" in (opened.states()[0].last_error or "")
        async with open_connections(proxy.url("rediss", "?ssl_cert_reqs=none"), CLOCK) as opened:
            assert await opened.commands.call("PING") == "PONG"


def self_signed(folder: Path) -> tuple[Path, ssl.SSLContext]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return file, context


async def test_one_change_of_state_is_told_once_however_often_it_is_tried(redis_url: str) -> None:
    changes = Changes()
    async with (
        proxy_to(redis_url) as proxy,
        open_connections(proxy.url(), CLOCK, on_change=changes.note, random=lambda: 0.01) as opened,
    ):
        await changes.until("ready")
        proxy.refusing = True
        proxy.cut()
        await asyncio.sleep(0.1)
        assert sorted((change.name, change.state) for change in changes.seen) == [
            ("commands", "reconnecting"), ("events", "reconnecting"), ("leases", "reconnecting"),
        ]  # fmt: skip
        assert all(change.retry_in_s is not None for change in changes.seen)
        assert all(state.last_error for state in opened.states())


async def test_what_fails_inside_the_block_comes_out_as_it_is(redis_url: str) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with open_connections(redis_url, CLOCK):
            raise KeyError("mine")


async def test_closing_answers_everyone_who_still_waits(redis_url: str) -> None:
    async with proxy_to(redis_url) as proxy:
        async with open_connections(proxy.url(), CLOCK) as opened:
            await opened.commands.call("PING")
            proxy.swallow_replies = True
            sent = asyncio.create_task(opened.commands.call("PING"))
            await proxy.replies_swallowed.wait()
            pending = asyncio.create_task(opened.commands.call("PING"))
            await asyncio.sleep(0)
        with pytest.raises(ReplyLost):
            await sent
        with pytest.raises(RedisUnavailable, match="closed"):
            await pending
        with pytest.raises(RedisUnavailable, match="closed"):
            await opened.commands.call("PING")


async def test_a_line_that_backs_up_refuses_instead_of_growing(redis_url: str) -> None:
    async with open_connections(redis_url, CLOCK) as opened:
        calls = [asyncio.create_task(opened.commands.call("PING")) for _ in range(PENDING_MAX + 1)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(result, RedisUnavailable) for result in results) == 1


@pytest.mark.breaks("wrong_kind", reason="that is the claim")
async def test_a_key_of_the_wrong_type_is_a_broken_queue(redis_url: str, redis_admin: redis.Redis) -> None:
    redis_admin.set("bull:q:wait", "x")
    async with open_connections(redis_url, CLOCK) as opened:
        with pytest.raises(BrokenQueue):
            await opened.commands.call("LLEN", "bull:q:wait")
        with pytest.raises(CommandRefused):
            await opened.commands.call("NO-SUCH-COMMAND")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'. script: 1f, on @user_script:1.", RedisUnavailable),
        ("LOADING Redis is loading the dataset in memory", RedisUnavailable),
        ("MISCONF Redis is configured to save RDB snapshots", RedisUnavailable),
        ("ERR Error running script (call to f_1): @user_script:10: -READONLY You can't write", RedisUnavailable),
        ("ERR Error running script (call to f_1): @user_script: 10: WRONGTYPE Operation", BrokenQueue),
        ("NOPERM User po has no permissions to run the 'config' command", CommandRefused),
        ("ERR OOM is mentioned in this sentence", CommandRefused),
    ],
)
def test_an_error_is_told_by_its_code(text: str, kind: type[PipelineError]) -> None:
    assert type(translate(text)) is kind


async def test_a_server_that_evicts_is_refused_unless_told_otherwise(redis_url: str, redis_admin: redis.Redis) -> None:
    async with open_connections(redis_url, CLOCK) as opened:
        assert await check_server(opened.commands, Keys(), ["q"]) == []
        redis_admin.config_set("maxmemory-policy", "allkeys-lru")
        try:
            (refused,) = await check_server(opened.commands, Keys(), ["q"])
            (warned,) = await check_server(opened.commands, Keys(), ["q"], allow_eviction=True)
        finally:
            redis_admin.config_set("maxmemory-policy", "noeviction")
        assert (refused.level, warned.level) == ("refuse", "warn")


async def test_a_server_that_does_not_tell_its_policy_is_warned_of(redis_url: str, redis_admin: redis.Redis) -> None:
    address = Address.parse(redis_url)
    rights = {"keys": ["*"], "channels": ["*"], "passwords": ["+x"], "enabled": True}
    try:
        for denied, levels in ((["-config"], []), (["-config", "-info"], ["warn", "warn"])):
            redis_admin.acl_setuser("few", reset=True, commands=["+@all", *denied], **rights)
            async with open_connections(f"redis://few:x@{address.host}:{address.port}", CLOCK) as opened:
                findings = await check_server(opened.commands, Keys(), ["q"])
            assert [finding.level for finding in findings] == levels
    finally:
        redis_admin.acl_deluser("few")


@pytest.mark.parametrize(("version", "level"), [("5.0.7", "refuse"), ("6.2.14", None), ("9.1.2", None), (None, None)])
def test_a_server_too_old_for_the_scripts_is_refused(version: str | None, level: str | None) -> None:
    finding = judge_version(version)
    assert (finding.level if finding else None) == level


async def test_a_server_that_lets_us_in_and_throws_us_out_is_asked_ever_more_slowly(redis_url: str) -> None:
    changes = Changes()
    async with (
        proxy_to(redis_url) as proxy,
        open_connections(proxy.url(), CLOCK, on_change=changes.note, random=lambda: 0.01),
    ):
        for _ in range(4):
            await changes.until("ready")
            proxy.cut()
        await changes.until("ready")
    assert changes.delays == [0.001, 0.002, 0.004, 0.008]


async def test_a_queue_that_bullmq_has_touched_is_refused(redis_url: str, redis_admin: redis.Redis) -> None:
    redis_admin.hset("bull:q:meta", "version", "bullmq:5.1.0")
    async with open_connections(redis_url, CLOCK) as opened:
        (finding,) = await check_server(opened.commands, Keys(), ["q", "other"])
    assert finding.level == "refuse"
    assert "bullmq:5.1.0" in finding.text


def test_a_password_does_not_show_in_the_address() -> None:
    assert "secret" not in repr(Address.parse("redis://po:secret@localhost:1/2"))


@pytest.mark.parametrize("url", ["http://x", "redis://", "unix:///tmp/x"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="redis://"):
        Address.parse(url)


@pytest.mark.breaks("wrong_kind", reason="that is the claim")
async def test_a_broken_queue_is_named_and_keeps_nobody_from_starting(redis_url: str, redis_admin: redis.Redis) -> None:
    redis_admin.set("bull:broken:meta", "by hand")
    async with open_connections(redis_url, CLOCK) as opened:
        (finding,) = await check_server(opened.commands, Keys(), ["broken", "other"])
    assert (finding.level, finding.what) == ("warn", "broken queue")
    assert "bull:broken:meta" in finding.text
