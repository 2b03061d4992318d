"""What the runner needs from Postgres: load, record, fail, wait, release. Nothing else moves a run.

Each method is one short transaction. Each write after `load` carries the run's fence and raises LeaseLost
when it is no longer ours: ownership is checked in the very transaction that has the effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from pipeline.contract import Run, StageResult
from pipeline.domain.intake import HandOff, Intake
from pipeline.domain.purchase_order import Doubt
from pipeline.domain.results import Output

VENDOR_WAIT = "vendor_wait"
"""The code of a wait that is no outage, and therefore counts towards no patience."""

OUR_JOBS = "po-"
"""What the ids of our own jobs begin with; they hold the run's id and mean one thing for ever."""


def job_ref(job_id: str, timestamp_ms: int) -> str:
    """Our own ids are unique by themselves; Bull's numbers only together with the moment they were added."""
    return job_id if job_id.startswith(OUR_JOBS) else f"{job_id}@{timestamp_ms}"


@dataclass(frozen=True, slots=True)
class Ticket:
    """A claimed job as Postgres sees it. `attempts_made` and `stalled` are Redis' counts, for hints only.

    `request` is what the job asks for, or the reason why it cannot be understood.
    """

    stage: str
    job_id: str
    timestamp_ms: int
    attempts_made: int
    stalled: int
    worker: str
    request: HandOff | Intake | str

    @property
    def ref(self) -> str:
        """A name for this job that stays true when Redis is emptied and Bull's numbers start again."""
        return job_ref(self.job_id, self.timestamp_ms)


@dataclass(frozen=True, slots=True)
class Ready:
    """The job is due and ours: run it. `attempt` counts every try of this entry, from 1."""

    run: Run
    stage: str
    attempt: int
    earlier: Mapping[str, Output]
    review: tuple[Doubt, ...]


@dataclass(frozen=True, slots=True)
class NextJob:
    """The job of record a run waits for: derived from (run, stage, entry), so it can be added twice."""

    run_id: str
    stage: str
    entry: int
    workflow_id: str

    @property
    def job_id(self) -> str:
        """The id Bull knows it by; never numeric, so it cannot meet one of Bull's counters."""
        return f"{OUR_JOBS}{self.run_id}-{self.stage}-{self.entry}"


@dataclass(frozen=True, slots=True)
class NotDue:
    """Nothing to do here: finish the job, and hand on if the run waits for our successor."""

    reason: str
    run_id: str = ""
    hand_on: NextJob | None = None


@dataclass(frozen=True, slots=True)
class AskLive:
    """Another job (`ref`) is the run's job of record: is it still live in Redis? Load again with the answer."""

    stage: str
    ref: str


@dataclass(frozen=True, slots=True)
class Dead:
    """The run is dead here (or was dead on arrival): the job goes to the dead letters with this reason."""

    code: str
    message: str
    failures: int
    run_id: str = ""


@dataclass(frozen=True, slots=True)
class Later:
    """Not now, and nobody's fault: put the job off by `after_s` seconds, uncounted."""

    reason: str
    after_s: float


@dataclass(frozen=True, slots=True)
class Suspect:
    """Worker after worker died under this run, and perhaps of it: load again while nothing else runs beside it."""

    crashes: int


Loaded = Ready | NotDue | AskLive | Dead | Later | Suspect


@dataclass(frozen=True, slots=True)
class Recorded:
    """A result stands in the journal. `next` is the job now due, None when the run is over here."""

    next: NextJob | None
    summary: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A failure stands in the journal: how many counted ones there are, and whether it was the last."""

    failures: int
    final: bool
    message: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """What went wrong in an attempt, for the journal and for people.

    A vendor or a file may have said it, so what Postgres cannot store (NUL, half a character) is replaced here:
    a failure that cannot be written is never counted, and the job would be tried for ever.
    """

    code: str
    message: str
    stack: str = ""

    def __post_init__(self) -> None:
        for name in ("code", "message", "stack"):
            text: str = getattr(self, name)
            object.__setattr__(self, name, text.replace("\0", "").encode("utf-8", "replace").decode())


@dataclass(frozen=True, slots=True)
class DueRun:
    """An open run and the job it waits for; `ref` is its job of record, which may be one of upstream's."""

    next: NextJob
    ref: str | None


class Turns(Protocol):
    """The door: only so many runs of one shop are in the line, the others are parked."""

    async def list_turns(self, left: str | None = None) -> list[DueRun]:
        """Parked runs whose turn it is: of the shop whose run `left` the line, or of every shop."""
        ...


class RunStore(Turns, Protocol):
    """The journal of runs."""

    async def load(
        self, ticket: Ticket, *, not_live: str | None = None, live: str | None = None, alone: bool = False
    ) -> Loaded:
        """Decide what a claimed job means and, if it is due, take the run: raise its fence, open an attempt.

        `live`/`not_live` answer an earlier AskLive about the job of that ref, `alone` an earlier Suspect.
        """
        ...

    async def record(self, ready: Ready, result: StageResult) -> Recorded:
        """Write the result once, spread it over the tables people query, and set the next due stage."""
        ...

    async def find_recorded(self, ready: Ready) -> Recorded | None:
        """After a commit whose outcome is unknown: what stands in the journal for this very attempt?"""
        ...

    async def fail(self, ready: Ready, trouble: Trouble, *, final: bool, attempts: int) -> Failed:
        """Write a counted failure; the run is failed when it is `final` or the last of `attempts`."""
        ...

    async def wait(self, ready: Ready, trouble: Trouble, *, patience: timedelta | None) -> Failed | None:
        """Write an uncounted wait for something outside; a `Failed` when patience, if it ends, is over."""
        ...

    async def let_go(self, ready: Ready, state: str) -> None:
        """Close the attempt as `released` or `lost`: nothing counted."""
        ...


class DueRuns(Turns, Protocol):
    """What the reconciler needs to know."""

    async def list_due(self, *, quiet_for: timedelta, after: str, limit: int) -> list[DueRun]:
        """Open runs that nothing happened to for that long, by id, beginning after run `after`."""
        ...

    async def is_due(self, job: NextJob) -> bool:
        """Whether a run waits for this very job now."""
        ...


class Pauses(Protocol):
    """Queues people have paused. Kept in Postgres too: a starting Node process resumes every queue in Redis."""

    async def list_paused(self) -> frozenset[str]:
        """The paused queues."""
        ...
