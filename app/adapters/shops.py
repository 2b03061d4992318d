"""The merchants' shops: one client per shop and process, so that all its runs share one view of its limits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import httpx

from app.adapters.shopify.alone import AloneLimits
from app.adapters.shopify.budget import Tell, tell_nobody
from app.adapters.shopify.client import ShopBounds, ShopClient, ShopCredentials
from app.adapters.shopify.limits import ShopLimits
from app.adapters.shopify.price import Prices
from app.adapters.shopify.products import CustomIds
from app.adapters.shopify.shop import ShopifyShop
from pipeline.clock import Clock
from pipeline.contract import Reject
from pipeline.domain.merchant import Merchant

FindCredentials = Callable[[Merchant], Awaitable[ShopCredentials | None]]
"""Where a merchant's shop is and what opens it; None when none is connected."""


RenewCredentials = Callable[[Merchant, str], Awaitable[ShopCredentials | None]]
"""The same, after the shop refused this token."""


class Shops:
    """Hands out a shop per merchant. Tokens change, so credentials are asked for every time.

    `limits` are the fleet's; without them this process has the shops to itself.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        credentials: FindCredentials,
        clock: Clock,
        limits: ShopLimits | None = None,
        renew: RenewCredentials | None = None,
    ) -> None:
        self._http = http
        self._credentials = credentials
        self._renew = renew
        self._clock = clock
        self._limits = limits or AloneLimits(clock)
        self._prices = Prices()
        self._known: dict[str, tuple[ShopCredentials, ShopClient, CustomIds]] = {}
        self._bounds: dict[str, ShopBounds] = {}

    async def of(self, merchant: Merchant, tell: Tell = tell_nobody) -> ShopifyShop:
        """A client for that merchant's shop, which says through `tell` when it waits for the shop's points.

        Raises Reject("no_shop") when none is connected, VendorUnavailable when it may not be called now.
        """
        credentials = await self._credentials(merchant)
        if credentials is None:
            raise Reject("no_shop", f"no shop is connected for {merchant.name}")
        bounds = self._bounds_of(merchant)
        await bounds.circuit.enter()
        known = self._known.get(merchant.id)
        if known is None or known[0] != credentials:
            renew = None if self._renew is None else partial(self._renew, merchant)
            client = ShopClient(self._http, credentials, self._clock, bounds, renew=renew)
            known = self._known[merchant.id] = (credentials, client, CustomIds(client))
        _, client, custom_ids = known
        return ShopifyShop(client.telling(tell), custom_ids, merchant)

    def _bounds_of(self, merchant: Merchant) -> ShopBounds:
        if merchant.id not in self._bounds:
            self._bounds[merchant.id] = ShopBounds(
                merchant.id, merchant.shop_domain, self._limits, self._clock, self._prices
            )
        return self._bounds[merchant.id]
