"""Turns a job into a run: once per upload, however many jobs name it."""

from __future__ import annotations

import json
import uuid
from typing import Any

from sqlalchemy import RowMapping, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.tables import documents, merchants, runs, stage_runs
from pipeline import flow
from pipeline.domain.intake import HandOff, Intake
from pipeline.run_store import NextJob, Ticket

_NAMESPACE = uuid.UUID("6f1c5ad2-7a63-4d5c-9a3e-0b7e0c1f2d34")


async def locked_run(connection: AsyncConnection, run_id: str) -> RowMapping | None:
    """The run's row, locked until the transaction ends."""
    found = await connection.execute(select(runs).where(runs.c.id == run_id).with_for_update())
    return found.mappings().one_or_none()


async def run_of(connection: AsyncConnection, ticket: Ticket) -> RowMapping | None:
    """The locked run a job belongs to, accepted now if this is the first job to name its upload.

    None when a hand-off names a run that does not exist.
    """
    match ticket.request:
        case HandOff(run_id=run_id):
            return await locked_run(connection, run_id)
        case Intake() as intake:
            return await _accept(connection, intake)
        case str() as problem:
            return await _accept_broken(connection, ticket, problem)


def run_id_of(merchant_id: str, upload_id: str) -> str:
    """The run of an upload: the same, whichever way the upload comes in and however often."""
    return _derived("run", merchant_id, upload_id)


def document_id_of(merchant_id: str, upload_id: str) -> str:
    """The document of an upload."""
    return _derived("document", merchant_id, upload_id)


async def begin_run(
    connection: AsyncConnection,
    *,
    merchant_id: str,
    upload_id: str,
    workflow_id: str,
    document_id: str,
    upstream_order_id: str = "",
) -> tuple[NextJob, RowMapping | None]:
    """Accept an upload, unless it is already: from this commit on the order cannot be lost.

    Returns its first job and its row, None if it was accepted before.
    """
    first = NextJob(run_id_of(merchant_id, upload_id), flow.FIRST, 0, workflow_id)
    made = await connection.execute(
        insert(runs)
        .values(
            id=first.run_id,
            merchant_id=merchant_id,
            kind="order",
            upload_id=upload_id,
            workflow_id=workflow_id,
            document_id=document_id,
            upstream_order_id=upstream_order_id,
            state="running",
            due_stage=first.stage,
            due_since=func.now(),
        )
        .on_conflict_do_nothing()
        .returning(*runs.c)
    )
    return first, made.mappings().one_or_none()


async def _accept(connection: AsyncConnection, intake: Intake) -> RowMapping | None:
    existing = await locked_run(connection, run_id_of(intake.merchant_id, intake.upload_id))
    if existing is not None:
        return existing
    first, accepted = await begin_run(
        connection,
        merchant_id=intake.merchant_id,
        upload_id=intake.upload_id,
        workflow_id=intake.workflow_id,
        document_id=await _document(connection, intake),
        upstream_order_id=intake.purchase_order_id,
    )
    return accepted or await locked_run(connection, first.run_id)


async def _document(connection: AsyncConnection, intake: Intake) -> str:
    """The upload's document row, which another job of the upload may have written."""
    values: dict[str, Any] = {
        "id": document_id_of(intake.merchant_id, intake.upload_id),
        "merchant_id": intake.merchant_id,
        "upload_id": intake.upload_id,
        "name": intake.file_name,
        "mime": intake.mime,
        "location": intake.location,
        "content": intake.inline,
    }
    made = insert(documents).values(**values).on_conflict_do_nothing().returning(documents.c.id)
    there = select(documents.c.id).where(
        documents.c.merchant_id == intake.merchant_id, documents.c.upload_id == intake.upload_id
    )
    document_id: str = await connection.scalar(made) or (await connection.execute(there)).scalar_one()
    return document_id


async def _accept_broken(connection: AsyncConnection, ticket: Ticket, problem: str) -> RowMapping | None:
    """A run that is dead on arrival, so that a job nobody can understand is seen where people look."""
    run_id = _derived("job", ticket.stage, ticket.ref)
    await connection.execute(
        insert(runs)
        .values(
            id=run_id,
            merchant_id="",
            kind="order",
            upload_id=f"job:{ticket.stage}:{ticket.ref}",
            workflow_id="",
            state="failed",
            job_id=ticket.ref,
            failed_stage=ticket.stage,
            failure_code="bad_envelope",
            failure=problem,
            finished_at=func.now(),
        )
        .on_conflict_do_nothing()
    )
    await connection.execute(
        insert(stage_runs)
        .values(
            run_id=run_id,
            stage=ticket.stage,
            entry=0,
            attempt=1,
            fence=0,
            state="failed",
            worker=ticket.worker,
            job_id=ticket.ref,
            ended_at=func.now(),
            error_code="bad_envelope",
            error=problem,
        )
        .on_conflict_do_nothing()
    )
    return await locked_run(connection, run_id)


async def merchant_row(connection: AsyncConnection, merchant_id: str, *, lock: bool = False) -> RowMapping | None:
    """The merchant's row, without its token; locked, if asked for, against others who would lock it."""
    columns = [column for column in merchants.c if column is not merchants.c.shop_token_sealed]
    statement = select(*columns).where(merchants.c.id == merchant_id)
    if lock:
        # Weaker than FOR UPDATE: rows that only refer to the merchant can be written meanwhile.
        statement = statement.with_for_update(key_share=True)
    return (await connection.execute(statement)).mappings().one_or_none()


def _derived(*parts: str) -> str:
    """The same id for the same thing, so that two jobs for one upload meet on one row."""
    # As JSON: both ids come from a job, and "a|b" + "c" must not be "a" + "b|c", which may be another merchant's.
    return str(uuid.uuid5(_NAMESPACE, json.dumps(parts)))
