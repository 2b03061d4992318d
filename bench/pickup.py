"""How long a job lies in its queue before a worker takes it, and how long an order takes from end to end.

    .venv/bin/python -m bench.pickup [ORDERS]

One idle worker, orders one after the other, eleven hops each; everything on this machine (Valkey, PostgreSQL,
the sandbox shop). Prints percentiles; asserts nothing, because another machine has other times.
"""

from __future__ import annotations

import statistics
import sys
import time

import anyio

from app import logs
from app.core import Core, open_core
from app.db import migrate
from app.embedded import open_home, start_postgres, start_redis
from app.embedded.sandbox import start_sandbox
from app.settings import Settings
from pipeline import flow
from tests.shop import DOMAIN, TOKEN, articles, connect_merchant, csv_of, settings_for, settled, submit, working


def main(orders: int) -> None:
    with (
        open_home(None) as home,
        start_redis(home) as redis_url,
        start_postgres(home) as database_url,
        start_sandbox(home, {DOMAIN: TOKEN}, state=home.path / "shop.db") as sandbox,
    ):
        migrate.upgrade(database_url)
        logs.configure("text", file=home.log("worker"))
        settings = settings_for(redis_url, database_url, sandbox, lease_seconds=120, heartbeat_seconds=30)
        anyio.run(_measure, settings, sandbox, orders)


async def _measure(settings: Settings, sandbox: str, orders: int) -> None:
    async with open_core(settings) as core:
        await connect_merchant(core, sandbox)
        spans = []
        async with working(settings):
            for number in range(orders):
                began = time.perf_counter()
                await submit(core, f"order-{number}.csv", csv_of(f"PO-{number}", articles(number)))
                await settled(core, number + 1)
                spans.append(time.perf_counter() - began)
        waits = [wait for queue in flow.NAMES for wait in await _waits_ms(core, queue)]
    _print("pick-up, ms", waits)
    _print("order end to end, s", spans)


async def _waits_ms(core: Core, queue: str) -> list[float]:
    jobs = await core.bull.list_jobs(queue, "completed", 0, -1)
    return [float(job.processed_on_ms - job.timestamp_ms) for job in jobs if job.processed_on_ms]


def _print(what: str, values: list[float]) -> None:
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    print(f"{what}: n {len(values)}  p50 {cuts[49]:.2f}  p90 {cuts[89]:.2f}  p99 {cuts[98]:.2f}  max {max(values):.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
