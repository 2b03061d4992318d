"""The entry: type by content, then the reader of that type."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.reading.csv import read_csv
from pipeline.reading.decoding import decode
from pipeline.reading.limits import MAX_BYTES
from pipeline.reading.order import read_order
from pipeline.reading.outcome import ReadOutcome
from pipeline.reading.refusal import Refused
from pipeline.reading.sniff import FileType, sniff


def read(content: bytes, own_names: Sequence[str]) -> ReadOutcome:
    """Read a document. `own_names` are the merchant's own: evidence against being the supplier.

    Raises Refused when the file is empty, too large, damaged, encrypted or of no type we know.
    """
    if not content:
        raise Refused("empty_document", "the file is empty")
    if len(content) > MAX_BYTES:
        raise Refused("document_too_large", f"the file is larger than {MAX_BYTES // 1024 // 1024} MB")
    match sniff(content):
        case FileType.TEXT:
            return read_order(read_csv(decode(content)), own_names, "csv")
        case _:
            raise Refused("unknown_type", "the file is not a PDF, spreadsheet, CSV, EDI message or XML order")
