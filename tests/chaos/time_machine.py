"""Lets time pass for the stores, not for us: what both of them know happened so much longer ago.

Delayed jobs are due by Redis' clock and patience ends by Postgres'. Neither can be set, but every instant they hold
can be moved back by the same step, which is all they could tell of a clock that went on.
"""

from __future__ import annotations

import time
from datetime import timedelta

from sqlalchemy import update

from app.core import Core
from app.db.tables import runs, stage_runs
from pipeline import flow

_SCORE_PER_MS = 4096
"""Bull keeps the instant of a delayed job in the upper bits of its score."""


_INSTANTS = ((runs, ("created_at", "due_since", "finished_at")), (stage_runs, ("started_at", "ended_at")))


async def pass_time(core: Core, by: timedelta) -> None:
    """Move back what happened in Postgres, then what is due in Redis; then tell the sweep that something is."""
    async with core.database.transaction() as connection:
        for table, names in _INSTANTS:
            await connection.execute(update(table).values({name: table.c[name] - by for name in names}))
    step = round(by.total_seconds() * 1000) * _SCORE_PER_MS
    call = core.connections.commands.call
    for queue in flow.NAMES:
        base = core.bull.keys.base(queue)
        found = await call("ZRANGE", f"{base}delayed", 0, -1, "WITHSCORES")
        moved: list[int | str] = []
        for job_id, score in zip(found[::2], found[1::2], strict=True):
            moved += [int(float(score)) - step, job_id]
        if moved:
            await call("ZADD", f"{base}delayed", "XX", *moved)
            await call("PUBLISH", f"{base}delayed", round(time.time() * 1000))
