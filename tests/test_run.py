"""run.py decides what to install, and what to become; pip and the command itself are replaced here.

CI runs the real thing: its tests start from a fresh clone through `run.py test`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import run

ROOT = Path(run.__file__).parent
LOCKS = (run.RUN_LOCK, run.TEST_LOCK)


class Installation:
    """A repository of two locks, and a record of what would be done to its environment."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.done: list[str] = []
        self.broken = False
        for lock in LOCKS:
            (root / lock).write_text(f"{lock} of today")
        monkeypatch.setattr(run, "ROOT", root)
        monkeypatch.setattr(run, "VENV", root / ".venv")
        monkeypatch.setattr(run, "PYTHON", root / ".venv" / "python")
        monkeypatch.setattr(run, "STAMP", root / ".venv" / "installed.json")
        monkeypatch.setattr(run, "create_venv", self._create_venv)
        monkeypatch.setattr(run, "install_lock", self._install_lock)

    def install(self, *locks: str) -> list[str]:
        """What one start with these locks did."""
        self.done = []
        run.install(locks)
        return self.done

    def _create_venv(self) -> None:
        self.done.append("create")
        (self.root / ".venv").mkdir(exist_ok=True)
        (self.root / ".venv" / "python").touch()

    def _install_lock(self, lock: str) -> None:
        if self.broken:
            raise KeyboardInterrupt
        self.done.append(lock)


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installation:
    return Installation(tmp_path, monkeypatch)


def test_the_first_start_installs_and_the_next_does_nothing(installation: Installation) -> None:
    assert installation.install(run.RUN_LOCK) == ["create", run.RUN_LOCK]
    assert installation.install(run.RUN_LOCK) == []


def test_the_tests_add_their_tools_to_what_is_there(installation: Installation) -> None:
    installation.install(run.RUN_LOCK)
    assert installation.install(*LOCKS) == [run.TEST_LOCK]
    assert installation.install(run.RUN_LOCK) == []


@pytest.mark.parametrize("lock", LOCKS)
def test_a_changed_lock_starts_over(installation: Installation, lock: str) -> None:
    installation.install(*LOCKS)
    (installation.root / lock).write_text("of tomorrow")
    assert installation.install(*LOCKS) == ["create", *LOCKS]


def test_another_python_starts_over(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    installation.install(run.RUN_LOCK)
    monkeypatch.setattr(sys, "version", "3.99.0")
    assert installation.install(run.RUN_LOCK) == ["create", run.RUN_LOCK]


@pytest.mark.parametrize("done_before", [(), (run.RUN_LOCK,)])
def test_an_interrupted_installation_is_redone(installation: Installation, done_before: Sequence[str]) -> None:
    installation.install(*done_before)
    installation.broken = True
    with pytest.raises(KeyboardInterrupt):
        installation.install(*LOCKS)
    installation.broken = False
    assert installation.install(*LOCKS) == ["create", *LOCKS]


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ([], ["-P", "-m", "app", "demo"]),
        (["demo", "a b.csv"], ["-P", "-m", "app", "demo", "a b.csv"]),
        (["serve"], ["-P", "-m", "app", "serve"]),
        (["test"], [*run.PYTEST, *run.QUICK]),
        (["test", "-k", "lease"], [*run.PYTEST, "-k", "lease"]),
    ],
)
def test_it_becomes_the_command_asked_for(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, arguments: list[str], command: list[str]
) -> None:
    became: list[list[str]] = []

    def become(_program: Path, argv: list[str], environment: dict[str, str]) -> None:
        became.append(argv[1:])
        assert environment["PYTHONPATH"].startswith(str(installation.root))
        sys.exit(0)

    monkeypatch.setattr("run.os.execve", become)
    monkeypatch.chdir(installation.root)
    with pytest.raises(SystemExit):
        run.main(arguments)
    assert became == [command]


def test_an_old_python_can_read_the_file_and_is_told_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    ast.parse(Path(run.__file__).read_text(), feature_version=(3, 7))
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    with pytest.raises(SystemExit, match=r"needs Python 3\.11 or newer, and .* is 3\.9\.2"):
        run.main([])


def test_a_missing_or_old_pip_is_named() -> None:
    with pytest.raises(SystemExit, match="needs pip for"):
        run.check_pip([sys.executable, "-c", "raise SystemExit(1)"])
    with pytest.raises(SystemExit, match=r"needs pip 22\.3 or newer, and .* has 20\.0\.2"):
        run.check_pip([sys.executable, "-c", "print('pip 20.0.2 from there')"])


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_hashes_and_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    requirements = re.split(r"\n(?=\S)", "\n".join(line for line in text.splitlines() if not line.startswith("#")))
    assert requirements
    assert [requirement for requirement in requirements if "--hash=sha256:" not in requirement] == []
