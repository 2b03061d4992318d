"""Programs that own servers, to be killed, and what is left of them afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[3]
OWNER = """
import dataclasses, json, sys, time
from pathlib import Path
from app.embedded import start_servers

with start_servers(Path(sys.argv[1]) if sys.argv[1:] else None, durable=False) as servers:
    print(json.dumps(dataclasses.asdict(servers)), flush=True)
    time.sleep(600)
"""
# The child inherits the other end of the guards' pipes, and outlives its parent.
FORKING_OWNER = OWNER.replace("    time.sleep", "    import os; os.fork()\n    time.sleep")


@dataclass(frozen=True, slots=True)
class Owner:
    """A process that holds both servers, and every process it has caused."""

    process: subprocess.Popen[str]
    servers: dict[str, str]

    def descendants(self) -> list[psutil.Process]:
        """Guards, servers and the servers' own helpers."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def forked(self) -> list[psutil.Process]:
        """Copies of the owner itself, told by their command line."""
        me = psutil.Process(self.process.pid)
        return [child for child in me.children() if child.cmdline() == me.cmdline()]


@contextmanager
def owner(*arguments: str | Path, tmp: Path, program: str = OWNER) -> Iterator[Owner]:
    """Run a program that starts both servers; its temporary directories are below `tmp`."""
    with subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp)},
        cwd="/",
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, "the owner ended before its servers were up"
            yield Owner(process, json.loads(line))
        finally:
            caused = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            process.kill()
            psutil.wait_procs(caused, timeout=10)


def wait_until(condition: Callable[[], bool], *, limit_s: float = 10.0) -> bool:
    """Whether `condition` came true in time."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False
