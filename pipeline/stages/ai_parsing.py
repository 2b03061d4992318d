"""1 ai-parsing: what kind of document this is, and the order it holds."""

from __future__ import annotations

from pipeline.contract import Done, Reject, Review, StageInput, StageResult
from pipeline.domain.parsing import not_an_order, not_for_stock, unreadable
from pipeline.domain.results import ParsedDocument
from pipeline.domain.suppliers import own_names
from pipeline.ports import Document, Documents, Model, Reader, Reading


class AiParsing:
    """Reads a document without a model where it can, asks a model where it must, and invents nothing.

    The kind is decided first: a credit note never becomes stock, whoever approves it.
    """

    def __init__(self, documents: Documents, reader: Reader, model: Model) -> None:
        self._documents = documents
        self._reader = reader
        self._model = model

    async def run(self, given: StageInput) -> StageResult:
        """Document -> extracted order with confidence and evidence, or why there is none."""
        document = await self._load(given)
        reading = await self._reader.read(document, own_names(given.run.merchant))
        if reading.order is not None:
            parsed = ParsedDocument(order=reading.order, sha256=document.sha256)
        elif self._model.configured:
            parsed = await self._ask_model(given, document, reading)
        else:
            return Review((unreadable(reading.unreadable, has_text=bool(reading.text.strip())),))
        doubt = not_an_order(parsed.order) or not_for_stock(parsed.order)
        return Review((doubt, *parsed.order.doubts), parsed) if doubt else Done(parsed)

    async def _load(self, given: StageInput) -> Document:
        if given.run.document_id is None:
            raise Reject("missing_file", "The order came without a document.")
        return await self._documents.load(given.run.document_id)

    async def _ask_model(self, given: StageInput, document: Document, reading: Reading) -> ParsedDocument:
        await given.progress(0.3, "asking the model to read the document")
        given.still_ours()
        reply = await self._model.extract(document, reading, own_names(given.run.merchant))
        return ParsedDocument(
            order=reply.order,
            sha256=document.sha256,
            model=reply.model,
            input_tokens=reply.input_tokens,
            output_tokens=reply.output_tokens,
        )
