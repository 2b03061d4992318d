"""Keeps one server and ends it when its owner is gone: run as a program, standard library only.

The owner holds the other end of standard input and never writes to it. However the owner ends, by `return`
or by `kill -9`, that pipe closes; the guard then stops the server politely, and by force if need be. The
guard is its own session, so Ctrl-C in the terminal reaches the owner alone and the servers still answer
while it shuts down.

    argv[1]  a JSON object: the fields of `Order`
    stdin    a pipe held open by the owner
    stdout   one line, the server's process id
    stderr   the server's log
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
from typing import NamedTuple, NoReturn

PR_SET_PDEATHSIG = 1
POLL_S = 0.5
STOP_S = 15.0


class Order(NamedTuple):
    """What to run, as whom, and how to ask it to stop."""

    command: list[str]
    environment: dict[str, str]
    stop_signal: int
    lock: int
    user: int | None
    group: int | None


def main() -> int:
    """Run the server until it or the owner ends; return its exit status."""
    order = Order(**json.loads(sys.argv[1]))
    owner = os.getppid()
    signal.signal(signal.SIGTERM, _leave)
    server = start(order)
    try:
        print(server.pid, flush=True)  # noqa: T201 - the protocol with the owner
        watch(server, owner)
    finally:
        stop(server, order.stop_signal)
    return server.returncode


def start(order: Order) -> subprocess.Popen[bytes]:
    """Start the server in its own session; it keeps the directory's lock open for as long as it lives."""
    guard = os.getpid()
    stop_signal = order.stop_signal

    def end_with_guard() -> None:
        """Ask Linux to stop the server should the guard itself be killed; elsewhere nobody can promise that."""
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, stop_signal)
            if os.getppid() != guard:
                os.kill(os.getpid(), signal.SIGKILL)

    return subprocess.Popen(  # noqa: S603 - the command comes from the owner, our own process
        order.command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        stderr=sys.stderr,
        cwd="/",
        env=order.environment,
        pass_fds=(order.lock,),
        start_new_session=True,
        user=order.user,
        group=order.group,
        extra_groups=None if order.user is None else [],
        preexec_fn=end_with_guard,  # noqa: PLW1509 - safe here: this process has one thread
    )


def watch(server: subprocess.Popen[bytes], owner: int) -> None:
    """Return when the server has ended or the owner is gone.

    The pipe tells at once. The parent's id tells too, within `POLL_S`, in case a process forked by the owner
    has inherited the other end and lives on.
    """
    while server.poll() is None and os.getppid() == owner:
        readable, _, _ = select.select([sys.stdin], [], [], POLL_S)
        if readable:
            return


def stop(server: subprocess.Popen[bytes], stop_signal: int) -> None:
    """Ask politely, wait, then insist."""
    if server.poll() is not None:
        return
    server.send_signal(stop_signal)
    try:
        server.wait(STOP_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _leave(_signum: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
