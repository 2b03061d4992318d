"""Put the sandbox together and serve it, in this process or as one of its own; on 127.0.0.1 and nowhere else."""

from __future__ import annotations

import asyncio
import signal
import socket
from contextlib import asynccontextmanager, closing, contextmanager
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette

from app.sandbox import images
from app.sandbox.model import ModelServer
from app.sandbox.shop import ShopServer
from app.sandbox.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator
    from pathlib import Path

    from starlette.types import ASGIApp

    from app.sandbox.state import Shop

HOST = "127.0.0.1"
MODEL_KEY = "sandbox-model-key"
"""What the model stand-in takes for a key; it opens nothing else."""

SHUTDOWN_S = 1


def build_app(state_path: Path | None, shops: Iterable[Shop] = (), model_key: str = MODEL_KEY) -> ASGIApp:
    """The ASGI app over one state file; a shop the file already knows keeps what it holds."""
    store = Store(state_path)
    for shop in shops:
        if shop.domain not in store.shops:
            store.save(shop)

    @asynccontextmanager
    async def closing_store(_app: Starlette) -> AsyncIterator[None]:
        with closing(store):
            yield

    routes = [*ShopServer(store).routes(), *ModelServer(model_key).routes(), *images.routes()]
    return Starlette(routes=routes, lifespan=closing_store)


@asynccontextmanager
async def run_sandbox(
    *,
    port: int = 0,
    state_path: Path | None = None,
    shops: Iterable[Shop] = (),
    model_key: str = MODEL_KEY,
) -> AsyncIterator[str]:
    """Serve until the block ends; gives the address."""
    listener = _listen(port)
    server = _server(build_app(state_path, shops, model_key))
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="sandbox")
    try:
        while not server.started:
            if serving.done():
                await serving
            await asyncio.sleep(0.005)
        yield f"http://{HOST}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving
        listener.close()


def serve(*, port: int, state_path: Path | None, shops: Iterable[Shop], model_key: str) -> None:
    """Serve as a process of its own until a signal; one line on stdout says when and where."""

    async def main() -> None:
        stopped = asyncio.Event()
        for signum in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(signum, stopped.set)
        async with run_sandbox(port=port, state_path=state_path, shops=shops, model_key=model_key) as address:
            print(f"listening on {address}", flush=True)  # noqa: T201  the line a parent process waits for
            await stopped.wait()

    asyncio.run(main())


class _Server(uvicorn.Server):
    """Uvicorn as a guest: signals belong to whoever runs the process."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(port: int) -> socket.socket:
    # asyncio turns Nagle off only where the protocol is spelled out; with it each reply waits 40 ms for an ACK.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((HOST, port))
    return listener


def _server(app: ASGIApp) -> _Server:
    config = uvicorn.Config(
        app,
        http="h11",  # `NoAnswer` knows this implementation
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
    return _Server(config)
