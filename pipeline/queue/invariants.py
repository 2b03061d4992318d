"""What must hold of a queue at every instant, as rules over one snapshot: pure, no Redis.

Each rule is one function and names the section of Bull's wire specification it follows from. None of them is ever
broken by our scripts, by npm bull's on a queue of sound jobs, or by a process that dies, because a script is one
step. What a death does leave (an active job without a lease, which the sweep returns) is no violation.

Deliberately no rule: that `stalled` marks only active jobs (a mark of a job that left is dropped at the next check),
and that a waiting job of some priority stands in `priority` (Bull forgets it on every return).
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipeline.queue.snapshot import PLACES, Snapshot, StoredJob
from pipeline.queue.wire import parse_strictly

_KINDS = {
    **dict.fromkeys(("wait", "paused", "active"), "list"),
    **dict.fromkeys(("delayed", "completed", "failed", "priority", "repeat"), "zset"),
    **dict.fromkeys(("id", "limiter", "meta-paused", "stalled-check"), "string"),
    **dict.fromkeys(("meta", "limiter:index"), "hash"),
    "stalled": "set",
}
_HEALS = {
    "lock_without_run": "the lock ends with its lease",
    "priority_waits": "the next claim of that job",
}
_ENDED = ("completed", "failed")
_ALWAYS = ("name", "data", "opts", "timestamp", "delay", "priority")
_WITH_THE_END = {"completed": ("finishedOn", "returnvalue"), "failed": ("finishedOn", "failedReason")}
_JSON: dict[str, type | tuple[type, ...]] = {
    "data": object,
    "opts": dict,
    "stacktrace": list,
    "progress": object,
    "returnvalue": object,
}
_MOMENTS = ("timestamp", "processedOn", "finishedOn", "retriedOn")
_COUNTS = ("attemptsMade", "stalledCounter")
_MOMENT = re.compile(r"[0-9]{13}\Z")
_COUNT = re.compile(r"[0-9]{1,15}\Z")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[+-][0-9]+)?\Z")
"""As JavaScript writes one: a priority may be any."""
_SAFE_DUE_MS = 2**53 / 4096
"""Beyond it, in 2039, a double no longer holds a due time with its twelve low bits."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One rule that does not hold of one job or run ("" for the queue itself), in words that say what to do.

    `heals` names who mends it without a person; empty if nobody does.
    """

    rule: str
    queue: str
    subject: str
    says: str
    heals: str = ""


Rule = Callable[[Snapshot], Iterator[tuple[str, str]]]
"""Yields the job and what is wrong with it."""


def find_violations(snapshot: Snapshot) -> list[Violation]:
    """Every rule that does not hold. With a key of a wrong kind the queue is quarantined, and nothing else asked."""
    rules = (wrong_kind,) if next(wrong_kind(snapshot), None) else RULES
    return [Violation(rule.__name__, snapshot.queue, job_id, says) for rule in rules for job_id, says in rule(snapshot)]


# -- 1: keys ----------------------------------------------------------------------------------------


def wrong_kind(queue: Snapshot) -> Iterator[tuple[str, str]]:
    """Section 1: each key has one kind. Scripts of both sides fail on another, Bull's half-way."""
    for suffix, kind in queue.kinds.items():
        if kind not in {"none", _KINDS[suffix]}:
            yield "", f"{suffix} is a {kind} where Bull keeps a {_KINDS[suffix]}: the queue is closed; delete the key"


def stray_key(queue: Snapshot) -> Iterator[tuple[str, str]]:
    """Section 1: what is stored under a job's id is its hash, its lock a text, its log a list."""
    for job in queue.jobs.values():
        for what, kind, right in (
            ("job", job.kind, "hash"),
            ("lock", job.lock_kind, "string"),
            ("log", job.logs_kind, "list"),
        ):
            if kind not in {"none", right}:
                yield job.id, f"its {what} is a {kind} where Bull keeps a {right}; delete the key"


def flag_and_copy(queue: Snapshot) -> Iterator[tuple[str, str]]:
    """Section 1: `meta` repeats the flag `meta-paused`, and `isPaused` of Bull believes either."""
    if queue.paused != queue.meta_paused:
        says = "paused" if queue.paused else "not paused"
        yield "", f"the queue is {says}, its copy in `meta` says otherwise; pause or resume it again"


def endless_window(queue: Snapshot) -> Iterator[tuple[str, str]]:
    """3.3: the limiter's counter ends with its window, or the queue would close for good once it is full."""
    if queue.limiter_left_ms == -1:
        yield "", "the limiter's counter has no end; delete the key `limiter`"


# -- 2: places --------------------------------------------------------------------------------------


def one_place(queue: Snapshot) -> Iterator[tuple[str, str]]:
    """Section 2: a job's state is its membership, so it is a member of one place, once."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for place in PLACES:
        for job_id, times in Counter(queue.entries[place]).items():
            found[job_id] += [place] * times
    for job_id, places in found.items():
        if len(places) > 1:
            yield job_id, f"stands in {' and in '.join(places)}: it would run, or count, more than once"


def entry_without_job(queue: Snapshot) -> Iterator[tuple[str, str]]:
    """2.3: every entry has its job; Node runs a waiting one without, with no data."""
    for place in (*PLACES, "priority"):
        for job_id in queue.entries[place]:
            if queue.jobs[job_id].kind == "none":
                yield job_id, f"stands in {place} and does not exist; a claim drops it, or remove it from there"


def stuck(queue: Snapshot) -> Iterator[tuple[str, str]]:
    """3.12: a job in no place will never run again; Bull's getState calls it stuck."""
    for job in queue.jobs.values():
        if job.kind == "hash" and job.state == "stuck":
            yield job.id, "exists and stands in no place: nobody will run it; remove it"


def paused_place(queue: Snapshot) -> Iterator[tuple[str, str]]:
    """Rule 1, 3.11: while paused jobs gather in `paused`, else in `wait`; the other one is overwritten or forgotten."""
    wrong = "wait" if queue.paused else "paused"
    for job_id in queue.entries[wrong]:
        says = "waits in a paused queue" if queue.paused else "is paused in a queue that is not"
        yield job_id, f"{says}: resume the queue{' and pause it again' if queue.paused else ''}"


def priority_waits(queue: Snapshot) -> Iterator[tuple[str, str]]:
    """3.0: `priority` has waiting jobs only; each other member moves the place where the next is put."""
    waiting = {*queue.entries["wait"], *queue.entries["paused"]}
    if queue.sizes["wait"] + queue.sizes["paused"] == len(queue.entries["wait"]) + len(queue.entries["paused"]):
        for job_id in queue.entries["priority"]:
            if job_id not in waiting:
                yield job_id, "has a place by priority and does not wait: newer jobs will overtake older ones"


# -- 3: leases --------------------------------------------------------------------------------------


def lock_without_run(queue: Snapshot) -> Iterator[tuple[str, str]]:
    """3.2, 3.5: a lock is taken with the move to active and removed with the move out of it."""
    active = set(queue.entries["active"])
    for job in queue.jobs.values():
        if job.locked and job.id not in active and job.state != "active":
            yield job.id, "is locked and not active: nobody can remove or retry it until the lock ends"


def endless_lock(queue: Snapshot) -> Iterator[tuple[str, str]]:
    """3.2: a lock has an end, or its job could never be taken from a dead holder."""
    for job in queue.jobs.values():
        if job.locked and job.lock_left_ms == -1:
            yield job.id, "is locked for ever; delete its lock"


def log_without_job(queue: Snapshot) -> Iterator[tuple[str, str]]:
    """Section 1: a log belongs to a job, and goes with it."""
    for job in queue.jobs.values():
        if job.logs_kind != "none" and job.kind == "none":
            yield job.id, "has a log and does not exist; delete the key"


# -- 4: scores --------------------------------------------------------------------------------------


def never_due(queue: Snapshot) -> Iterator[tuple[str, str]]:
    """Section 1: a delayed job's score is its due time times 4096, exact until 2039."""
    for job_id, score in queue.scores["delayed"].items():
        if not math.isfinite(score) or score / 4096 >= _SAFE_DUE_MS:
            yield job_id, f"is due at no time that Bull can hold ({score:g}); promote it"


def end_and_score(queue: Snapshot) -> Iterator[tuple[str, str]]:
    """Section 1: a finished job's score is its `finishedOn`; retention trusts the one, people see the other."""
    for place in _ENDED:
        for job_id, score in queue.scores[place].items():
            finished = queue.jobs[job_id].fields.get("finishedOn")
            if finished is not None and finished != f"{score:.0f}":
                yield job_id, f"is {place} by {score:.0f} and says {finished}"


def counter_behind(queue: Snapshot) -> Iterator[tuple[str, str]]:
    """4.4: a number beyond Bull's counter will be given again, and the job overwritten."""
    last = int(queue.counter) if queue.counter and _COUNT.match(queue.counter) else 0
    for job in queue.jobs.values():
        if job.kind == "hash" and _COUNT.match(job.id) and int(job.id) > last:
            yield job.id, f"is ahead of Bull's counter ({last}): Node will overwrite it; raise the key `id`"


# -- 5: fields --------------------------------------------------------------------------------------


def missing_field(queue: Snapshot) -> Iterator[tuple[str, str]]:
    """Section 2: what every job says, and with its end what became of it."""
    ended = {job_id: place for place in _ENDED for job_id in queue.entries[place]}
    for job in _hashes(queue):
        needed = _ALWAYS + _WITH_THE_END.get(ended.get(job.id, ""), ())
        needed += ("processedOn",) if job.locked else ()
        absent = [field for field in needed if field not in job.fields and field not in job.long_fields]
        if absent:
            yield job.id, f"does not say its {', '.join(absent)}"


def early_end(queue: Snapshot) -> Iterator[tuple[str, str]]:
    """Section 2: `finishedOn` comes with the end and goes when a person retries."""
    ended = {job_id for place in _ENDED for job_id in queue.entries[place]}
    for job in _hashes(queue):
        if "finishedOn" in job.fields and job.id not in ended and job.state not in _ENDED:
            yield job.id, "says when it ended and has not ended"


def unreadable_field(queue: Snapshot) -> Iterator[tuple[str, str]]:
    """Rules 4 to 6, section 2: JSON where Bull parses JSON, moments of 13 digits, counts that are whole numbers."""
    for job in _hashes(queue):
        wrong = [field for field, value in job.fields.items() if not _readable(field, value)]
        if wrong:
            yield job.id, f"has an unreadable {', '.join(wrong)}: Bull's lists fail on it; remove the job"


def _readable(field: str, value: str) -> bool:
    if field in _JSON:
        return _is_json(value, _JSON[field]) and not (field == "opts" and _loses_jobs(value))
    if field in _MOMENTS:
        return bool(_MOMENT.match(value))
    if field in _COUNTS:
        return bool(_COUNT.match(value))
    if field == "priority":
        return bool(_NUMBER.match(value))
    return field != "id"  # 5.1: it would override the real one


def _is_json(text: str, kind: type | tuple[type, ...]) -> bool:
    try:
        return isinstance(parse_strictly(text), kind)
    except (ValueError, RecursionError):
        return False


def _loses_jobs(opts: str) -> bool:
    """Rule 5: with null for its retention Node's script fails after the job has left active."""
    said = json.loads(opts)
    return any(said.get(name, 0) is None for name in ("removeOnComplete", "removeOnFail"))


def _hashes(queue: Snapshot) -> Iterator[StoredJob]:
    return (job for job in queue.jobs.values() if job.kind == "hash")


RULES: tuple[Rule, ...] = (
    wrong_kind,
    stray_key,
    flag_and_copy,
    endless_window,
    one_place,
    entry_without_job,
    stuck,
    paused_place,
    priority_waits,
    lock_without_run,
    endless_lock,
    log_without_job,
    never_due,
    end_and_score,
    counter_behind,
    missing_field,
    early_end,
    unreadable_field,
)
