"""4 merchant-config: the merchant's prices, rounding, categories and tags."""

from __future__ import annotations

from pipeline.contract import Done, StageInput, StageResult
from pipeline.domain.pricing import price_order
from pipeline.domain.results import NormalizedOrder


class MerchantConfig:
    """Applies the rules in force for this run's merchant."""

    async def run(self, given: StageInput) -> StageResult:
        """Normalized order -> priced order in the shop's currency."""
        return Done(price_order(given.get(NormalizedOrder), given.run.merchant.settings))
