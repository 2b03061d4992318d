"""Bytes -> text, by what the bytes themselves prove; file names and headers say nothing reliable."""

from __future__ import annotations

import codecs
from typing import Final

from pipeline.reading.refusal import Refused

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LEAST_JAPANESE = 0.6
_SAMPLE = 65_536


def decode(content: bytes) -> str:
    """The text. Refuses what is no text at all (NUL bytes without a UTF-16 pattern)."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return _strictly(content, encoding)
    if b"\0" in content[:_SAMPLE]:
        return _strictly(content, _utf16_of(content[:_SAMPLE]))
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode(_eight_bit(content), errors="replace")


def _strictly(content: bytes, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        raise Refused("unreadable_text", "the file looks like text but is damaged or not text at all") from None


def _utf16_of(sample: bytes) -> str:
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    return "utf-16-le" if odd > even else "utf-16-be"


def _eight_bit(content: bytes) -> str:
    """cp932 (Japanese Excel) only where all of it decodes and most of what is not ASCII is Japanese; else cp1252."""
    try:
        text = content.decode("cp932")
    except UnicodeDecodeError:
        return "cp1252"
    foreign = [character for character in text if ord(character) > 0x7F]  # noqa: PLR2004 - the end of ASCII
    japanese = sum(1 for character in foreign if _is_japanese(character))
    return "cp932" if foreign and japanese >= _LEAST_JAPANESE * len(foreign) else "cp1252"


def _is_japanese(character: str) -> bool:
    """Kana and ideographs; half-width kana are left out, because cp1252's accented letters look like them."""
    return "\u3000" <= character <= "\u30ff" or "\u4e00" <= character <= "\u9fff"
