"""5 ai-enrichment: better titles, descriptions, types and tags, when the merchant wants them."""

from __future__ import annotations

from pipeline.contract import Done, StageInput, StageResult
from pipeline.domain.results import Enrichment, NormalizedOrder, PricedOrder
from pipeline.domain.wording import checked_words
from pipeline.ports import Model


class AiEnrichment:
    """Asks a model for words and keeps only words: a number it changed is a title we do not take."""

    def __init__(self, model: Model) -> None:
        self._model = model

    async def run(self, given: StageInput) -> StageResult:
        """Normalized and priced lines -> words per line, or why there are none."""
        merchant, lines = given.run.merchant, given.get(NormalizedOrder).lines
        if not merchant.settings.enrich:
            return Done(Enrichment(skipped="switched off in the merchant's settings"))
        if not self._model.configured:
            return Done(Enrichment(skipped="switched on, but no model's key is set"))
        if not lines:
            return Done(Enrichment(skipped="no goods to describe"))
        await given.progress(0.1, "asking the model for product texts")
        given.still_ours()
        proposed, model = await self._model.enrich(merchant, lines, given.get(PricedOrder).lines)
        return Done(Enrichment(lines=checked_words(lines, proposed), model=model))
