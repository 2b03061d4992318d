"""A merchant's shop, as far as stages must reach into it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from pipeline.domain.merchant import Merchant
from pipeline.domain.results import Draft
from pipeline.domain.shop import ShopProduct, ShopVariant


@dataclass(frozen=True, slots=True)
class ShopFacts:
    """What must be known before anything is written.

    `location_id` is empty when none could be chosen, and `location_note` says why (several active ones and
    none configured, a missing scope). `location_names` are all the shop's, by id.
    """

    currency: str
    taxes_included: bool
    location_id: str
    location_note: str
    scopes: frozenset[str]
    location_names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StockValue:
    """What the shop holds of a variant: one cost for all units, in its currency, and how many can be sold."""

    unit_cost: Decimal | None
    available: int


@dataclass(frozen=True, slots=True)
class ShopMedia:
    """A picture on a product. `status` is UPLOADED, PROCESSING, READY or FAILED.

    `sources` are the addresses the shop shows for it, none while it still works on it; they hold the name
    the picture was uploaded under, unless the shop chose another.
    """

    id: str
    status: str
    alt: str
    sources: tuple[str, ...] = ()
    error: str = ""


DELETED = "DELETED"
"""No status of a shop's: the product is gone."""


@dataclass(frozen=True, slots=True)
class ShopGallery:
    """A product's pictures in the product's order, and its `status`: DRAFT, ACTIVE, ARCHIVED, UNLISTED or DELETED."""

    status: str
    media: tuple[ShopMedia, ...]


@dataclass(frozen=True, slots=True)
class ShopLevel:
    """An inventory item as the shop has it at one location. `name` is what people call it.

    A bundle has no stock of its own: Shopify counts that of its components.
    """

    name: str
    tracked: bool
    bundle: bool
    incoming: int
    available: int
    history_url: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class QuantityChange:
    """`delta` units of one inventory item."""

    inventory_item_id: str
    delta: int


@dataclass(frozen=True, slots=True)
class ShopTransfer:
    """Goods on their way to a location, as the shop has them: units by inventory item, and the shipments made."""

    id: str
    quantities: Mapping[str, int]
    shipment_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ShipmentLine:
    """Units of one item on a shipment: what came of them in all, whoever received them, and what has not come."""

    id: str
    inventory_item_id: str
    accepted: int
    rejected: int
    unreceived: int


@dataclass(frozen=True, slots=True)
class Came:
    """Units of a shipment's line that came: taken into stock, or not."""

    line_id: str
    quantity: int
    accepted: bool


class TransferShop(Protocol):
    """A shop that has transfers of its own, and lets us use them (`pipeline.shopkeeping.native`)."""

    async def find_transfer(self, mark: str) -> ShopTransfer | None:
        """The transfer created for that announcement."""
        ...

    async def transfer(self, transfer_id: str) -> ShopTransfer:
        """The transfer of that id. Raises VendorRefused when it was deleted."""
        ...

    async def open_transfers(self, location_id: str, inventory_item_ids: Sequence[str]) -> Sequence[str]:
        """The names of transfers to that location that hold some of these items, and that we did not make."""
        ...

    async def create_transfer(
        self, *, key: str, mark: str, reference: str, location_id: str, changes: Sequence[QuantityChange]
    ) -> str:
        """A transfer to a location from nowhere, ready to be shipped, idempotent by `key`; returns its id."""
        ...

    async def ship_transfer(self, *, key: str, transfer_id: str, changes: Sequence[QuantityChange]) -> str:
        """Send a transfer's goods on their way, idempotent by `key`; returns the shipment's id."""
        ...

    async def shipment(self, shipment_id: str) -> Sequence[ShipmentLine]:
        """A shipment's lines; none when it was deleted."""
        ...

    async def receive_shipment(self, *, key: str, shipment_id: str, came: Sequence[Came]) -> None:
        """Say what came of a shipment, idempotent by `key`."""
        ...


class Shop(TransferShop, Protocol):
    """One merchant's shop. Raises VendorUnavailable, VendorRefused (permanent), ReplyLost never: ask again."""

    async def facts(self) -> ShopFacts:
        """Currency, location and scopes; makes sure our custom-id metafield definition exists."""
        ...

    async def find_product(self, custom_id: str) -> ShopProduct | None:
        """The product carrying our custom id."""
        ...

    async def find_by_id(self, product_id: str) -> ShopProduct | None:
        """The product of that id with all its variants; None when the merchant deleted it."""
        ...

    async def find_variants(self, *, skus: Sequence[str] = (), barcodes: Sequence[str] = ()) -> Sequence[ShopVariant]:
        """Variants that carry one of the SKUs or barcodes, exactly (neither is unique in Shopify).

        What was written a moment ago may be missing: the search lags writes. Raises VendorRefused("too_common")
        when more are found than can be looked at.
        """
        ...

    async def list_vanished(self, ids: Sequence[str]) -> frozenset[str]:
        """Which of these products and variants are no longer in the shop."""
        ...

    async def link(self, product_id: str, custom_id: str) -> None:
        """Put our custom id on a product that carries none; touches nothing else. One that has one keeps it."""
        ...

    async def create_product(self, draft: Draft, custom_id: str = "") -> ShopProduct:
        """Create a DRAFT product with our custom id (the draft's own if none is given), tracked, DENY, no quantities.

        Once per custom id: a repeat would overwrite what the merchant made of it.
        """
        ...

    async def start_bulk(self, name: str, drafts: Sequence[tuple[str, Draft]]) -> str:
        """Start creating these (custom id, draft) all at once; returns the operation's id. `name` is one for ever.

        Raises VendorRefused when the shop starts none: nothing has happened then.
        """
        ...

    async def find_bulk(self, name: str) -> str | None:
        """The operation started under that name, None if none was."""
        ...

    async def bulk_refusals(self, operation_id: str) -> Mapping[int, str] | None:
        """Why which lines (from 0) were refused, once it is over; None while it runs."""
        ...

    async def add_variants(self, product: ShopProduct, draft: Draft, variant_ids: Sequence[str]) -> ShopProduct:
        """Add the draft's variants of those ids to an existing product, in its words; touches nothing else."""
        ...

    async def archive_product(self, product_id: str) -> None:
        """Take a product out of sight; nothing of it is deleted. A repeat is harmless."""
        ...

    async def stock_values(self, product_id: str) -> Mapping[str, StockValue]:
        """Cost and units on hand of a product's variants, by variant id."""
        ...

    async def set_costs(self, product_id: str, costs: Mapping[str, Decimal]) -> None:
        """Set the unit cost of a product's variants, by variant id, in the shop's currency. A repeat is harmless."""
        ...

    async def levels(self, inventory_item_ids: Sequence[str], location_id: str) -> Mapping[str, ShopLevel]:
        """Those items at that location, by id; one that was deleted is missing."""
        ...

    async def adjust(
        self,
        *,
        key: str,
        name: str,
        reason: str,
        document: str,
        location_id: str,
        changes: Sequence[QuantityChange],
    ) -> str:
        """Change quantities of one state (`incoming`, ..) by deltas, idempotent by `key`; returns the group's id."""
        ...

    async def move(self, *, key: str, document: str, location_id: str, changes: Sequence[QuantityChange]) -> str:
        """Move units from incoming to available in one atomic call, idempotent by `key`."""
        ...

    async def gallery(self, product_id: str) -> ShopGallery:
        """The product's pictures; none, and DELETED, when the merchant deleted it."""
        ...

    async def upload_image(self, name: str, mime: str, content: bytes) -> str:
        """Staged upload; returns the resource URL to attach."""
        ...

    async def attach_image(self, product_id: str, resource_url: str, alt: str) -> ShopGallery:
        """Add one picture to a product (a repeat adds again: read the gallery first); the gallery with it."""
        ...


class Shops(Protocol):
    """The merchants' shops."""

    async def of(self, merchant: Merchant, tell: Callable[[str], Awaitable[None]] = ...) -> Shop:
        """A client for that merchant's shop, which says through `tell` when it waits for the shop.

        Raises Reject("no_shop") when none is connected, VendorUnavailable when it may not be called now.
        """
        ...
