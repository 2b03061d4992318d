"""What people may do: approve, retry, cancel a run; receive, close, cancel, undo an order; pause, resume a queue.

Each command is one short transaction that locks the run's row, looks at its state and moves it, raising both
fence (whoever still works on it can write nothing more) and entry (the next job gets an id nobody has used).
The caller enqueues the NextJob it is given; if that fails the reconciler does it within a minute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from app.db.accept import locked_run
from app.db.choosing import choose
from app.db.door import turns_after
from app.db.errors import ConflictError, NotFoundError
from app.db.plans import ReadPlan, keep_approval_without, keep_plan
from app.db.receiving import Delivered, Ending, UndoneBefore, end, receive, refuse_second_receipt, undo
from app.db.tables import audit, effects, queue_pauses, runs, stage_runs
from pipeline import flow
from pipeline.domain.plan import summary
from pipeline.domain.standing import PLAN
from pipeline.run_store import DueRun, NextJob

if TYPE_CHECKING:
    from sqlalchemy import RowMapping
    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.db.session import Database

_WAY_OUT = {
    "running": "it is being worked on; cancel ends it",
    "needs_review": "approve lets it go on, cancel ends it",
    "failed": "retry runs the failed stage again, cancel ends it",
    "completed": "there is nothing left to do",
    "cancelled": "upload the document again to start over",
}
"""What can be done in each state, in words; every refusal ends with it."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A run that was ended: the stage it was at, and the parked runs that may join the line in its place."""

    stage: str
    turns: list[DueRun]


class People:
    """The commands, by whoever may give them (`who` goes into the audit)."""

    def __init__(self, database: Database, *, open_runs: int = flow.SHOP_SHARE) -> None:
        self._database = database
        self._open_runs = open_runs

    async def approve(self, run_id: str, who: str, read: ReadPlan | None = None) -> NextJob:
        """A person has looked at the doubts and lets the run go on where it left the line.

        `read` is the plan they approve, which the run then applies exactly or stops; see `app.approving`.
        """
        async with self._database.transaction() as connection:
            run = await _run_in(connection, run_id, "approve", {"needs_review"})
            if read is not None and read.entry != run["entry"]:
                raise ConflictError(f"run {run_id} has moved since this plan was read: read it again")
            resumed = NextJob(run_id, flow.resume_stage(run["review_stage"]), run["entry"] + 1, run["workflow_id"])
            await _re_enter(connection, run, resumed, review=[], review_stage="", approved_by=who)
            details = {"stage": resumed.stage, "doubts": run["review"]}
            if read is None and resumed.stage == flow.SYNC:
                await keep_approval_without(connection, run_id, resumed.entry, who)
            elif read is not None:
                await keep_plan(connection, run_id, resumed.entry, read.plan, approved_by=who, read_at=read.read_at)
                details |= {"plan": read.plan.digest, "summary": summary(read.plan)}
            await _note(connection, who, "approve", run, details)
            return resumed

    async def retry(self, run_id: str, who: str) -> NextJob:
        """Something was put right outside; run the stage that failed once more, with all its attempts."""
        async with self._database.transaction() as connection:
            run = await _run_in(connection, run_id, "retry", {"failed"})
            if run["failed_stage"] not in flow.BY_NAME or not run["merchant_id"]:
                raise ConflictError(
                    f"run {run_id} began with a job that says no order ({run['failure']}): send another"
                )
            if run["kind"] == "receipt":
                await refuse_second_receipt(connection, run["order_id"], but=run_id)
            again = NextJob(run_id, run["failed_stage"], run["entry"] + 1, run["workflow_id"])
            await _re_enter(connection, run, again, failed_stage="", failure_code="", failure="")
            await _note(connection, who, "retry", run, {"stage": again.stage, "failure": run["failure"]})
            return again

    async def cancel(self, run_id: str, who: str) -> Cancelled:
        """End a run for good. What the shop was told stays there, and the summary says so.

        The caller promotes those whose turn that makes it.
        """
        stage = await self._cancel(run_id, who)
        async with self._database.transaction() as connection:
            return Cancelled(stage, await turns_after(connection, run_id, self._open_runs))

    async def _cancel(self, run_id: str, who: str) -> str:
        async with self._database.transaction() as connection:
            run = await _run_in(connection, run_id, "cancel", {"running", "needs_review", "failed"})
            sent = await _refuse_to_abandon(connection, run)
            stays = f"; what the shop had been sent by then (changes: {sent}) stays there until its order is undone"
            await connection.execute(
                update(runs)
                .where(runs.c.id == run_id)
                .values(
                    state="cancelled",
                    due_stage=None,
                    due_since=None,
                    job_id=None,
                    parked_at=None,
                    summary=f"Cancelled by {who}{stays if sent else ''}.",
                    **_raised(run),
                    finished_at=func.now(),
                )
            )
            # Whoever still works on it will find the fence raised; nobody else would close its attempt.
            await connection.execute(
                update(stage_runs)
                .where(stage_runs.c.run_id == run_id, stage_runs.c.state == "open")
                .values(state="lost", ended_at=func.now())
            )
            await _note(connection, who, "cancel", run, {"from": run["state"], "effects": sent})
            stage: str = run["due_stage"] or run["failed_stage"] or run["review_stage"]
            return stage

    async def match(self, run_id: str, who: str, draft: str, choice: str) -> dict[str, Any]:
        """Say what one of the order's products is in the shop; taken up when the run goes on. See `app.db.choosing`."""
        async with self._database.transaction() as connection:
            run = await _run_in(connection, run_id, "match", {"needs_review", "failed"})
            chosen = await choose(connection, run, draft, choice)
            await _note(connection, who, "match", run, chosen)
            return chosen

    async def receive(
        self, order_id: str, who: str, delivered: Delivered, *, allow_over: bool = False
    ) -> tuple[str, NextJob]:
        """Goods of an order have arrived: the receipt's id and its job. See `app.db.receiving`."""
        async with self._database.transaction() as connection:
            receipt = await receive(connection, order_id, who, delivered, allow_over=allow_over)
            await _note(connection, who, "receive", receipt.run, receipt.details)
            return receipt.id, receipt.next

    async def end_order(self, order_id: str, who: str, action: Ending) -> tuple[str, NextJob]:
        """Nothing more will come: what the shop still expects of an order is taken back, and the order is over.

        Returned are the receipt that does it and its job. See `app.db.receiving`.
        """
        async with self._database.transaction() as connection:
            receipt = await end(connection, order_id, who, action)
            await _note(connection, who, f"{action}-order", receipt.run, receipt.details)
            return receipt.id, receipt.next

    async def undo(self, order_id: str, who: str) -> NextJob | UndoneBefore:
        """Archive what the order created and nobody touched, and take back what it announced. See `app.db.receiving`.

        A second time changes nothing and says who did it.
        """
        async with self._database.transaction() as connection:
            receipt = await undo(connection, order_id, who)
            if isinstance(receipt, UndoneBefore):
                return receipt
            await _note(connection, who, "undo", receipt.run, receipt.details)
            return receipt.next

    async def pause_queue(self, queue: str, who: str) -> None:
        """Claim nothing from this queue until it is resumed, even if Redis forgets or a starting Node resumes."""
        _known(queue)
        async with self._database.transaction() as connection:
            await connection.execute(insert(queue_pauses).values(queue=queue, paused_by=who).on_conflict_do_nothing())
            await _note(connection, who, "pause", {}, {"queue": queue})

    async def resume_queue(self, queue: str, who: str) -> None:
        """Claim from this queue again."""
        _known(queue)
        async with self._database.transaction() as connection:
            await connection.execute(delete(queue_pauses).where(queue_pauses.c.queue == queue))
            await _note(connection, who, "resume", {}, {"queue": queue})


async def _run_in(connection: AsyncConnection, run_id: str, action: str, states: set[str]) -> RowMapping:
    """The locked run, in one of these states; otherwise a refusal that says what can be done instead."""
    run = await locked_run(connection, run_id)
    if run is None:
        raise NotFoundError(f"there is no run {run_id}")
    if run["state"] not in states:
        raise ConflictError(f"cannot {action} run {run_id}: it is {run['state']} ({_WAY_OUT[run['state']]})")
    return run


def _raised(run: RowMapping) -> dict[str, Any]:
    return {"fence": run["fence"] + 1, "entry": run["entry"] + 1, "updated_at": func.now()}


async def _re_enter(connection: AsyncConnection, run: RowMapping, job: NextJob, **cleared: Any) -> None:
    """Put the run back on the line, waiting for `job`, whose new hash has not stalled yet."""
    await connection.execute(
        update(runs)
        .where(runs.c.id == run["id"])
        .values(
            state="running",
            due_stage=job.stage,
            due_since=func.now(),
            job_id=job.job_id,
            stall_baseline=0,
            summary="",
            finished_at=None,
            **_raised(run),
            **cleared,
        )
    )


async def _refuse_to_abandon(connection: AsyncConnection, run: RowMapping) -> int:
    """How many changes the shop was sent for this run; refuses to forget units it moved for a receipt.

    Moved units are counted when the stage is recorded. A receipt cancelled between the two would leave them
    sellable and still open here, to be received once more. An intent without an answer may have moved them too.
    """
    sent: int | None = await connection.scalar(
        select(func.count()).where(
            effects.c.run_id == run["id"],
            ~effects.c.key.startswith(PLAN),
            ~effects.c.external.has_key("refused"),  # the shop said no: nothing moved
        )
    )
    if run["kind"] == "receipt" and sent:
        way_out = {"running": "wait for it", "failed": "retry it", "needs_review": "approve it"}[run["state"]]
        message = f"cannot cancel receipt {run['receipt_id']}: the shop has moved units for it, or may have; {way_out}"
        raise ConflictError(message)
    return sent or 0


def _known(queue: str) -> None:
    if queue not in flow.BY_NAME:
        raise NotFoundError(f"there is no queue {queue}; there are {', '.join(flow.NAMES)}")


async def _note(
    connection: AsyncConnection, who: str, action: str, run: RowMapping | dict[str, Any], details: dict[str, Any]
) -> None:
    """Leave a trace of who did what, in the transaction that did it."""
    await connection.execute(
        insert(audit).values(
            who=who, action=action, run_id=run.get("id"), order_id=run.get("order_id"), details=details
        )
    )
