"""Drafts and their candidate pictures, under ids derived from what they are: twice the same input, once the thing."""

from __future__ import annotations

from urllib.parse import urlsplit
from uuid import UUID, uuid5

from pipeline.domain.results import Draft, DraftVariant, ImageCandidate, PlannedProduct

NAMESPACE = UUID("7c1f6f0e-52b3-5d0a-9a41-0f6f2f0c9e7d")
"""Fixed for ever: another value would give every known product a second draft."""

MAX_IMAGES = 10
_MAX_URL = 2048


def draft_of(merchant_id: str, supplier_id: str, product: PlannedProduct) -> Draft:
    """The draft of this supplier's product, whichever order names it."""
    draft_id = uuid5(NAMESPACE, f"{merchant_id}|{supplier_id}|{product.product_key}")
    variants = (DraftVariant(id=str(uuid5(draft_id, plan.variant_key)), plan=plan) for plan in product.variants)
    return Draft(id=str(draft_id), plan=product, variants=tuple(variants))


def candidates(draft: Draft) -> tuple[ImageCandidate, ...]:
    """The pictures the document itself offers for a draft, in its order."""
    urls = list(dict.fromkeys(url for url in draft.plan.image_urls if is_web_address(url)))[:MAX_IMAGES]
    return tuple(
        ImageCandidate(
            id=str(uuid5(UUID(draft.id), url)), draft_id=draft.id, url=url, source="document", position=index
        )
        for index, url in enumerate(urls)
    )


def is_web_address(url: str) -> bool:
    """Whether a picture may be fetched from there: plain http or https to a host, without credentials."""
    try:
        parts = urlsplit(url)
        host, has_user = parts.hostname, parts.username is not None
    except ValueError:
        return False
    plain = len(url) <= _MAX_URL and url.isprintable() and " " not in url
    return plain and parts.scheme in ("http", "https") and bool(host) and not has_user
