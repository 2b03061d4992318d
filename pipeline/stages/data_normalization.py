"""3 data-normalization: clean names, SKUs, barcodes, units, packs and money."""

from __future__ import annotations

from pipeline.contract import Done, StageInput, StageResult
from pipeline.domain.normalizing import normalize
from pipeline.domain.results import OrderToSave


class DataNormalization:
    """Turns printed lines into lines a shop can hold; what it cannot decide it says."""

    async def run(self, given: StageInput) -> StageResult:
        """Order to save -> normalized order."""
        return Done(normalize(given.get(OrderToSave), given.run.merchant.settings.currency))
