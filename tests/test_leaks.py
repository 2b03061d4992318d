"""The checks after every test bite: each kind of leftover fails a test that otherwise passes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LEFT_BEHIND = {
    "a child process": (
        """
        import subprocess
        def test_it():
            global child
            child = subprocess.Popen(["sleep", "20"])
        """,
        "child process",
    ),
    "a running task": (
        """
        import asyncio
        async def test_it():
            global task
            task = asyncio.create_task(asyncio.sleep(20))
        """,
        "tasks left running",
    ),
    "the exception of a task": (
        """
        import asyncio
        async def fail():
            raise ValueError("nobody asked")
        async def test_it():
            task = asyncio.create_task(fail())
            await asyncio.sleep(0)
        """,
        "never retrieved",
    ),
    "a key in Redis": (
        """
        import redis
        def test_it(redis_url):
            with redis.Redis.from_url(redis_url) as client:
                client.set("bull:expected", "1")
                client.set("stray", "1")
        """,
        "keys left in Redis by this test: ['stray']",
    ),
}


@pytest.mark.parametrize("leftover", LEFT_BEHIND)
def test_what_a_test_leaves_behind_fails_it(leftover: str, tmp_path: Path) -> None:
    source, complaint = LEFT_BEHIND[leftover]
    said = run_pytest(source, tmp_path)
    assert complaint in said
    assert "1 passed, 1 error" in said


def test_a_test_that_cleans_up_passes(tmp_path: Path) -> None:
    said = run_pytest(
        """
        import asyncio, subprocess
        async def test_it(redis_url):
            subprocess.run(["true"], check=True)
            await asyncio.create_task(asyncio.sleep(0))
        """,
        tmp_path,
    )
    assert "1 passed" in said
    assert "error" not in said


def run_pytest(source: str, directory: Path) -> str:
    """The output of a pytest process of its own that runs `source` under our checks."""
    test = directory / "test_it.py"
    test.write_text("if True:" + source)
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:valkey", "-p", "tests.conftest", "-o", "asyncio_mode=auto"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--rootdir", str(directory), "-c", os.devnull, str(test)],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr
