"""How long one shop's order takes while another shop has a thousand: alone, right behind them, and later on.

    .venv/bin/python -m bench.fairness [ORDERS [SHARE [VENDOR_SECONDS]]]

One worker with all stages; real Valkey, PostgreSQL, claims and records. Only what a stage does is a sleep of
VENDOR_SECONDS where it calls a vendor, a fiftieth of that elsewhere. Without limits, then with ten starts in five
seconds for the stages that call a vendor. The promise is a ratio of two: a thousand orders of one shop cost another
shop's order no more than its own time again. A SHARE as large as ORDERS shows what it would be without the door.
"""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import dataclass

import anyio
from sqlalchemy import func, select

from app import logs
from app.db import migrate
from app.db.door import IN_LINE
from app.db.tables import runs
from app.embedded import open_home, start_postgres, start_redis
from pipeline import flow
from pipeline.contract import Done, StageInput, StageResult
from pipeline.domain.results import Enrichment, RunOutcome
from pipeline.queue.job import RateLimit
from tests.pipeline.line import MERCHANT, Line, Script, add_merchant, open_line
from tests.support import eventually

VENDORS = [spec.name for spec in flow.STAGES if spec.vendor]
TEN_IN_FIVE_SECONDS = RateLimit(10, 5_000)
SAMPLES = 5
PATIENCE_S = 600.0


@dataclass(frozen=True, slots=True)
class Question:
    """What is measured."""

    orders: int
    share: int
    vendor_s: float


def main(asked: Question) -> None:
    print(
        f"{asked.orders} orders of one shop, {asked.share} of them under way at a time; {asked.vendor_s:g} s a vendor"
    )
    for limits in ({}, dict.fromkeys(VENDORS, TEN_IN_FIVE_SECONDS)):
        with open_home(None) as home, start_redis(home) as redis_url, start_postgres(home) as database_url:
            migrate.upgrade(database_url)
            logs.configure("text", file=home.log("worker"))
            print(f"limiter {'on' if limits else 'off'}")
            anyio.run(_measure, asked, limits, redis_url, database_url)


async def _measure(asked: Question, limits: dict[str, RateLimit], redis_url: str, database_url: str) -> None:
    async with open_line(redis_url, database_url, open_runs=asked.share) as line, anyio.create_task_group() as tasks:
        for name in flow.NAMES:
            line.script(name, _sleep(asked.vendor_s if name in VENDORS else asked.vendor_s / 50))
        worker = line.worker(guard_s=5, stalled_s=60, limits=limits)
        tasks.start_soon(worker.run)
        solo_s = min([await _order(line, f"alone-{number}") for number in range(2)])
        print(f"  alone, s                      {solo_s:.2f}")
        began = time.perf_counter()
        async with anyio.create_task_group() as arriving:
            for number in range(asked.orders):
                arriving.start_soon(line.add_upload, f"upload-{number}")
        print(f"  added in, s                   {time.perf_counter() - began:.2f}")
        async with anyio.create_task_group() as together:
            if asked.share < asked.orders:
                together.start_soon(_parked, line, asked, began)
            _print("right behind them", [await _order(line, "behind")], solo_s)
        if asked.share < asked.orders:
            _print("later, one after another", [await _order(line, f"later-{n}") for n in range(SAMPLES)], solo_s)
            print(f"  the large shop, orders/s      {await _completed(line) / (time.perf_counter() - began):.2f}")
        worker.stop()
        worker.stop()


def _sleep(seconds: float) -> Script:
    async def script(given: StageInput) -> StageResult:
        await anyio.sleep(seconds)
        if given.stage == flow.STATUS:
            return Done(RunOutcome(state="completed", summary=""))
        return Done(Enrichment())

    return script


async def _order(line: Line, shop: str) -> float:
    """Send one order of a shop of its own; seconds until it is completed."""
    await add_merchant(line.database, shop)
    began = time.perf_counter()
    await line.add_upload(shop, merchantId=shop)

    async def completed() -> bool:
        async with line.database.transaction() as connection:
            found = select(func.count()).where(runs.c.upload_id == shop, runs.c.state == "completed")
            return bool(await connection.scalar(found))

    await eventually(completed, within_s=PATIENCE_S)
    return time.perf_counter() - began


async def _parked(line: Line, asked: Question, began: float) -> None:
    """Say when all that are not under way were parked."""

    async def all_asked() -> bool:
        return (await line.bull.counts(flow.FIRST)).waiting <= asked.share

    await eventually(all_asked, within_s=PATIENCE_S)
    async with line.database.transaction() as connection:
        parked = await connection.scalar(select(func.count()).where(runs.c.parked_at.is_not(None)))
        under_way = await connection.scalar(select(func.count()).where(runs.c.merchant_id == MERCHANT, IN_LINE))
    print(f"  parked {parked}, under way {under_way}, s    {time.perf_counter() - began:.2f}")


async def _completed(line: Line) -> int:
    async with line.database.transaction() as connection:
        found = select(func.count()).where(runs.c.merchant_id == MERCHANT, runs.c.state == "completed")
        return int(await connection.scalar(found) or 0)


def _print(what: str, spans: list[float], solo_s: float) -> None:
    ratios = sorted(span / solo_s for span in spans)
    print(f"  {what:<30}{statistics.median(ratios):.2f} times alone, at most {ratios[-1]:.2f} (n {len(ratios)})")


if __name__ == "__main__":
    given = [*sys.argv[1:], *("1000", str(flow.SHOP_SHARE), "2")[len(sys.argv) - 1 :]]
    main(Question(orders=int(given[0]), share=int(given[1]), vendor_s=float(given[2])))
