"""Replicas that create products in one shop as fast as its points allow: a test of seconds and a bench of minutes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import count, pairwise
from time import monotonic

import anyio
import httpx

from app.adapters.shopify.client import ShopCredentials
from app.adapters.shopify.limits import ShopLimits
from app.adapters.shops import Shops
from pipeline.clock import SystemClock
from pipeline.domain.merchant import Merchant
from pipeline.errors import VendorUnavailable
from tests.sandbox_shop import make_draft
from tests.support import loopback


@dataclass(frozen=True, slots=True)
class Pace:
    """What was done within one span of time: by our count products and calls, by the shop's own points and refusals."""

    seconds: float
    products: int
    calls: int
    points: float
    throttled: int


@dataclass(frozen=True, slots=True)
class Reading:
    """The counters at one moment."""

    at: float
    products: int
    calls: int
    points: float
    throttled: int

    def since(self, earlier: Reading) -> Pace:
        """What came between two."""
        return Pace(
            self.at - earlier.at,
            self.products - earlier.products,
            self.calls - earlier.calls,
            self.points - earlier.points,
            self.throttled - earlier.throttled,
        )


async def hear(_words: str) -> None:
    """Callers are told of their waits, as a worker's runs are."""


async def create_products(
    limits: Sequence[ShopLimits],
    merchant: Merchant,
    sandbox: str,
    token: str,
    *,
    callers: int,
    spans_s: Sequence[float],
) -> list[Pace]:
    """One replica for each of `limits`, each with `callers` at full speed; the pace within each span of time.

    A product is made as shopify-sync makes one: looked for, created, read.
    """
    shop_at = f"{sandbox}/shops/{merchant.shop_domain}"
    numbers, made = count(), 0

    async def credentials(_merchant: Merchant) -> ShopCredentials:
        return ShopCredentials(f"{shop_at}/admin/api/2026-10/graphql.json", token)

    async def caller(shops: Shops) -> None:
        nonlocal made
        while True:
            draft = make_draft(f"product {next(numbers)}", {"S": 1, "M": 2, "L": 3})
            try:
                shop = await shops.of(merchant, hear)
                if await shop.find_product(draft.id) is None:
                    await shop.create_product(draft)
                    made += 1
            except VendorUnavailable as full:
                await anyio.sleep(full.retry_after_s or 1.0)

    async def read(http: httpx.AsyncClient) -> Reading:
        seen = (await http.get(f"{shop_at}/state", timeout=60)).json()
        meter = (await http.get(f"{shop_at}/meter", timeout=60)).json()
        return Reading(monotonic(), made, sum(seen["calls"].values()), meter["points_used"], meter["throttled"])

    async with AsyncExitStack() as stack, anyio.create_task_group() as tasks:
        http = await stack.enter_async_context(loopback())
        for one in limits:
            own = await stack.enter_async_context(loopback())
            shops = Shops(own, credentials, SystemClock(), one)
            for _ in range(callers):
                tasks.start_soon(caller, shops)
        readings = [await read(http)]
        for seconds in spans_s:
            await anyio.sleep(seconds)
            readings.append(await read(http))
        tasks.cancel_scope.cancel()
    return [later.since(earlier) for earlier, later in pairwise(readings)]
