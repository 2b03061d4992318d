"""Shopify's search syntax as far as it is used here: `field:value` terms, a space or AND between, OR around."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

from app.sandbox.call import Call, refused

if TYPE_CHECKING:
    from app.sandbox.state import Product, Variant

Term = tuple[str, str]
_TERM = re.compile(r"""(\w+):(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|(\S+))""")

_IN_WORDS = {"sku", "title", "vendor"}
"""Shopify's search is fuzzy: text is indexed in words, so `sku:"A-1"` finds "A-1-XL" too (how far it goes is not
settled); who wants the exact one compares again."""


def matching_variants(call: Call, query: str | None) -> list[Variant]:
    """The variants a query finds; an SKU is not unique, so it may find several."""
    groups = _groups(query)
    return [
        variant
        for product, variant in call.shop.variants()
        if _indexed(call, variant) and _matches({**_of_product(product), **_of_variant(variant)}, groups)
    ]


def matching_products(call: Call, query: str | None) -> list[Product]:
    """The products a query finds; a variant's fields find its product."""
    groups = _groups(query)
    return [
        product
        for product in call.shop.products.values()
        if _indexed(call, product) and _matches(_of_whole_product(product), groups)
    ]


def _indexed(call: Call, thing: Product | Variant) -> bool:
    """Search indexes lag writes (seen in captures): look a new thing up by id, not by search."""
    return call.at - thing.created_at >= timedelta(seconds=call.shop.settings.search_lag_s)


def _groups(query: str | None) -> list[list[Term]]:
    """Alternatives, each a list of terms that must all hold."""
    if not query or not query.strip():
        return [[]]
    return [_terms(part) for part in re.split(r"\s+OR\s+", query.strip("() "))]


def _terms(part: str) -> list[Term]:
    rest = re.sub(r"\bAND\b", " ", _TERM.sub(" ", part)).strip("() ")
    if rest:
        raise refused(f"The sandbox cannot search for {rest!r}: only field:value terms", "NOT_IN_SANDBOX")
    terms = []
    for name, double, single, bare in _TERM.findall(part):
        value = re.sub(r"\\(.)", r"\1", double or single) or bare.rstrip(")")
        terms.append((name, value.casefold()))
    return terms


def _matches(values: dict[str, set[str]], groups: list[list[Term]]) -> bool:
    return any(all(_holds(values, name, wanted) for name, wanted in terms) for terms in groups)


def _holds(values: dict[str, set[str]], name: str, wanted: str) -> bool:
    if name not in values:
        raise refused(f"The sandbox cannot search by {name!r}", "NOT_IN_SANDBOX")
    held = {value.casefold() for value in values[name]}
    if wanted.endswith("*"):
        return any(value.startswith(wanted[:-1]) for value in held)
    if name in _IN_WORDS:
        return any(_phrase_in(_words(wanted), _words(value)) for value in held)
    return wanted in held


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def _phrase_in(phrase: list[str], words: list[str]) -> bool:
    ends = range(len(phrase), len(words) + 1)
    return bool(phrase) and any(words[end - len(phrase) : end] == phrase for end in ends)


def _of_variant(variant: Variant) -> dict[str, set[str]]:
    return {
        "id": {variant.id, variant.id.rpartition("/")[2]},
        "sku": {variant.sku} if variant.sku else set(),
        "barcode": {variant.barcode} if variant.barcode else set(),
    }


def _of_product(product: Product) -> dict[str, set[str]]:
    return {
        "product_id": {product.id, product.id.rpartition("/")[2]},
        "product_status": {product.status},
        "title": {product.title},
        "handle": {product.handle},
        "vendor": {product.vendor},
        "product_type": {product.product_type},
        "tag": set(product.tags),
    }


def _of_whole_product(product: Product) -> dict[str, set[str]]:
    of_variants = [_of_variant(variant) for variant in product.variants]
    return {
        **_of_product(product),
        "id": {product.id, product.id.rpartition("/")[2]},
        "status": {product.status},
        "sku": set().union(*(one["sku"] for one in of_variants)),
        "barcode": set().union(*(one["barcode"] for one in of_variants)),
    }
