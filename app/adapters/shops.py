"""The merchants' shops: one client per shop and process, so that all its runs share one view of its limits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import httpx

from app.adapters.shopify.client import ShopClient, ShopCredentials
from app.adapters.shopify.shop import CustomIds, ShopifyShop
from pipeline.clock import Clock
from pipeline.contract import Reject
from pipeline.domain.merchant import Merchant
from pipeline.ports import Shop

FindCredentials = Callable[[Merchant], Awaitable[ShopCredentials | None]]
"""Where a merchant's shop is and what opens it; None when none is connected."""


class Shops:
    """Hands out a shop per merchant. Tokens change, so credentials are asked for every time."""

    def __init__(self, http: httpx.AsyncClient, credentials: FindCredentials, clock: Clock) -> None:
        self._http = http
        self._credentials = credentials
        self._clock = clock
        self._known: dict[str, tuple[ShopCredentials, ShopClient, CustomIds]] = {}

    async def of(self, merchant: Merchant) -> Shop:
        """A client for that merchant's shop. Raises Reject("no_shop") when none is connected."""
        credentials = await self._credentials(merchant)
        if credentials is None:
            raise Reject("no_shop", f"no shop is connected for {merchant.name}")
        known = self._known.get(merchant.id)
        if known is None or known[0] != credentials:
            client = ShopClient(self._http, credentials, self._clock)
            known = self._known[merchant.id] = (credentials, client, CustomIds(client))
        _, client, custom_ids = known
        return ShopifyShop(client, custom_ids, merchant)
