"""Takes a document in by HTTP or CLI, bytes and all, the way upstream's upload route does by storage."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from app.db.accept import begin_run, document_id_of
from app.db.errors import InvalidError, NotFoundError
from app.db.tables import documents, merchants
from pipeline.domain.intake import MAX_DOCUMENT_BYTES

if TYPE_CHECKING:
    from datetime import datetime

    from app.db.session import Database
    from pipeline.run_store import NextJob

_NAME_MAX = 255


@dataclass(frozen=True, slots=True)
class Upload:
    """A stored document, in upstream's words, and the job its run waits for."""

    merchant_id: str
    upload_id: str
    workflow_id: str
    name: str
    mime: str
    size: int
    at: datetime
    first: NextJob


async def create_upload(
    database: Database, *, merchant_id: str, name: str, mime: str, content: bytes, at: datetime
) -> Upload:
    """Store the document and accept its run in one commit: an upload that was answered is never lost.

    Each call is an upload of its own: same bytes again are noticed when they are read.
    """
    if not content:
        raise InvalidError("the file is empty")
    if len(content) > MAX_DOCUMENT_BYTES:
        raise InvalidError(f"the file has {len(content):,} bytes; the limit is {MAX_DOCUMENT_BYTES:,}")
    upload_id = uuid.uuid4().hex
    workflow_id = f"wf_{int(at.timestamp() * 1000)}_{upload_id[:8]}"
    name, mime = _storable(name) or "document", _storable(mime)
    document_id = document_id_of(merchant_id, upload_id)
    async with database.transaction() as connection:
        if await connection.scalar(select(merchants.c.id).where(merchants.c.id == merchant_id)) is None:
            raise NotFoundError(f"there is no merchant {merchant_id}")
        await connection.execute(
            insert(documents).values(
                id=document_id,
                merchant_id=merchant_id,
                upload_id=upload_id,
                name=name,
                mime=mime,
                sha256=hashlib.sha256(content).hexdigest(),
                content=content,
            )
        )
        first, _ = await begin_run(
            connection,
            merchant_id=merchant_id,
            upload_id=upload_id,
            workflow_id=workflow_id,
            document_id=document_id,
        )
    return Upload(merchant_id, upload_id, workflow_id, name, mime, len(content), at, first)


def _storable(text: str) -> str:
    """A hostile text as Postgres and job data take it: no control characters, not endless."""
    return "".join(character for character in text if character.isprintable())[:_NAME_MAX]
