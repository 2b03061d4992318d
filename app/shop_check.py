"""Asks every connected shop what it granted us when a process starts: an operator shall hear it before an order does.

In the background and one after the other: no start waits for a shop, and a shop that hangs holds up nobody.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from app.adapters.shopify.scopes import missing
from app.db.errors import RefusedError
from app.db.shop_views import KnownShop, list_known
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from collections.abc import Collection

    from app.adapters.shops import Shops
    from app.core import Core

FRESH = timedelta(hours=1)
"""What another replica or a run asked so lately is not asked again: a deploy starts many at once."""

_log = structlog.get_logger(__name__)


async def check_shops(core: Core, shops: Shops) -> None:
    """One event for each shop that lacks a scope we use, one for each that could not be asked."""
    try:
        known = await list_known(core.database)
    except PipelineError as error:
        _log.warning("shops not checked", reason=str(error))
        return
    for shop in known:
        try:
            scopes: Collection[str] = shop.scopes if _is_fresh(core, shop) else await _ask(core, shops, shop)
        except Exception as error:  # noqa: BLE001 a courtesy about one shop must not end a process that works
            reason = str(error) if isinstance(error, PipelineError | RefusedError) else type(error).__name__
            _log.warning("shop not checked", shop=shop.shop_domain, reason=reason)
            continue
        lacks = missing(scopes)
        if lacks:
            _log.warning("shop lacks scopes", shop=shop.shop_domain, missing=[str(lack) for lack in lacks])


def _is_fresh(core: Core, shop: KnownShop) -> bool:
    return shop.scopes_at is not None and core.clock.now() - shop.scopes_at < FRESH


async def _ask(core: Core, shops: Shops, shop: KnownShop) -> Collection[str]:
    found = await shops.of(await core.merchants.get(shop.merchant_id))
    return await found.scopes()
