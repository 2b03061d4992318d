"""Is the process alive, and does it do its work? Green means consuming."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import anyio
from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from app.db import migrate, views
from pipeline.errors import PipelineError, Temporary

if TYPE_CHECKING:
    from app.admin.deps import AdminDeps

ANSWER_WITHIN_S = 2
"""Who asks for health waits five seconds, and a reason is worth more than silence."""


def health_router(deps: AdminDeps) -> APIRouter:
    """/live, /ready and /metrics."""
    router = APIRouter(tags=["health"])

    @router.get("/live")
    async def live() -> dict[str, Any]:
        """The event loop answers. Servers that are down are no reason to restart this process."""
        return {"status": "live", "version": deps.version}

    @router.get("/ready")
    async def ready() -> JSONResponse:
        """Whether work is being done; 503 with every reason why not."""
        state = await _readiness(deps)
        return JSONResponse(state, 503 if state["reasons"] else 200)

    @router.get("/metrics")
    async def metrics() -> Response:
        """Prometheus' exposition."""
        try:
            totals = await views.totals(deps.database)
        except Temporary:
            totals = None
        deps.metrics.totals_seen(totals)
        deps.metrics.connections_seen(deps.connections())
        deps.metrics.queues_swept(deps.swept())
        return Response(deps.metrics.render(), media_type=CONTENT_TYPE_LATEST)

    return router


async def _readiness(deps: AdminDeps) -> dict[str, Any]:
    connections = [asdict(state) | {"since": state.since.isoformat()} for state in deps.connections()]
    reasons = [f"redis {one['name']}: {one['state']}" for one in connections if one["state"] != "ready"]
    revision, problem = await _database(deps)
    health = deps.health()
    return {
        "status": "not ready" if (reasons := [*reasons, *filter(None, (problem, health.trouble))]) else "ready",
        "reasons": reasons,
        "version": deps.version,
        "redis": connections,
        "database": {"up": revision is not None or not problem, "revision": revision, "expected": migrate.head()},
        "consuming": bool(health.queues) and not health.trouble,
        "queues": list(health.queues),
        "running": health.running,
        "foreignConsumers": await _foreign(deps),
    }


async def _database(deps: AdminDeps) -> tuple[str | None, str]:
    """The schema's revision, and what is wrong with it or the way to it."""
    try:
        with anyio.fail_after(ANSWER_WITHIN_S):
            revision = await migrate.current(deps.database)
    except TimeoutError:
        return None, f"database: no answer within {ANSWER_WITHIN_S} s"
    except Temporary as error:
        return None, f"database: {error}"
    if revision is None:
        return None, "database: no tables yet; run `python -m app migrate`"
    if revision < migrate.OLDEST_ACCEPTED:
        return (
            revision,
            f"database: at revision {revision}, needs {migrate.OLDEST_ACCEPTED}; run `python -m app migrate`",
        )
    return revision, ""


async def _foreign(deps: AdminDeps) -> list[str]:
    """Who else consumes our queues, as far as Redis tells."""
    try:
        with anyio.fail_after(ANSWER_WITHIN_S / 2):
            return list(await deps.foreign())
    except (PipelineError, TimeoutError):
        return []
