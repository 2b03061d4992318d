"""How fast products come into one shop, against what its bucket of points allows; and whether anybody is throttled.

    .venv/bin/python -m bench.shop_speed [SECONDS [REPLICAS [CALLERS]]]

A sandbox shop in a process of its own with a Standard plan's bucket (2,000 points, 100 a second) and calls of 100 to
300 ms; replicas that share nothing but a real PostgreSQL. The first 30 s are warm-up: they empty the bucket. A product
is made as shopify-sync makes one (looked for, created, read), with three variants.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import AsyncExitStack

import anyio

from app.db import migrate
from app.db.session import Database, PoolSize
from app.db.shop_limits import PostgresShopLimits
from app.embedded import open_home, start_postgres
from pipeline.domain.merchant import Merchant
from tests.app.adapters.shopify.speed import Pace, create_products
from tests.app.db.given import MERCHANT, Given
from tests.support import loopback

DOMAIN, TOKEN = f"{MERCHANT}.example", "shpat_of-the-bench"
RATE = 100.0
WARM_UP_S = 30.0
SECONDS_MAX = 1_800.0


def main(seconds: float, replicas: int, callers: int) -> None:
    command = [sys.executable, "-m", "app.sandbox"]
    with (
        open_home(None) as home,
        start_postgres(home) as database_url,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sandbox,
    ):
        migrate.upgrade(database_url)
        assert sandbox.stdout is not None
        address = sandbox.stdout.readline().removeprefix("listening on ").strip()
        try:
            anyio.run(_measure, database_url, address, min(seconds, SECONDS_MAX), replicas, callers)
        finally:
            sandbox.terminate()


async def _measure(database_url: str, sandbox: str, seconds: float, replicas: int, callers: int) -> None:
    print(
        f"{replicas} replicas with {callers} callers each, {seconds:g} s after {WARM_UP_S:g} s of warm-up", flush=True
    )
    settings = {"bucket_size": 20 * RATE, "restore_rate": RATE, "latency_s": 0.1, "latency_jitter_s": 0.2}
    async with loopback() as http:
        shop = {"domain": DOMAIN, "token": TOKEN, "settings": settings}
        (await http.post(f"{sandbox}/shops", json=shop)).raise_for_status()
    async with AsyncExitStack() as stack:
        databases = [Database(database_url, PoolSize(2)) for _ in range(replicas)]
        for database in databases:
            stack.push_async_callback(database.close)
        await Given(databases[0]).merchant()
        limits = [PostgresShopLimits(one) for one in databases]
        merchant = Merchant(id=MERCHANT, name="Bench", shop_domain=DOMAIN)
        minutes = [60.0] * int(seconds // 60) + ([seconds % 60] if seconds % 60 else [])
        spans_s = [WARM_UP_S, *minutes]
        paces = await create_products(limits, merchant, sandbox, TOKEN, callers=callers, spans_s=spans_s)
    print("                     products/s   points/s   of limit   calls/product   points/product   throttled")
    _print("warm-up", paces[0])
    for number, pace in enumerate(paces[1:], start=1):
        _print(f"minute {number}", pace)
    _print("after warm-up", _sum(paces[1:]))


def _sum(paces: list[Pace]) -> Pace:
    return Pace(
        sum(one.seconds for one in paces),
        sum(one.products for one in paces),
        sum(one.calls for one in paces),
        sum(one.points for one in paces),
        sum(one.throttled for one in paces),
    )


def _print(what: str, pace: Pace) -> None:
    rate = pace.points / pace.seconds
    products = max(1, pace.products)
    print(
        f"  {what:<18}{pace.products / pace.seconds:>11.2f}{rate:>11.1f}{rate / RATE:>11.0%}"
        f"{pace.calls / products:>16.2f}{pace.points / products:>17.1f}{pace.throttled:>12}"
    )


if __name__ == "__main__":
    given = [*sys.argv[1:], *("600", "3", "4")[len(sys.argv) - 1 :]]
    main(float(given[0]), int(given[1]), int(given[2]))
