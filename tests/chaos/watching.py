"""What the tests here wait for and look at: the journal, the queues, and the shop's own word."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
from sqlalchemy import Select, func, select

from app.core import Core
from app.db import views
from app.db.tables import runs, stage_runs
from pipeline import flow
from pipeline.errors import PipelineError
from pipeline.queue.job import JobRecord
from tests.shop import DOMAIN, shop_state, variants_by_sku
from tests.support import loopback

LOOK_EVERY_S = 0.05


async def until(true: Callable[[], Awaitable[bool]], *, within_s: float = 30.0, every_s: float = LOOK_EVERY_S) -> None:
    """Wait for a condition, not for a time."""
    with anyio.fail_after(within_s):
        while not await true():
            await anyio.sleep(every_s)


async def rows(core: Core, statement: Select[Any]) -> list[dict[str, Any]]:
    async with core.database.transaction() as connection:
        return [dict(row) for row in (await connection.execute(statement)).mappings()]


async def all_due_at(core: Core, stage: str, count: int) -> None:
    """Wait until so many runs wait for that stage."""

    async def they_are() -> bool:
        found = await rows(core, select(func.count().label("n")).where(runs.c.due_stage == stage))
        return int(found[0]["n"]) >= count

    await until(they_are, within_s=60)


async def attempts(core: Core, state: str) -> int:
    """Attempts that ended so, over all runs."""
    found = await rows(core, select(func.count().label("n")).where(stage_runs.c.state == state))
    return int(found[0]["n"])


async def run_of(core: Core, upload_id: str) -> dict[str, Any]:
    (found,) = await rows(core, select(runs).where(runs.c.upload_id == upload_id))
    return found


async def order_ids(core: Core) -> list[str]:
    """The orders there are, in the order their runs began."""
    found = await rows(core, select(runs.c.order_id).where(runs.c.kind == "order").order_by(runs.c.created_at))
    return list(dict.fromkeys(row["order_id"] for row in found))


async def jobs_in(core: Core, *states: str) -> list[JobRecord]:
    """The jobs of all queues in these states."""
    return [job for queue in flow.NAMES for state in states for job in await core.bull.list_jobs(queue, state, 0, 199)]


async def check_nothing_counted(core: Core) -> None:
    """No failure in the journal, none in Redis, no attempt consumed."""
    assert await attempts(core, "failed") == 0
    assert await jobs_in(core, "failed") == []
    finished = await jobs_in(core, "completed")
    assert finished
    assert {job.attempts_made for job in finished} == {0}
    assert {row.state for row in await views.list_runs(core.database, limit=200)} == {"completed"}


@asynccontextmanager
async def impatient(core: Core, *queues: str) -> AsyncIterator[None]:
    """Somebody who promotes every delayed job at once, as a person may: nobody waits for back-off times."""

    async def promote() -> None:
        while True:
            for queue in queues:
                try:
                    for job in await core.bull.list_jobs(queue, "delayed"):
                        await core.bull.promote(queue, job.id)
                except PipelineError:
                    continue
            await anyio.sleep(LOOK_EVERY_S)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(promote)
        yield
        tasks.cancel_scope.cancel()


async def order_faults(sandbox: str, faults: Sequence[dict[str, Any]]) -> None:
    """Tell the shop what goes wrong next; an empty list ends it."""
    async with loopback(timeout=10) as http:
        (await http.post(f"{sandbox}/shops/{DOMAIN}/faults", json=list(faults))).raise_for_status()


async def quantities(sandbox: str) -> dict[str, tuple[int, int, int]]:
    """(incoming, available, on hand) by SKU; a SKU the shop holds twice fails."""
    found: dict[str, tuple[int, int, int]] = {}
    for sku, variants in variants_by_sku(await shop_state(sandbox)).items():
        (variant,) = variants
        held = variant["quantities"]
        found[sku] = (held["incoming"], held["available"], held["on_hand"])
    return found


def plain_csv(number: str, units: dict[str, int]) -> bytes:
    """An order without pictures: one product, a size per unit. `{"CUP-S": 10}` is ten of size S of the product CUP."""
    lines = ["PO Number,Supplier,Currency,PO Total,SKU,Product,Size,Qty,Unit Cost,Line Total"]
    for position, (sku, quantity) in enumerate(units.items()):
        product, _, size = sku.rpartition("-")
        head = f"{number},Juniper Ceramics Co.,USD,{sum(units.values()) * 4}.00" if position == 0 else ",,,"
        lines.append(f"{head},{sku},{product},{size},{quantity},4.00,{quantity * 4}.00")
    return "\n".join(lines).encode()
