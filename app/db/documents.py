"""Documents as rows: what was uploaded, where from, and its bytes once somebody fetched them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sqlalchemy import select, update

from app.db.session import Database
from app.db.tables import documents


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document's row. `content` is None until it was fetched; `location` says where it waits until then."""

    id: str
    merchant_id: str
    name: str
    mime: str
    location: str
    sha256: str
    content: bytes | None


class DocumentStore:
    """The table `documents`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, document_id: str) -> StoredDocument | None:
        """The document of that id."""
        columns = [documents.c[name] for name in StoredDocument.__slots__]
        async with self._database.transaction() as connection:
            found = await connection.execute(select(*columns).where(documents.c.id == document_id))
            row = found.mappings().one_or_none()
        return None if row is None else StoredDocument(**row)

    async def keep(self, document_id: str, content: bytes) -> tuple[bytes, str]:
        """Store fetched bytes unless others came first; the bytes that count from now on, and their hash.

        Two workers may fetch one file at once and its owner may change it in between: the first to arrive
        decides for both, so every attempt reads the same document.
        """
        async with self._database.transaction() as connection:
            stored = await connection.execute(
                update(documents)
                .where(documents.c.id == document_id, documents.c.content.is_(None))
                .values(content=content, sha256=digest(content))
            )
            if stored.rowcount == 1:
                return content, digest(content)
            first = await connection.execute(select(documents.c.content).where(documents.c.id == document_id))
            kept: bytes = first.scalar_one()
        return kept, await self.name(document_id, kept)

    async def name(self, document_id: str, content: bytes) -> str:
        """Write the hash of bytes that came with the upload: it finds the same document sent twice."""
        sha256 = digest(content)
        async with self._database.transaction() as connection:
            await connection.execute(
                update(documents).where(documents.c.id == document_id, documents.c.sha256 == "").values(sha256=sha256)
            )
        return sha256


def digest(content: bytes) -> str:
    """How a document's bytes are named, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()
