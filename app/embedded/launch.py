"""Starts one server under its guard on a free loopback port, and waits until it answers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from app.embedded import guard
from app.embedded.account import Account
from app.embedded.failures import EmbeddedServerError
from app.embedded.home import Home

HOST = "127.0.0.1"
# Between choosing a free port and binding it another process may take it: choose again.
PORTS_TRIED = 5
START_S = 60.0
POLL_S = 0.01
LOG_TAIL_LINES = 15
# The servers get no more of our environment than this: neither our secrets nor the user's PG* variables.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to run one kind of server: its command for a port, and how to tell that it answers."""

    name: str
    command: Callable[[int], list[str]]
    answers: Callable[[int, int], bool]  # (port, process id)
    stop_signal: signal.Signals = signal.SIGTERM
    account: Account = field(default_factory=Account)


class _PortTaken(Exception):
    """Another process bound the port first."""


@contextmanager
def running(recipe: Recipe, home: Home) -> Iterator[int]:
    """Run the server while the block runs; yields its port."""
    process, port = _start_on_free_port(recipe, home)
    try:
        yield port
    finally:
        _stop(process)


def _start_on_free_port(recipe: Recipe, home: Home) -> tuple[subprocess.Popen[bytes], int]:
    for _ in range(PORTS_TRIED):
        port = _find_free_port()
        try:
            return _start(recipe, home, port), port
        except _PortTaken:
            continue
    raise EmbeddedServerError(f"{recipe.name}: {PORTS_TRIED} free ports in a row were taken by others.")


def _start(recipe: Recipe, home: Home, port: int) -> subprocess.Popen[bytes]:
    log = home.log(recipe.name)
    written_before = log.stat().st_size
    process = _spawn_guard(recipe, home, port, log)
    try:
        _wait_until_it_answers(recipe, process, port)
    except EmbeddedServerError as error:
        _stop(process)
        said = log.read_bytes()[written_before:].decode(errors="replace")
        if "address already in use" in said.lower():
            raise _PortTaken from None
        tail = "\n".join(said.splitlines()[-LOG_TAIL_LINES:])
        raise EmbeddedServerError(f"{error} Its log ({log}) ends:\n{tail}") from None
    except BaseException:
        _stop(process)
        raise
    return process


def _spawn_guard(recipe: Recipe, home: Home, port: int, log: Path) -> subprocess.Popen[bytes]:
    order = guard.Order(
        command=recipe.command(port),
        environment=ENVIRONMENT,
        stop_signal=recipe.stop_signal,
        lock=home.lock,
        user=recipe.account.user,
        group=recipe.account.group,
    )
    with log.open("ab") as stderr:
        return subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-I", "-S", str(Path(guard.__file__)), json.dumps(order._asdict())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            pass_fds=(home.lock,),
            start_new_session=True,
        )


def _wait_until_it_answers(recipe: Recipe, process: subprocess.Popen[bytes], port: int) -> None:
    assert process.stdout is not None  # noqa: S101 - it was asked for above; tells the type checker
    first_line = process.stdout.readline()
    deadline = time.monotonic() + START_S
    while first_line and process.poll() is None:
        if recipe.answers(port, int(first_line)):
            return
        if time.monotonic() > deadline:
            raise EmbeddedServerError(f"{recipe.name} did not answer within {START_S:.0f} s.")
        time.sleep(POLL_S)
    raise EmbeddedServerError(f"{recipe.name} ended while starting.")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Let go of the guard's pipe, which is its sign to stop the server, and wait for both."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    try:
        process.wait(guard.STOP_S + 5.0)
    except subprocess.TimeoutExpired:
        process.kill()  # the server follows its guard
        process.wait()


def _find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
