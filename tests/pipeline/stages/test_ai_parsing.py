from __future__ import annotations

import pytest

from pipeline.contract import Reject, Review
from pipeline.domain.purchase_order import DocumentKind, Doubt, ExtractedOrder
from pipeline.domain.results import ParsedDocument
from pipeline.errors import LeaseLost
from pipeline.ports import Reading
from pipeline.stages.ai_parsing import AiParsing
from tests.pipeline.domain.printed import line, merchant, order
from tests.pipeline.stages.given import SHA, Library, Sayings, codes, done, given

UNREADABLE = Reading(None, unreadable="a scanned page")


def stage(reading: Reading, model: Sayings | None = None) -> AiParsing:
    library = Library(reading)
    return AiParsing(library, library, model or Sayings(configured=False))


async def test_a_structured_document_is_read_without_a_model() -> None:
    model = Sayings(order())
    assert done(await stage(Reading(order()), model).run(given())) == ParsedDocument(order=order(), sha256=SHA)
    assert model.asked == []


async def test_the_reader_is_told_the_merchants_own_names() -> None:
    library = Library()
    await AiParsing(library, library, Sayings(configured=False)).run(given(of=merchant(names=("Harbour Ltd",))))
    assert library.own_names == ("Harbour Ltd", "Harbour Goods")


async def test_a_model_reads_what_nothing_else_can() -> None:
    parsed = done(await stage(UNREADABLE, Sayings(order())).run(given()))
    assert (parsed.order, parsed.model, parsed.input_tokens, parsed.output_tokens) == (order(), "a-model", 7, 3)
    assert parsed.sha256 == SHA


async def test_a_model_is_not_asked_once_the_job_belongs_to_another() -> None:
    model = Sayings(order())
    with pytest.raises(LeaseLost):
        await stage(UNREADABLE, model).run(given(lost=True))
    assert model.asked == []


@pytest.mark.parametrize(("text", "code"), [("", "unreadable_without_model"), ("Dear customer", "not_an_order")])
async def test_without_a_model_the_unreadable_waits_for_a_person(text: str, code: str) -> None:
    result = await stage(Reading(None, unreadable="no table", text=text)).run(given())
    assert codes(result) == [code]
    assert isinstance(result, Review)
    assert result.output is None


async def test_a_credit_note_never_becomes_stock_even_if_a_person_approves() -> None:
    credit = order(kind=DocumentKind.CREDIT_NOTE)
    for approved_by in ("", "jo@harbour.test"):
        result = await stage(Reading(credit)).run(given(approved_by=approved_by))
        assert codes(result) == ["no_stock_document"]
        assert isinstance(result, Review)
        assert result.output == ParsedDocument(order=credit, sha256=SHA)


async def test_a_model_that_finds_a_credit_note_is_believed() -> None:
    result = await stage(UNREADABLE, Sayings(order(kind=DocumentKind.CREDIT_NOTE))).run(given())
    assert codes(result) == ["no_stock_document"]


async def test_a_letter_is_no_order_and_what_the_reader_doubted_is_shown_too() -> None:
    letter = ExtractedOrder(kind=DocumentKind.UNKNOWN, doubts=(Doubt(code="no_table", message="No table."),))
    assert codes(await stage(Reading(letter)).run(given())) == ["not_an_order", "no_table"]


async def test_lines_of_an_unknown_kind_of_document_wait_for_a_person() -> None:
    assert codes(await stage(Reading(order(line(), kind=DocumentKind.UNKNOWN))).run(given())) == ["no_stock_document"]


async def test_a_run_without_a_document_is_refused() -> None:
    with pytest.raises(Reject, match="without a document") as caught:
        await stage(Reading(order())).run(given(document_id=None))
    assert caught.value.code == "missing_file"
