"""How Alembic reaches the database: one async connection, one transaction per migration run."""

from __future__ import annotations

import asyncio

from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from app.db.tables import SCHEMA, metadata


def _migrate(connection: Connection) -> None:
    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
    # A role named like the schema would make it the default one, and Alembic would look for it elsewhere.
    connection.execute(text("SET LOCAL search_path TO public"))
    connection.dialect.default_schema_name = "public"
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table_schema=SCHEMA,
        include_schemas=True,
        include_name=lambda name, kind, _parents: kind != "schema" or name == SCHEMA,
        compare_type=True,
    )
    with context.begin_transaction():
        # Two replicas that start together must not migrate twice.
        connection.execute(text("SELECT pg_advisory_xact_lock(7070551)"))
        context.run_migrations()


async def _run() -> None:
    engine = create_async_engine(context.config.attributes["url"], poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_migrate)
    finally:
        await engine.dispose()


asyncio.run(_run())
