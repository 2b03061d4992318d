"""All that is written, in both stores: what must be the same before and after somebody who may write nothing."""

from __future__ import annotations

from typing import Any

import redis
from sqlalchemy import select

from app.db.tables import effects, runs, stage_runs
from tests.pipeline.line import Line

_PASSING = ("stalled-check", "guard", "stalled")
"""Keys that any sweep writes."""


async def everything(line: Line, redis_admin: redis.Redis) -> list[Any]:
    """The runs, their attempts, the effects, and every key of the queues but passing guards."""
    rows: list[Any] = []
    async with line.database.transaction() as connection:
        for table in (runs, stage_runs, effects):
            rows += sorted(map(repr, (await connection.execute(select(table))).mappings()))
    keys = sorted(key for key in redis_admin.scan_iter() if not key.endswith(_PASSING))
    return [*rows, *((key, redis_admin.dump(key)) for key in keys)]
