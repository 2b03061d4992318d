"""What a shop holds of one product, asked before it is told: a refusal in our words costs no call.

Shopify 2026-10 (integrations.md B, limits): 2,048 variants, 3 options, 100 values per option, texts of 255 characters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal

from pipeline.domain.identifiers import fold
from pipeline.domain.matching import option_names, spelled
from pipeline.domain.options import MAX_OPTIONS
from pipeline.domain.purchase_order import Doubt
from pipeline.domain.results import Draft, PlannedProduct
from pipeline.domain.shop import ShopProduct
from pipeline.domain.wording import TEXT_LIMIT

VARIANTS_MAX = 2048
VALUES_MAX = 100
COST_MAX = Decimal(10) ** 18


def beyond(plan: PlannedProduct) -> Doubt | None:
    """Why no shop holds this product as planned, in words for the merchant; None when one does."""
    if len(plan.variants) > VARIANTS_MAX:
        message = f"“{plan.title}” has {len(plan.variants):,} variants; a shop holds {VARIANTS_MAX:,} per product."
        return Doubt(code="too_many_variants", message=message)
    message = _options(plan) or _unfit(plan)
    return Doubt(code="beyond_limits", message=message) if message else None


def beyond_with(product: ShopProduct, draft: Draft, lacking: Sequence[str]) -> str:
    """Why a product cannot take these variants as well; empty when it can."""
    total = len(product.variants) + len(lacking)
    if total > VARIANTS_MAX:
        return f"“{product.title}” would have {total:,} variants; a shop holds {VARIANTS_MAX:,} per product."
    names = option_names(draft, product) or {}
    for ours, theirs in names.items():
        added = {spelled(one.plan.options[ours], product, theirs) for one in draft.variants if one.id in lacking}
        values = {*product.option_values[theirs], *added}
        if len(values) > VALUES_MAX:
            return f"“{product.title}” would have {len(values)} values of {theirs}; a shop holds {VALUES_MAX}."
    return ""


def _options(plan: PlannedProduct) -> str:
    if len(plan.option_names) > MAX_OPTIONS:
        return f"“{plan.title}” has {len(plan.option_names)} options; a shop holds {MAX_OPTIONS}."
    for name in plan.option_names:
        values = {one.options[name] for one in plan.variants}
        if len(values) > VALUES_MAX:
            return f"“{plan.title}” has {len(values)} values of {name}; a shop holds {VALUES_MAX} per option."
    tuples = Counter(_values(one.options) for one in plan.variants)
    options, times = tuples.most_common(1)[0] if tuples else ((), 0)
    if times > 1:
        what = " / ".join(options) or "the same article"
        return f"“{plan.title}” has {times} variants that are {what}; a shop tells variants apart by their options."
    return ""


def _unfit(plan: PlannedProduct) -> str:
    """The first text or amount no shop takes. Stage 6 cuts texts to size, so this is for what it did not make."""
    texts = {"title": plan.title, "vendor": plan.vendor, "product type": plan.product_type}
    texts |= {f"SKU {one.sku[:20]}": one.sku for one in plan.variants} | {name[:20]: name for name in plan.option_names}
    long = next((name for name, text in texts.items() if len(text) > TEXT_LIMIT), None)
    if not plan.title.strip():
        return "A product of this order has no title."
    if long is not None:
        return f"“{plan.title[:60]}”: its {long} is longer than {TEXT_LIMIT} characters."
    amounts = [amount for one in plan.variants for amount in (one.price, one.unit_cost) if amount is not None]
    if any(not 0 <= amount < COST_MAX for amount in amounts):
        return f"“{plan.title}” has a price or cost that no shop takes."
    return ""


def _values(options: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(fold(options[name]) for name in sorted(options))
