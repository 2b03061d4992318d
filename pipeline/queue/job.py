"""The values that cross the queue's boundary: what goes in, what a claim hands out, how an attempt was settled."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.queue.lease import Lease

DEFAULT_NAME = "__default__"
"""What Bull calls a job that was added without a name; upstream's jobs are all called so."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to enqueue. `data` is JSON text; `id` None lets Redis number it.

    `opts` are Bull's own options, kept for Node readers; `front` puts the job where it runs next.
    """

    id: str | None
    data: str
    delay_ms: int = 0
    attempts: int = 1
    name: str = DEFAULT_NAME
    opts: Mapping[str, Any] = field(default_factory=dict)
    front: bool = False


@dataclass(frozen=True, slots=True)
class Enqueued:
    """The job's id, whether this call made it, and if not the state it was found in."""

    id: str
    created: bool
    state: str | None = None


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `max` claims of one queue, by the whole fleet, in a window of `duration_ms`."""

    max: int
    duration_ms: int


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job that is ours for as long as `lease` holds. `data` None: too long to come along, ask `Bull.data`.

    `limit` is the limit this claim was counted against.
    """

    queue: str
    id: str
    token: str
    name: str
    data: str | None
    opts: Mapping[str, Any]
    attempts_made: int
    stalled_count: int
    timestamp_ms: int
    lease: Lease
    limit: RateLimit | None = None


@dataclass(frozen=True, slots=True)
class Empty:
    """Nothing waits in this queue."""


@dataclass(frozen=True, slots=True)
class Limited:
    """The queue's window is used up; it opens again in `retry_after_ms`."""

    retry_after_ms: int


@dataclass(frozen=True, slots=True)
class Paused:
    """The queue is paused for the whole fleet."""


Claim = ClaimedJob | Empty | Limited | Paused


@dataclass(frozen=True, slots=True)
class ClaimNext:
    """Ask the finishing call to claim a queue's next job, too. The token must be fresh: `adopt` finds the job by it."""

    token: str
    lease_ms: int
    limit: RateLimit | None = None


@dataclass(frozen=True, slots=True)
class Successor:
    """The job to enqueue in the same step that finishes its predecessor.

    `claim` asks to take that queue's next job at once (run-through), which is this one unless others wait there.
    """

    queue: str
    job: NewJob
    claim: ClaimNext | None = None


@dataclass(frozen=True, slots=True)
class Retention:
    """How long a finished job stays readable. None: no such limit; a count of 0 removes it at once."""

    age_s: int | None = None
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed: a sentence for people, and traces (appended to those of earlier attempts)."""

    reason: str
    stacktrace: list[str] = field(default_factory=list)


class Settled(enum.Enum):
    """What became of a settling call."""

    DONE = "done"
    """It took effect, now or when it was first sent."""
    LOST = "lost"
    """The lease is no longer ours; nothing was written."""
    GONE = "gone"
    """The job was removed while it ran; there is nothing left to write to."""


@dataclass(frozen=True, slots=True)
class FinishReply:
    """Settling, hand-off and the claims, answered at once.

    `successor_created` is None if none was asked for or none could be made; `broken` then says why.
    `next` is what the claim in the job's own queue found, `through` the one in its successor's.
    """

    settled: Settled
    successor_created: bool | None = None
    next: Claim | None = None
    through: Claim | None = None
    broken: str | None = None


@dataclass(frozen=True, slots=True)
class Adopted:
    """What a call whose reply was lost did.

    `claimed`: the job its token holds (for a settling call: it did not take effect). `settled`: it did,
    and `state` is where the job is now. Neither: it never ran, or the job was removed (state None).
    """

    claimed: ClaimedJob | None = None
    settled: bool = False
    state: str | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """One lease to renew."""

    queue: str
    job_id: str
    token: str


@dataclass(frozen=True, slots=True)
class Counts:
    """How many jobs a queue has in each state."""

    waiting: int
    active: int
    completed: int
    failed: int
    delayed: int
    paused: int


@dataclass(frozen=True, slots=True)
class QueueSweep:
    """One queue as the sweep left it. `broken` is why it could not be read, None if it could."""

    waiting: int = 0
    active: int = 0
    delayed: int = 0
    next_due_ms: int | None = None
    returned: tuple[str, ...] = ()
    promoted: int = 0
    paused: bool = False
    broken: str | None = None

    @property
    def busy(self) -> bool:
        """Whether anything waits, runs or is delayed here."""
        return bool(self.waiting or self.active or self.delayed)


@dataclass(frozen=True, slots=True)
class SweepReport:
    """All queues at one instant of Redis' clock. `ran`: this call held the guard and looked for stalled jobs.

    `epoch_present` False means that Redis has lost everything since the epoch was marked.
    """

    ran: bool
    epoch_present: bool
    now_ms: int
    queues: Mapping[str, QueueSweep]

    @property
    def next_due_ms(self) -> int | None:
        """When the next delayed job of any queue is due."""
        return min((q.next_due_ms for q in self.queues.values() if q.next_due_ms is not None), default=None)


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as it is stored, for people and pages."""

    id: str
    name: str
    data: str
    opts: Mapping[str, Any]
    timestamp_ms: int
    delay_ms: int
    priority: int
    attempts_made: int
    stalled_count: int
    processed_on_ms: int | None
    finished_on_ms: int | None
    failed_reason: str | None
    stacktrace: tuple[str, ...]
    returnvalue: str | None
    progress: str | None
