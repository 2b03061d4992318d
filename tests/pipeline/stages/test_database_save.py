from __future__ import annotations

from pipeline.contract import Review
from pipeline.domain.results import ParsedDocument
from pipeline.ports import SupplierRecord
from pipeline.stages.database_save import DatabaseSave
from tests.pipeline.domain.printed import order
from tests.pipeline.stages.given import SHA, Known, codes, done, given

PARSED = ParsedDocument(order=order(), sha256=SHA)
ACME = SupplierRecord("sup-1", "Acme Pottery Ltd", "acme pottery", "", "", "", orders_confirmed=5)


async def test_an_order_of_a_known_supplier_is_saved_under_it() -> None:
    known = Known(suppliers=[ACME])
    saved = done(await DatabaseSave(known, known).run(given(PARSED)))
    assert (saved.supplier.id, saved.supplier.matched_by, saved.key) == ("sup-1", "name", "PO-1")


async def test_an_order_of_a_new_supplier_brings_the_supplier_with_it() -> None:
    known = Known()
    saved = done(await DatabaseSave(known, known).run(given(PARSED)))
    assert (saved.supplier.id, saved.supplier.name) == (None, "Acme Pottery Ltd")


async def test_the_same_bytes_again_are_a_copy_and_name_their_order() -> None:
    known = Known(same_document="PO-1")
    result = await DatabaseSave(known, known).run(given(PARSED))
    assert codes(result) == ["duplicate_document"]
    assert isinstance(result, Review)
    assert "order PO-1" in result.doubts[0].message
    nameless = await DatabaseSave(Known(same_document=""), Known(same_document="")).run(given(PARSED))
    assert isinstance(nameless, Review)
    assert "is being worked on" in nameless.doubts[0].message


async def test_a_copy_a_person_approves_goes_to_the_order_it_copies() -> None:
    known = Known(suppliers=[ACME], same_document="PO-1")
    first = done(await DatabaseSave(Known(suppliers=[ACME]), Known()).run(given(PARSED)))
    assert done(await DatabaseSave(known, known).run(given(PARSED, approved_by="jo"))) == first
