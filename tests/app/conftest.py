"""The commands, as a test runs them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import Result
from typer.testing import CliRunner

from app import logs
from app.cli import app
from app.db.session import Database, PoolSize
from tests.app.db.given import Given

Cli = Callable[..., Result]


@pytest.fixture
def silent_logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A logger caches the stderr it first writes to, and the runner closes its own after each command."""
    monkeypatch.setattr(logs, "configure", lambda *_, **__: None)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.fixture
def cli(silent_logs: None, redis_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Runs a command in an installation of the test's own; `given` is its stdin."""
    monkeypatch.chdir(tmp_path)  # where no .env lies
    env = {"REDIS_URL": redis_url, "DATABASE_URL": database_url, "COLUMNS": "200"}
    return lambda *arguments, given=None, **changed: CliRunner().invoke(
        app, list(arguments), input=given, env=env | changed
    )


@pytest.fixture
def having(database_url: str) -> Callable[[Callable[[Given], Coroutine[Any, Any, Any]]], Any]:
    """Runs a coroutine over the test's database."""

    def run(prepare: Callable[[Given], Coroutine[Any, Any, Any]]) -> Any:
        async def prepared() -> Any:
            database = Database(database_url, PoolSize(1))
            try:
                return await prepare(Given(database))
            finally:
                await database.close()

        return asyncio.run(prepared())

    return run
