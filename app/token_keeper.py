"""Periodically renews the tokens of shops that have been quiet, so that a shop without orders is not locked out.

A public app's refresh token ends 90 days after it was given, and every use gives a new one. A shop with orders uses it
every hour; one without would have to be connected again by a person (shopify.dev, "Offline access tokens").
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from app.adapters.shopify.tokens import ShopTokens
    from app.db.grants import Grants
    from app.db.merchants import Merchants
    from pipeline.clock import Clock

EVERY_S = 6 * 3600.0
QUIET_FOR = timedelta(days=30)
"""A third of a refresh token's life: two months are left for whatever goes wrong."""

_log = structlog.get_logger()


class TokenKeeper:
    """One per process; whichever comes first renews, and the others find nothing to do."""

    def __init__(self, grants: Grants, merchants: Merchants, tokens: ShopTokens, clock: Clock) -> None:
        self._grants = grants
        self._merchants = merchants
        self._tokens = tokens
        self._clock = clock

    async def run(self) -> None:
        """Look a few times a day, until cancelled."""
        while True:
            try:
                await self.run_once()
            except PipelineError as error:
                _log.warning("quiet shops not looked at", reason=str(error))
            await self._clock.sleep(EVERY_S)

    async def run_once(self) -> int:
        """Renew what has been quiet for long; how many shops that was."""
        quiet = await self._grants.list_quiet(QUIET_FOR)
        for merchant_id in quiet:
            held = await self._grants.held(merchant_id)
            try:
                await self._tokens.credentials(
                    await self._merchants.get(merchant_id), refused=(held and held.token) or ""
                )
            except PipelineError as error:
                _log.warning("token of a quiet shop not renewed", merchant_id=merchant_id, reason=str(error))
        return len(quiet)
