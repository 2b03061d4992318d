"""`python -m app demo` as a new user runs it, and what is left when somebody kills it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]


def _environment(home: Path) -> dict[str, str]:
    """A user's, with a temporary directory of the test's own and nothing that points at servers."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_URL")}
    return kept | {"TMPDIR": str(home), "PYTHONPATH": str(ROOT)}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Postgres runs as another user where we are root, and must be able to pass through."""
    for directory in (tmp_path, *tmp_path.parents):
        if directory.is_relative_to(Path(tmp_path.anchor) / "tmp") and directory.owner() == Path.home().owner():
            directory.chmod(directory.stat().st_mode | 0o011)
    return tmp_path


def test_the_demo_ends_every_sample_as_its_truth_says_and_leaves_nothing_behind(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "app", "demo"],
        cwd=home,
        env=_environment(home),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every outcome is what its truth file says" in done.stdout
    assert "approves automatically" in done.stdout
    assert "sellable 0 -> 6" in done.stdout
    assert list(home.iterdir()) == []


def test_a_killed_demo_leaves_no_server_behind(home: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "app", "demo"],
        cwd=home,
        env=_environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        while "The page" not in demo.stdout.readline():
            assert demo.poll() is None, "the demo ended before it began"
        family = psutil.Process(demo.pid).children(recursive=True)
        assert len(family) >= 3  # guards and servers: Valkey, Postgres, the shop
        demo.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []
    deadline = time.monotonic() + 10
    while _strays(home) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert _strays(home) == []


def test_serve_says_in_one_line_why_it_cannot_and_where_its_data_is(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-P", "-m", "app", "serve", "--data", "my data"],
            cwd=home,
            env=_environment(home) | {"HTTP_PORT": str(port)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    [words] = done.stderr.splitlines()
    assert words.startswith(f"error: cannot listen on 127.0.0.1 port {port}")
    assert "set -a; . 'my data/env'; set +a" in done.stdout


def _strays(home: Path) -> list[str]:
    """Processes that still work in the demo's directory."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        line = " ".join(process.info["cmdline"] or ())
        if str(home) in line and process.pid != os.getpid():
            found.append(line)
    return found
