"""A document, what was read in it, and the model that reads and words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.domain.merchant import Merchant
from pipeline.domain.purchase_order import ExtractedOrder
from pipeline.domain.results import EnrichedLine, NormalizedLine, PricedLine


@dataclass(frozen=True, slots=True)
class Document:
    """A merchant's file. `name` is as uploaded and hostile; the type is decided by content."""

    id: str
    name: str
    content: bytes
    sha256: str
    mime: str = ""


class Documents(Protocol):
    """Where files are."""

    async def load(self, document_id: str) -> Document:
        """The document's bytes. Raises Reject("missing_file") when it is not there."""
        ...


@dataclass(frozen=True, slots=True)
class Reading:
    """What reading without a model found: an order, or why not, and what a model would be shown.

    `unreadable` is empty when `order` is set. `text` is the plain text found, `pages` are PNG images of
    scanned pages for a model that sees.
    """

    order: ExtractedOrder | None
    unreadable: str = ""
    text: str = ""
    pages: tuple[bytes, ...] = ()


class Reader(Protocol):
    """Reads structured documents without a model, in a bounded child process."""

    async def read(self, document: Document, own_names: Sequence[str]) -> Reading:
        """Read one document. `own_names` are the merchant's: evidence against being the supplier.

        Raises Retry when the child process was killed (memory, time), Reject when the file is refused.
        """
        ...


@dataclass(frozen=True, slots=True)
class ModelReply:
    """A model's reading, checked against the schema, and what it cost."""

    order: ExtractedOrder
    model: str
    input_tokens: int
    output_tokens: int


class Model(Protocol):
    """A language model that sees. Its output is untrusted."""

    @property
    def configured(self) -> bool:
        """Whether there is a key at all."""
        ...

    async def extract(self, document: Document, reading: Reading, own_names: Sequence[str]) -> ModelReply:
        """Extract an order. Raises Reject when the model refuses or cannot, VendorUnavailable when it is down."""
        ...

    async def enrich(
        self, merchant: Merchant, lines: Sequence[NormalizedLine], prices: Sequence[PricedLine]
    ) -> tuple[Sequence[EnrichedLine], str]:
        """Better words for products, and the model's name."""
        ...
