"""SIGKILL at the door and at the end of the line: whoever waits for a turn gets it, and every order ends once."""

from __future__ import annotations

import signal

import anyio
import anyio.to_thread

from app.core import Core, open_core
from app.db import views
from pipeline import flow
from tests.chaos.doomed import die_at
from tests.shop import articles, check_once, connect_merchant, csv_of, settings_for, settled, submit, working
from tests.support import eventually

ORDERS = 4
BEFORE_THE_END = ",".join(flow.NAMES[: flow.NAMES.index(flow.STATUS)])


async def test_a_worker_killed_while_it_parks_and_when_a_run_has_ended_keeps_nobody_waiting(
    redis_url: str, database_url: str, sandbox: str, fork_server: None
) -> None:
    """One order of the shop at a time: what the dead did not promote is promoted by whoever starts after them."""
    settings = settings_for(redis_url, database_url, sandbox, shop_open_runs=1, max_stalls=100)
    given = settings.model_dump()
    given.pop("stages")
    orders = [articles(number) for number in range(ORDERS)]
    async with open_core(settings) as core:
        await connect_merchant(core, sandbox)
        for number, lines in enumerate(orders):
            await submit(core, f"order-{number}.csv", csv_of(f"PO-{number}", lines))
        await _killed(given, flow.FIRST, "claim")
        async with working(settings.model_copy(update={"stages": BEFORE_THE_END})):
            await eventually(lambda: _parked_but_one(core), within_s=60)
        await _killed(given, flow.STATUS, "record")
        async with working(settings):
            rows = await settled(core, ORDERS)
        assert {row.state for row in rows} == {"completed"}
        await check_once(core, sandbox, orders)


async def _killed(given: dict[str, object], stage: str, gap: str) -> None:
    code = await anyio.to_thread.run_sync(lambda: die_at(given, stage, gap))
    assert code == -signal.SIGKILL, f"{stage} never reached {gap}"


async def _parked_but_one(core: Core) -> bool:
    """One order is through all stages but the last of the line, and the others wait for their turn."""
    rows = await views.list_runs(core.database)
    at = sorted(row.stage or "" for row in rows)
    waits = [row for row in rows if row.summary.startswith("waits for its turn")]
    return at == [flow.FIRST] * (ORDERS - 1) + [flow.STATUS] and len(waits) == ORDERS - 1
