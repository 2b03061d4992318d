"""Serves the page and the endpoints beside the work: in our task group, under our signals, and gone when we go."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio
import structlog
import uvicorn

from app.adapters.progress import UpstreamProgress
from app.admin.api import create_app
from app.admin.deps import AdminDeps, Health, Webhooks
from app.admin.metrics import Metrics
from app.approving import open_approvals
from app.consumers import ConsumerWatch
from app.webhook_inbox import WebhookInbox, take_over
from pipeline import flow

if TYPE_CHECKING:
    from fastapi import FastAPI

    from app.core import Core
    from app.watchdog import Watchdog
    from pipeline.worker import Worker

CONNECTIONS_MAX = 200
CLOSE_WITHIN_S = 2
_log = structlog.get_logger()


class CannotServeError(RuntimeError):
    """The address cannot be listened on; the message says which and what to do."""


async def serve_admin(
    core: Core,
    worker: Worker,
    metrics: Metrics | None = None,
    started: Callable[[str], None] = lambda _url: None,
    watchdog: Watchdog | None = None,
) -> None:
    """Serve this process's page until cancelled; `started` is told the address."""
    settings = core.settings
    token = settings.admin_token
    async with open_approvals(core) as approvals:
        deps = AdminDeps(
            database=core.database,
            bull=core.bull,
            people=core.people,
            shop_limits=core.shop_limits,
            approvals=approvals,
            progress=UpstreamProgress(core.connections.commands, core.database, core.clock),
            clock=core.clock,
            connections=core.connections.states,
            health=lambda: health_of(worker, watchdog),
            swept=lambda: worker.last_report,
            foreign=ConsumerWatch(core.connections.commands, settings.queue_prefix, flow.NAMES, core.clock).look,
            version=_version(),
            host=settings.http_host,
            token=None if token is None else token.get_secret_value(),
            metrics=metrics or Metrics(),
            webhooks=Webhooks(
                core.grants,
                WebhookInbox(core.database, core.bull, core.connections.commands, core.clock, take_over),
                urlsplit(settings.public_url).hostname or "",
            ),
        )
        await serve(create_app(deps), settings.http_host, settings.http_port, started)


async def serve(app: FastAPI, host: str, port: int, started: Callable[[str], None] = lambda _url: None) -> None:
    """Serve until cancelled, then close what is open within two seconds. Port 0 takes a free one."""
    with contextlib.closing(_listen(host, port)) as listener:
        server = _Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="on",
                ws="none",
                server_header=False,
                proxy_headers=False,
                limit_concurrency=CONNECTIONS_MAX,
                timeout_keep_alive=5,
                timeout_graceful_shutdown=CLOSE_WITHIN_S,
            )
        )

        async def run() -> None:
            # Cancelling uvicorn would leave its sockets open: it is asked to stop instead.
            with anyio.CancelScope(shield=True):
                await server.serve(sockets=[listener])
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            try:
                await server.listening.wait()
                address = _url(host, listener)
                _log.info("page served", address=address)
                started(address)
                await anyio.sleep_forever()
            finally:
                app.state.feed.close()
                server.should_exit = True


def health_of(worker: Worker, watchdog: Watchdog | None = None) -> Health:
    """Whether the worker does what it is for."""
    queues = worker.config.stages
    trouble = _trouble(worker) if queues else ""
    return Health(queues=queues, running=worker.running, trouble=trouble or (watchdog.trouble if watchdog else ""))


def _trouble(worker: Worker) -> str:
    if worker.stopping:
        return "worker: stopping"
    if overdue := worker.overdue:
        return f"worker: {overdue}" + (f" ({worker.hindrance})" if worker.hindrance else "")
    if worker.hindrance:
        return f"worker: {worker.hindrance}"
    if worker.hold_s > 0:
        return f"worker: claims nothing for {worker.hold_s:.0f} s, Redis or Postgres could not serve"
    return ""


class _Server(uvicorn.Server):
    """uvicorn under our signals: it installs no handlers of its own, and says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = anyio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the process's handlers alone."""
        yield


def _listen(host: str, port: int) -> socket.socket:
    """Bind before anything else starts, so that a taken port is a sentence and not a half-started server."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        reason = error.strerror or error
        raise CannotServeError(
            f"cannot listen on {host} port {port} ({reason}): set HTTP_PORT, 0 takes a free one"
        ) from error


def _url(host: str, listener: socket.socket) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}"


def _version() -> str:
    """The release, where it was installed as a package; a checkout has none."""
    try:
        return metadata.version("po-pipeline")
    except metadata.PackageNotFoundError:
        return "dev"
