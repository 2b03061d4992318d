"""A model as the stages know it: a document in, an order out; products in, words out."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from app.adapters.model import prompt
from app.adapters.model.checking import check
from app.adapters.model.client import COULD_NOT_READ, ModelClient, ModelConfig
from app.adapters.model.evidence import SourceText
from app.adapters.model.schema import SaidCatalogue, SaidOrder
from pipeline.clock import Clock
from pipeline.contract import Reject
from pipeline.domain.merchant import Merchant
from pipeline.domain.results import EnrichedLine, NormalizedLine, PricedLine
from pipeline.ports import Document, ModelReply, Reading

_log = structlog.get_logger(__name__)


class OpenAIModel:
    """`pipeline.ports.Model` over OpenAI's Responses API, or any server that speaks it."""

    def __init__(self, config: ModelConfig, clock: Clock) -> None:
        self._client = ModelClient(config, clock)

    @property
    def configured(self) -> bool:
        """Whether there is a key."""
        return self._client.configured

    async def extract(self, document: Document, reading: Reading, own_names: Sequence[str]) -> ModelReply:
        """Extract an order.

        Raises Reject("model_could_not_read" | "model_refused_key" | "model_not_found"), VendorUnavailable.
        """
        parts = prompt.document_parts(document, reading, own_names)
        answer = await self._client.ask(SaidOrder, name="order", instructions=prompt.READ, parts=parts)
        return ModelReply(
            order=check(answer.said, SourceText(reading.text), own_names),
            model=answer.model,
            input_tokens=answer.input_tokens,
            output_tokens=answer.output_tokens,
        )

    async def enrich(
        self, merchant: Merchant, lines: Sequence[NormalizedLine], prices: Sequence[PricedLine]
    ) -> tuple[Sequence[EnrichedLine], str]:
        """Better words for products, and the model's name. No words when the model has none to give.

        An order is not lost for want of a description: what would reject a document leaves the printed
        names here. Raises Reject about the key or the model, VendorUnavailable.
        """
        parts = prompt.product_parts(merchant, lines, prices)
        try:
            answer = await self._client.ask(SaidCatalogue, name="words", instructions=prompt.WORD, parts=parts)
        except Reject as refusal:
            if refusal.code != COULD_NOT_READ:
                raise
            _log.warning("model.no_words", merchant=merchant.id, reason=str(refusal))
            return (), ""
        return tuple(EnrichedLine(**words.model_dump()) for words in answer.said.lines), answer.model

    async def aclose(self) -> None:
        """Close what is open."""
        await self._client.aclose()
