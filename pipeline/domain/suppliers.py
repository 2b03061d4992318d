"""Who a document is from: an existing supplier, a new one, or nobody we can name."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from rapidfuzz import fuzz

from pipeline.domain.identifiers import clean_text
from pipeline.domain.merchant import Merchant
from pipeline.domain.purchase_order import Doubt, Party
from pipeline.domain.results import SupplierChoice

SAME_NAME = 0.92
SIMILAR_NAME = 0.80
_NAME_LIMIT = 255
UNNAMED = "unnamed"
"""`SupplierChoice.matched_by` of a document that names no supplier."""

_LEGAL_FORMS = frozenset(
    {
        "inc",
        "incorporated",
        "corp",
        "corporation",
        "co",
        "company",
        "llc",
        "llp",
        "ltd",
        "limited",
        "plc",
        "gmbh",
        "ag",
        "kg",
        "ohg",
        "ug",
        "mbh",
        "sa",
        "sas",
        "sarl",
        "srl",
        "spa",
        "bv",
        "nv",
        "ab",
        "as",
        "aps",
        "oy",
        "pty",
        "pte",
        "kk",
        "the",
    }
)
_MAIL_HOSTS = frozenset(
    {"gmail.com", "googlemail.com", "outlook.com", "hotmail.com", "live.com", "yahoo.com", "icloud.com", "aol.com"}
    | {"gmx.de", "gmx.net", "web.de", "t-online.de", "proton.me", "protonmail.com", "qq.com", "163.com", "126.com"}
)


@dataclass(frozen=True, slots=True)
class KnownSupplier:
    """A supplier this merchant has already."""

    id: str
    name: str
    normalized_name: str
    tax_id: str = ""
    email: str = ""
    website: str = ""


def own_names(merchant: Merchant) -> tuple[str, ...]:
    """Every name the merchant goes by."""
    return (*merchant.settings.names, merchant.name)


def normalize_name(name: str) -> str:
    """A company's name as two people would agree on it: no case, accents, punctuation or legal form."""
    plain = "".join(char for char in unicodedata.normalize("NFKD", name) if not unicodedata.combining(char))
    words = re.findall(r"\w+", re.sub(r"['\u2019.]", "", plain.casefold().replace("&", " and ")))
    kept = [word for word in words if word not in _LEGAL_FORMS]
    return " ".join(kept or words)


def choose_supplier(
    supplier: Party, buyer: Party, ours: Sequence[str], known: Sequence[KnownSupplier], sha256: str
) -> tuple[SupplierChoice, tuple[Doubt, ...]]:
    """The supplier of a document and what is doubtful about it.

    The merchant's own names are evidence against: a shop is never its own supplier. Where the two parties
    were read the wrong way round the other one is proposed, and a person confirms.
    """
    if not is_own(supplier.name, ours):
        return _match(supplier, known, sha256)
    other = buyer if buyer.name and not is_own(buyer.name, ours) else Party()
    choice, doubts = _match(other, known, sha256)
    proposal = f"taken to be from {other.name} instead" if other.name else "left without a supplier"
    swapped = Doubt(
        code="supplier_is_own_shop",
        message=f"The document was read as coming from {supplier.name}, which is your own shop; it was {proposal}.",
    )
    return choice, (swapped, *doubts)


def is_own(name: str, ours: Sequence[str]) -> bool:
    """Whether a printed name is one of the merchant's own."""
    normalized = normalize_name(name)
    return bool(normalized) and any(_similarity(normalized, normalize_name(own)) >= SAME_NAME for own in ours)


def vendor_name(supplier: SupplierChoice) -> str:
    """What a product page calls its vendor: nothing rather than our own placeholder."""
    return "" if supplier.matched_by == UNNAMED else supplier.name


def _match(party: Party, known: Sequence[KnownSupplier], sha256: str) -> tuple[SupplierChoice, tuple[Doubt, ...]]:
    if not party.name.strip():
        return _unnamed(party, known, sha256)
    sure = _by_identity(party, known)
    if sure is not None:
        return sure, ()
    normalized = normalize_name(party.name)
    candidates = [(_similarity(normalized, one.normalized_name), one) for one in known if not _other_tax_id(party, one)]
    score, nearest = max(candidates, key=lambda pair: pair[0], default=(0.0, None))
    if nearest is not None and score >= SAME_NAME:
        return _existing(nearest, party, "name" if score == 1 else "similar_name", score), ()
    new = _new(party, known)
    if nearest is None or score < SIMILAR_NAME:
        return new, ()
    return new, (
        Doubt(
            code="unknown_supplier",
            message=f"Is {party.name} the same supplier as {nearest.name}? It was entered as a new one.",
        ),
    )


def _unnamed(party: Party, known: Sequence[KnownSupplier], sha256: str) -> tuple[SupplierChoice, tuple[Doubt, ...]]:
    """Without a name only a tax id or a domain can tell; failing that, the document is a supplier of its own.

    Two unnamed suppliers that both sell a "100" must not end on one product.
    """
    sure = _by_identity(party, known)
    if sure is not None:
        return sure, ()
    name = f"Unnamed supplier (document {sha256[:8]})"
    choice = SupplierChoice(id=None, name=name, normalized_name=f"document:{sha256}", matched_by=UNNAMED, score=0.0)
    message = "The document does not say who the supplier is. Name the supplier, or approve it without one."
    return choice, (Doubt(code="no_supplier", message=message),)


def _by_identity(party: Party, known: Sequence[KnownSupplier]) -> SupplierChoice | None:
    """The supplier with the same tax id, or the same domain of its own."""
    for one in known:
        if _tax_id(party.tax_id) and _tax_id(party.tax_id) == _tax_id(one.tax_id):
            return _existing(one, party, "tax_id", 1.0)
    for one in known:
        if _domains(party.email, party.website) & _domains(one.email, one.website) and not _other_tax_id(party, one):
            return _existing(one, party, "domain", 1.0)
    return None


def _existing(one: KnownSupplier, party: Party, matched_by: str, score: float) -> SupplierChoice:
    """The known supplier; what the document adds to what is stored is kept, what it contradicts is not."""
    return SupplierChoice(
        id=one.id,
        name=one.name,
        normalized_name=one.normalized_name,
        tax_id=one.tax_id or party.tax_id,
        email=one.email or party.email,
        website=one.website or party.website,
        matched_by=matched_by,
        score=round(score, 4),
    )


def _new(party: Party, known: Sequence[KnownSupplier]) -> SupplierChoice:
    """A supplier to be entered. Of two companies of one name the later one is told apart by its tax id."""
    normalized = normalize_name(party.name)
    if any(one.normalized_name == normalized for one in known):
        normalized = f"{normalized} {_tax_id(party.tax_id)}"
    return SupplierChoice(
        id=None,
        name=clean_text(party.name)[:_NAME_LIMIT],
        normalized_name=normalized,
        tax_id=party.tax_id,
        email=party.email,
        website=party.website,
    )


def _similarity(one: str, other: str) -> float:
    """From 0 to 1, whatever the order of the words."""
    return fuzz.token_sort_ratio(one, other) / 100


def _other_tax_id(party: Party, one: KnownSupplier) -> bool:
    """Whether both have a tax id and they differ: then no likeness of names makes them one company."""
    printed, stored = _tax_id(party.tax_id), _tax_id(one.tax_id)
    return bool(printed and stored) and printed != stored


def _tax_id(printed: str) -> str:
    return re.sub(r"[\W_]+", "", printed).upper()


def _domains(email: str, website: str) -> frozenset[str]:
    """The domains that belong to the company alone; a mail provider's belongs to everybody."""
    mail = email.rpartition("@")[2].strip().casefold()
    return frozenset({mail, _host(website.strip().casefold())}) - _MAIL_HOSTS - {""}


def _host(website: str) -> str:
    """The host of a printed web address, empty when it is none."""
    try:
        host = urlsplit(website if "//" in website else f"//{website}").hostname or ""
    except ValueError:
        return ""
    return host.removeprefix("www.")
