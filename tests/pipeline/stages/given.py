"""What a stage test hands in: a merchant, a run, earlier results, and read ports that answer from plain values."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.contract import Done, Review, Run, StageInput
from pipeline.domain.merchant import Merchant
from pipeline.domain.purchase_order import Doubt, ExtractedOrder
from pipeline.domain.results import EnrichedLine, Output
from pipeline.domain.standing import OrderStanding
from pipeline.errors import LeaseLost
from pipeline.ports import Document, ModelReply, OrderRecord, Reading, SupplierItem, SupplierRecord
from tests.pipeline.domain.printed import merchant, order

SHA = hashlib.sha256(b"bytes").hexdigest()
DOCUMENT = Document(id="doc-1", name="order.csv", content=b"bytes", sha256=SHA)


def given(
    *earlier: Output,
    stage: str = "a-stage",
    of: Merchant | None = None,
    review: tuple[Doubt, ...] = (),
    lost: bool = False,
    **run: Any,
) -> StageInput:
    """A stage's input; `lost` makes the lease check refuse, other keywords are fields of the run."""

    def still_ours() -> None:
        if lost:
            raise LeaseLost("gone")

    fields = {"id": "run-1", "kind": "order", "merchant": of or merchant(), "entry": 0, "fence": 1} | {
        "workflow_id": "wf-1",
        "upload_id": "up-1",
        "document_id": "doc-1",
        "supplier_id": "sup-1",
    }
    return StageInput(
        run=Run(**(fields | run)),
        stage=stage,
        attempt=1,
        earlier={type(output).__name__: output for output in earlier},
        still_ours=still_ours,
        review=review,
    )


def done(result: Done | Review) -> Any:
    """The output of a stage that must have ended as Done."""
    assert isinstance(result, Done), result
    return result.output


def codes(result: Done | Review) -> list[str]:
    """The doubts' codes of a stage that must have ended as Review."""
    assert isinstance(result, Review), result
    return [doubt.code for doubt in result.doubts]


@dataclass
class Library:
    """Documents and Reader at once: one document, one reading."""

    reading: Reading = field(default_factory=lambda: Reading(order()))
    own_names: Sequence[str] = ()

    async def load(self, document_id: str) -> Document:
        assert document_id == DOCUMENT.id
        return DOCUMENT

    async def read(self, document: Document, own_names: Sequence[str]) -> Reading:
        assert document == DOCUMENT
        self.own_names = own_names
        return self.reading


@dataclass
class Known:
    """Suppliers and Orders at once: what is stored about this merchant."""

    suppliers: Sequence[SupplierRecord] = ()
    remembered: Sequence[SupplierItem] = ()
    same_document: str | None = None

    async def list_suppliers(self, merchant_id: str) -> Sequence[SupplierRecord]:
        assert merchant_id == "m-1"
        return self.suppliers

    async def items(self, supplier_id: str) -> Sequence[SupplierItem]:
        assert supplier_id == "sup-1"
        return self.remembered

    async def find_same_document(self, merchant_id: str, sha256: str, other_than_run: str) -> str | None:
        assert (merchant_id, sha256, other_than_run) == ("m-1", SHA, "run-1")
        return self.same_document

    async def get(self, order_id: str) -> OrderRecord:
        raise NotImplementedError

    async def standing(self, order_id: str) -> OrderStanding:
        raise NotImplementedError

    async def incoming(self, *_about: object) -> dict[str, int]:
        raise NotImplementedError


@dataclass
class Sayings:
    """A model that says what the test wrote down."""

    order: ExtractedOrder | None = None
    words: Sequence[EnrichedLine] = ()
    configured: bool = True
    asked: list[object] = field(default_factory=list)

    async def extract(self, document: Document, reading: Reading, own_names: Sequence[str]) -> ModelReply:
        self.asked.append((document, reading, own_names))
        assert self.order is not None
        return ModelReply(order=self.order, model="a-model", input_tokens=7, output_tokens=3)

    async def enrich(self, merchant: Merchant, lines: Any, prices: Any) -> tuple[Sequence[EnrichedLine], str]:
        self.asked.append((merchant, lines, prices))
        return self.words, "a-model"
