"""Whether a shop that breaks is felt by another: the time of the well shop's orders, alone and beside it.

    .venv/bin/python -m bench.broken_shop [ORDERS [SECONDS_APART]]

One worker with all stages and the settings of production's limits; real Valkey and PostgreSQL, the sandbox in a
process of its own. The well shop sends one order after the other at an even pace; meanwhile another shop has sent
twenty: first that one is well too, then it answers 502, then it hangs for a minute at each call. The promise is a
ratio: p95 within 20 % of what it is beside a shop that is well.
"""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from time import monotonic

import anyio
from sqlalchemy import select

from app import logs
from app.core import Core
from app.db import migrate
from app.db.grants import StaticToken
from app.db.tables import documents, runs
from app.db.uploads import create_upload
from app.embedded import open_home, start_postgres, start_redis
from app.enqueue import enqueue_upload
from pipeline import flow
from pipeline.domain.merchant import Merchant, MerchantSettings
from tests.shop import articles, csv_of, settings_for, working
from tests.support import loopback

WELL, TOKEN = "well", "shpat_of-the-bench"
BESIDE = 20
PATIENCE_S = 120.0
BREAKS = {"beside one that is well": "", "beside one that answers 502": "http_502", "beside one that hangs": "hang"}


def main(orders: int, apart_s: float) -> None:
    command = [sys.executable, "-m", "app.sandbox"]
    with (
        open_home(None) as home,
        start_redis(home) as redis_url,
        start_postgres(home) as database_url,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sandbox,
    ):
        migrate.upgrade(database_url)
        logs.configure("text", file=home.log("worker"))
        assert sandbox.stdout is not None
        address = sandbox.stdout.readline().removeprefix("listening on ").strip()
        try:
            anyio.run(_measure, redis_url, database_url, address, orders, apart_s)
        finally:
            sandbox.kill()  # requests hang in it by order: nothing to be waited for


async def _measure(redis_url: str, database_url: str, sandbox: str, orders: int, apart_s: float) -> None:
    print(f"{orders} orders of the well shop, one every {apart_s:g} s", flush=True)
    print("                                 p50, s   p95, s     p95, ratio   calls that broke", flush=True)
    limits = {"rate_limit": "10/5", "shop_open_runs": flow.SHOP_SHARE}
    settings = settings_for(redis_url, database_url, sandbox, **limits)
    async with working(settings) as (core, _worker):
        await _connect(core, sandbox, WELL)
        await _send(core, WELL, "warm", 0)
        await _took(core, ["warm"])
        well_s = 0.0
        for round_, (words, kind) in enumerate(BREAKS.items()):
            beside = f"beside-{round_}"
            await _connect(core, sandbox, beside)
            if kind:
                await _break(sandbox, beside, kind)
            for number in range(BESIDE):
                await _send(core, beside, f"{beside}-{number}", number)
            names = []
            for number in range(orders):
                names.append(f"{round_}-{number}")
                await _send(core, WELL, names[-1], 1000 * round_ + number + 1)
                await anyio.sleep(apart_s)
            spans = sorted(await _took(core, names))
            p50, p95 = spans[len(spans) // 2], spans[int(len(spans) * 0.95)]
            well_s = well_s or p95
            met = await _faults_met(sandbox, beside)
            print(f"  {words:<30}{p50:>7.2f}{p95:>9.2f}{p95 / well_s:>15.2f}{met:>19}", flush=True)


async def _connect(core: Core, sandbox: str, name: str) -> None:
    domain = f"{name}.sandbox"
    async with loopback() as http:
        shop = {"domain": domain, "token": TOKEN, "settings": {"latency_s": 0.05, "latency_jitter_s": 0.05}}
        (await http.post(f"{sandbox}/shops", json=shop)).raise_for_status()
    rules = MerchantSettings(auto_approve=True, image_hosts=("images.example",))
    await core.merchants.add(
        Merchant(id=name, name=name, shop_domain=domain, settings=rules),
        endpoint=f"{sandbox}/shops/{domain}/admin/api/2026-10/graphql.json",
        access=StaticToken(TOKEN),
    )


async def _break(sandbox: str, name: str, kind: str) -> None:
    async with loopback() as http:
        fault = {"kind": kind, "count": 1_000_000, "seconds": 60}
        (await http.post(f"{sandbox}/shops/{name}.sandbox/faults", json=fault)).raise_for_status()


async def _faults_met(sandbox: str, name: str) -> int:
    async with loopback() as http:
        return int((await http.get(f"{sandbox}/shops/{name}.sandbox/meter")).json()["faults_met"])


async def _send(core: Core, merchant: str, name: str, number: int) -> None:
    content = csv_of(f"PO-{number}", articles(number))
    upload = await create_upload(
        core.database, merchant_id=merchant, name=f"{name}.csv", mime="text/csv", content=content, at=datetime.now(UTC)
    )
    await enqueue_upload(core.bull, upload)


async def _took(core: Core, names: list[str]) -> list[float]:
    """Seconds from arrival to completion of each of these orders, by Postgres' clock."""
    statement = (
        select(runs.c.created_at, runs.c.finished_at)
        .join(documents, documents.c.id == runs.c.document_id)
        .where(documents.c.name.in_([f"{name}.csv" for name in names]), runs.c.state == "completed")
    )
    until = monotonic() + PATIENCE_S
    while True:
        async with core.database.transaction() as connection:
            rows = (await connection.execute(statement)).all()
        if len(rows) == len(names):
            return [(ended - began).total_seconds() for began, ended in rows]
        if monotonic() > until:
            raise TimeoutError(f"{len(rows)} of {len(names)} orders are completed")
        await anyio.sleep(0.2)


if __name__ == "__main__":
    given = [*sys.argv[1:], *("40", "2")[len(sys.argv) - 1 :]]
    main(int(given[0]), float(given[1]))
