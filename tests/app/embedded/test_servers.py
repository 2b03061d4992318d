"""Real servers from wheels: they answer, they keep what they should, and they end with their owner."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.embedded import DirectoryInUse, open_home, start_postgres, start_redis, start_servers
from app.embedded.home import PREFIX, sweep
from tests.app.embedded.processes import FORKING_OWNER, owner, wait_until


@pytest.fixture
def open_tmp() -> Iterator[Path]:
    """A temporary directory that every user can pass through, as /tmp is; pytest's own are private."""
    path = Path(tempfile.mkdtemp(dir="/tmp", prefix="tests-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(autouse=True)
def system_data(open_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Postgres' data go when they cannot be kept in place: not into this system's /var/lib."""
    path = open_tmp / "var-lib"
    monkeypatch.setattr("app.embedded.postgres.SYSTEM_DATA", path)
    return path


async def test_both_servers_answer_and_never_evict_or_accept_strangers(redis_server: str, database_url: str) -> None:
    with redis.Redis.from_url(redis_server) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    stranger_url = redis_server.replace(f":{urlsplit(redis_server).password}@", "")
    # The client retries a refused password as if it were a network fault, for seconds.
    no_retry = Retry(NoBackoff(), 0)
    with redis.Redis.from_url(stranger_url, retry=no_retry) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    connection = await asyncpg.connect(database_url)
    try:
        assert await connection.fetchval("SHOW listen_addresses") == "127.0.0.1"
        assert await connection.fetchval("SHOW unix_socket_directories") == ""
        assert await connection.fetchval("SELECT lower('ÄÖ')") == "äö"
    finally:
        await connection.close()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(database_url, password="wrong")


def test_servers_given_by_the_caller_are_used_and_nothing_is_started() -> None:
    before = psutil.Process().children()
    with start_servers(redis_url="redis://given", database_url="postgresql://given") as servers:
        assert (servers.redis_url, servers.database_url) == ("redis://given", "postgresql://given")
        assert psutil.Process().children() == before


def test_a_temporary_directory_goes_with_its_servers() -> None:
    with open_home(None) as home:
        with start_redis(home, durable=False):
            assert home.log("valkey").exists()
        assert home.path.exists()
    assert not home.path.exists()


async def test_a_kept_directory_keeps_data_and_passwords(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    with start_servers(directory, durable=True) as first:
        with redis.Redis.from_url(first.redis_url) as client:
            client.set("po:kept", "yes")
        connection = await asyncpg.connect(first.database_url)
        await connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        await connection.close()

    with start_servers(directory, durable=True) as second:
        assert urlsplit(second.redis_url).password == urlsplit(first.redis_url).password
        with redis.Redis.from_url(second.redis_url) as client:
            assert client.get("po:kept") == b"yes"
        connection = await asyncpg.connect(second.database_url)
        assert await connection.fetchval("SELECT answer FROM kept") == 42
        await connection.close()

    for private in (directory / "secrets.json", directory / "valkey" / "valkey.conf"):
        assert stat.S_IMODE(private.stat().st_mode) == 0o600


def test_a_directory_in_use_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.embedded.home.WAIT_FOR_LOCK_S", 0.1)
    with open_home(tmp_path), pytest.raises(DirectoryInUse, match="in use"), open_home(tmp_path):
        pass


def test_kill_9_of_the_owner_leaves_no_process_and_the_next_start_sweeps_its_directory(open_tmp: Path) -> None:
    with owner(tmp=open_tmp) as running:
        caused = running.descendants()
        assert {"valkey-server", "postgres"} <= {process.name() for process in caused}
        running.process.kill()
        running.process.wait()
        assert not psutil.wait_procs(caused, timeout=10)[1]
    assert list(open_tmp.glob(f"{PREFIX}*"))
    assert sweep(open_tmp) == 1
    assert not list(open_tmp.glob(f"{PREFIX}*"))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a server that its guard was killed")
def test_kill_9_of_the_guards_takes_the_servers_along(open_tmp: Path) -> None:
    with owner(tmp=open_tmp) as running:
        caused = running.descendants()
        for guard in psutil.Process(running.process.pid).children():
            guard.kill()
        assert wait_until(lambda: all(_has_ended(process) for process in caused))


def test_kill_9_of_an_owner_that_has_forked_ends_its_servers_too(open_tmp: Path) -> None:
    with owner(tmp=open_tmp, program=FORKING_OWNER) as running:
        assert wait_until(lambda: bool(running.forked()))
        (forked,) = running.forked()
        servers = [process for process in running.descendants() if process.pid != forked.pid]
        running.process.kill()
        try:
            assert not psutil.wait_procs(servers, timeout=10)[1]
            assert forked.is_running()
        finally:
            forked.kill()
        assert wait_until(lambda: _has_ended(forked))


def test_a_killed_owners_directory_can_be_opened_again_at_once(open_tmp: Path) -> None:
    directory = open_tmp / "data"
    with owner(directory, tmp=open_tmp) as running:
        with redis.Redis.from_url(running.servers["redis_url"]) as client:
            client.ping()
        running.process.kill()
    with start_servers(directory, durable=False) as again, redis.Redis.from_url(again.redis_url) as client:
        assert client.ping()


def test_the_sweep_leaves_directories_of_the_living(open_tmp: Path) -> None:
    with owner(tmp=open_tmp) as running, redis.Redis.from_url(running.servers["redis_url"]) as client:
        assert sweep(open_tmp) == 0
        assert client.ping()


def test_ctrl_c_in_the_terminal_reaches_the_owner_but_not_its_servers(open_tmp: Path) -> None:
    with owner(tmp=open_tmp) as running:
        group = os.getpgid(running.process.pid)
        caused = running.descendants()
        assert all(os.getpgid(process.pid) != group for process in caused)
        assert all(os.getsid(process.pid) != os.getsid(running.process.pid) for process in caused)
        running.process.send_signal(signal.SIGINT)
        running.process.wait(timeout=20)
        assert not psutil.wait_procs(caused, timeout=1)[1]
    assert not list(open_tmp.glob(f"{PREFIX}*"))


def test_postgres_never_runs_as_root(database_url: str) -> None:
    servers = psutil.Process().children(recursive=True)
    users = {process.uids().effective for process in servers if process.name() == "postgres"}
    assert users
    assert 0 not in users


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
async def test_root_stages_programs_and_data_that_nobody_could_reach(
    tmp_path: Path, system_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr("app.embedded.postgres._are_reachable", lambda _programs: False)
    with open_home(closed) as home, start_postgres(home, durable=False) as url:
        assert (closed / "postgres").resolve().is_relative_to(system_data)
        connection = await asyncpg.connect(url)
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


def _has_ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
