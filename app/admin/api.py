"""Everything a person or a monitor touches, as one app. Nothing here is needed for orders to move."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from app.admin.answers import answer_errors
from app.admin.events import Feed, events_router
from app.admin.guard import Guard, Tokens
from app.admin.health import health_router
from app.admin.orders import orders_router
from app.admin.page import FILES, page_router
from app.admin.queues import queues_router
from app.admin.shops import shops_router
from app.admin.webhooks import webhooks_router

if TYPE_CHECKING:
    from app.admin.deps import AdminDeps


def create_app(deps: AdminDeps) -> FastAPI:
    """The app. Raises RefusesToServeError where it would be open to a network without a token."""
    feed = Feed(deps.database, deps.clock)
    tokens = Tokens(deps.token)

    @asynccontextmanager
    async def feeding(_app: FastAPI) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(feed.run)
            if deps.webhooks is not None:
                tasks.start_soon(deps.webhooks.inbox.run)
            yield
            tasks.cancel_scope.cancel()

    app = FastAPI(
        title="po-pipeline",
        version=deps.version,
        lifespan=feeding,
        # FastAPI's own page loads scripts from elsewhere; ours is served with the dashboard.
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
    )
    app.state.feed = feed
    answer_errors(app)
    for router in (
        health_router(deps),
        queues_router(deps),
        orders_router(deps),
        shops_router(deps, feed),
        events_router(feed),
        page_router(tokens),
    ):
        app.include_router(router)
    if deps.webhooks is not None:
        app.include_router(webhooks_router(deps.webhooks.grants, deps.webhooks.inbox))
    app.mount("/static", StaticFiles(directory=FILES), name="static")
    # Checked now rather than when the server builds its middleware: a refusal belongs to the start.
    public = "" if deps.webhooks is None else deps.webhooks.public_host
    Guard(app, host=deps.host, tokens=tokens)
    app.add_middleware(Guard, host=deps.host, tokens=tokens, public_host=public)
    return app
