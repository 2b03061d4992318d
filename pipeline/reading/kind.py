"""Which kind of paper this is, by the words in its title and, failing that, by the labels it carries."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pipeline.domain.purchase_order import DocumentKind, Evidence
from pipeline.reading.layout import Line, Sheet
from pipeline.reading.vocabulary import TITLES, Field
from pipeline.reading.wording import compact, words_of

_TITLE_LINES = 25
_LONGEST_TITLE = 8
_LONGEST_PHRASE = 5
_BY_LABEL = (
    (Field.CREDIT_NUMBER, DocumentKind.CREDIT_NOTE),
    (Field.INVOICE_NUMBER, DocumentKind.INVOICE),
    (Field.DELIVERY_NUMBER, DocumentKind.DELIVERY_NOTE),
    (Field.QUOTE_NUMBER, DocumentKind.QUOTE),
    (Field.PO_NUMBER, DocumentKind.PURCHASE_ORDER),
    (Field.ORDER_NUMBER, DocumentKind.PURCHASE_ORDER),
)


@dataclass(frozen=True, slots=True)
class KindFound:
    """The kind and why."""

    kind: DocumentKind
    evidence: Evidence


def by_title(sheets: Sequence[Sheet]) -> KindFound | None:
    """The strongest title among the document's first lines; the first one where two are equally strong."""
    best: KindFound | None = None
    for line in (line for sheet in sheets[:1] for line in sheet.lines[:_TITLE_LINES]):
        for found in _titles(line):
            if best is None or found.evidence.confidence > best.evidence.confidence:
                best = found
    return best


def by_labels(labels: Collection[Field]) -> KindFound | None:
    """The kind whose own number the document carries, for papers without a title (most CSV files)."""
    for label, kind in _BY_LABEL:
        if label in labels:
            return KindFound(kind, Evidence(confidence=0.85, where="labels", text=label.value))
    return None


def _titles(line: Line) -> list[KindFound]:
    found = []
    for text in {line.text, *(cell.text for cell in line.cells)}:
        kind, confidence = _title(text)
        if kind is not DocumentKind.UNKNOWN:
            found.append(KindFound(kind, Evidence(confidence=confidence, where=line.where, text=text)))
    return sorted(found, key=lambda each: -each.evidence.confidence)


def _title(text: str) -> tuple[DocumentKind, float]:
    """A text that is a title's words is one; words followed by a number or a name are nearly one."""
    exact = TITLES.get(compact(text))
    if exact:
        return exact, 0.97
    words = words_of(text)
    if ":" in text or len(words) > _LONGEST_TITLE:
        return DocumentKind.UNKNOWN, 0.0
    for size in range(min(_LONGEST_PHRASE, len(words)), 0, -1):
        for first in range(len(words) - size + 1):
            kind = TITLES.get("".join(words[first : first + size]))
            if kind:
                return kind, _strength(first, words[first + size :])
    return DocumentKind.UNKNOWN, 0.0


def _strength(before: int, after: list[str]) -> float:
    followed_by_number = bool(after) and (after[0] == "no" or any(letter.isdigit() for letter in "".join(after)))
    if before == 0 and (followed_by_number or not after):
        return 0.93
    return 0.7 if before == 0 or not after else 0.5
