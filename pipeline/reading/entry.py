"""The entry: type by content, then the reader of that type."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.reading.csv import read_csv
from pipeline.reading.decoding import decode
from pipeline.reading.edi import read_edifact
from pipeline.reading.limits import MAX_BYTES
from pipeline.reading.order import read_order
from pipeline.reading.outcome import ReadOutcome
from pipeline.reading.pdf import read_pages, render_pages, xml_attachments
from pipeline.reading.refusal import Refused
from pipeline.reading.sniff import FileType, sniff
from pipeline.reading.ubl import read_xml
from pipeline.reading.xlsx import read_workbook

_PICTURE = "it is a picture and holds no text"
_PNG = b"\x89PNG"


def read(content: bytes, own_names: Sequence[str]) -> ReadOutcome:
    """Read a document. `own_names` are the merchant's own: evidence against being the supplier.

    Raises Refused when the file is empty, too large, damaged, encrypted or of no type we know.
    """
    if not content:
        raise Refused("empty_document", "the file is empty")
    if len(content) > MAX_BYTES:
        raise Refused("document_too_large", f"the file is larger than {MAX_BYTES // 1024 // 1024} MB")
    match sniff(content):
        case FileType.PDF:
            return _read_pdf(content, own_names)
        case FileType.WORKBOOK:
            return read_order(read_workbook(content), own_names, "xlsx")
        case FileType.EDIFACT:
            return read_edifact(decode(content))
        case FileType.XML:
            return read_xml(content)
        case FileType.IMAGE:
            return ReadOutcome(None, unreadable=_PICTURE, pages=(content,) if content.startswith(_PNG) else ())
        case FileType.TEXT:
            return read_order(read_csv(decode(content)), own_names, "csv")
        case FileType.UNKNOWN:
            raise Refused("unknown_type", "the file is not a PDF, spreadsheet, CSV, EDI message or XML order")


def _read_pdf(content: bytes, own_names: Sequence[str]) -> ReadOutcome:
    """An attached order is the supplier's own data and beats the page; a page without text is for a model that sees."""
    for attached in xml_attachments(content):
        try:
            outcome = read_xml(attached)
        except Refused:
            continue
        if outcome.order is not None:
            return outcome
    sheets = read_pages(content)
    if not sheets:
        return ReadOutcome(None, unreadable=_PICTURE, pages=render_pages(content))
    outcome = read_order(sheets, own_names, "pdf")
    if outcome.order is not None:
        return outcome
    return ReadOutcome(None, outcome.unreadable, outcome.text, render_pages(content))
