"""A merchant and the rules they chose. Every default is the safe one (nothing goes live unasked)."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from enum import StrEnum

from pipeline.domain.values import Value


class StockPolicy(StrEnum):
    """What approving an order does to the shop's stock.

    A document is not a delivery: the default announces goods as `incoming`, which nobody can buy.
    """

    RECORD = "record"
    INCOMING = "incoming"
    AVAILABLE = "available"


class CostPolicy(StrEnum):
    """Which variants get the document's cost. Shopify holds one cost per item: overwriting revalues stock.

    `weighted_average` weighs what is on the shelf at its cost against what was ordered at the document's.
    """

    NEW_VARIANTS_ONLY = "new_variants_only"
    LATEST = "latest"
    WEIGHTED_AVERAGE = "weighted_average"
    NEVER = "never"


class Rounding(StrEnum):
    """How a computed retail price is finished."""

    NONE = "none"
    CENTS_99 = "x.99"
    CENTS_95 = "x.95"
    WHOLE = "whole"


class ExchangeRate(Value):
    """Units of the shop's currency for one unit of the foreign one, and the day that was true."""

    rate: Decimal
    on: date


class CategoryRule(Value):
    """A line whose text holds one of the keywords gets this product type and these tags."""

    keywords: tuple[str, ...]
    product_type: str
    tags: tuple[str, ...] = ()


class MerchantSettings(Value):
    """A merchant's rules, versioned as a whole. `markup` multiplies the unit cost (2.0 doubles it)."""

    names: tuple[str, ...] = ()
    auto_approve: bool = False
    confidence_threshold: float = 0.8
    review_first_orders: int = 3
    stock_on_approve: StockPolicy = StockPolicy.INCOMING
    cost_on_approve: CostPolicy = CostPolicy.NEW_VARIANTS_ONLY
    location_id: str = ""
    currency: str = "USD"
    markup: Decimal = Decimal("2.0")
    rounding: Rounding = Rounding.CENTS_99
    categories: tuple[CategoryRule, ...] = ()
    exchange_rates: dict[str, ExchangeRate] = {}
    enrich: bool = False
    search_images: bool = False
    default_tags: tuple[str, ...] = ()
    image_hosts: tuple[str, ...] = ()


class Merchant(Value):
    """Who owns the run: our id (upstream's Merchant.id), the shop's domain, the rules in force."""

    id: str
    name: str
    shop_domain: str
    settings: MerchantSettings = MerchantSettings()
    settings_version: int = 1
