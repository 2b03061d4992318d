"""Erases one merchant from everything we keep: the queues and keys in Redis, then every row in Postgres.

First its runs are ended and its tokens forgotten, so that nothing new comes of it. A job that somebody runs at this
moment cannot be removed, and would be found again by the sweep: it is waited for, and it ends by itself, since its run
was taken away from it. Only then the rows go, all in one transaction. Files we keep none: documents are rows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from app.db.erasure import end_runs, erase, names_of, note_erasure
from app.db.grants import disconnect
from pipeline import flow
from pipeline.errors import CommandRefused
from pipeline.queue.snapshot import named_ids, read_pages

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.db.session import Database
    from pipeline.queue.bull import Bull, Commands
    from pipeline.queue.snapshot import StoredJob

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Whose:
    """By what a merchant's jobs and keys are known."""

    merchant_id: str
    run_ids: frozenset[str]
    workflow_ids: frozenset[str]

    def owns(self, job_id: str, data: str) -> bool:
        """Whether a job is this merchant's: one of ours by its run, one of upstream's by what it says."""
        if any(job_id.startswith(f"po-{run_id}-") for run_id in self.run_ids):
            return True
        try:
            envelope = json.loads(data)
        except (ValueError, RecursionError):
            return False
        inner = envelope.get("data") if isinstance(envelope, dict) else None
        if not isinstance(inner, dict):
            return False
        return inner.get("merchantId") == self.merchant_id or inner.get("runId") in self.run_ids


class StillBusyError(Exception):
    """Somebody runs a job of the merchant's: ask again when it has ended."""


async def _always(_connection: AsyncConnection) -> bool:
    return True


async def erase_merchant(
    database: Database,
    bull: Bull,
    commands: Commands,
    merchant_id: str,
    *,
    who: str,
    cause: str,
    still_wanted: Callable[[AsyncConnection], Awaitable[bool]] = _always,
) -> dict[str, int] | None:
    """The rows erased, by table; None if it is `still_wanted` no more. Raises StillBusyError.

    Whatever stops it half way, doing it again ends it.
    """
    async with database.transaction() as connection:
        if not await still_wanted(connection):
            return None
        await end_runs(connection, merchant_id, "Cancelled: all that is known of this shop is being erased.")
        await disconnect(connection, merchant_id, "all that is known of this shop is being erased")
        whose = Whose(merchant_id, *await names_of(connection, merchant_id))
    if await _clear(bull, commands, whose):
        raise StillBusyError
    async with database.transaction() as connection:
        if not await still_wanted(connection):
            return None
        counts = await erase(connection, merchant_id)
        await note_erasure(connection, who, counts, cause)
    # Once more: the run of a job that came in between is gone by now.
    await _clear(bull, commands, whose)
    _log.info("shop erased", rows=sum(counts.values()), cause=cause)
    return counts


async def _clear(bull: Bull, commands: Commands, whose: Whose) -> int:
    """Remove the merchant's jobs and keys; how many jobs could not be, because somebody runs them."""
    busy = 0
    for queue, named in (await _named(bull, commands)).items():
        theirs: dict[str, None] = {}
        async for page in read_pages(commands, bull.keys, queue, named):
            for job in page.jobs.values():
                if whose.owns(job.id, await _data(bull, queue, job)):
                    theirs[job.id] = None
        for job_id in theirs:
            if not await bull.remove(queue, job_id) and await bull.job(queue, job_id) is not None:
                busy += 1
    for workflow_id in whose.workflow_ids:
        await _expire(commands, f"workflow:{workflow_id}")
    return busy


async def _named(bull: Bull, commands: Commands) -> Mapping[str, Sequence[str]]:
    """Jobs that stand in no list or set are found by their keys, where our user may look for them."""
    try:
        return await named_ids(commands, bull.keys, flow.NAMES)
    except CommandRefused as error:
        _log.warning("jobs in no list or set not looked for", reason=str(error))
        return dict.fromkeys(flow.NAMES, ())


async def _data(bull: Bull, queue: str, job: StoredJob) -> str:
    if "data" not in job.long_fields:
        return job.fields.get("data", "")
    record = await bull.job(queue, job.id)
    return "" if record is None else record.data


async def _expire(commands: Commands, key: str) -> None:
    """Overwrite the key and let it end: SET is what our user is allowed there, DEL may not be."""
    try:
        await commands.call("SET", key, "", "PX", 1)
    except CommandRefused as error:  # another node's, or denied: then we did not write it either
        _log.warning("progress key not erased", reason=str(error))
