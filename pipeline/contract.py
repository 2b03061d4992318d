"""What a stage is, what it is given and how it may end. Every stage and the runner meet only here.

A stage ends in one of five ways, and nothing else:

    return Done(output)          it knows what it was asked to find out
    return Review(doubts, ..)    a person must decide; the run goes to status-update and waits
    raise Retry(..)              our own fault or a passing one: counted, runs again after backoff
    raise Reject(..)             it can never work: dead letter at once, with a reason a merchant understands
    raise Temporary              something outside is down (pipeline.errors): uncounted, waits its patience
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from pipeline.domain.merchant import Merchant
from pipeline.domain.purchase_order import Doubt
from pipeline.domain.results import Output
from pipeline.errors import PipelineError

V = TypeVar("V")


class Retry(PipelineError):
    """The attempt failed but the same job may succeed: counted, repeated after backoff or `after_s` seconds."""

    def __init__(self, message: str, *, after_s: float | None = None) -> None:
        super().__init__(message)
        self.after_s = after_s


class Reject(PipelineError):
    """Final: nothing will make this work without a person. `code` is stable, the message is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Done:
    """The stage's result. It is recorded once per (run, stage, entry)."""

    output: Output


@dataclass(frozen=True, slots=True)
class Review:
    """A person must decide. What was found out so far (`output`) is recorded all the same."""

    doubts: tuple[Doubt, ...]
    output: Output | None = None


StageResult = Done | Review


@dataclass(frozen=True, slots=True)
class Run:
    """One purchase order's passage through the flow, as a stage may see it.

    `kind` is "order" or "receipt"; `entry` counts re-entries (approve, retry, reprocess), from 0;
    `approved_by` names the person who approved this entry, empty if none did.
    """

    id: str
    kind: str
    merchant: Merchant
    entry: int
    fence: int
    workflow_id: str
    upload_id: str
    document_id: str | None = None
    order_id: str | None = None
    order_revision: int | None = None
    supplier_id: str | None = None
    receipt_id: str | None = None
    approved_by: str = ""


class LeaseCheck(Protocol):
    """Asked just before each call that leaves the process and cannot be taken back."""

    def __call__(self) -> None:
        """Return if the job is certainly still ours; raise LeaseLost otherwise."""
        ...


async def _no_progress(_fraction: float, _message: str) -> None:
    """Nobody listens."""


async def _no_wait(_message: str) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True)
class StageInput:
    """Everything a stage may know: the run, the attempt (from 1), earlier results, and two calls back.

    `earlier` holds the recorded output of every finished stage of this run, by stage name; `review` the
    doubts that sent the run to status-update, empty when it got there by itself.
    `still_ours` is the lease; `progress(fraction, message)` tells who watches and restarts the time limit;
    `waits(message)` does the same for work that stands still because it must wait.
    """

    run: Run
    stage: str
    attempt: int
    earlier: Mapping[str, Output]
    still_ours: LeaseCheck
    review: tuple[Doubt, ...] = ()
    progress: Callable[[float, str], Awaitable[None]] = field(default=_no_progress)
    waits: Callable[[str], Awaitable[None]] = field(default=_no_wait)

    def find(self, kind: type[V]) -> V | None:
        """The earlier output of that type, or None."""
        for output in self.earlier.values():
            if isinstance(output, kind):
                return output
        return None

    def get(self, kind: type[V]) -> V:
        """The earlier output of that type; a flow that lacks it is our own bug and says so."""
        found = self.find(kind)
        if found is None:
            raise Reject("missing_result", f"run {self.run.id} has no {kind.__name__} before {self.stage}")
        return found


class Stage(Protocol):
    """One step of the flow: ports in `__init__`, one `run`. Reads through ports, writes nothing itself."""

    async def run(self, given: StageInput) -> StageResult:
        """Do the stage's work for one attempt."""
        ...
