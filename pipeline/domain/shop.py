"""A product as a merchant's shop shows it: what is compared with a draft, and nothing a shop's vendor calls its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class ShopVariant:
    """A variant as the shop has it. `options` are empty for the one variant of a product without options."""

    id: str
    inventory_item_id: str
    sku: str
    barcode: str
    options: Mapping[str, str]
    product_id: str = ""
    price: Decimal | None = None
    cost: Decimal | None = None


@dataclass(frozen=True, slots=True)
class ShopProduct:
    """A product as the shop has it, with all its variants.

    `option_values` are the values offered, by option name in the product's order; none without options.
    `link` is the draft whose custom id the product carries, empty when it carries none. `total_inventory` counts what
    can be sold, over all locations.
    """

    id: str
    title: str
    status: str
    variants: tuple[ShopVariant, ...]
    vendor: str = ""
    option_values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    link: str = ""
    product_type: str = ""
    tags: tuple[str, ...] = ()
    description_html: str = ""
    total_inventory: int = 0
