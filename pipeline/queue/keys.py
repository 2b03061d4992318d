"""Where things are in Redis: Bull's names, spelled once for Python (the scripts add suffixes to a queue's base).

    <prefix>:<queue>:          a queue's base; scripts get it as a key, so a hash tag in the prefix routes it
    <prefix>:<queue>:<job id>  the job, a hash
    <prefix>:po:epoch          ours: present unless Redis was emptied
    <prefix>:po:restoring      ours: since when jobs are being given back to a Redis that was emptied
    <prefix>:po:guard          ours: held by the replica that sweeps in this period

Ours are strings with a word behind them that no exporter takes for a queue.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass

RESERVED = frozenset(
    {
        *("id", "wait", "waiting", "active", "paused", "resumed", "meta", "meta-paused", "delayed", "priority"),
        *("stalled", "stalled-check", "completed", "failed", "repeat", "limiter", "drained", "duplicated"),
        *("progress", "de"),
    }
)
"""What stands behind a queue's base in names that are not a job's."""
_SUFFIXES = {"waiting": "wait"} | {state: state for state in ("active", "completed", "failed", "delayed", "paused")}
SLOTS = 16384
"""How many parts a Redis Cluster cuts the names of keys into."""
_BREAKS_CHANNELS = frozenset("@*?[]")


@dataclass(frozen=True, slots=True)
class Keys:
    """The key names under one prefix."""

    prefix: str = "bull"

    @property
    def slot(self) -> int | None:
        """Where a cluster keeps everything under a prefix with a hash tag; None if there is no tag to hold it together.

        The rule is Redis Cluster's: CRC-16/XMODEM of what stands between the first brace and the next that closes.
        """
        tag, closed, _ = self.prefix.partition("{")[2].partition("}")
        return binascii.crc_hqx(tag.encode(), 0) % SLOTS if tag and closed else None

    def base(self, queue: str) -> str:
        """The start of every key of `queue`."""
        return f"{self.prefix}:{queue}:"

    def job(self, queue: str, job_id: str) -> str:
        """The job's hash."""
        return f"{self.base(queue)}{job_id}"

    def meta(self, queue: str) -> str:
        """The hash where BullMQ, not Bull, leaves its version."""
        return f"{self.base(queue)}meta"

    def paused_flag(self, queue: str) -> str:
        """Exists while the queue is paused; the flag every script obeys."""
        return f"{self.base(queue)}meta-paused"

    @property
    def epoch(self) -> str:
        """Exists from the first start until Redis loses its data."""
        return f"{self.prefix}:po:epoch"

    @property
    def restoring(self) -> str:
        """Set by whoever first gives jobs back after Redis lost its data; lost with them when that happens again."""
        return f"{self.prefix}:po:restoring"

    @property
    def guard(self) -> str:
        """Held by the replica that sweeps in this period."""
        return f"{self.prefix}:po:guard"


def require_job_id(job_id: str) -> None:
    """Refuse ids that collide with Bull's counter or with a key of the queue (wire spec 4.4)."""
    if not job_id or job_id.isdigit() or job_id in RESERVED or ":" in job_id:
        raise ValueError(f"{job_id!r} cannot be a job id: numbers, reserved words and colons collide in Bull")


def require_queue_name(queue: str) -> None:
    """Refuse names that Bull's event subscriptions cannot carry."""
    if not queue or _BREAKS_CHANNELS & set(queue):
        raise ValueError(f"{queue!r} cannot be a queue's name: Bull splits channel names at these characters")


def suffix_of(state: str) -> str:
    """Return where Bull keeps the jobs of a state."""
    if state not in _SUFFIXES:
        raise ValueError(f"{state!r} is no state of a job; there are {', '.join(_SUFFIXES)}")
    return _SUFFIXES[state]
