"""SIGKILL in every gap of every stage: nothing lost, nothing doubled, nothing counted that was not a failure."""

from __future__ import annotations

import signal

import anyio
import anyio.to_thread
import pytest
from sqlalchemy import func, select

from app.core import Core, open_core
from app.db import views
from app.db.tables import stage_runs
from pipeline import flow
from pipeline.shopkeeping import pictures
from tests.chaos.doomed import EFFECT_GAPS, ENGINE_GAPS, die_at
from tests.shop import articles, check_once, connect_merchant, csv_of, settings_for, settled, submit, working
from tests.support import CHAOS_IN_FULL


@pytest.mark.parametrize("stage", flow.NAMES)
async def test_a_worker_killed_in_each_gap_of_a_stage_loses_and_doubles_nothing(
    stage: str, redis_url: str, database_url: str, sandbox: str, fork_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One order per gap. Each is taken as far as the stage, killed there, and finished by a healthy worker."""
    monkeypatch.setattr(pictures, "UNDER_WAY_S", 1.0)  # nothing is carried out here after its caller has gone
    gaps = _gaps(stage)
    orders = [articles(number) for number in range(len(gaps))]
    before = flow.NAMES[: flow.NAMES.index(stage)]
    # A returned job may be taken by the next process that is to die: here that makes no poison of it.
    settings = settings_for(redis_url, database_url, sandbox, max_stalls=100)
    async with open_core(settings) as core:
        await connect_merchant(core, sandbox)
        for number, lines in enumerate(orders):
            await submit(core, f"order-{number}.csv", csv_of(f"PO-{number}", lines))
        if before:
            async with working(settings.model_copy(update={"stages": ",".join(before)})):
                await _all_due_at(core, stage, len(orders))
        given = settings.model_dump()
        given.pop("stages")
        for gap in gaps:
            code = await anyio.to_thread.run_sync(lambda gap=gap: die_at(given, stage, gap))
            assert code == -signal.SIGKILL, f"{stage} never reached {gap}"
        async with working(settings):
            rows = await settled(core, len(orders))
        assert {row.state for row in rows} == {"completed"}
        await check_once(core, sandbox, orders)
        # An order really failed once where that was the gap; being killed, drained or returned counts nothing.
        assert await _failures(core) == gaps.count("failure-record")


def _gaps(stage: str) -> tuple[str, ...]:
    """Every gap the stage has; in the short form two of them, so that the stages together have them all."""
    effects = EFFECT_GAPS if stage in {flow.SYNC, flow.IMAGES} else ()
    if CHAOS_IN_FULL:
        return ENGINE_GAPS + effects
    turn = flow.NAMES.index(stage) * 2 % len(ENGINE_GAPS)
    return ENGINE_GAPS[turn : turn + 2] + effects[-2:]


async def _all_due_at(core: Core, stage: str, count: int) -> None:
    with anyio.fail_after(60):
        while True:
            rows = await views.list_runs(core.database, limit=100)
            if len(rows) == count and all(row.stage == stage for row in rows):
                return
            await anyio.sleep(0.05)


async def _failures(core: Core) -> int:
    async with core.database.transaction() as connection:
        found = select(func.count()).select_from(stage_runs).where(stage_runs.c.state == "failed")
        return int(await connection.scalar(found) or 0)
