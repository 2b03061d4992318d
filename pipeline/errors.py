"""What can go wrong, as types: whether an error is temporary is its class, never its text.

PipelineError
├── Temporary                something is down; nobody's fault, costs no attempt
│   ├── RedisUnavailable     not reached, or it refuses for now (READONLY, LOADING, OOM, MISCONF ..)
│   │   └── ReplyLost        sent, no answer: it may have happened; ask (adopt), never resend blindly
│   ├── DatabaseUnavailable  Postgres not reached, or it refuses for now
│   │   └── DatabaseBusy     it serves others, but not this transaction (a lock, a deadlock, over its time)
│   └── VendorUnavailable    429, 5xx, network, open circuit; may say when to come back
│       └── AnothersTurn     another run is about to do the same thing: wait and look what came of it
├── Permanent                the same call will fail the same way
│   ├── BrokenQueue          a key of the wrong type or an unreadable job: that queue is red, others run on
│   └── VendorRefused        the vendor understood and said no
└── LeaseLost                the job is no longer ours: stop, write nothing
"""

from __future__ import annotations

from dataclasses import dataclass


class PipelineError(Exception):
    """Base of everything this package raises on purpose."""


class Temporary(PipelineError):
    """Something outside is down or busy; the same call may succeed later and costs no attempt."""


class RedisUnavailable(Temporary):
    """Redis was not reached, or it answered that it cannot serve writes at the moment."""


class ReplyLost(RedisUnavailable):
    """A command was sent and its reply never came: it may or may not have run."""


class DatabaseUnavailable(Temporary):
    """Postgres was not reached, or it answered that it cannot serve at the moment."""


class DatabaseBusy(DatabaseUnavailable):
    """Postgres gave up on this transaction alone: a lock held too long, a deadlock, a statement over its time."""


class VendorUnavailable(Temporary):
    """A vendor throttles, fails or cannot be reached.

    `retry_after_s` is the vendor's own word (Retry-After, throttleStatus), None if it said nothing.
    `patient`: it works as it should and we must wait (our share of its points, a daily limit, an account a person
    must unlock); such a wait is no outage, so no patience runs out over it.
    `uncalled`: it was left alone, nobody called it; so the attempt uses up nothing of its queue's limit.
    """

    def __init__(
        self, message: str, *, retry_after_s: float | None = None, patient: bool = False, uncalled: bool = False
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.patient = patient
        self.uncalled = uncalled


class AnothersTurn(VendorUnavailable):
    """Another run is doing to a vendor what this one was about to do. For this thing alone nothing was sent."""


class Permanent(PipelineError):
    """The same call will fail the same way until a person changes something."""


class BrokenQueue(Permanent):
    """A queue's keys in Redis are not what Bull writes; a person must look at that queue."""


class CommandRefused(Permanent):
    """Redis refuses this command and always will: no permission, or a mistake of ours; `code` is Redis' own."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing a vendor found wrong with a request. `field` is the path into it, list indexes as they were sent."""

    code: str
    field: tuple[str, ...]
    message: str

    def __str__(self) -> str:
        return f"{self.message} ({'.'.join(self.field)})" if self.field else self.message


class VendorRefused(Permanent):
    """A vendor understood the request and refused it, wholly or in part.

    `code` is the vendor's own for the first problem; `problems` are all it named, in its order, none if it named none.
    """

    def __init__(self, message: str, *, code: str = "refused", problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.problems = problems


class LeaseLost(PipelineError):
    """Another worker may own this job now. Stop at once and write nothing."""
