"""Looks at all queues, and from them at the open runs: is everything in order, and what is on its way?

Changes nothing. A queue's own rules are in `pipeline.queue.invariants`; here stand those between the two stores:

    no_live_job     an open run has a job that will still run, or nobody will ever take it up
    two_live_jobs   and one only: the other would be settled unrun, so somebody brought it back by hand
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from pipeline.domain import intake
from pipeline.errors import BrokenQueue, CommandRefused
from pipeline.queue.bull import Commands
from pipeline.queue.invariants import Violation, find_violations
from pipeline.queue.keys import Keys
from pipeline.queue.snapshot import PAGE_MAX, PAGES_MAX, Snapshot, StoredJob, named_ids, read_pages
from pipeline.queue.wire import number
from pipeline.run_store import OUR_JOBS, DueRun, DueRuns, job_ref

LIVE_PLACES = ("wait", "paused", "active", "delayed")
"""Bull's places of jobs that will still run."""

RUNS_MAX = 10_000
"""Open runs looked at in one round."""


@dataclass
class QueueFound:
    """One queue as it was found; `unread` is why it could not be looked at.

    On their way: `leaseless` active jobs, which a sweep returns, and `leftovers`, live jobs of ours that no open
    run waits for, which their next claim settles unrun.
    """

    queue: str
    jobs: int = 0
    leaseless: int = 0
    leftovers: int = 0
    violations: list[Violation] = field(default_factory=list)
    unread: str = ""


@dataclass(frozen=True, slots=True)
class LiveJob:
    """A job that will still run: its reference as runs know it, and the run it names if it is one of ours."""

    queue: str
    id: str
    ref: str
    names: tuple[str, int] | None


async def examine(
    commands: Commands, keys: Keys, queues: Sequence[str], due: DueRuns, *, quiet_for: timedelta
) -> list[QueueFound]:
    """Look at every queue, then at the open runs that nothing happened to for `quiet_for`."""
    # Postgres before Redis, and asked again after: what moves on meanwhile is not taken for lost.
    runs = await _open_runs(due, quiet_for)
    found, live = {queue: QueueFound(queue) for queue in queues}, []
    named = await _named(commands, keys, queues)
    for queue in queues:
        live += await _look_at(commands, keys, found[queue], named.get(queue, ()))
    for violation in list_crossed(runs, live):
        seen = found.get(violation.queue)
        complete = seen is not None and not seen.unread and seen.jobs <= PAGE_MAX * PAGES_MAX
        if seen is not None and complete and await due.is_due(runs[violation.subject].next):
            seen.violations.append(violation)
    everyone = await _open_runs(due, timedelta(0))
    for job in live:
        found[job.queue].leftovers += _is_leftover(job, everyone)
    return list(found.values())


def list_crossed(runs: Mapping[str, DueRun], live: Iterable[LiveJob]) -> Iterator[Violation]:
    """Open runs that have no live job, or more than one."""
    jobs: defaultdict[str, list[str]] = defaultdict(list)
    by_ref = {(run.next.stage, run.ref): run_id for run_id, run in runs.items() if run.ref is not None}
    for job in live:
        run_id = by_ref.get((job.queue, job.ref)) or _named_by(job, runs)
        if run_id is not None:
            jobs[run_id].append(job.id)
    for run_id, run in runs.items():
        if not jobs[run_id]:
            says = f"is due at {run.next.stage} and no job will run it"
            yield Violation("no_live_job", run.next.stage, run_id, says, "the reconciler, within a minute")
        elif len(jobs[run_id]) > 1:
            says = f"has the live jobs {' and '.join(jobs[run_id])}"
            yield Violation("two_live_jobs", run.next.stage, run_id, says, "one runs it, the others are settled unrun")


def live_jobs(page: Snapshot) -> Iterator[LiveJob]:
    """The jobs on a page that will still run."""
    for place in LIVE_PLACES:
        for job_id in page.entries[place]:
            job = page.jobs[job_id]
            if job.kind == "hash":
                yield LiveJob(page.queue, job_id, job_ref(job_id, number(job.fields.get("timestamp"))), _names(job))


async def _look_at(commands: Commands, keys: Keys, found: QueueFound, named: Sequence[str]) -> list[LiveJob]:
    live = []
    try:
        async for page in read_pages(commands, keys, found.queue, named):
            found.jobs = page.size
            found.leaseless += sum(not page.jobs[job_id].locked for job_id in page.entries["active"])
            found.violations += [one for one in find_violations(page) if one not in found.violations]
            live += list(live_jobs(page))
    except (BrokenQueue, CommandRefused) as error:
        found.unread = str(error)
    return live


async def _named(commands: Commands, keys: Keys, queues: Sequence[str]) -> Mapping[str, Sequence[str]]:
    try:
        return await named_ids(commands, keys, queues)
    except CommandRefused:
        return {}  # an operator may deny SCAN: what no place names stays unseen


async def _open_runs(due: DueRuns, quiet_for: timedelta) -> dict[str, DueRun]:
    found: dict[str, DueRun] = {}
    after = ""
    while len(found) < RUNS_MAX and (page := await due.list_due(quiet_for=quiet_for, after=after, limit=1000)):
        found |= {run.next.run_id: run for run in page}
        after = page[-1].next.run_id
    return found


def _named_by(job: LiveJob, runs: Mapping[str, DueRun]) -> str | None:
    """The open run that waits for a job of ours."""
    if job.names is None:
        return None
    run_id, entry = job.names
    run = runs.get(run_id)
    waits = run is not None and (run.next.stage, run.next.entry) == (job.queue, entry)
    return run_id if waits else None


def _is_leftover(job: LiveJob, runs: Mapping[str, DueRun]) -> bool:
    return job.names is not None and _named_by(job, runs) is None


def _names(job: StoredJob) -> tuple[str, int] | None:
    if not job.id.startswith(OUR_JOBS):
        return None
    try:
        said = intake.parse(job.fields.get("data", ""))
    except intake.BadEnvelopeError:
        return None
    return (said.run_id, said.entry) if isinstance(said, intake.HandOff) else None
