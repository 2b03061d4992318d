"""The short form of `bench.shop_speed`: several replicas, one Postgres, one shop over real HTTP, at full speed."""

from __future__ import annotations

from app.db.session import Database, PoolSize
from app.db.shop_limits import PostgresShopLimits
from app.sandbox.server import run_sandbox
from app.sandbox.state import Settings, new_shop
from pipeline.domain.merchant import Merchant
from tests.app.adapters.shopify.speed import create_products
from tests.app.db.given import MERCHANT, Given
from tests.support import loopback

DOMAIN, TOKEN = "m1.example", "shpat_of-the-speed-test"


async def test_replicas_at_full_speed_are_never_throttled(database_url: str) -> None:
    """A bucket of ten seconds: soon the shop has nothing to give but its refill."""
    settings = Settings(bucket_size=1500, restore_rate=150, latency_s=0.02, latency_jitter_s=0.05)
    databases = [Database(database_url, PoolSize(2)) for _ in range(3)]
    try:
        await Given(databases[0]).merchant()
        shop = new_shop(DOMAIN, TOKEN, settings=settings)
        async with run_sandbox(shops=[shop]) as sandbox:
            merchant = Merchant(id=MERCHANT, name="Shop", shop_domain=DOMAIN)
            limits = [PostgresShopLimits(one) for one in databases]
            [pace] = await create_products(limits, merchant, sandbox, TOKEN, callers=3, spans_s=[8.0])
            async with loopback() as http:
                state = (await http.get(f"{sandbox}/shops/{DOMAIN}/state")).json()
    finally:
        for database in databases:
            await database.close()
    assert pace.throttled == 0
    assert pace.products > 0
    assert state["products_created"] == len(state["products"])
    assert pace.points <= 1500 + 150 * (pace.seconds + 1)
