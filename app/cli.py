"""The commands of `python -m app`. Each is a few lines: what it does lives elsewhere, what it prints in cli_tables.

Commands import what they need: `health` is asked several times a minute in every container, and is cheap.
"""

from __future__ import annotations

import hashlib
import json
import logging
import mimetypes
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app import cli_merchants, cli_orders
from app.cli_orders import find_run
from app.cli_running import AsJson, end, settings_or_stop, stop, told, who, with_core
from app.cli_tables import Screen
from app.db.errors import ConflictError, NotFoundError
from app.settings import redacted

if TYPE_CHECKING:
    from app.core import Core

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Takes suppliers' documents into a shop. Exit codes: 0 done, 1 refused (stderr says why), 2 not understood.",
)
health_app = typer.Typer(no_args_is_help=True, help="Ask the process that serves HTTP_HOST:HTTP_PORT.")
app.add_typer(cli_orders.app)
app.add_typer(cli_merchants.app, name="merchants")
app.add_typer(health_app, name="health")

WATCH_S = 1.0
HEALTH_WITHIN_S = 5.0

Readable = Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, readable=True)]


@app.callback()
def prepare(context: typer.Context) -> None:
    """Log warnings as text on stderr; a worker sets up its own logs, and `health` has none."""
    if context.invoked_subcommand == "health":
        return
    from app import logs

    logs.configure("text", level=logging.WARNING)


# --------------------------------------------------------------------------------------- the processes


@app.command()
def worker() -> None:
    """Consume the stages of STAGES and serve the page, until a signal comes."""
    from app import logs, worker_main

    settings = settings_or_stop()
    logs.configure(settings.log_format)
    raise typer.Exit(worker_main.main(settings))


@app.command()
def demo(files: Annotated[list[Path] | None, typer.Argument(metavar="[FILE]...", exists=True)] = None) -> None:
    """Run the main job on sample orders, or on your files, with servers and a shop of its own."""
    from app import demo as demonstration

    raise typer.Exit(demonstration.main(files or []))


@app.command()
def serve(data: Annotated[Path, typer.Option(help="Where the servers keep their data.")] = Path(".data")) -> None:
    """Keep servers, a sandbox shop, a worker and the page running until Ctrl-C."""
    from app import demo as demonstration

    raise typer.Exit(demonstration.serve(data))


@app.command()
def reconcile(as_json: AsJson = False) -> None:
    """Give every open run whose job is missing in Redis a job again, now; then say whether everything is in order.

    Exits with 1 if something is not that mends itself. Nothing but the missing jobs is changed.
    """
    from app.inspection import inspect
    from pipeline.reconciler import Reconciler

    async def work(core: Core) -> int:
        done = await Reconciler(core.bull, core.runs, core.clock, every_s=0, quiet_s=0).run_once()
        found = await inspect(core)
        if as_json:
            Screen().json({"looked_at": done.looked_at, "added": done.added, **found.as_json()})
        else:
            Screen().say(f"open runs: {done.looked_at}; of these had no job and got one: {done.added}")
            Screen().inspection(found)
        return 0 if found.in_order else 1

    with_core(work)


@app.command()
def migrate() -> None:
    """Bring the database to this release's schema."""
    from app.db import migrate as schema

    settings = settings_or_stop()
    url = settings.database_migrate_url or settings.database_url
    if url is None:
        stop("DATABASE_URL or DATABASE_MIGRATE_URL must be set")
    schema.upgrade(url.get_secret_value())
    Screen().say(f"the database is at revision {schema.head()}")


# --------------------------------------------------------------------------------------- documents in


@app.command()
def enqueue(
    file: Readable, merchant: Annotated[str, typer.Option(help="The merchant's id; see `merchants list`.")]
) -> None:
    """Send a document, as upstream would."""
    from app.db.uploads import create_upload
    from app.enqueue import try_enqueue_upload

    content = file.read_bytes()

    async def work(core: Core) -> None:
        upload = await create_upload(
            core.database,
            merchant_id=merchant,
            name=file.name,
            mime=_mime(file),
            content=content,
            at=core.clock.now(),
        )
        if await try_enqueue_upload(core.bull, upload):
            Screen().say(f"upload {upload.upload_id} waits in ai-parsing as job {upload.first.job_id}")
        else:
            Screen().say(f"upload {upload.upload_id} is accepted; it starts when Redis is back")

    with_core(work)


@app.command()
def read(file: Readable, as_json: AsJson = False) -> None:
    """Read a document without a model and without any server; show what was found."""
    from app.adapters.reader import ChildReader
    from pipeline.ports import Document

    content = file.read_bytes()
    document = Document(file.name, file.name, content, hashlib.sha256(content).hexdigest(), _mime(file))

    async def work() -> int:
        async with ChildReader() as reader:
            reading = await reader.read(document, ())
        if as_json:
            found = None if reading.order is None else reading.order.model_dump(mode="json")
            Screen().json({"order": found, "unreadable": reading.unreadable})
        elif reading.order is not None:
            Screen().order(reading.order)
        else:
            Screen().say(f"cannot be read: {reading.unreadable}")
        return 0 if reading.order is not None else 1

    end(told(work))


# --------------------------------------------------------------------------------------- looking


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show what waits, runs and failed at each stage."""
    from app.admin.events import totals_json
    from app.db import views

    async def work(core: Core) -> None:
        totals = await views.totals(core.database)
        if as_json:
            Screen().json(totals_json(totals))
        else:
            Screen().totals(totals)

    with_core(work)


@app.command()
def watch() -> None:
    """Print a line whenever a run moves, until Ctrl-C."""
    from app.db import views

    async def work(core: Core) -> None:
        since: datetime | None = None
        told: dict[str, datetime] = {}
        while True:
            for row in await views.changed_runs(core.database, since):
                if told.get(row.run_id) != row.updated_at:
                    Screen().run_changed(row)
                told[row.run_id] = since = row.updated_at
            await core.clock.sleep(WATCH_S)

    with_core(work)


@app.command()
def orders(
    name: Annotated[str | None, typer.Argument(metavar="[ID]", help="A run or an order; all if left out.")] = None,
    merchant: str | None = None,
    state: str | None = None,
    limit: int = 50,
    as_json: AsJson = False,
) -> None:
    """List orders, newest first, or show one in full."""

    async def work(core: Core) -> None:
        if name is not None:
            await _show(core, name, as_json=as_json)
        else:
            await _list(core, as_json=as_json, merchant_id=merchant, state=state, limit=limit)

    with_core(work)


@app.command()
def failed(limit: int = 50, as_json: AsJson = False) -> None:
    """List the runs that failed, with the reason."""

    async def work(core: Core) -> None:
        await _list(core, as_json=as_json, state="failed", limit=limit)

    with_core(work)


async def _list(core: Core, *, as_json: bool, **which: Any) -> None:
    from app.db import views

    rows = await views.list_runs(core.database, **which)
    if as_json:
        Screen().json([row.model_dump(mode="json") for row in rows])
    elif rows:
        Screen().runs(rows)
    else:
        Screen().say("none")


async def _show(core: Core, name: str, *, as_json: bool) -> None:
    from app.db import order_view

    view = await order_view.find_run(core.database, await find_run(core, name))
    if view is None:
        raise NotFoundError(f"there is no run {name}")
    if as_json:
        Screen().json(view.model_dump(mode="json"))
    else:
        Screen().run(view)


# --------------------------------------------------------------------------------------- queues


@app.command()
def pause(queue: str) -> None:
    """Claim nothing from a queue until it is resumed."""

    async def work(core: Core) -> None:
        await core.people.pause_queue(queue, who())
        await core.bull.pause(queue)
        Screen().say(f"{queue} is paused")

    with_core(work)


@app.command()
def resume(queue: str) -> None:
    """Claim from a queue again."""

    async def work(core: Core) -> None:
        await core.people.resume_queue(queue, who())
        await core.bull.resume(queue)
        Screen().say(f"{queue} goes on")

    with_core(work)


@app.command()
def obliterate(
    queue: str,
    force: Annotated[bool, typer.Option("--force", help="Even if jobs run, or its keys in Redis are broken.")] = False,
) -> None:
    """Empty a queue: every job it has, done or not. Open runs get theirs again within minutes."""
    from pipeline import flow

    async def work(core: Core) -> None:
        if queue not in flow.BY_NAME:
            raise NotFoundError(f"there is no queue {queue}")
        if not await core.bull.obliterate(queue, force=force):
            raise ConflictError(
                f"jobs of {queue} run: it is paused now; try again when they have ended, or --force, or resume"
            )
        Screen().say(f"{queue} is empty")

    with_core(work)


# --------------------------------------------------------------------------------------- the installation


@health_app.command("live")
def live() -> None:
    """Succeed if the process answers."""
    end(_ask_health("/live"))


@health_app.command("ready")
def ready() -> None:
    """Succeed if the process does its work; print every reason why not."""
    end(_ask_health("/ready"))


@app.command()
def config() -> None:
    """Show the settings as they were understood, secrets masked."""
    Screen().json(redacted(settings_or_stop()))


@app.command()
def doctor() -> None:
    """Check the servers and the settings; each line says what to do."""
    from app.doctor import examine

    async def work(core: Core) -> int:
        checks = await examine(core)
        Screen().checks(checks)
        return int(any(check.level == "fail" for check in checks))

    with_core(work)


def _ask_health(path: str) -> int:
    from http import HTTPStatus
    from http.client import HTTPConnection, HTTPException

    settings = settings_or_stop()
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.http_host, settings.http_host)  # noqa: S104 - bound elsewhere
    connection = HTTPConnection(host, settings.http_port, timeout=HEALTH_WITHIN_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = json.load(answer)
    except (OSError, HTTPException, json.JSONDecodeError) as error:
        typer.echo(f"{host} port {settings.http_port}, {path}: {error or type(error).__name__}", err=True)
        return 1
    finally:
        connection.close()
    for reason in body.get("reasons", []):
        typer.echo(reason, err=True)
    typer.echo(body.get("status", answer.status))
    return int(answer.status != HTTPStatus.OK)


def _mime(file: Path) -> str:
    return mimetypes.guess_type(file.name)[0] or "application/octet-stream"
