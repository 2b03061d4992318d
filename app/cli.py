"""Every command of `python -m app`. Each is a few lines: what it does lives elsewhere, what it prints in cli_tables.

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

from app import cli_merchants
from app.cli_running import AsJson
from app.cli_running import end as _end
from app.cli_running import settings_or_stop as _settings
from app.cli_running import stop as _stop
from app.cli_running import told as _told
from app.cli_running import who as _who
from app.cli_running import with_core as _with_core
from app.cli_tables import Screen
from app.db.errors import ConflictError, InvalidError, NotFoundError
from app.settings import redacted

if TYPE_CHECKING:
    from app.core import Core
    from app.db.receiving import Ending, Units
    from pipeline.run_store import NextJob

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Takes suppliers' documents into a shop. Exit codes: 0 done, 1 refused (stderr says why), 2 not understood.",
)
health_app = typer.Typer(no_args_is_help=True, help="Ask the process that serves HTTP_HOST:HTTP_PORT.")
app.add_typer(cli_merchants.app, name="merchants")
app.add_typer(health_app, name="health")

WATCH_S = 1.0
HEALTH_WITHIN_S = 5.0

RunName = Annotated[str, typer.Argument(metavar="RUN", help="The run's id, or its order's, upload's or workflow's.")]
OrderName = Annotated[str, typer.Argument(metavar="ORDER", help="The order's id or number, or a run of it.")]
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

    settings = _settings()
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

    demonstration.serve(data)


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

    _with_core(work)


@app.command()
def migrate() -> None:
    """Bring the database to this release's schema."""
    from app.db import migrate as schema

    settings = _settings()
    url = settings.database_migrate_url or settings.database_url
    if url is None:
        _stop("DATABASE_URL or DATABASE_MIGRATE_URL must be set")
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

    _with_core(work)


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

    _end(_told(work))


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

    _with_core(work)


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

    _with_core(work)


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

    _with_core(work)


@app.command()
def failed(limit: int = 50, as_json: AsJson = False) -> None:
    """List the runs that failed, with the reason."""

    async def work(core: Core) -> None:
        await _list(core, as_json=as_json, state="failed", limit=limit)

    _with_core(work)


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
    from app.db import views

    view = await views.find_run(core.database, await _run_id(core, name))
    if view is None:
        raise NotFoundError(f"there is no run {name}")
    if as_json:
        Screen().json(view.model_dump(mode="json"))
    else:
        Screen().run(view)


# --------------------------------------------------------------------------------------- moving


@app.command()
def plan(run: RunName, as_json: AsJson = False) -> None:
    """Read the shop and show what approving this run would do there."""
    from app.approving import open_approvals, plan_json

    async def work(core: Core) -> None:
        async with open_approvals(core) as approvals:
            read = await approvals.read(await _run_id(core, run), _who())
        if as_json:
            Screen().json(plan_json(read))
        else:
            Screen().plan(read)

    _with_core(work)


@app.command()
def approve(
    run: RunName,
    seen: Annotated[str, typer.Option("--plan", metavar="DIGEST", help="Only if this is still the plan.")] = "",
    without_plan: Annotated[
        bool, typer.Option("--without-plan", help="Ask no shop; the order does there what it finds to do.")
    ] = False,
) -> None:
    """Let a run that needs review go on; what it does in the shop is what the shop says now, or it stops."""
    from app.approving import open_approvals

    async def work(core: Core) -> None:
        async with open_approvals(core) as approvals:
            run_id = await _run_id(core, run)
            approved = await approvals.approve(run_id, _who(), seen=seen, without_plan=without_plan)
        if approved.read is not None:
            Screen().plan(approved.read)
        await _go_on(core, approved.next)

    _with_core(work)


@app.command()
def match(
    run: RunName,
    draft: Annotated[str, typer.Argument(help="The draft: its id, one of its SKUs or its title.")],
    product: Annotated[str, typer.Argument(help="The shop's product (its number or admin address), or `new`.")],
) -> None:
    """Say what one of an order's products is in the shop; approve takes it up."""

    async def work(core: Core) -> None:
        chosen = await core.people.match(await _run_id(core, run), _who(), draft, product)
        print(f"“{chosen['title']}” is {chosen['choice']}; approve the run to go on")

    _with_core(work)


@app.command()
def retry(run: RunName) -> None:
    """Run the stage that failed again."""

    async def work(core: Core) -> None:
        await _go_on(core, await core.people.retry(await _run_id(core, run), _who()))

    _with_core(work)


@app.command()
def cancel(run: RunName) -> None:
    """End a run for good. What the shop was told stays there."""
    from app.adapters.progress import UpstreamProgress
    from app.enqueue import try_promote

    async def work(core: Core) -> None:
        run_id = await _run_id(core, run)
        cancelled = await core.people.cancel(run_id, _who())
        await try_promote(core.bull, cancelled.turns)
        progress = UpstreamProgress(core.connections.commands, core.database, core.clock)
        await progress.tell(run_id, cancelled.stage, "failed", {"message": f"cancelled by {_who()}"})
        Screen().say(f"run {run_id} is cancelled")

    _with_core(work)


@app.command()
def receive(
    order: OrderName,
    everything: Annotated[bool, typer.Option("--all", help="All that is still open came, and came well.")] = False,
    line: Annotated[
        list[str] | None,
        typer.Option(metavar="L=ACCEPTED[/REJECTED]", help="L: a SKU, a GTIN, a variant's id or a line's position."),
    ] = None,
    over: Annotated[bool, typer.Option("--over", help="Yes, more came than was announced.")] = False,
) -> None:
    """Goods have come: make what was accepted sellable."""

    async def work(core: Core) -> None:
        if everything == bool(line):
            raise InvalidError("say either --all or one --line for each line that came")
        order_id = await _order_id(core, order)
        delivered = parse_lines(line or [])
        receipt, job = await core.people.receive(order_id, _who(), "all" if everything else delivered, allow_over=over)
        Screen().say(f"receipt {receipt}")
        await _go_on(core, job)

    _with_core(work)


@app.command()
def close(order: OrderName) -> None:
    """What is still open never comes: take its announcement back and close the order."""
    _end_order(order, "close")


@app.command("cancel-order")
def cancel_order(order: OrderName) -> None:
    """The order is off: take back what was announced and has not come."""
    _end_order(order, "cancel")


@app.command()
def undo(order: OrderName) -> None:
    """Archive the products the order created and nobody touched, and take its announcement back.

    What was edited or received stays, and is named.
    """
    from app.db.receiving import UndoneBefore

    async def work(core: Core) -> None:
        undone = await core.people.undo(await _order_id(core, order), _who())
        if isinstance(undone, UndoneBefore):
            Screen().say(f"{undone.who} has undone order {undone.number} already; nothing is left to do")
        else:
            await _go_on(core, undone)

    _with_core(work)


def _end_order(order: str, action: Ending) -> None:
    async def work(core: Core) -> None:
        _, job = await core.people.end_order(await _order_id(core, order), _who(), action)
        await _go_on(core, job)

    _with_core(work)


def parse_lines(lines: list[str]) -> dict[str, Units]:
    """`L=8` or `L=8/2`, as counted. The last `=` divides: a SKU may have one."""
    from app.db.receiving import Units

    counted: dict[str, Units] = {}
    for line in lines:
        name, equals, units = line.rpartition("=")
        accepted, _, rejected = units.partition("/")
        if not (equals and name and accepted.isdecimal() and (rejected or "0").isdecimal()):
            raise InvalidError(f"{line!r} is not a line: write SKU=ACCEPTED or SKU=ACCEPTED/REJECTED")
        if name in counted:
            raise InvalidError(f"{name} is named twice: add its units up")
        counted[name] = Units(int(accepted), int(rejected or 0))
    return counted


@app.command()
def pause(queue: str) -> None:
    """Claim nothing from a queue until it is resumed."""

    async def work(core: Core) -> None:
        await core.people.pause_queue(queue, _who())
        await core.bull.pause(queue)
        Screen().say(f"{queue} is paused")

    _with_core(work)


@app.command()
def resume(queue: str) -> None:
    """Claim from a queue again."""

    async def work(core: Core) -> None:
        await core.people.resume_queue(queue, _who())
        await core.bull.resume(queue)
        Screen().say(f"{queue} goes on")

    _with_core(work)


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

    _with_core(work)


# --------------------------------------------------------------------------------------- the installation


@health_app.command("live")
def live() -> None:
    """Succeed if the process answers."""
    _end(_ask_health("/live"))


@health_app.command("ready")
def ready() -> None:
    """Succeed if the process does its work; print every reason why not."""
    _end(_ask_health("/ready"))


@app.command()
def config() -> None:
    """Show the settings as they were understood, secrets masked."""
    Screen().json(redacted(_settings()))


@app.command()
def doctor() -> None:
    """Check the servers and the settings; each line says what to do."""
    from app.doctor import examine

    async def work(core: Core) -> int:
        checks = await examine(core)
        Screen().checks(checks)
        return int(any(check.level == "fail" for check in checks))

    _with_core(work)


def _ask_health(path: str) -> int:
    from http import HTTPStatus
    from http.client import HTTPConnection, HTTPException

    settings = _settings()
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


# --------------------------------------------------------------------------------------- between them


async def _run_id(core: Core, name: str) -> str:
    from app.db import views

    run_id = await views.find_run_id(core.database, name)
    if run_id is None:
        raise NotFoundError(f"there is no run or order {name}")
    return run_id


async def _order_id(core: Core, name: str) -> str:
    from app.db import views

    order_id = await views.find_order_id(core.database, name)
    if order_id is None:
        raise NotFoundError(f"there is no order {name}")
    return order_id


async def _go_on(core: Core, job: NextJob) -> None:
    from app.enqueue import try_enqueue_next

    at_once = await try_enqueue_next(core.bull, job)
    Screen().say(f"run {job.run_id} goes on at {job.stage}{'' if at_once else ' as soon as Redis is back'}")


def _mime(file: Path) -> str:
    return mimetypes.guess_type(file.name)[0] or "application/octet-stream"
