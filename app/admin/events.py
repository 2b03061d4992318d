"""Tells every open page what changed, from one query a second, asked only while somebody listens."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
from fastapi import APIRouter
from fastapi.responses import Response, StreamingResponse

from app.admin.answers import failure
from app.db import views
from pipeline import flow
from pipeline.errors import Temporary

if TYPE_CHECKING:
    from datetime import datetime

    from anyio.streams.memory import MemoryObjectSendStream

    from app.db.session import Database
    from pipeline.clock import Clock

LISTENERS_MAX = 50
BEHIND_MAX = 20
"""Messages a page may be behind before it is let go; it reconnects and reads everything anew."""
POLL_S = 1.0
HEARTBEAT_S = 15.0
_HEARTBEAT = b": still here\n\n"


@dataclass
class Feed:
    """Polls Postgres for changed runs and hands them to whoever listens."""

    database: Database
    clock: Clock
    _listeners: set[MemoryObjectSendStream[bytes]] = field(default_factory=set)
    _wanted: anyio.Event = field(default_factory=anyio.Event)
    _since: datetime | None = None
    _seen: dict[str, datetime] = field(default_factory=dict)
    _totals: bytes = b""
    _reading: anyio.Lock = field(default_factory=anyio.Lock)
    _closed: bool = False

    async def run(self) -> None:
        """Poll once a second while there are listeners, forever."""
        while True:
            await self._wanted.wait()
            await self.run_once()
            await self.clock.sleep(POLL_S)

    async def run_once(self) -> int:
        """Ask once, tell everybody; returns how many runs had changed."""
        try:
            changed = [row for row in await views.changed_runs(self.database, self._since) if self._is_news(row)]
            if changed or not self._totals:
                await self.tell_totals()
        except Temporary:
            return 0  # The page shows that nothing comes; a database that is away has its own alarm.
        for row in changed:
            self._tell(_event("run", row.model_dump(mode="json")))
        return len(changed)

    def close(self) -> None:
        """End every stream, so that the server can stop."""
        self._closed = True
        for listener in list(self._listeners):
            self._drop(listener)

    async def listen(self) -> AsyncIterator[bytes]:
        """One page's stream: totals at once, then every change, and a sign of life in between."""
        sender, receiver = anyio.create_memory_object_stream[bytes](BEHIND_MAX)
        self._listeners.add(sender)
        self._wanted.set()
        try:
            yield b"retry: 3000\n\n" + self._totals
            while not self._closed:
                message = _HEARTBEAT
                with anyio.move_on_after(HEARTBEAT_S):
                    message = await receiver.receive()
                yield message
        except anyio.EndOfStream:
            return
        finally:
            self._drop(sender)
            receiver.close()

    @property
    def full(self) -> bool:
        """Whether no more listeners are taken."""
        return self._closed or len(self._listeners) >= LISTENERS_MAX

    async def tell_totals(self) -> None:
        """Tell the totals as they are now: also for what changes them and no run, like a shop that is put right."""
        async with self._reading:  # or an older look might be told after this one
            totals = _event("totals", totals_json(await views.totals(self.database)))
            if self._listeners:
                self._totals = totals
                self._tell(totals)

    def _is_news(self, row: views.RunRow) -> bool:
        """Whether this change was not told yet; what is asked for overlaps with what was asked before."""
        if self._seen.get(row.run_id) == row.updated_at:
            return False
        self._since = max(self._since or row.updated_at, row.updated_at)
        floor = self._since - 2 * views.LATE_BY
        self._seen = {run_id: at for run_id, at in self._seen.items() if at > floor} | {row.run_id: row.updated_at}
        return True

    def _tell(self, message: bytes) -> None:
        for listener in list(self._listeners):
            try:
                listener.send_nowait(message)
            except (anyio.WouldBlock, anyio.BrokenResourceError):
                self._drop(listener)

    def _drop(self, listener: MemoryObjectSendStream[bytes]) -> None:
        self._listeners.discard(listener)
        listener.close()
        if not self._listeners:
            # Nobody is told from here on, so what is known grows stale: start over with the next listener.
            self._wanted, self._since, self._totals = anyio.Event(), None, b""
            self._seen.clear()


def events_router(feed: Feed) -> APIRouter:
    """/api/events."""
    router = APIRouter(prefix="/api", tags=["events"])

    @router.get("/events")
    async def events() -> Response:
        """Server-sent events: `run` for each run that changed, `totals` with the stages' counts."""
        if feed.full:
            return failure(503, "busy", f"{LISTENERS_MAX} pages are open already")
        return StreamingResponse(feed.listen(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

    return router


def totals_json(totals: views.Totals) -> dict[str, Any]:
    """The totals as the page wants them: one entry a stage, in flow order, and the shops that are held up."""
    return {
        "runs": dict(totals.runs),
        "stages": [
            {
                "queue": queue,
                "waiting": max(0, totals.due.get(queue, 0) - totals.active.get(queue, 0)),
                "active": totals.active.get(queue, 0),
                "failed": totals.failed.get(queue, 0),
                "paused": queue in totals.paused,
            }
            for queue in flow.NAMES
        ],
        "shops": [shop.model_dump(mode="json") for shop in totals.shops],
    }


def _event(name: str, value: Any) -> bytes:
    # JSON has no bare line break, so a hostile text cannot begin an event of its own.
    return f"event: {name}\ndata: {json.dumps(value, ensure_ascii=True)}\n\n".encode()
