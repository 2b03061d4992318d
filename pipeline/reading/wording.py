"""Comparing words across spellings: case, accents, punctuation, "No." and "Nummer", letter-spaced titles."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_NUMBER_WORDS: Final = frozenset({"number", "num", "nbr", "nr", "nummer", "numero", "no", "nro"})
_NUMBER_ENDING = re.compile(r"(?<=\w{3})(?:nummer|nr)\b")
_NUMBER_SIGN = re.compile(r"#|№|\bn[°º]")
_PARENTHESES = re.compile(r"\([^)]*\)|\[[^\]]*\]")
_LEGAL: Final = frozenset(
    [
        "inc",
        "llc",
        "ltd",
        "limited",
        "corp",
        "corporation",
        "co",
        "company",
        "gmbh",
        "ag",
        "kg",
        "ohg",
        "ug",
        "bv",
        "nv",
        "vof",
        "sa",
        "sas",
        "sarl",
        "srl",
        "spa",
        "sl",
        "slu",
        "plc",
        "lp",
        "llp",
        "pty",
        "oy",
        "ab",
        "as",
        "aps",
        "kk",
    ]
)


def strip_accents(text: str) -> str:
    """The text without accents; the German sharp s becomes ss."""
    decomposed = unicodedata.normalize("NFKD", text.replace("ß", "ss"))
    return "".join(character for character in decomposed if not unicodedata.combining(character))


def words_of(text: str) -> list[str]:
    """The text's words in comparable form; every spelling of "number" is `no`."""
    lowered = strip_accents(_NUMBER_SIGN.sub(" no ", text.casefold()))
    lowered = _NUMBER_ENDING.sub(" no", lowered)
    words = re.findall(r"[^\W_]+", lowered)
    return ["no" if word in _NUMBER_WORDS else word for word in words]


def compact(text: str) -> str:
    """The words run together, so that "I N V O I C E", "Ship-to" and "F actuur" meet their plain spelling."""
    return "".join(words_of(text))


def without_parentheses(text: str) -> str:
    """The text without bracketed additions such as "(USD)"."""
    return _PARENTHESES.sub(" ", text).strip()


def company_key(name: str) -> str:
    """A company's name without legal form, for comparing with other spellings of the same name."""
    words = words_of(re.sub(r"\b(\w)\.(?=\w\.|\s|$)", r"\1", name.replace("B.V.", "BV")))
    kept = [word for word in words if word not in _LEGAL and word != "and"]
    return "".join(kept or words)


def has_legal_form(name: str) -> bool:
    """Whether the name says what kind of company it is ("GmbH", "B.V.", "Inc.")."""
    return any(word in _LEGAL for word in re.sub(r"[.,]", "", name.casefold()).split()[1:])
