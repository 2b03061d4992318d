"""The job a due stage waits for, spelled once: made, and found again, by the runner, the reconciler and people."""

from __future__ import annotations

from pipeline import flow
from pipeline.domain import intake
from pipeline.queue.bull import Bull
from pipeline.queue.job import NewJob
from pipeline.run_store import OUR_JOBS, DueRun, NextJob, job_ref

LIVE = frozenset({"waiting", "paused", "active", "delayed"})
"""Bull's states in which a job will still run. A mere hash (completed, failed, none) is not live."""


def hand_off(following: NextJob) -> NewJob:
    """The hand-off job of a due stage: ids only, under an id that can be added twice and exists once."""
    return NewJob(
        id=following.job_id,
        data=intake.envelope(
            workflow_id=following.workflow_id,
            stage=following.stage,
            run_id=following.run_id,
            entry=following.entry,
            flow_version=flow.FLOW_VERSION,
        ),
        attempts=flow.BY_NAME[following.stage].attempts,
    )


async def promote(bull: Bull, run: DueRun) -> bool:
    """Let the job of a parked run go now; False if it is not delayed: on its way already, or gone."""
    job_id = str(run.ref).partition("@")[0]
    if not job_id.startswith(OUR_JOBS):
        # One of Bull's numbers, which begin anew when Redis is emptied: is it still the job that was meant?
        found = await bull.job(run.next.stage, job_id)
        if found is None or job_ref(job_id, found.timestamp_ms) != run.ref:
            return False
    return await bull.promote(run.next.stage, job_id)
