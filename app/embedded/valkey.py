"""Valkey: a Redis-protocol server of our own, with a password, on the loopback interface."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.embedded.home import Home, write_private
from app.embedded.launch import HOST, Recipe, running
from app.embedded.programs import get_valkey

ANSWER_S = 1.0


@contextmanager
def start_redis(home: Home, *, durable: bool = True, program: Path | None = None) -> Iterator[str]:
    """Run Valkey, or another such server, in `home` while the block runs; yields its URL."""
    program = program or get_valkey()
    password = home.get_password("valkey")
    data = home.path / "valkey"
    data.mkdir(mode=0o700, exist_ok=True)

    def command(port: int) -> list[str]:
        # In a file because a command line, and with it the password, is everybody's to read.
        write_private(data / "valkey.conf", configuration(data, port, password, durable=durable))
        return [str(program), str(data / "valkey.conf")]

    def answers(port: int, _pid: int) -> bool:
        return _pings(port, password)

    with running(Recipe("valkey", command, answers), home) as port:
        yield f"redis://:{password}@{HOST}:{port}/0"


def configuration(data: Path, port: int, password: str, *, durable: bool) -> str:
    """The configuration file: never evict a job; log what was done every second, when it must last."""
    return "\n".join(
        [
            f"bind {HOST}",
            f"port {port}",
            f"requirepass {password}",
            f'dir "{data}"',
            "maxmemory-policy noeviction",
            f"appendonly {'yes' if durable else 'no'}",
            "appendfsync everysec",
            'save ""',
            "",
        ]
    )


def _pings(port: int, password: str) -> bool:
    """Whether *our* server is ready there: another one would refuse the password, a loading one the PING."""
    try:
        with socket.create_connection((HOST, port), ANSWER_S) as connection:
            connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            with connection.makefile("rb") as replies:
                return [replies.readline(), replies.readline()] == [b"+OK\r\n", b"+PONG\r\n"]
    except OSError:
        return False
