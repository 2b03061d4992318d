"""What goes wrong at a start is said in words that help, and a lost race for a port is run again."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from app.embedded import EmbeddedServerError, ProgramMissing, open_home, start_postgres, start_redis
from app.embedded.launch import HOST, Recipe, running
from app.embedded.programs import get_postgres, get_valkey

SILENT_SERVER = "import sys; print('cannot read my configuration'); sys.exit(3)"


@pytest.fixture
def no_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.embedded.programs.find_spec", lambda _name: None)


@pytest.fixture
def no_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.embedded.programs._system_postgres", list)
    monkeypatch.setattr("app.embedded.programs.shutil.which", lambda _name: None)


@pytest.mark.usefixtures("no_wheels", "no_system")
def test_without_any_program_the_error_says_which_setting_helps(tmp_path: Path) -> None:
    with open_home(tmp_path) as home:
        with pytest.raises(ProgramMissing, match="set REDIS_URL"), start_redis(home):
            pass
        with pytest.raises(ProgramMissing, match="set DATABASE_URL"), start_postgres(home):
            pass


@pytest.mark.usefixtures("no_wheels")
def test_without_the_wheels_the_systems_programs_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for program in ("redis-server", "initdb", "postgres"):
        (tmp_path / program).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert get_valkey() == tmp_path / "redis-server"
    assert get_postgres().bin == tmp_path


def test_a_server_that_ends_while_starting_is_quoted(tmp_path: Path) -> None:
    recipe = Recipe("silent", lambda _port: [sys.executable, "-c", SILENT_SERVER], lambda _port, _pid: False)
    with (
        open_home(tmp_path) as home,
        pytest.raises(EmbeddedServerError, match=r"(?s)ended while starting.*cannot read my configuration"),
        running(recipe, home),
    ):
        pass


def test_a_port_taken_in_between_is_replaced_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server((HOST, 0)) as thief, socket.create_server((HOST, 0)) as placeholder:
        taken, free = thief.getsockname()[1], placeholder.getsockname()[1]
        placeholder.close()
        offered = iter([taken, free])
        monkeypatch.setattr("app.embedded.launch._find_free_port", lambda: next(offered))
        with open_home(tmp_path) as home, start_redis(home, durable=False) as url:
            assert f":{free}/" in url


def test_a_user_without_a_name_is_told_what_postgres_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_such_user(_uid: int) -> None:
        raise KeyError

    monkeypatch.setattr("app.embedded.account.os.geteuid", lambda: 12345)
    monkeypatch.setattr("app.embedded.account.pwd.getpwuid", no_such_user)
    with (
        open_home(tmp_path) as home,
        pytest.raises(EmbeddedServerError, match="password database"),
        start_postgres(home),
    ):
        pass
