"""The soak in its short form: the same program, a few orders, quick leases. `bench/soak.py` is the long one."""

from __future__ import annotations

from pathlib import Path

from app.embedded import open_home
from bench.soak import Plan, soak

QUICK = {
    "lease_seconds": 3,
    "heartbeat_seconds": 0.7,
    "stalled_seconds": 1,
    "guard_seconds": 0.5,
    "reconcile_seconds": 5,
    "retry_delay_seconds": 0.2,
    "rate_limit": "off",
    "max_stalls": 100,
}


async def test_orders_live_through_kills_an_outage_of_the_model_and_a_restart_of_postgres(
    redis_url: str, sandbox: str, tmp_path: Path
) -> None:
    plan = Plan(
        orders=12,
        workers=2,
        vendor_s=(0.2, 0.5),
        added_every_s=0.05,
        kills=3,
        outage_at=0.25,
        outage_s=2,
        restart_at=0.5,
        restart_s=0.5,
        within_s=120,
        settings=QUICK,
    )
    with open_home(tmp_path / "servers") as home:
        figures = await soak(plan, home, redis_url, sandbox)
    assert (figures.missing_lock, figures.stalled, figures.failed, figures.completed) == (0, 0, 0.0, 1.0)
    assert figures.connections <= 3
    assert figures.kills == plan.kills
