"""Codes that name an article: the supplier's SKU and the world's GTIN, cleaned but never invented."""

from __future__ import annotations

import re
import unicodedata

from stdnum import ean

from pipeline.domain.purchase_order import Doubt

_SCIENTIFIC = re.compile(r"\d(?:[.,]\d+)?E\+?\d+", re.IGNORECASE)
_WHOLE_FLOAT = re.compile(r"(\d+)[.,]0+")
_INVISIBLE = frozenset({"Cc", "Cf"})


def clean_text(text: str) -> str:
    """Printed text without invisible characters and with single spaces."""
    shown = "".join(" " if unicodedata.category(char) in _INVISIBLE else char for char in text)
    return " ".join(unicodedata.normalize("NFC", shown).split())


def fold(text: str) -> str:
    """A text as it is compared: what is printed counts, its case and spacing do not ("A+" is not "A")."""
    return clean_text(text).casefold()


def slug(text: str) -> str:
    """A text reduced to what survives retyping: no case, accents or punctuation."""
    plain = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return re.sub(r"[\W_]+", "-", plain.casefold()).strip("-")


def clean_sku(printed: str, line: int) -> tuple[str, tuple[Doubt, ...]]:
    """The SKU as the supplier means it: case, dashes and leading zeros kept, a spreadsheet's damage undone.

    A number a spreadsheet has shown as 4.01E+12 has lost its digits. Two such SKUs look alike, so it is
    dropped, and a person must look.
    """
    sku = clean_text(printed).lstrip("'").strip()
    if _SCIENTIFIC.fullmatch(sku):
        return "", (
            Doubt(
                code="damaged_sku",
                line=line,
                message=f"Line {line}: the SKU reads {sku}; a spreadsheet has cut its digits. Enter the real SKU.",
            ),
        )
    whole = _WHOLE_FLOAT.fullmatch(sku)
    return (whole[1] if whole else sku), ()


def clean_gtin(printed: str, line: int) -> tuple[str, tuple[Doubt, ...]]:
    """The GTIN (EAN, UPC) if its check digit is right; otherwise none, and a doubt that need not stop anyone.

    A wrong barcode in a shop sells the wrong article at the till; a missing one is an inconvenience.
    """
    text = clean_text(printed).lstrip("'").strip()
    whole = _WHOLE_FLOAT.fullmatch(text)
    gtin: str = ean.compact(whole[1] if whole else text)
    if not gtin:
        return "", ()
    if ean.is_valid(gtin) and gtin.strip("0"):
        return gtin, ()
    return "", (
        Doubt(
            code="invalid_gtin",
            line=line,
            blocking=False,
            message=f"Line {line}: {text} is not a valid barcode (wrong length or check digit); it was left out.",
        ),
    )


def gtin14(gtin: str) -> str:
    """A GTIN in its longest spelling: two are the same article if and only if these are equal."""
    return gtin.strip().zfill(14)


def spellings(gtin: str) -> tuple[str, ...]:
    """A GTIN in each length it may be kept in elsewhere: a UPC of 12 digits is the EAN of 13 with a zero before it."""
    bare = gtin.lstrip("0")
    return tuple(bare.zfill(length) for length in (8, 12, 13, 14) if len(bare) <= length)
