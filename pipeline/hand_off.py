"""The job a due stage waits for, spelled once: by the runner, the reconciler and people's commands."""

from __future__ import annotations

from pipeline import flow
from pipeline.domain import intake
from pipeline.queue.job import NewJob
from pipeline.run_store import NextJob

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
