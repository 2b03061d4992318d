"""PDF -> pages of lines of words with their places; attachments; pictures of pages that hold no text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO
from statistics import median
from typing import Any

import pdfplumber
import pypdfium2
from pdfminer.pdfdocument import PDFPasswordIncorrect
from pdfplumber.utils.exceptions import PdfminerException

from pipeline.reading.layout import Cell, Line, Sheet, joined
from pipeline.reading.limits import MAX_BYTES, MAX_PAGES, MAX_PICTURES, MAX_WORDS_PER_PAGE
from pipeline.reading.refusal import Refused

_LEAST_LETTERS = 12
_PICTURE_SIDE = 1600
_COLUMN_GAP = 0.8
_SAME_LINE = 0.5
_XML = ".xml"


def read_pages(content: bytes) -> tuple[Sheet, ...]:
    """The text pages, in order. Pages without text are left out (see `render_pages`)."""
    try:
        with pdfplumber.open(BytesIO(content)) as document:
            pages = len(document.pages)
            readable = document.pages if pages <= MAX_PAGES else []
            sheets = [_page(page, number) for number, page in enumerate(readable, start=1)]
    except PdfminerException as error:
        raise _refusal(error) from None
    except Exception as error:  # noqa: BLE001 - whatever a parser says about hostile bytes, it is their fault
        raise Refused("damaged_document", f"the PDF cannot be opened ({type(error).__name__})") from None
    if pages > MAX_PAGES:
        raise Refused("document_too_large", f"the PDF has more than {MAX_PAGES} pages")
    return tuple(sheet for sheet in sheets if sum(len(line.text) for line in sheet.lines) >= _LEAST_LETTERS)


def render_pages(content: bytes) -> tuple[bytes, ...]:
    """The first pages as PNG, for a model that sees; none if the file cannot be drawn."""
    try:
        with pypdfium2.PdfDocument(content) as document:
            return tuple(_picture(document[number]) for number in range(min(len(document), MAX_PICTURES)))
    except Exception:  # noqa: BLE001 - a picture is an extra; the text reader has the say about damage
        return ()


def xml_attachments(content: bytes) -> Iterator[bytes]:
    """Attached XML files: Order-X and Factur-X papers carry the order as data."""
    try:
        with pypdfium2.PdfDocument(content) as document:
            for number in range(document.count_attachments()):
                attachment = document.get_attachment(number)
                if attachment.get_name().lower().endswith(_XML):
                    data = bytes(attachment.get_data())
                    if len(data) <= MAX_BYTES:
                        yield data
    except pypdfium2.PdfiumError:
        return


def _refusal(error: PdfminerException) -> Refused:
    cause = error.args[0] if error.args else error
    if isinstance(cause, PDFPasswordIncorrect):
        return Refused("encrypted_document", "the PDF is protected by a password")
    return Refused("damaged_document", f"the PDF cannot be opened ({type(cause).__name__})")


def _page(page: Any, number: int) -> Sheet:
    words = page.extract_words(use_text_flow=False, keep_blank_chars=False, x_tolerance_ratio=0.2)
    words = words[:MAX_WORDS_PER_PAGE]
    page.close()
    return Sheet(f"page {number}", tuple(_lines(words, number)), grid=False)


def _lines(words: Sequence[dict[str, Any]], page: int) -> Iterator[Line]:
    """Words whose middles are level make a line; a line's cells are split where the gap is no space."""
    rows: list[list[dict[str, Any]]] = []
    for word in sorted(words, key=_level):
        if rows and _level(word) - _level(rows[-1][0]) <= _SAME_LINE * _height(word):
            rows[-1].append(word)
        else:
            rows.append([word])
    usual = median([_height(word) for word in words]) if words else 1.0
    above = 0.0
    for row in rows:
        placed = sorted(row, key=lambda word: word["x0"])
        cells = [Cell(word["text"], word["x0"], word["x1"]) for word in placed]
        size = max(_height(word) for word in placed)
        top = min(word["top"] for word in placed)
        drop = (_level(row[0]) - above) / max(usual, 1.0)
        above = _level(row[0])
        yield Line(tuple(cells), tuple(_runs(cells, _COLUMN_GAP * size)), f"page {page}, y {round(top)}", drop)


def _level(word: dict[str, Any]) -> float:
    return float(word["top"] + word["bottom"]) / 2


def _height(word: dict[str, Any]) -> float:
    return float(word["bottom"] - word["top"])


def _runs(words: Sequence[Cell], gap: float) -> Iterator[Cell]:
    run = [words[0]]
    for word in words[1:]:
        if word.left - run[-1].right > gap:
            yield joined(run)
            run = []
        run.append(word)
    yield joined(run)


def _picture(page: Any) -> bytes:
    scale = _PICTURE_SIDE / max(*page.get_size(), 1.0)
    out = BytesIO()
    page.render(scale=scale).to_pil().save(out, "PNG")
    return out.getvalue()
