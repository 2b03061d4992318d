"""How a command runs: settings read, stores opened and closed around the work, and a refusal said in one line."""

from __future__ import annotations

import getpass
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from app.db.errors import RefusedError
from app.settings import Settings, SettingsError, load_settings
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from app.core import Core

AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


def with_core(work: Callable[[Core], Awaitable[int | None]]) -> None:
    """Open the stores, do the work, close them; a refusal is one line on stderr."""
    from app.core import open_core

    settings = settings_or_stop()

    async def opened() -> int | None:
        refusal: Exception | None = None
        code = None
        async with open_core(settings) as core:
            try:
                code = await work(core)
            except REFUSALS as error:
                refusal = error  # Raised inside, the connections' task group would wrap it.
        if refusal is not None:
            raise refusal
        return code

    end(told(opened))


REFUSALS = (RefusedError, PipelineError, SettingsError)
"""What a command may be told instead of "done"; anything else is a fault of ours and shows its traceback."""


def told(work: Callable[[], Awaitable[int | None]]) -> int:
    """Run the work; its exit code, after a refusal was said on stderr."""
    import anyio

    try:
        return anyio.run(work) or 0
    except REFUSALS as error:
        typer.echo(f"error: {error}", err=True)
        return 1
    except KeyboardInterrupt:
        return 130


def end(code: int) -> None:
    """End the command with that exit code."""
    raise typer.Exit(code)


def stop(words: str) -> NoReturn:
    """End the command with a refusal."""
    typer.echo(f"error: {words}", err=True)
    raise typer.Exit(1)


def settings_or_stop() -> Settings:
    """Read the settings; if they cannot be used, say every problem and end."""
    try:
        return load_settings()
    except SettingsError as error:
        stop(str(error))


def who() -> str:
    """The person at this terminal, for the audit."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # A container's user may have no name.
        return "cli"
