"""10 status-update: how the run ended, in words people read."""

from __future__ import annotations

from pipeline.contract import Done, StageInput, StageResult
from pipeline.domain.outcome import completed, needs_review
from pipeline.domain.results import ShopSync


class StatusUpdate:
    """Records the outcome: completed or needs_review. One truth, and it is in Postgres."""

    async def run(self, given: StageInput) -> StageResult:
        """What the shop was told, or what a person must decide -> the run's outcome."""
        if given.review:
            return Done(needs_review(given.review, given.find(ShopSync)))
        return Done(completed(given.get(ShopSync), receipt=given.run.kind == "receipt"))
