"""The main job on a fresh machine: orders through eleven real queues into a sandbox shop.

Everything is real but the shop and the pictures' host: Valkey, PostgreSQL, Bull's wire format, HTTP. The demo
merchant approves automatically (a real one does not, by default), which the screen says.
"""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import httpx
import typer

from app import logs, stop_signals
from app.admin.server import serve_admin
from app.bootstrap import open_worker
from app.core import Core, open_core
from app.db import migrate, order_view, views
from app.db.grants import StaticToken
from app.db.journal import finished_stages
from app.db.receiving import Units
from app.db.uploads import create_upload
from app.demo_screen import Result, Screen
from app.embedded import open_home, start_postgres, start_redis
from app.embedded.failures import EmbeddedServerError
from app.embedded.home import write_private
from app.embedded.sandbox import start_sandbox
from app.enqueue import enqueue_next, enqueue_upload
from app.settings import Settings, load_settings
from app.worker_main import REFUSALS, Stop, check_start, singly, work
from pipeline.domain.merchant import Merchant, MerchantSettings

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
DOCUMENTS = frozenset({".csv", ".xlsx", ".xls", ".pdf", ".png", ".jpg", ".xml", ".edi", ".txt"})
MERCHANT = "harbor-and-pine"
SHOP = "harbor-and-pine.sandbox"
APPROVED = "no_exchange_rate"
"""The sample that the demo approves by command waits for this reason: a person may well know better."""
PATIENCE_S = 300.0
WHO = "demo"


@dataclass(frozen=True, slots=True)
class Installation:
    """Settings that point at servers which run, and the shop's own address and token."""

    settings: Settings
    sandbox: str
    token: str


@dataclass(frozen=True, slots=True)
class Submitted:
    """A document that was sent in, and what a careful merchant expects of it, if anyone wrote that down."""

    path: Path
    workflow_id: str
    truth: Mapping[str, Any] | None


def main(files: Sequence[Path]) -> int:
    """Run the samples, or the user's own files; 1 if an outcome is not what its truth file says."""
    screen = Screen()
    screen.say("Starting Valkey, PostgreSQL and a sandbox shop [dim](a stand-in: nothing reaches Shopify)[/dim]")

    def run() -> int:
        # The samples' truths say what is read without a model; a user's own files may use the user's key.
        with _installation(None, **({} if files else {"openai_api_key": None})) as installation:
            return anyio.run(_demo, installation, [Path(file).resolve() for file in files], screen)

    return _or_refused(run)


def serve(directory: Path) -> int:
    """Keep running, with the data in `directory`, until Ctrl-C; 1 if something must be put right first."""
    screen = Screen()
    screen.say(f"Starting Valkey, PostgreSQL and a sandbox shop; their data stays in {directory}")

    def run() -> int:
        with _installation(directory) as installation:
            anyio.run(_serve, installation, directory, screen)
        return 0

    return _or_refused(run)


def _or_refused(run: Callable[[], int]) -> int:
    """Its exit code; 1 after what must be put right first was said, a line each."""
    code = 1
    try:
        code = run()
    except* (*REFUSALS, EmbeddedServerError) as refused:
        for error in singly(refused):
            typer.echo(f"error: {error}", err=True)
    return code


@contextmanager
def _installation(directory: Path | None, **changed: Any) -> Iterator[Installation]:
    """Servers, tables, shop and settings. Servers named in the environment are used as they are."""
    given = load_settings()
    durable = directory is not None
    with open_home(directory) as home:
        token = home.get_password("sandbox-shop")
        with (
            _secret(given.redis_url) or start_redis(home, durable=durable) as redis_url,
            _secret(given.database_url) or start_postgres(home, durable=durable) as database_url,
            start_sandbox(home, {SHOP: token}, state=home.path / "shop.db") as sandbox,
        ):
            migrate.upgrade(database_url)
            logs.configure("text", file=home.log("worker"))
            settings = load_settings(
                redis_url=redis_url,
                database_url=database_url,
                secret_key=given.secret_key or home.get_password("secret-key"),
                shopify_mode="sandbox",
                image_host_map={"images.example": f"{sandbox}/images"},
                rate_limit="off",
                guard_seconds=1,
                http_port=given.http_port if durable else 0,
                stages="all",
                **changed,
            )
            if directory is not None:
                write_private(home.path / "env", _environment(settings))
            yield Installation(settings, sandbox, token)


def _environment(settings: Settings) -> str:
    """What other commands need to find these servers, for a shell to read."""
    secrets = {
        "REDIS_URL": settings.redis_url,
        "DATABASE_URL": settings.database_url,
        "SECRET_KEY": settings.secret_key,
    }
    lines = [f"{name}='{value.get_secret_value()}'" for name, value in secrets.items() if value is not None]
    return "\n".join([*lines, f"HTTP_PORT={settings.http_port}", ""])


def _secret(url: Any) -> Any:
    """A server from the environment as a context manager, None when ours must be started."""

    @contextmanager
    def as_it_is() -> Iterator[str]:
        yield url.get_secret_value()

    return None if url is None else as_it_is()


async def _demo(installation: Installation, files: list[Path], screen: Screen) -> int:
    samples = not files
    paths = files or sorted(path for path in SAMPLES.iterdir() if path.suffix in DOCUMENTS)
    async with _working(installation) as (core, page):
        screen.say(f"The page: [link]{page}[/link]   The shop: [link]{installation.sandbox}[/link]")
        screen.say("The demo merchant [bold]approves automatically[/bold]; by default a person looks at every order.\n")
        submitted = [await _submit(core, path) for path in paths]
        await _watch(core, len(submitted), screen)
        shop = await _shop(installation)
        results = [await _result(core, item, shop) for item in submitted]
        screen.results(results)
        problems = [f"{result.document}: {result.problem}" for result in results if result.problem]
        if samples:
            problems += await _approve_one(core, screen)
            problems += await _receive_part(core, installation, screen)
        for problem in problems:
            screen.say(f"[bold red]not as expected[/bold red] {problem}")
        if not problems and samples:
            screen.say(
                "\nEvery outcome is what its truth file says. `python3 run.py serve` keeps running, with the page."
            )
    return 1 if problems else 0


async def _serve(installation: Installation, directory: Path, screen: Screen) -> None:
    async with open_core(installation.settings) as core:
        await _connect(core, installation)
        screen.say(f"The shop: [link]{installation.sandbox}[/link]   Merchant: {MERCHANT}")
        find = f"set -a; . {shlex.quote(str(directory / 'env'))}; set +a"
        screen.say(f"Commands in another terminal find all this after: [bold]{find}[/bold]")
        screen.say("Ctrl-C ends everything.")
        stop = Stop()
        with stop_signals.told(asyncio.get_running_loop(), stop.hear):
            await work(core, stop, started=lambda page: screen.say(f"The page: [link]{page}[/link]"))


@asynccontextmanager
async def _working(installation: Installation) -> AsyncIterator[tuple[Core, str]]:
    """A worker at work and its page; yields the core and the page's address."""
    async with open_core(installation.settings) as core:
        await _connect(core, installation)
        await check_start(core)
        async with open_worker(core) as worker, anyio.create_task_group() as page:
            address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            page.start_soon(lambda: serve_admin(core, worker, started=address.set_result))
            async with anyio.create_task_group() as consuming:
                consuming.start_soon(worker.run)
                try:
                    yield core, await address
                finally:
                    worker.stop()
                    worker.stop()
            page.cancel_scope.cancel()


async def _connect(core: Core, installation: Installation) -> None:
    """The demo's merchant: approves automatically, doubles the cost, ends prices in .99."""
    merchant = Merchant(
        id=MERCHANT,
        name="Harbor & Pine",
        shop_domain=SHOP,
        settings=MerchantSettings(
            names=("Harbor & Pine", "Harbor & Pine LLC"), auto_approve=True, image_hosts=("images.example",)
        ),
    )
    endpoint = f"{installation.sandbox}/shops/{SHOP}/admin/api/{core.settings.shopify_api_version}/graphql.json"
    await core.merchants.add(merchant, endpoint=endpoint, access=StaticToken(installation.token))


async def _submit(core: Core, path: Path) -> Submitted:
    """Send a document in exactly as upstream does."""
    upload = await create_upload(
        core.database,
        merchant_id=MERCHANT,
        name=path.name,
        mime="",
        content=await anyio.Path(path).read_bytes(),
        at=datetime.now(UTC),
    )
    await enqueue_upload(core.bull, upload)
    truth = anyio.Path(f"{path}.truth.json")
    known = json.loads(await truth.read_text()) if await truth.exists() else None
    return Submitted(path, upload.workflow_id, known)


async def _watch(core: Core, count: int, screen: Screen) -> None:
    """Show the orders moving until none waits for anything."""
    with anyio.fail_after(PATIENCE_S), screen.live() as live:
        while True:
            rows = await views.list_runs(core.database, limit=200)
            done = await finished_stages(core.database)
            live.update(screen.moving(rows, done))
            if len(rows) >= count and all(row.stage is None for row in rows):
                return
            await anyio.sleep(0.3)


async def _result(core: Core, item: Submitted, shop: Mapping[str, Any]) -> Result:
    """What Postgres says of a document, what the shop holds because of it, and where both differ from the truth."""
    rows = await views.list_runs(core.database, limit=200)
    row = next(row for row in rows if row.workflow_id == item.workflow_id)
    view = await order_view.find_run(core.database, row.run_id)
    variants = view.variants if view else ()
    there = _variants(shop)
    mine = [(variant, there[variant.variant_id]) for variant in variants if variant.variant_id in there]
    result = Result(
        document=item.path.name,
        run=row,
        products=len({variant.product_id for variant, _ in mine}),
        incoming=sum(variant.announced for variant, _ in mine),
    )
    if item.truth is None:
        return result
    units = {variant.sku: variant.announced for variant, _ in mine}
    problem = _difference(item.truth, row, result, units)
    return Result(result.document, row, result.products, result.incoming, problem)


def _difference(truth: Mapping[str, Any], row: views.RunRow, result: Result, units: Mapping[str, int]) -> str:
    codes = {doubt.code for doubt in row.review}
    if row.state != truth["outcome"]:
        return f"it should be {truth['outcome']}"
    if truth["outcome"] != "completed":
        return "" if truth["reason"] in codes else f"the reason should be {truth['reason']}, not {sorted(codes)}"
    if result.products != truth["products"]:
        return f"there should be {truth['products']} products"
    return "" if dict(units) == truth["units"] else f"announced {dict(units)} instead of {truth['units']}"


async def _approve_one(core: Core, screen: Screen) -> list[str]:
    """What `approve RUN` does: a person has looked, and the order goes on where it left the line."""
    rows = await views.list_runs(core.database, limit=200)
    row = next((row for row in rows if any(doubt.code == APPROVED for doubt in row.review)), None)
    if row is None:
        return [f"no sample waits for {APPROVED}"]
    await enqueue_next(core.bull, await core.people.approve(row.run_id, WHO))
    after = await _ended(core, row.run_id)
    screen.say(
        f"\n[bold]approve[/bold] {row.document} ({row.number}): {after.state.replace('_', ' ')}, {after.summary}"
    )
    return [] if after.state == "completed" else [f"{row.document} should be completed once approved"]


async def _receive_part(core: Core, installation: Installation, screen: Screen) -> list[str]:
    """What `receive ORDER --line SKU=N` does: the only way goods become sellable."""
    rows = await views.list_runs(core.database, limit=200)
    row = next((row for row in sorted(rows, key=lambda row: row.document) if row.state == "completed"), None)
    view = await order_view.find_run(core.database, row.run_id) if row else None
    if row is None or view is None or row.order_id is None:
        return ["no sample was completed"]
    variant = next(variant for variant in view.variants if variant.announced > 1 and variant.sku)
    accepted = variant.announced - 2
    before = _variants(await _shop(installation))[variant.variant_id]["quantities"]
    receipt, job = await core.people.receive(row.order_id, WHO, {variant.sku: Units(accepted)})
    await enqueue_next(core.bull, job)
    await _ended(core, job.run_id)
    after = _variants(await _shop(installation))[variant.variant_id]["quantities"]
    screen.say(
        f"[bold]receive[/bold] {row.number}: {accepted} of {variant.announced} {variant.sku} came in; "
        f"sellable {before['available']} -> {after['available']}, still expected {after['incoming']}"
    )
    moved = (after["available"] - before["available"], before["incoming"] - after["incoming"])
    return [] if moved == (accepted, accepted) else [f"receipt {receipt} moved {moved}"]


async def _ended(core: Core, run_id: str) -> views.RunRow:
    with anyio.fail_after(PATIENCE_S):
        while True:
            view = await order_view.find_run(core.database, run_id)
            if view is not None and view.run.stage is None:
                return view.run
            await anyio.sleep(0.05)


async def _shop(installation: Installation) -> Mapping[str, Any]:
    """The shop's own account of itself."""
    async with httpx.AsyncClient(timeout=10) as http:
        state: Mapping[str, Any] = (await http.get(f"{installation.sandbox}/shops/{SHOP}/state")).json()
        return state


def _variants(shop: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {variant["id"]: variant for product in shop["products"] for variant in product["variants"]}
