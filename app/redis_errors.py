"""Redis' error replies as our types: decided by the code in front, never by the sentence behind it."""

from __future__ import annotations

import re

from pipeline.errors import BrokenQueue, CommandRefused, PipelineError, RedisUnavailable

UNAVAILABLE = frozenset(
    {
        *("READONLY", "LOADING", "MASTERDOWN", "OOM", "MISCONF", "NOAUTH", "WRONGPASS", "BUSY", "NOREPLICAS"),
        *("CLUSTERDOWN", "TRYAGAIN", "ASK", "UNKILLABLE"),
    }
)
"""The server is up and will not serve us now."""

_IN_SCRIPT = re.compile(r"user_script: ?\d+: -?([A-Z]+)\b")
"""Servers before Redis 7 wrap the code of an error that was raised inside a script."""


def code_of(text: str) -> str:
    """Return the error's code, the first word; the inner one if a script raised it."""
    inner = _IN_SCRIPT.search(text)
    return inner[1] if inner else text.partition(" ")[0]


def moved_to(text: str, slot: int | None) -> tuple[str, int] | None:
    """Where a cluster says that this slot is; None if the error does not speak of it. An empty host is the same one."""
    match text.split(" "):
        case ["MOVED", number, address] if slot is not None and number == str(slot):
            host, _, port = address.rpartition(":")
            return host, int(port)
    return None


def translate(text: str) -> PipelineError:
    """Say what an error reply means for the caller."""
    code = code_of(text)
    if code in UNAVAILABLE:
        return RedisUnavailable(text)
    if code == "WRONGTYPE":
        return BrokenQueue(text)
    return CommandRefused(text, code=code)
