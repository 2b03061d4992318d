"""One queue as it stood at one instant, for whoever asks whether it is in order: `pipeline.queue.invariants`.

Read by one script, so nothing moves between two answers. Big queues are read in pages of bounded size, each an
instant of its own. Keys that no list or set names (a hash in no state, a lock without a job) are found by walking
the keyspace once, and then asked about in the script like the others.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.queue.bull import Commands
from pipeline.queue.keys import Keys
from pipeline.queue.scripts import Argument, Script, load

PAGE_MAX = 200
"""Entries of each place per page: some ten milliseconds of Redis' time."""

PAGES_MAX = 50
VALUE_MAX = 64 * 1024
"""Characters; longer values are known to be there and not read. Our own are far shorter."""

KEYS_MAX = 200_000
"""Keys walked at most when looking for what no place names."""

PLACES = ("wait", "paused", "active", "delayed", "completed", "failed")
"""Where a job can be, by Bull's names."""

_GLOB = re.compile(r"([*?\[\]\\^])")
_BESIDE_A_JOB = re.compile(r":(?:lock|logs)\Z")
_NO_JOB = re.compile(
    r"(?:id|wait|active|paused|meta|meta-paused|delayed|priority|stalled|stalled-check|completed|failed|repeat|limiter)\Z"
    r"|(?:limiter|metrics|de):"
)


@dataclass(frozen=True, slots=True)
class StoredJob:
    """What is stored under one job's id. `kind` is Redis' type of its key, "none" if there is no such key.

    `state` is told of a job on no place's page: where Bull's own `getState` finds it, "stuck" if nowhere.
    """

    id: str
    kind: str
    fields: Mapping[str, str]
    long_fields: frozenset[str]
    lock_kind: str
    lock_left_ms: int
    logs_kind: str
    state: str | None

    @property
    def locked(self) -> bool:
        """Whether somebody holds its lease."""
        return self.lock_kind != "none"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One page of a queue. `entries` has each place's ids as they stand there, `scores` those of the sorted sets."""

    queue: str
    now_ms: int
    paused: bool
    meta_paused: bool
    counter: str | None
    limiter_left_ms: int
    kinds: Mapping[str, str]
    sizes: Mapping[str, int]
    entries: Mapping[str, Sequence[str]]
    scores: Mapping[str, Mapping[str, float]]
    jobs: Mapping[str, StoredJob]

    @property
    def size(self) -> int:
        """Jobs in all places, on this page or not."""
        return sum(self.sizes[place] for place in PLACES)


def call(base: str, start: int, job_ids: Sequence[str]) -> tuple[Script, list[str], list[Argument]]:
    """The script, and what it is called with: its keys and its arguments."""
    script = load("snapshot")
    named: dict[str, Argument | None] = {"start": start, "page_max": PAGE_MAX, "value_max": VALUE_MAX}
    arguments = script.arguments(named, job_ids)
    return script, script.all_keys([base], arguments), arguments


def parse(queue: str, reply: Sequence[Any]) -> Snapshot:
    """Read the script's answer."""
    now_ms, paused, meta_paused, counter, limiter_left_ms, keys, jobs = reply
    pairs = {suffix: list(zip(found[::2], found[1::2], strict=True)) for suffix, _, _, found in keys}
    return Snapshot(
        queue=queue,
        now_ms=int(now_ms),
        paused=bool(paused),
        meta_paused=meta_paused == 1,
        counter=counter,
        limiter_left_ms=limiter_left_ms,
        kinds={suffix: kind for suffix, kind, _, _ in keys},
        sizes={suffix: size for suffix, _, size, _ in keys},
        entries={suffix: [job_id for job_id, _ in found] for suffix, found in pairs.items()},
        scores={
            suffix: {job_id: float(score) for job_id, score in found if score != ""} for suffix, found in pairs.items()
        },
        jobs={job[0]: _stored(job) for job in jobs},
    )


async def read_pages(commands: Commands, keys: Keys, queue: str, named: Sequence[str] = ()) -> AsyncIterator[Snapshot]:
    """Read a queue page by page, and with the pages the jobs `named`; at most `PAGES_MAX` pages."""
    for page in range(PAGES_MAX):
        start = page * PAGE_MAX
        found = parse(queue, await commands.run(*call(keys.base(queue), start, named[start : start + PAGE_MAX])))
        yield found
        if start + PAGE_MAX >= max(len(named), *found.sizes.values()):
            return


async def named_ids(commands: Commands, keys: Keys, queues: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """The ids that keys of these queues name, whether or not any place does; the first `KEYS_MAX` keys are seen."""
    pattern = _GLOB.sub(r"\\\1", keys.prefix) + ":*"
    seen: list[str] = []
    cursor = "0"
    while len(seen) < KEYS_MAX:
        cursor, batch = await commands.call("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
        seen += batch
        if str(cursor) == "0":
            break
    return {queue: ids_in(keys.base(queue), seen) for queue in queues}


def ids_in(base: str, keys: Sequence[str]) -> list[str]:
    """The job ids that keys under a queue's base name, each once; Bull's own keys name none."""
    suffixes = (key.removeprefix(base) for key in keys if key.startswith(base))
    return list(dict.fromkeys(_BESIDE_A_JOB.sub("", one) for one in suffixes if not _NO_JOB.match(one)))


def _stored(job: Sequence[Any]) -> StoredJob:
    job_id, kind, fields, long_fields, lock_kind, lock_left_ms, logs_kind, state = job
    return StoredJob(
        id=job_id,
        kind=kind,
        fields=dict(zip(fields[::2], fields[1::2], strict=True)),
        long_fields=frozenset(long_fields),
        lock_kind=lock_kind,
        lock_left_ms=lock_left_ms,
        logs_kind=logs_kind,
        state=state or None,
    )
