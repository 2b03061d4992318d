"""Who sells and who buys. The letterhead is the supplier on an invoice and the merchant on a purchase order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.domain.purchase_order import DocumentKind, Evidence, Party
from pipeline.reading.kind import by_title
from pipeline.reading.labels import Labelled, split_label
from pipeline.reading.layout import Cell, Line, Sheet
from pipeline.reading.vocabulary import COLUMNS, NUMBER_FIELDS, PARTY_FIELDS, TITLES, Field
from pipeline.reading.wording import compact, company_key, has_legal_form

_EMAIL = re.compile(r"[\w.+-]+@([\w-]+(?:\.[\w-]+)+)")
_WEBSITE = re.compile(r"(?:https?://)?(?:www\.)[\w-]+(?:\.[\w-]+)+", re.IGNORECASE)
_TAX_ID = re.compile(r"\b((?:[A-Z]{2}\s?)(?=[\dA-Z]*\d{6})[\dA-Z]{8,12})\b")
_LETTERHEAD_LINES = 12
_LONGEST_NAME = 8
_SHORTEST_KEY = 3
_BUYER_WRITES = frozenset({DocumentKind.PURCHASE_ORDER})


@dataclass(frozen=True, slots=True)
class Parties:
    """Both sides and where they stand."""

    supplier: Party
    buyer: Party
    evidence: dict[str, Evidence]


def find_parties(
    kind: DocumentKind, sheets: Sequence[Sheet], labelled: Sequence[Labelled], own_names: Sequence[str]
) -> Parties:
    """Supplier and buyer by label, then by letterhead; the merchant's own names are never the supplier."""
    own = {key for name in own_names if len(key := company_key(name)) >= _SHORTEST_KEY}
    buyer_writes = kind in _BUYER_WRITES
    letterheads = _letterheads(sheets)
    sells = [Field.SUPPLIER, Field.TO if buyer_writes else Field.FROM]
    buys = [Field.BUYER, Field.FROM if buyer_writes else Field.TO]
    suppliers = [_named(each, 0.95) for field in sells for each in labelled if each.field is field]
    buyers = [_named(each, 0.95) for field in buys for each in labelled if each.field is field]
    if buyer_writes:
        buyers += letterheads
    else:
        suppliers += letterheads
    supplier = next((each for each in suppliers if each.name and not _is_own(each.name, own)), _NOBODY)
    if supplier is _NOBODY and buyer_writes:
        # A paper without any address block may still be printed on the supplier's own order form.
        others = [each for each in letterheads if not _is_own(each.name, own)]
        known_buyer = any(_is_own(each.name, own) for each in letterheads + buyers)
        supplier = others[0].weakened() if others and known_buyer else _NOBODY
    buyer = next((each for each in buyers if _is_own(each.name, own)), None) or next(
        (each for each in buyers if each.name and company_key(each.name) != company_key(supplier.name)), _NOBODY
    )
    return Parties(
        _completed(supplier, letterheads, sheets, labelled),
        Party(name=buyer.name, address=buyer.address),
        {name: each.evidence for name, each in (("supplier", supplier), ("buyer", buyer)) if each.name},
    )


@dataclass(frozen=True, slots=True)
class _Candidate:
    name: str
    address: str
    evidence: Evidence

    def weakened(self) -> _Candidate:
        return _Candidate(self.name, self.address, self.evidence.model_copy(update={"confidence": 0.55}))


_NOBODY = _Candidate("", "", Evidence(confidence=0.0, where=""))


def _is_own(name: str, own: set[str]) -> bool:
    key = company_key(name)
    return any(key == each or (len(each) >= 6 and key.startswith(each)) for each in own)  # noqa: PLR2004 - "Harbor"


def _named(found: Labelled, confidence: float) -> _Candidate:
    name, _, rest = found.value.text.partition(" · ")
    pieces = [piece.strip() for piece in name.split(", ")]
    cut = next((place for place, piece in enumerate(pieces) if place and piece[:1].isdigit()), len(pieces))
    address = [", ".join(pieces[cut:]), rest, *(each for each in found.block if each != found.value.text)]
    evidence = Evidence(confidence=confidence * found.near, where=found.where, text=found.value.text)
    return _Candidate(", ".join(pieces[:cut]), ", ".join(part for part in address if part), evidence)


def _letterheads(sheets: Sequence[Sheet]) -> list[_Candidate]:
    """Lines at the top that look like a company's name, best first."""
    lines = list(sheets[0].lines[:_LETTERHEAD_LINES]) if sheets else []
    domains = _domains(sheets)
    scored = []
    for number, line in enumerate(lines):
        if any(split_label(cell)[0] in PARTY_FIELDS for cell in line.cells):
            break
        scored += [(_score(cell, number, domains), line, cell) for cell in _unlabelled(line) if _could_be_name(cell)]
    ranked = sorted((each for each in scored if each[0] > 0), key=lambda each: -each[0])
    return [_letterhead(score, line, cell) for score, line, cell in ranked]


def _unlabelled(line: Line) -> list[Cell]:
    """The cells that are not the value of a label beside them."""
    labels = [None, *(split_label(cell)[0] for cell in line.cells)]
    return [cell for label, cell in zip(labels, line.cells, strict=False) if not _is_value(label, cell)]


def _is_value(label: Field | None, cell: Cell) -> bool:
    """A title is spelled like the label of its number ("Invoice"), but what stands beside it is no number."""
    return label is not None and (label not in NUMBER_FIELDS or any(letter.isdigit() for letter in cell.text))


def _letterhead(score: float, line: Line, cell: Cell) -> _Candidate:
    return _Candidate(cell.text, "", Evidence(confidence=min(0.92, 0.4 + score / 8), where=line.where, text=cell.text))


def _could_be_name(cell: Cell) -> bool:
    text = cell.text
    return (
        split_label(cell)[0] is None
        and compact(text) not in TITLES
        and compact(text) not in COLUMNS
        and by_title([Sheet("", (Line((cell,), (cell,), ""),), grid=True)]) is None
        and 0 < len(text.split()) <= _LONGEST_NAME
        and text[0].isalnum()
        and not text[0].isdigit()
        and not _EMAIL.search(text)
        and not _WEBSITE.fullmatch(text)
        and ":" not in text
        and sum(character.isdigit() for character in text) <= 2  # noqa: PLR2004 - "3M", "Studio 54"; not an address
    )


def _score(cell: Cell, line: int, domains: set[str]) -> float:
    key = company_key(cell.text)
    score = max(0.0, 3.0 - line / 3)
    score += 2.5 * has_legal_form(cell.text)
    score += 2.5 * any(len(key) >= _SHORTEST_KEY and (key in domain or domain in key) for domain in domains)
    sentence = cell.text.endswith((".", "!", "?")) and not has_legal_form(cell.text)
    return score - 3.0 * sentence - 1.0 * ("," in cell.text and not has_legal_form(cell.text))


def _domains(sheets: Sequence[Sheet]) -> set[str]:
    text = "\n".join(line.text for sheet in sheets[:1] for line in sheet.lines)
    hosts = [*_EMAIL.findall(text), *(found.removeprefix("https://") for found in _WEBSITE.findall(text))]
    return {compact(host.removeprefix("www.").split(".")[0]) for host in hosts}


def _completed(
    chosen: _Candidate, letterheads: Sequence[_Candidate], sheets: Sequence[Sheet], labelled: Sequence[Labelled]
) -> Party:
    """The supplier with tax number, mail and site where the paper shows them to be the supplier's."""
    if not chosen.name:
        return Party()
    writes = any(each.name == chosen.name for each in letterheads)
    own_text = chosen.address
    if writes:
        own_text += "\n" + "\n".join(line.text for sheet in sheets[:1] for line in sheet.lines)
    key = company_key(chosen.name)
    mail = next((m[0] for m in _EMAIL.finditer(own_text) if writes or compact(m[1].split(".")[0]) in key), "")
    mail = mail or next((each.value.text for each in labelled if each.field is Field.EMAIL), "")
    site = _WEBSITE.search(own_text)
    tax_id = next((each.value.text for each in labelled if each.field is Field.TAX_ID and writes), "")
    found_id = _TAX_ID.search(tax_id) or (_TAX_ID.search(own_text) if writes else None)
    return Party(
        name=chosen.name,
        address=chosen.address,
        email=mail if _EMAIL.fullmatch(mail) else "",
        website=site[0] if site else "",
        tax_id=found_id[1] if found_id else "",
    )
