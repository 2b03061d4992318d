"""Asks for a host's addresses in a thread of its own.

asyncio asks in the loop's default executor, six threads on two cores. A few links with slow name servers hold them
for half a minute each, and a Redis that was lost meanwhile is not found again although it is there.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address


async def resolve(host: str, port: int) -> Sequence[str]:
    """The system's answer, in the order in which the addresses should be tried. Raises OSError when there is none.

    Whoever asks needs a deadline. A question that is given up leaves its thread, a daemon, to the system's own.
    """
    if _is_address(host):
        return [host]
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def give(found: list[str] | Exception) -> None:
        if answer.done():
            return
        if isinstance(found, Exception):
            answer.set_exception(found)
        else:
            answer.set_result(found)

    def ask() -> None:
        found: list[str] | Exception
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found = list(dict.fromkeys(str(address[0]) for *_, address in infos))
        except (OSError, UnicodeError) as error:
            found = error
        with suppress(RuntimeError):  # the loop is closed, and nobody waits any more
            loop.call_soon_threadsafe(give, found)

    threading.Thread(target=ask, name=f"names {host}", daemon=True).start()
    return await answer


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
