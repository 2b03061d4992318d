"""SIGTERM and SIGINT, from a process's first lines to its last: told to stop, it ends well, whenever that is.

Handlers are replaced, never removed: a signal that meets none would end the process as if it had been killed, and
the first process of a container would not even hear it.
"""

from __future__ import annotations

import os
import signal
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Iterator

NUMBERS = (signal.SIGTERM, signal.SIGINT)


def leave_when_told() -> None:
    """While nothing is held that could be handed back: a signal ends the process at once, and well.

    Not by an exception, which would rise from any line of any import, and may come out as another one.
    """
    for number in NUMBERS:
        signal.signal(number, lambda _number, _frame: os._exit(0))


@contextmanager
def told(loop: AbstractEventLoop, stop: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Call `stop` on the loop at each signal until the block ends; then signals mean what they meant before.

    The interpreter writes each signal's number into a socket that the loop reads: a handler in Python alone waits
    for the loop to wake by itself if the signal comes just as it falls asleep.
    """
    ours, interpreters = socket.socketpair()
    with ours, interpreters:
        ours.setblocking(False)
        interpreters.setblocking(False)

        def hear() -> None:
            for number in ours.recv(4096):
                if number in NUMBERS:
                    stop(signal.Signals(number))

        loop.add_reader(ours, hear)
        wakes_before = signal.set_wakeup_fd(interpreters.fileno(), warn_on_full_buffer=False)
        before = {number: signal.signal(number, lambda _number, _frame: None) for number in NUMBERS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakes_before)
            loop.remove_reader(ours)


def ignore() -> None:
    """The process is ending, and Python removes its handlers before it has ended."""
    for number in NUMBERS:
        signal.signal(number, signal.SIG_IGN)
