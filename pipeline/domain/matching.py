"""What a draft would become in a shop: a new product, variants of one that is there, or a question to a person.

Order of trust (domain.md 3): where we know it lives, our custom id, GTIN, SKU agreeing with vendor or title.
Neither GTIN nor SKU is unique in a shop, so several matches are never guessed between.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from pipeline.domain.identifiers import fold, gtin14, slug
from pipeline.domain.placing import option_key
from pipeline.domain.results import Draft, DraftVariant
from pipeline.domain.shop import ShopProduct, ShopVariant

ARCHIVED = "ARCHIVED"
_PACK = re.compile(r"\b(?:case|carton|box|pack|crate|tray)\s+of\s+(\d+)\b|\b(\d+)[\s-]?(?:pack|pk)\b", re.IGNORECASE)


class Verdict(StrEnum):
    """What applying a draft would do."""

    CREATE = "create"
    EXISTING = "existing"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Match:
    """What a draft is in the shop.

    create     nothing there is this article: a new DRAFT product with all its variants
    existing   `product_id` is it (called `title` there): `variants` are there, `missing` would be added
    unclear    a person must say which, or mend something in the shop: `code` and `reason` say why

    `by` is how it was recognised: place, custom_id, chosen, gtin, sku; empty unless existing. `variants` and `missing`
    go by draft variant id; a variant may live in another product than `product_id`, its own says which.
    """

    draft_id: str
    verdict: Verdict
    product_id: str = ""
    title: str = ""
    status: str = ""
    by: str = ""
    variants: Mapping[str, ShopVariant] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    linked: bool = False
    code: str = ""
    reason: str = ""


def create(draft: Draft) -> Match:
    """Nothing in the shop is this draft."""
    return Match(draft.id, Verdict.CREATE, missing=tuple(one.id for one in draft.variants))


def unclear(draft: Draft, code: str, reason: str) -> Match:
    """A person must say what this draft is."""
    return Match(draft.id, Verdict.UNCLEAR, code=code, reason=reason)


def existing(draft: Draft, product: ShopProduct, by: str, places: Mapping[str, str] | None = None) -> Match:
    """That product is this draft: which variants it has, which would be added, or why they cannot be.

    `places` are variant ids known from before, by draft variant id.
    """
    found = match_variants(draft, product, places or {})
    missing = tuple(one.id for one in draft.variants if one.id not in found)
    if missing and (problem := _why_not_added(draft, product, missing)):
        return unclear(draft, *problem)
    return Match(
        draft.id,
        Verdict.EXISTING,
        product_id=product.id,
        title=product.title,
        status=product.status,
        by=by,
        variants=found,
        missing=missing,
        linked=bool(product.link),
    )


def recognise(draft: Draft, candidates: Sequence[ShopProduct]) -> Match:
    """The draft among products that carry one of its GTINs or SKUs, each given whole and once.

    What the merchant has archived counts only where nothing else does.
    """
    candidates = [one for one in candidates if one.status != ARCHIVED] or candidates
    for by, same in (("gtin", _same_gtin), ("sku", _same_sku)):
        hits = _hits(draft, candidates, same)
        if by == "sku":
            agreeing = {one.id for one in candidates if agrees(draft, one)}
            foreign = [variant for found in hits.values() for variant in found if variant.product_id not in agreeing]
            hits = {name: [one for one in found if one.product_id in agreeing] for name, found in hits.items()}
            hits = {name: found for name, found in hits.items() if found}
            if foreign and not hits:
                return _only_the_sku(draft, candidates, foreign[0])
        if hits:
            return _among(draft, candidates, by, hits)
    return create(draft)


def match_variants(
    draft: Draft, product: ShopProduct, places: Mapping[str, str] | None = None
) -> dict[str, ShopVariant]:
    """The draft's variants found on a product: where they are known to be, by GTIN, by options, by SKU.

    By SKU last, where the merchant gave an option another value; never by one that several variants share.
    A product without options has one variant and so has its draft. Each of the shop's variants is used once.
    """
    names = option_names(draft, product)
    known = places or {}
    free = list(product.variants)
    found: dict[str, ShopVariant] = {}

    def pair(same: Callable[[DraftVariant, ShopVariant], bool]) -> None:
        for one in draft.variants:
            here = [variant for variant in free if same(one, variant)]
            rivals = [other for other in draft.variants if here and same(other, here[0])]
            if one.id not in found and len(here) == 1 and len(rivals) == 1:
                found[one.id] = here[0]
                free.remove(here[0])

    pair(lambda one, variant: known.get(one.id) == variant.id)
    pair(_same_gtin)
    if names is not None:
        pair(lambda one, variant: _folded(_renamed(one, names)) == _folded(variant.options))
    skus = Counter(fold(variant.sku) for variant in product.variants)
    pair(lambda one, variant: _same_sku(one, variant) and skus[fold(variant.sku)] == 1)
    return found


def option_names(draft: Draft, product: ShopProduct) -> dict[str, str] | None:
    """The product's name for each of the draft's options; None when the two do not fit.

    One option may have been renamed by the merchant: it is the one left over on both sides.
    """
    ours, theirs = list(draft.plan.option_names), list(product.option_values)
    if len(ours) != len(theirs):
        return None
    by_key = {option_key(name): name for name in theirs}
    names = {name: by_key[option_key(name)] for name in ours if option_key(name) in by_key}
    left = [name for name in ours if name not in names]
    free = [name for name in theirs if name not in names.values()]
    if len(left) > 1 or len(left) != len(free):
        return None
    return {name: names.get(name) or free[0] for name in ours}


def spelled(value: str, product: ShopProduct, option: str) -> str:
    """An option value as the product spells it already, else as we do."""
    return next((one for one in product.option_values.get(option, ()) if fold(one) == fold(value)), value)


def agrees(draft: Draft, product: ShopProduct) -> bool:
    """Whether vendor or title say that an equal SKU is no accident."""
    vendors = {slug(draft.plan.vendor), slug(product.vendor)}
    if len(vendors) == 1 and vendors != {""}:
        return True
    ours, theirs = (set(slug(title).split("-")) - {""} for title in (draft.plan.title, product.title))
    shorter = min(ours, theirs, key=len)
    return bool(ours) and (ours == theirs or (len(shorter) > 1 and shorter == ours & theirs))


def same_article(one: DraftVariant, variant: ShopVariant) -> bool:
    """Whether GTIN or SKU are equal: worth a look, not yet a match."""
    return _same_gtin(one, variant) or _same_sku(one, variant)


def _among(
    draft: Draft, candidates: Sequence[ShopProduct], by: str, hits: Mapping[str, Sequence[ShopVariant]]
) -> Match:
    """The draft among the products that were hit: one of them, or its variants spread over several."""
    products = {one.id: one for one in candidates}
    hit = [products[name] for name in dict.fromkeys(v.product_id for found in hits.values() for v in found)]
    if problem := _sold_by_the_case(draft, hits, products):
        return unclear(draft, "sold_by_the_case", problem)
    if len(hit) == 1:
        match = existing(draft, hit[0], by)
        lost = [name for name in match.missing if name in hits and not _is_style(draft, name)]
        return _several(draft, by, hits[lost[0]], products) if lost else match
    doubled = next((found for found in hits.values() if len(found) > 1), None)
    if doubled or hits.keys() != {one.id for one in draft.variants}:
        return _several(draft, by, doubled or [found[0] for found in hits.values()], products)
    variants = {name: found[0] for name, found in hits.items()}
    if len({one.id for one in variants.values()}) < len(variants):
        return _several(draft, by, list(variants.values()), products)
    first = hit[0]
    return Match(
        draft.id,
        Verdict.EXISTING,
        product_id=first.id,
        title=first.title,
        status=first.status,
        by=by,
        variants=variants,
        linked=bool(first.link),
    )


def _hits(
    draft: Draft, candidates: Iterable[ShopProduct], same: Callable[[DraftVariant, ShopVariant], bool]
) -> dict[str, list[ShopVariant]]:
    shelf = [variant for product in candidates for variant in product.variants]
    found = {one.id: [variant for variant in shelf if same(one, variant)] for one in draft.variants}
    return {name: variants for name, variants in found.items() if variants}


def _several(draft: Draft, by: str, found: Sequence[ShopVariant], products: Mapping[str, ShopProduct]) -> Match:
    code = {"gtin": f"barcode {found[0].barcode}", "sku": f"SKU {found[0].sku}"}[by]
    titles = ", ".join(dict.fromkeys(f"“{products[one.product_id].title}”" for one in found))
    reason = f"“{draft.plan.title}”: {code} fits {len(found)} variants in the shop ({titles})."
    return unclear(draft, "several_matches", reason)


def _only_the_sku(draft: Draft, candidates: Sequence[ShopProduct], hit: ShopVariant) -> Match:
    product = next(one for one in candidates if one.id == hit.product_id)
    of = f" by {product.vendor}" if product.vendor else ""
    reason = f"“{draft.plan.title}”: the shop has SKU {hit.sku} on “{product.title}”{of}; is that the same article?"
    return unclear(draft, "only_the_sku", reason)


def _sold_by_the_case(
    draft: Draft, hits: Mapping[str, Sequence[ShopVariant]], products: Mapping[str, ShopProduct]
) -> str:
    """Why units of this order are not units of the shop: a variant that is sold by the case is not split."""
    for one in draft.variants:
        for variant in hits.get(one.id, ()):
            there = pack_size(products[variant.product_id].title, *variant.options.values())
            if there > 1 and there != pack_size(draft.plan.title, *one.plan.options.values()):
                title = products[variant.product_id].title
                return (
                    f"“{draft.plan.title}”: the shop sells “{title}” by {there}, "
                    f"this order counts {one.plan.quantity:,} single units."
                )
    return ""


def pack_size(*words: str) -> int:
    """How many pieces a title or option says one unit has; 1 when it says nothing."""
    found = _PACK.search(" / ".join(words))
    return int(found[1] or found[2]) if found else 1


def _why_not_added(draft: Draft, product: ShopProduct, missing: Sequence[str]) -> tuple[str, str] | None:
    """Why variants cannot be added to a product as it is now."""
    lacking = [one for one in draft.variants if one.id in missing]
    label = ", ".join(one.plan.sku or " / ".join(one.plan.options.values()) or one.id for one in lacking)
    if option_names(draft, product) is None or not product.option_values:
        has = " and ".join(product.option_values) or "no options"
        wants = " and ".join(draft.plan.option_names) or "none"
        reason = f"“{product.title}” has {has} in the shop, this order names {wants}: add {label} there by hand."
        return "options_differ", reason
    return None


def _is_style(draft: Draft, name: str) -> bool:
    """Whether a variant's SKU is a style number: others of the draft carry it too."""
    skus = Counter(fold(one.plan.sku) for one in draft.variants)
    return any(skus[fold(one.plan.sku)] > 1 for one in draft.variants if one.id == name)


def _same_gtin(one: DraftVariant, variant: ShopVariant) -> bool:
    """Equal GTINs; a UPC of 12 digits is the EAN of 13 with a zero before it."""
    return bool(one.plan.gtin) and gtin14(one.plan.gtin) == gtin14(variant.barcode)


def _same_sku(one: DraftVariant, variant: ShopVariant) -> bool:
    return bool(one.plan.sku) and fold(one.plan.sku) == fold(variant.sku)


def _renamed(one: DraftVariant, names: Mapping[str, str]) -> dict[str, str]:
    return {names[name]: value for name, value in one.plan.options.items() if name in names}


def _folded(options: Mapping[str, str]) -> dict[str, str]:
    return {fold(name): fold(value) for name, value in options.items()}
