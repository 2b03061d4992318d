"""What a file is, by its content. Its name is the uploader's claim and is never asked."""

from __future__ import annotations

import re
import zipfile
from enum import StrEnum
from io import BytesIO

_PDF_WINDOW = 1024
_TEXT_SAMPLE = 8192
_UTF16_SHARE = 0.3
_EDIFACT = re.compile(rb"\A\s*(?:UNA.{6}\s*)?UN[BH]\W", re.DOTALL)
_XML = re.compile(rb"\A(?:\xef\xbb\xbf)?\s*(?:<\?xml\b|<[A-Za-z][\w.-]*:?[\w.-]*[\s>])")
_IMAGES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*", b"BM")
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ZIP = b"PK\x03\x04"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_CONTROLS = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")


class FileType(StrEnum):
    """The types told apart. WORKBOOK is XLSX, XLS or ODS; UNKNOWN is refused."""

    PDF = "pdf"
    WORKBOOK = "workbook"
    EDIFACT = "edifact"
    XML = "xml"
    IMAGE = "image"
    TEXT = "text"
    UNKNOWN = "unknown"


def sniff(content: bytes) -> FileType:
    """The type of these bytes."""
    return next((kind for kind, matches in _TESTS if matches(content)), FileType.UNKNOWN)


def _is_pdf(content: bytes) -> bool:
    return b"%PDF-" in content[:_PDF_WINDOW]


def _is_image(content: bytes) -> bool:
    return content.startswith(_IMAGES) or (content[:4] == b"RIFF" and content[8:12] == b"WEBP")


def _is_workbook(content: bytes) -> bool:
    if content.startswith(_OLE):
        return True
    if not content.startswith(_ZIP):
        return False
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
    return bool(names & {"xl/workbook.xml", "xl/workbook.bin", "content.xml"})


def _is_edifact(content: bytes) -> bool:
    return _EDIFACT.match(content[:_TEXT_SAMPLE]) is not None


def _is_xml(content: bytes) -> bool:
    # In UTF-16 every other byte of markup is zero; without those it reads like any other.
    return _XML.match(content[:_TEXT_SAMPLE].lstrip(b"\xff\xfe").replace(b"\0", b"")) is not None


def _is_text(content: bytes) -> bool:
    sample = content[:_TEXT_SAMPLE]
    if not sample.strip():
        return False
    if sample.startswith(_UTF16):
        return True
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    if max(even, odd) > _UTF16_SHARE * len(sample) / 2:
        text = sample[: len(sample) // 2 * 2].decode("utf-16-le" if odd > even else "utf-16-be", errors="ignore")
        return not _CONTROLS.search(text.encode())
    return not _CONTROLS.search(sample)


# In this order: a workbook is a zip file, an EDI message and an XML file are also text.
_TESTS = (
    (FileType.PDF, _is_pdf),
    (FileType.WORKBOOK, _is_workbook),
    (FileType.IMAGE, _is_image),
    (FileType.EDIFACT, _is_edifact),
    (FileType.XML, _is_xml),
    (FileType.TEXT, _is_text),
)
