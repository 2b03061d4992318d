"""Remembers which announced jobs nobody has taken yet, so that a crowd of idle workers does not ask for each.

Every taker publishes the id it took (Bull's `active@`, Node's and ours), so an announcement that is followed by it
is somebody else's. Without this, each of ten idle replicas claims for every job (wire spec 7.8: 11 calls a job).
Advisory only: a mistake costs one claim that finds nothing, or waits for the next sweep.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

REMEMBERED_MAX = 1_000
"""Ids per queue; beyond that it is enough to know that there are many."""


class IdLedger:
    """Announced minus taken ids of each queue."""

    def __init__(self, queues: Iterable[str]) -> None:
        self._waiting: dict[str, dict[str, int]] = {queue: {} for queue in queues}
        self._overflowed: dict[str, int] = {}
        self._numbers = itertools.count(1)
        self._last = 0

    def announced(self, queue: str, job_id: str) -> None:
        """A job may be claimed there."""
        waiting = self._waiting[queue]
        self._last = next(self._numbers)
        if job_id in waiting or len(waiting) < REMEMBERED_MAX:
            waiting[job_id] = self._last
        else:
            self._overflowed[queue] = self._last

    def taken(self, queue: str, job_id: str) -> None:
        """Somebody has claimed it."""
        self._waiting[queue].pop(job_id, None)

    def expects(self, queue: str) -> bool:
        """Whether a claim there is likely to find a job."""
        return bool(self._waiting[queue]) or queue in self._overflowed

    def expects_since(self, queue: str, mark: int) -> bool:
        """The same of a job that was announced by `mark` already: everyone has had time to take it."""
        return queue in self._overflowed or any(number <= mark for number in self._waiting[queue].values())

    def mark(self) -> int:
        """This moment: the one at which a claim is sent, or a turn begins."""
        return self._last

    def emptied(self, queue: str, mark: int) -> None:
        """A claim sent at `mark` found nothing: all that was announced by then is gone.

        What was announced since may have been added after the claim ran; forgetting it would let it lie until the
        next sweep.
        """
        waiting = self._waiting[queue]
        for job_id in [job_id for job_id, number in waiting.items() if number <= mark]:
            del waiting[job_id]
        if self._overflowed.get(queue, mark + 1) <= mark:
            del self._overflowed[queue]
