"""The journal of runs: what the runner asks and writes, one short transaction each.

Ownership is a number: `load` raises the run's fence, and every later write says `WHERE fence = mine`. Zero
rows means another worker has taken the run since; the writer gets LeaseLost and its transaction is undone.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import RowMapping, and_, case, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.accept import merchant_row, run_of
from app.db.door import ask_turn, is_at_the_door, turns_after, turns_of_all
from app.db.journal import dump, dump_doubts, earlier_outputs, restore_doubts
from app.db.record import spread
from app.db.session import Database
from app.db.tables import images, purchase_orders, queue_pauses, runs, stage_runs
from pipeline import flow
from pipeline.contract import Review, Run, StageResult
from pipeline.domain.intake import HandOff
from pipeline.domain.merchant import Merchant, MerchantSettings
from pipeline.errors import LeaseLost
from pipeline.run_store import (
    VENDOR_WAIT,
    AskLive,
    Dead,
    DueRun,
    Failed,
    Later,
    Loaded,
    NextJob,
    NotDue,
    Ready,
    Recorded,
    Suspect,
    Ticket,
    Trouble,
)

NEWER_FLOW_WAIT_S = 30.0
TURN_WAIT_S = 2.0
SUSPECT_AFTER = 2
"""Crashes after which a run is taken only by a worker that runs nothing beside it, so that the next is its own."""

HOPELESS_STALLS = 5
"""Times the stall limit after which a job is poison even if it never got far enough to be loaded."""


class PostgresRuns:
    """Implements `RunStore`, `DueRuns` and `Pauses` of `pipeline.run_store`."""

    def __init__(self, database: Database, *, max_stalls: int, open_runs: int = flow.SHOP_SHARE) -> None:
        self._database = database
        self._max_stalls = max_stalls
        self._open_runs = open_runs

    # ------------------------------------------------------------------------------------------- load

    async def load(
        self, ticket: Ticket, *, not_live: str | None = None, live: str | None = None, alone: bool = False
    ) -> Loaded:
        """Decide what a claimed job means and, if it is due, take the run."""
        if isinstance(ticket.request, HandOff) and ticket.request.flow_version > flow.FLOW_VERSION:
            return Later("handed on by a newer release", NEWER_FLOW_WAIT_S)
        async with self._database.transaction() as connection:
            run = await run_of(connection, ticket)
            if run is None:
                return Dead("unknown_run", "the job names a run that does not exist", failures=1)
            if run["state"] == "failed" and run["failed_stage"] == ticket.stage:
                entry = await self._reentry(connection, ticket, run)
                if isinstance(entry, Dead):
                    return entry
                run = entry
            refusal = self._not_due(ticket, run, live=live, not_live=not_live) or await _turn(connection, ticket, run)
            if refusal is not None:
                return refusal
            at_the_door = is_at_the_door(ticket, run)
            merchant = await merchant_row(connection, run["merchant_id"], lock=at_the_door)
            if merchant is None:
                return await self._unknown_merchant(connection, ticket, run)
            parked = await ask_turn(connection, ticket, run, self._open_runs) if at_the_door else None
            return parked or await self._take(connection, ticket, run, merchant_value(merchant), alone=alone)

    async def _reentry(self, connection: AsyncConnection, ticket: Ticket, run: RowMapping) -> RowMapping | Dead:
        """A dead run whose job comes again: crashed before Redis was told (still dead), or retried by a person.

        Bull keeps attemptsMade when a person retries a job, so it tells the two apart: the count reaches the
        journal's only after the failure was settled.
        """
        failures = await _failures(connection, run["id"], ticket.stage)
        retried = ticket.attempts_made >= failures and run["job_id"] == ticket.ref
        if not retried or run["failure_code"] == "bad_envelope":
            return Dead(run["failure_code"], run["failure"], failures, run["id"])
        found = await connection.execute(
            update(runs)
            .where(runs.c.id == run["id"])
            .values(
                state="running",
                entry=runs.c.entry + 1,
                due_stage=ticket.stage,
                due_since=func.now(),
                stall_baseline=ticket.stalled,
                failed_stage="",
                failure_code="",
                failure="",
                finished_at=None,
                updated_at=func.now(),
            )
            .returning(*runs.c)
        )
        return found.mappings().one()

    def _not_due(self, ticket: Ticket, run: RowMapping, *, live: str | None, not_live: str | None) -> Loaded | None:
        """Why this job should not run now, None if it should."""
        record = run["job_id"]
        ours = record in (None, ticket.ref)
        if isinstance(ticket.request, HandOff) and ticket.request.entry < run["entry"] and not ours:
            return NotDue("an older entry of the run", run["id"])
        due = run["due_stage"]
        if due != ticket.stage:
            followers = {flow.successor(ticket.stage, kind=run["kind"], review=review) for review in (False, True)}
            hand_on = None
            if due is not None and due in followers:
                hand_on = NextJob(run["id"], due, run["entry"], run["workflow_id"])
            return NotDue(f"the run is {run['state']} and waits for {due or 'nobody'}", run["id"], hand_on)
        if ours or record == not_live:
            return None
        if record == live:
            return NotDue(f"job {record} does it", run["id"])
        return AskLive(ticket.stage, record)

    async def _unknown_merchant(self, connection: AsyncConnection, ticket: Ticket, run: RowMapping) -> Dead:
        message = f"merchant {run['merchant_id']!r} is not known here; add it with `merchants add` and retry the run"
        trouble = Trouble("unknown_merchant", message)
        attempt = await _next_attempt(connection, run["id"], ticket.stage, run["entry"])
        await connection.execute(
            insert(stage_runs).values(
                run_id=run["id"],
                stage=ticket.stage,
                entry=run["entry"],
                attempt=attempt,
                fence=run["fence"],
                state="failed",
                worker=ticket.worker,
                job_id=ticket.ref,
                ended_at=func.now(),
                error_code=trouble.code,
                error=trouble.message,
            )
        )
        await _end_failed(connection, run["id"], ticket.stage, trouble, job_ref=ticket.ref)
        failures = await _failures(connection, run["id"], ticket.stage)
        return Dead(trouble.code, trouble.message, failures, run["id"])

    async def _take(
        self, connection: AsyncConnection, ticket: Ticket, run: RowMapping, merchant: Merchant, *, alone: bool
    ) -> Ready | Dead | Suspect:
        """Close what others left open, become the job of record, raise the fence, open an attempt."""
        await connection.execute(
            update(stage_runs)
            .where(stage_runs.c.run_id == run["id"], stage_runs.c.state == "open")
            .values(state="crashed", ended_at=func.now())
        )
        crashes = await _count(connection, run["id"], ticket.stage, run["entry"], "crashed")
        stalls = ticket.stalled - run["stall_baseline"]
        poison = self._is_poison(stalls, crashes)
        # Both counts must agree: Redis also counts stalls of its own outages, the journal those of Postgres'.
        if min(stalls, crashes) >= SUSPECT_AFTER and not (alone or poison):
            return Suspect(crashes)
        values: dict[str, Any] = {"fence": runs.c.fence + 1, "job_id": ticket.ref, "updated_at": func.now()}
        if run["state"] == "running":  # whatever it waited for
            values |= {"parked_at": None, "summary": ""}
        fence: int = (
            await connection.execute(
                update(runs).where(runs.c.id == run["id"]).values(**values).returning(runs.c.fence)
            )
        ).scalar_one()
        attempt = await _next_attempt(connection, run["id"], ticket.stage, run["entry"])
        ready = Ready(
            run=run_value(run, merchant, fence),
            stage=ticket.stage,
            attempt=attempt,
            earlier=await earlier_outputs(connection, run["id"], but=ticket.stage),
            review=restore_doubts(run["review"]),
        )
        await connection.execute(
            insert(stage_runs).values(
                run_id=run["id"],
                stage=ticket.stage,
                entry=run["entry"],
                attempt=attempt,
                fence=fence,
                state="open",
                worker=ticket.worker,
                job_id=ticket.ref,
            )
        )
        if poison:
            trouble = Trouble(
                "poison", f"{ticket.stage} took its worker down {crashes} times; look at the document before a retry"
            )
            failures = await _fail(connection, ready, trouble, final=True)
            return Dead(trouble.code, trouble.message, failures, run["id"])
        return ready

    def _is_poison(self, stalls: int, crashes: int) -> bool:
        """Over the limit, and never without having crashed alone: a neighbour of poison is none itself."""
        limit = max(self._max_stalls, SUSPECT_AFTER)
        return min(stalls, crashes) > limit or stalls > limit * HOPELESS_STALLS

    # ----------------------------------------------------------------------------------------- record

    async def record(self, ready: Ready, result: StageResult) -> Recorded:
        """Write the result once and set what is due next."""
        review = result.doubts if isinstance(result, Review) else ()
        output = result.output
        async with self._database.transaction() as connection:
            await _own(connection, ready)
            await connection.execute(
                update(stage_runs)
                .where(_attempt(ready))
                .values(
                    state="finished",
                    ended_at=func.now(),
                    output_type="" if output is None else type(output).__name__,
                    output=None if output is None else dump(output),
                    review=dump_doubts(review),
                )
            )
            if output is not None:
                await spread(connection, ready.run, output)
            due = flow.successor(ready.stage, kind=ready.run.kind, review=bool(review or ready.review))
            following = None if due is None else NextJob(ready.run.id, due, ready.run.entry, ready.run.workflow_id)
            values: dict[str, Any] = {
                "due_stage": due,
                "due_since": func.now(),
                "job_id": following.job_id if following else None,
                "stall_baseline": 0,  # a new hash, which has not stalled yet
                "updated_at": func.now(),
            }
            if review:
                values |= {"review": dump_doubts(review), "review_stage": ready.stage}
            await connection.execute(update(runs).where(runs.c.id == ready.run.id).values(**values))
        return Recorded(following, _summary(ready.stage, result))

    async def find_recorded(self, ready: Ready) -> Recorded | None:
        """What stands in the journal for this very attempt, after a commit whose outcome is unknown."""
        async with self._database.transaction() as connection:
            state = await connection.scalar(select(stage_runs.c.state).where(_attempt(ready)))
            if state != "finished":
                return None
            run = (await connection.execute(select(runs).where(runs.c.id == ready.run.id))).mappings().one()
        following = None
        if run["due_stage"] is not None:
            following = NextJob(run["id"], run["due_stage"], run["entry"], run["workflow_id"])
        return Recorded(following, "recorded")

    # ---------------------------------------------------------------------------------- fail, wait, let go

    async def fail(self, ready: Ready, trouble: Trouble, *, final: bool, attempts: int) -> Failed:
        """Write a counted failure; the run ends when it is final or the last of its attempts."""
        async with self._database.transaction() as connection:
            await _own(connection, ready)
            before = await _count(connection, ready.run.id, ready.stage, ready.run.entry, "failed")
            last = final or before + 1 >= attempts
            failures = await _fail(connection, ready, trouble, final=last)
        return Failed(failures, last, trouble.message)

    async def wait(self, ready: Ready, trouble: Trouble, *, patience: timedelta | None) -> Failed | None:
        """Write an uncounted wait; a Failed when the vendor was first missed longer ago than `patience`, if it ends.

        From the end of the attempt that missed it to the beginning of this one: how long an attempt took to find
        out, hanging in a call, is not the length of the outage.
        """
        async with self._database.transaction() as connection:
            await _own(connection, ready)
            # Postgres' clock on both sides: a worker whose own is wrong must not give up early, or never.
            missed = select(func.min(stage_runs.c.ended_at)).where(
                _of_entry(ready), stage_runs.c.state == "waited", stage_runs.c.attempt > _last_counted(ready)
            )
            waited: timedelta | None = await connection.scalar(
                select(stage_runs.c.started_at - missed.scalar_subquery()).where(_attempt(ready))
            )
            if patience is not None and waited is not None and waited > patience:
                so_long = timedelta(seconds=round(waited.total_seconds()))
                trouble = Trouble(trouble.code, f"{trouble.message} (waited {so_long}; retry when it is back)")
                failures = await _fail(connection, ready, trouble, final=True)
                return Failed(failures, final=True, message=trouble.message)
            await connection.execute(
                update(stage_runs)
                .where(_attempt(ready))
                .values(state="waited", ended_at=func.now(), error_code=trouble.code, error=trouble.message)
            )
            await connection.execute(
                update(runs)
                .where(runs.c.id == ready.run.id)
                .values(
                    due_since=func.now(),
                    updated_at=func.now(),
                    # While its pictures wait, an order says how it ended.
                    summary=case((runs.c.state == "running", trouble.message), else_=runs.c.summary),
                )
            )
        return None

    async def let_go(self, ready: Ready, state: str) -> None:
        """Close the attempt as `released` or `lost`, if nobody else has the run by now."""
        async with self._database.transaction() as connection:
            await connection.execute(
                update(stage_runs)
                .where(_attempt(ready), stage_runs.c.state == "open")
                .values(state=state, ended_at=func.now())
            )

    # ------------------------------------------------------------------------- what the other roles ask

    async def list_turns(self, left: str | None = None) -> list[DueRun]:
        """Parked runs whose turn it is: of the shop whose run `left` the line, or of every shop."""
        async with self._database.transaction() as connection:
            if left is None:
                return await turns_of_all(connection, self._open_runs)
            return await turns_after(connection, left, self._open_runs)

    async def list_due(self, *, quiet_for: timedelta, after: str, limit: int) -> list[DueRun]:
        """Open runs that nothing happened to for that long, by id, beginning after run `after`.

        A parked run is looked after when its turn comes, so it is in the list only when all are asked for.
        """
        statement = (
            select(runs.c.id, runs.c.due_stage, runs.c.entry, runs.c.workflow_id, runs.c.job_id)
            .where(runs.c.due_stage.is_not(None), runs.c.id > after, runs.c.due_since <= func.now() - quiet_for)
            .order_by(runs.c.id)
            .limit(limit)
        )
        if quiet_for:
            statement = statement.where(runs.c.parked_at.is_(None))
        async with self._database.transaction() as connection:
            found = await connection.execute(statement)
            return [
                DueRun(NextJob(run_id, stage, entry, workflow_id), job_id)
                for run_id, stage, entry, workflow_id, job_id in found
            ]

    async def is_due(self, job: NextJob) -> bool:
        """Whether a run waits for this very job now."""
        async with self._database.transaction() as connection:
            found = await connection.scalar(
                select(runs.c.id).where(
                    runs.c.id == job.run_id, runs.c.due_stage == job.stage, runs.c.entry == job.entry
                )
            )
            return found is not None

    async def list_paused(self) -> frozenset[str]:
        """Queues people have paused."""
        async with self._database.transaction() as connection:
            return frozenset((await connection.execute(select(queue_pauses.c.queue))).scalars())


# ------------------------------------------------------------------------------------------- the pieces


def merchant_value(row: RowMapping) -> Merchant:
    """The merchant with the rules in force."""
    return Merchant(
        id=row["id"],
        name=row["name"],
        shop_domain=row["shop_domain"],
        settings=MerchantSettings.model_validate(row["settings"]),
        settings_version=row["settings_version"],
    )


def run_value(row: RowMapping, merchant: Merchant, fence: int) -> Run:
    """The run as a stage sees it."""
    return Run(
        id=row["id"],
        kind=row["kind"],
        merchant=merchant,
        entry=row["entry"],
        fence=fence,
        workflow_id=row["workflow_id"],
        upload_id=row["upload_id"] or "",
        document_id=row["document_id"],
        order_id=row["order_id"],
        order_revision=row["order_revision"],
        supplier_id=row["supplier_id"],
        receipt_id=row["receipt_id"],
        approved_by=row["approved_by"],
    )


async def _turn(connection: AsyncConnection, ticket: Ticket, run: RowMapping) -> Later | None:
    """Revisions and receipts of one order reach the shop one after the other, or each would announce the whole."""
    if ticket.stage != flow.SYNC or run["order_id"] is None:
        return None
    await connection.execute(
        select(purchase_orders.c.id).where(purchase_orders.c.id == run["order_id"]).with_for_update()
    )
    busy = await connection.scalar(
        select(runs.c.id)
        .join(stage_runs, and_(stage_runs.c.run_id == runs.c.id, stage_runs.c.state == "open"))
        .where(runs.c.order_id == run["order_id"], runs.c.id != run["id"], stage_runs.c.stage == flow.SYNC)
        .where(runs.c.due_stage == flow.SYNC)
        .limit(1)
    )
    return None if busy is None else Later(f"run {busy} is telling the shop about the same order", TURN_WAIT_S)


async def _own(connection: AsyncConnection, ready: Ready) -> None:
    """The fence: the first statement of every transaction with an effect."""
    mine = await connection.execute(
        update(runs).where(runs.c.id == ready.run.id, runs.c.fence == ready.run.fence).values(updated_at=func.now())
    )
    if mine.rowcount == 0:
        raise LeaseLost(f"run {ready.run.id} was taken by another worker (fence {ready.run.fence})")


def _of_entry(ready: Ready) -> Any:
    return and_(
        stage_runs.c.run_id == ready.run.id,
        stage_runs.c.stage == ready.stage,
        stage_runs.c.entry == ready.run.entry,
    )


def _attempt(ready: Ready) -> Any:
    return and_(_of_entry(ready), stage_runs.c.attempt == ready.attempt)


def _last_counted(ready: Ready) -> Any:
    """The last attempt that did reach what it now waits for: waiting is counted from there.

    One that was told to wait did reach it; so whoever was parked for a week has all patience left for an outage.
    """
    told_to_wait = and_(stage_runs.c.state == "waited", stage_runs.c.error_code == VENDOR_WAIT)
    return (
        select(func.coalesce(func.max(stage_runs.c.attempt), 0))
        .where(_of_entry(ready), or_(stage_runs.c.state == "failed", told_to_wait))
        .scalar_subquery()
    )


async def _count(connection: AsyncConnection, run_id: str, stage: str, entry: int, state: str) -> int:
    found: int | None = await connection.scalar(
        select(func.count()).where(
            stage_runs.c.run_id == run_id,
            stage_runs.c.stage == stage,
            stage_runs.c.entry == entry,
            stage_runs.c.state == state,
        )
    )
    return found or 0


async def _failures(connection: AsyncConnection, run_id: str, stage: str) -> int:
    """Counted failures over all entries: it only grows, as Bull's attemptsMade does."""
    found: int | None = await connection.scalar(
        select(func.count()).where(
            stage_runs.c.run_id == run_id, stage_runs.c.stage == stage, stage_runs.c.state == "failed"
        )
    )
    return found or 0


async def _next_attempt(connection: AsyncConnection, run_id: str, stage: str, entry: int) -> int:
    last: int | None = await connection.scalar(
        select(func.max(stage_runs.c.attempt)).where(
            stage_runs.c.run_id == run_id, stage_runs.c.stage == stage, stage_runs.c.entry == entry
        )
    )
    return (last or 0) + 1


async def _fail(connection: AsyncConnection, ready: Ready, trouble: Trouble, *, final: bool) -> int:
    await connection.execute(
        update(stage_runs)
        .where(_attempt(ready))
        .values(
            state="failed",
            ended_at=func.now(),
            error_code=trouble.code,
            error=trouble.message,
            stack=trouble.stack,
        )
    )
    if final and ready.stage == flow.IMAGES:
        await _end_without_images(connection, ready, trouble)
    elif final:
        await _end_failed(connection, ready.run.id, ready.stage, trouble)
    else:
        await connection.execute(
            update(runs).where(runs.c.id == ready.run.id).values(due_since=func.now(), updated_at=func.now())
        )
    return await _failures(connection, ready.run.id, ready.stage)


async def _end_failed(
    connection: AsyncConnection, run_id: str, stage: str, trouble: Trouble, *, job_ref: str | None = None
) -> None:
    values: dict[str, Any] = {
        "state": "failed",
        "due_stage": None,
        "failed_stage": stage,
        "failure_code": trouble.code,
        "failure": trouble.message,
        "finished_at": func.now(),
        "updated_at": func.now(),
    }
    if job_ref is not None:
        values["job_id"] = job_ref
    await connection.execute(update(runs).where(runs.c.id == run_id).values(**values))


async def _end_without_images(connection: AsyncConnection, ready: Ready, trouble: Trouble) -> None:
    """Pictures that cannot be had mark the pictures: the order stands completed."""
    await connection.execute(
        update(images)
        .where(images.c.run_id == ready.run.id, images.c.state == "candidate")
        .values(state="failed", reason=trouble.message)
    )
    await connection.execute(
        update(runs).where(runs.c.id == ready.run.id).values(due_stage=None, updated_at=func.now())
    )


def _summary(stage: str, result: StageResult) -> str:
    if isinstance(result, Review):
        return "; ".join(doubt.message for doubt in result.doubts)
    return f"{stage} finished"
