"""Whatever the bytes are: an outcome or `Refused`, nothing else, and in time."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.reading import ReadOutcome, Refused, limits, read
from samples import make

SAMPLES = Path(make.__file__).parent
FILES = [sample.file for sample in make.SAMPLES]
BILLION_LAUGHS = b"""<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><Order>&b;</Order>"""
BORDERS = {"min_size": 1, "max_size": 8}


def attempt(content: bytes) -> ReadOutcome | Refused:
    try:
        return read(content, ["Harbor & Pine"])
    except Refused as refused:
        return refused


@given(st.binary(max_size=400))
def test_noise_is_refused_or_read_as_no_order(content: bytes) -> None:
    outcome = attempt(content)
    assert isinstance(outcome, Refused) or outcome.order is None or outcome.order.lines == ()


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_document_is_refused_or_read(name: str, data: st.DataObject) -> None:
    """Bytes overwritten at random places, and the file cut off somewhere."""
    content = bytearray((SAMPLES / name).read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), **BORDERS)):
        content[place] = data.draw(st.integers(0, 255))
    attempt(bytes(content[: data.draw(st.integers(1, len(content)))]))


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty_document"),
        (b"   \n ", "unknown_type"),
        (b"MZ\x90\0\x03\0\0\0\x04", "unknown_type"),
        (b"PK\x03\x04 not a zip", "unknown_type"),
        (b"%PDF-1.7\nnothing of the kind", "damaged_document"),
        (BILLION_LAUGHS, "unsafe_document"),
        (BILLION_LAUGHS.decode().encode("utf-16"), "unsafe_document"),
        (b"<?xml version='1.0'?><Order><unclosed></Order>", "damaged_document"),
        (b"<html><body>Invoice</body></html>", "unknown_type"),
        (b"UNB+UNOA:1+A+B'UNH+1+PAYEXT:D:96A:UN'UNT+1+1'", "unknown_type"),
    ],
)
def test_a_refusal_has_a_code_and_words(content: bytes, code: str) -> None:
    outcome = attempt(content)
    assert isinstance(outcome, Refused)
    assert outcome.code == code
    assert len(str(outcome)) > len(code)


def test_a_file_beyond_the_limit_is_refused_unopened() -> None:
    outcome = attempt(b"a," * (limits.MAX_BYTES // 2 + 1))
    assert isinstance(outcome, Refused)
    assert outcome.code == "document_too_large"


def workbook(sheet: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", b"<workbook/>")
        archive.writestr("xl/worksheets/sheet1.xml", sheet)
    return out.getvalue()


@pytest.mark.parametrize("sheet", [b"\0" * 100_001, b'<c r="A1"><v>1</v></c><c r="XFD1048576"><v>1</v></c>'])
def test_a_workbook_that_unpacks_without_end_is_refused(sheet: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.reading.xlsx.MAX_UNPACKED_BYTES", 100_000)
    outcome = attempt(workbook(sheet))
    assert isinstance(outcome, Refused)
    assert outcome.code == "document_too_large"


@pytest.mark.parametrize("place", range(60, 400, 20))
def test_a_workbook_damaged_inside_a_packed_part_is_refused_or_read(place: int) -> None:
    content = bytearray(workbook(b"<worksheet>" + bytes(range(256)) * 8))
    content[place % len(content)] ^= 0xFF
    attempt(bytes(content))


def test_the_type_is_the_content_whatever_the_file_was_called() -> None:
    """There is no name to ask: `read` takes bytes. A renamed copy is the same copy."""
    assert "name" not in read.__annotations__


def test_a_long_table_is_cut_at_the_limit() -> None:
    rows = "".join(f"A{number},Thing,1,2.00,2.00\n" for number in range(limits.MAX_LINES + 50))
    outcome = attempt(f"PO Number,PO-1\nSKU,Description,Qty,Cost,Total\n{rows}".encode())
    assert isinstance(outcome, ReadOutcome)
    assert outcome.order is not None
    assert len(outcome.order.lines) == limits.MAX_LINES


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_text_is_decoded_by_what_its_bytes_prove(encoding: str) -> None:
    text = "Bestellnummer;B-1\nLieferant;Müller & Söhne GmbH\nArtikelnr;Bezeichnung;Menge;Preis\nA1;Löffel;3;2,50\n"
    outcome = attempt(text.encode(encoding))
    assert isinstance(outcome, ReadOutcome)
    assert outcome.order is not None
    assert outcome.order.supplier.name == "Müller & Söhne GmbH"
