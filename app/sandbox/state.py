"""What one shop holds: plain values that survive a restart, and the few questions everybody asks them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel, Field

APP_ID = 1001
"""The number of the one app that is installed in every sandbox shop."""

ON_HAND_PARTS = ("available", "committed", "damaged", "quality_control", "reserved", "safety_stock")
"""Shopify: on_hand is the sum of these; `incoming` is goods that are not there yet."""

QUANTITY_NAMES = (*ON_HAND_PARTS, "incoming", "on_hand")

ALL_SCOPES = (
    "read_products",
    "write_products",
    "read_inventory",
    "write_inventory",
    "read_locations",
    "read_files",
    "write_files",
    "read_publications",
    "write_publications",
)

TRANSFER_SCOPES = (
    "write_inventory_transfers",
    "write_inventory_shipments",
    "write_inventory_shipments_received_items",
)
"""What an app needs to transfer goods; not granted unless a test says so, as in most installs."""


def now() -> datetime:
    """The instant, in UTC."""
    return datetime.now(UTC)


class Settings(BaseModel):
    """What a test may choose about a shop; the defaults are those of a Standard plan."""

    bucket_size: float = 2000
    restore_rate: float = 100
    latency_s: float = 0
    """How long each request takes; while it does, its requested points are gone."""
    latency_jitter_s: float = 0
    """Up to this much longer, evenly spread. Shopify's own figures are not published."""
    processing_s: float = 0.3
    """How long an image stays UPLOADED, then PROCESSING, before it is READY or FAILED."""
    upload_expires_s: float = 86400
    """[C] How long the signed policy of a POST target is good. A PUT target's week is not kept apart."""
    idempotency_retention_s: float = 86400
    """24 hours by one third-party note; Shopify's own figure is not known."""
    search_lag_s: float = 0
    """Search indexes lag writes: a search does not see what is younger than this."""
    incoming_moves_with: Literal["transfer", "shipment"] = "shipment"
    """Not settled: what makes a transfer's goods incoming."""
    refuses_moves: bool = False
    """Not settled: whether units may be moved from incoming to available. True says no to every move."""
    client_token_s: float = 86399
    """Life of a token from the client-credentials grant."""
    offline_token_s: float = 3600
    refresh_token_s: float = 90 * 86400
    refresh_once: bool = False
    """Whether a refresh token ends with its first use, which is stricter than Shopify has ever been."""
    refresh_revokes: bool = False
    """Whether a refresh ends the access tokens before it. Not settled."""
    bulk_s: float = 0.3
    """How long a bulk operation says RUNNING."""
    match_variants_by_options: bool = False
    """Whether productSet recognises a variant sent without id. Not documented; the stricter answer is no."""


class Metafield(BaseModel):
    """A value attached to a product, a variant or another resource."""

    id: str
    owner_id: str
    namespace: str
    key: str
    type: str
    value: str
    created_at: datetime = Field(default_factory=now)
    updated_at: datetime = Field(default_factory=now)


class MetafieldDefinition(BaseModel):
    """Declares what a metafield's value is; type `id` makes values unique and usable as a custom id."""

    id: str
    name: str
    namespace: str
    key: str
    owner_type: str
    type: str
    description: str | None = None
    unique_values: bool = False


class InventoryItem(BaseModel):
    """The countable thing behind a variant; one number per location and state."""

    id: str
    variant_id: str
    tracked: bool = False
    is_bundle: bool = False
    """A bundle's variants require components, which hold its stock; a test says so, nothing here makes one."""
    cost: str | None = None
    requires_shipping: bool = True
    country_code_of_origin: str | None = None
    harmonized_system_code: str | None = None
    weight: dict[str, Any] | None = None
    levels: dict[str, dict[str, int]] = Field(default_factory=dict)
    created_at: datetime = Field(default_factory=now)
    updated_at: datetime = Field(default_factory=now)

    def quantity(self, location_id: str, name: str) -> int:
        """How many there are in a state; on_hand is never stored, always summed."""
        level = self.levels.get(location_id, {})
        if name == "on_hand":
            return sum(level.get(part, 0) for part in ON_HAND_PARTS)
        return level.get(name, 0)

    def add(self, location_id: str, name: str, delta: int) -> None:
        """Change one stored state; the location is activated by its first quantity (2026-10: any location)."""
        level = self.levels.setdefault(location_id, {})
        level[name] = level.get(name, 0) + delta
        self.updated_at = now()


class Variant(BaseModel):
    """One thing that can be bought."""

    id: str
    inventory_item_id: str
    option_values: dict[str, str]
    sku: str | None = None
    barcode: str | None = None
    price: str = "0.00"
    compare_at_price: str | None = None
    inventory_policy: str = "DENY"
    taxable: bool = True
    media_ids: list[str] = Field(default_factory=list)
    created_at: datetime = Field(default_factory=now)
    updated_at: datetime = Field(default_factory=now)

    @property
    def title(self) -> str:
        """Shopify joins the option values, which is why a name may not contain ' / '."""
        return " / ".join(self.option_values.values())


class Option(BaseModel):
    """One way in which variants differ."""

    id: str
    name: str
    values: dict[str, str]
    """Value name -> id of the option value."""


class Product(BaseModel):
    """What a merchant sees as one product."""

    id: str
    title: str
    handle: str
    status: str = "ACTIVE"
    vendor: str = ""
    product_type: str = ""
    description_html: str = ""
    tags: list[str] = Field(default_factory=list)
    seo: dict[str, str | None] = Field(default_factory=dict)
    template_suffix: str | None = None
    category: str | None = None
    options: list[Option] = Field(default_factory=list)
    variants: list[Variant] = Field(default_factory=list)
    media_ids: list[str] = Field(default_factory=list)
    published_on: list[str] = Field(default_factory=list)
    created_at: datetime = Field(default_factory=now)
    updated_at: datetime = Field(default_factory=now)


class Media(BaseModel):
    """An image in the shop's files; its status follows from its age, so a restart loses nothing."""

    id: str
    alt: str | None = None
    original_source: str
    filename: str
    sha256: str | None = None
    size: int = 0
    width: int | None = None
    height: int | None = None
    mime_type: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    ready_at: datetime
    created_at: datetime = Field(default_factory=now)

    def status(self, at: datetime) -> str:
        """Files are asynchronous: UPLOADED, PROCESSING, then READY or FAILED."""
        left = self.ready_at - at
        if left <= timedelta():
            return "FAILED" if self.error_code else "READY"
        return "UPLOADED" if left > (self.ready_at - self.created_at) / 2 else "PROCESSING"


class Upload(BaseModel):
    """A staged upload target and, once posted to, the bytes that arrived."""

    key: str
    filename: str
    mime_type: str
    sha256: str | None = None
    size: int = 0
    created_at: datetime = Field(default_factory=now)


class Location(BaseModel):
    """Where stock is kept."""

    id: str
    name: str
    is_active: bool = True
    is_fulfillment_service: bool = False
    created_at: datetime = Field(default_factory=now)


class Publication(BaseModel):
    """A sales channel's list of products."""

    id: str
    name: str


class Change(BaseModel):
    """One row of an adjustment group."""

    name: str
    delta: int
    inventory_item_id: str
    location_id: str
    quantity_after_change: int
    ledger_document_uri: str | None = None


class AdjustmentGroup(BaseModel):
    """What one inventory mutation changed."""

    id: str
    reason: str
    reference_document_uri: str | None = None
    changes: list[Change] = Field(default_factory=list)
    created_at: datetime = Field(default_factory=now)


class TransferLine(BaseModel):
    """Units of one item on a transfer."""

    id: str
    inventory_item_id: str
    total_quantity: int
    shipped_quantity: int = 0


class Transfer(BaseModel):
    """Goods that are to come to a location."""

    id: str
    name: str
    reference_name: str | None = None
    note: str | None = None
    tags: list[str] = Field(default_factory=list)
    status: str = "READY_TO_SHIP"
    origin_id: str | None = None
    destination_id: str
    lines: list[TransferLine]
    date_created: datetime = Field(default_factory=now)


class ShipmentLine(BaseModel):
    """Units of one item on their way, and what came of them."""

    id: str
    inventory_item_id: str
    quantity: int
    accepted_quantity: int = 0
    rejected_quantity: int = 0

    @property
    def unreceived_quantity(self) -> int:
        """Neither accepted nor rejected yet."""
        return self.quantity - self.accepted_quantity - self.rejected_quantity


class Shipment(BaseModel):
    """Goods of a transfer that are on their way."""

    id: str
    name: str
    transfer_id: str
    status: str = "IN_TRANSIT"
    lines: list[ShipmentLine]


class ProductSetOperation(BaseModel):
    """The handle of an asynchronous productSet."""

    id: str
    product_id: str | None = None
    status: Literal["CREATED", "COMPLETE"] = "CREATED"
    user_errors: list[dict[str, Any]] = Field(default_factory=list)


class BulkOperation(BaseModel):
    """A bulk mutation; its status follows from its age."""

    id: str
    query: str
    objects: int
    sha256: str
    size: int
    ready_at: datetime
    created_at: datetime

    def status(self, at: datetime) -> str:
        """Shopify: CREATED, RUNNING, COMPLETED."""
        return "COMPLETED" if at >= self.ready_at else "RUNNING"


class Remembered(BaseModel):
    """The first result under an idempotency key, kept by ids so that a replay answers the same."""

    operation: str
    variables: str
    node_ids: dict[str, str | None]
    user_errors: list[dict[str, Any]]
    at: datetime = Field(default_factory=now)


class RefreshToken(BaseModel):
    """A refresh token, and the one that it was given for."""

    expires_at: datetime
    replaces: str = ""
    used: bool = False


class OAuth(BaseModel):
    """The app as the shop knows it, and the tokens it has been given."""

    client_id: str = ""
    client_secrets: list[str] = Field(default_factory=list)
    """Those not yet revoked, the oldest first: it signs the webhooks."""
    installed: bool = True
    access_tokens: dict[str, datetime] = Field(default_factory=dict)
    refresh_tokens: dict[str, RefreshToken] = Field(default_factory=dict)
    granted: dict[str, int] = Field(default_factory=dict)
    """Tokens given, by grant; only ever grows."""


class Subscription(BaseModel):
    """An address that is told of one topic."""

    id: str
    topic: str
    uri: str
    format: str = "JSON"
    created_at: datetime = Field(default_factory=now)
    updated_at: datetime = Field(default_factory=now)


class Shop(BaseModel):
    """Everything one shop holds."""

    domain: str
    token: str
    name: str
    currency: str = "USD"
    taxes_included: bool = False
    scopes: list[str] = Field(default_factory=lambda: list(ALL_SCOPES))
    settings: Settings = Field(default_factory=Settings)
    oauth: OAuth = Field(default_factory=OAuth)
    subscriptions: dict[str, Subscription] = Field(default_factory=dict)
    last_number: int = 1000
    locations: dict[str, Location] = Field(default_factory=dict)
    publications: dict[str, Publication] = Field(default_factory=dict)
    products: dict[str, Product] = Field(default_factory=dict)
    inventory_items: dict[str, InventoryItem] = Field(default_factory=dict)
    metafields: dict[str, Metafield] = Field(default_factory=dict)
    definitions: dict[str, MetafieldDefinition] = Field(default_factory=dict)
    media: dict[str, Media] = Field(default_factory=dict)
    uploads: dict[str, Upload] = Field(default_factory=dict)
    adjustments: dict[str, AdjustmentGroup] = Field(default_factory=dict)
    transfers: dict[str, Transfer] = Field(default_factory=dict)
    shipments: dict[str, Shipment] = Field(default_factory=dict)
    operations: dict[str, ProductSetOperation] = Field(default_factory=dict)
    bulk_operations: dict[str, BulkOperation] = Field(default_factory=dict)
    remembered: dict[str, Remembered] = Field(default_factory=dict)
    calls: dict[str, int] = Field(default_factory=dict)
    """Performed operations by name; a refused request is not one."""
    products_created: int = 0
    """Only ever grows, so a product created twice shows even after one was deleted."""

    def new_id(self, kind: str) -> str:
        """The next global id of a kind; numbers are never used twice."""
        self.last_number += 1
        return f"gid://shopify/{kind}/{self.last_number}"

    @property
    def primary_location_id(self) -> str:
        """The location quantities go to when none is named."""
        return next(iter(self.locations))

    def variants(self) -> Iterator[tuple[Product, Variant]]:
        """Every variant with its product."""
        for product in self.products.values():
            for variant in product.variants:
                yield product, variant

    def variant(self, variant_id: str) -> tuple[Product, Variant] | None:
        """A variant with its product, or None."""
        return next((pair for pair in self.variants() if pair[1].id == variant_id), None)

    def find_metafield(self, owner_id: str, namespace: str, key: str) -> Metafield | None:
        """The value an owner has under a key, or None."""
        for metafield in self.metafields.values():
            if (metafield.owner_id, metafield.namespace, metafield.key) == (owner_id, namespace, key):
                return metafield
        return None

    def find_definition(self, owner_type: str, namespace: str, key: str) -> MetafieldDefinition | None:
        """The definition that governs a key, or None."""
        for definition in self.definitions.values():
            if (definition.owner_type, definition.namespace, definition.key) == (owner_type, namespace, key):
                return definition
        return None

    def product_by_handle(self, handle: str) -> Product | None:
        """The product behind a storefront address, or None."""
        return next((product for product in self.products.values() if product.handle == handle), None)


def new_shop(
    domain: str,
    token: str,
    *,
    name: str | None = None,
    currency: str = "USD",
    taxes_included: bool = False,
    locations: tuple[str, ...] = ("Warehouse",),
    scopes: tuple[str, ...] = ALL_SCOPES,
    settings: Settings | None = None,
) -> Shop:
    """Open an empty shop with its locations and its online store."""
    shop = Shop(
        domain=domain,
        token=token,
        name=name or domain.partition(".")[0],
        currency=currency,
        taxes_included=taxes_included,
        scopes=list(scopes),
        settings=settings or Settings(),
    )
    for location_name in locations:
        location = Location(id=shop.new_id("Location"), name=location_name)
        shop.locations[location.id] = location
    publication = Publication(id=shop.new_id("Publication"), name="Online Store")
    shop.publications[publication.id] = publication
    return shop
