"""Brings a database to the schema this release writes, by Alembic.

Run with `DATABASE_MIGRATE_URL` (a direct connection): DDL and a transaction pooler do not mix. Every
migration expands first and contracts in a later release, so old and new workers run side by side.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import text

from app.db.session import Database, asyncpg_url

OLDEST_ACCEPTED = "0008"
"""Revisions are numbered; this release works on any from here on: run `migrate` before it is deployed."""

_MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"


def _config(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["url"] = asyncpg_url(url)
    return config


def upgrade(url: str) -> None:
    """Run all migrations that are missing. Blocking, and starts its own event loop: call it outside of one."""
    command.upgrade(_config(url), "head")


def head() -> str:
    """The revision this release was written for."""
    found = ScriptDirectory(str(_MIGRATIONS)).get_current_head()
    if found is None:
        raise RuntimeError("there are no migrations")
    return found


async def current(database: Database) -> str | None:
    """The revision the database is at, None when it was never migrated."""
    async with database.transaction() as connection:
        exists = await connection.scalar(text("SELECT to_regclass('po.alembic_version') IS NOT NULL"))
        if not exists:
            return None
        revision: str | None = await connection.scalar(text("SELECT version_num FROM po.alembic_version"))
        return revision
