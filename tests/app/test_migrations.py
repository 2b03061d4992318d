"""Migrations and tables say the same."""

from __future__ import annotations

from alembic import command

from app.db import migrate


def test_the_migrations_build_exactly_the_tables_that_queries_are_written_against(database_url: str) -> None:
    migrate.upgrade(database_url)
    command.check(migrate._config(database_url))


def test_migrating_twice_changes_nothing(database_url: str) -> None:
    migrate.upgrade(database_url)
    migrate.upgrade(database_url)
    assert migrate.head() == "0009"
