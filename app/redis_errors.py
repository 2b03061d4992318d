"""Redis' error replies as our types: decided by the code in front, never by the sentence behind it."""

from __future__ import annotations

import re

from pipeline.errors import BrokenQueue, CommandRefused, PipelineError, RedisUnavailable

UNAVAILABLE = frozenset(
    {
        *("READONLY", "LOADING", "MASTERDOWN", "OOM", "MISCONF", "NOAUTH", "WRONGPASS", "BUSY", "NOREPLICAS"),
        *("CLUSTERDOWN", "TRYAGAIN", "UNKILLABLE"),
    }
)
"""The server is up and will not serve us now."""

_IN_SCRIPT = re.compile(r"user_script: ?\d+: -?([A-Z]+)\b")
"""Servers before Redis 7 wrap the code of an error that was raised inside a script."""


def code_of(text: str) -> str:
    """Return the error's code, the first word; the inner one if a script raised it."""
    inner = _IN_SCRIPT.search(text)
    return inner[1] if inner else text.partition(" ")[0]


def translate(text: str) -> PipelineError:
    """Say what an error reply means for the caller."""
    code = code_of(text)
    if code in UNAVAILABLE:
        return RedisUnavailable(text)
    if code == "WRONGTYPE":
        return BrokenQueue(text)
    return CommandRefused(text, code=code)
