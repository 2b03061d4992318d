"""The holes in the pipeline: what stages need from outside, as small protocols. `app/` fills them.

A port exists where a stage must reach beyond the process or the run; everything else is a plain call.
Adapters translate: a vendor's exception becomes one of `pipeline.errors` and never leaves `app/`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

from pipeline.domain.merchant import Merchant
from pipeline.domain.plan import Plan
from pipeline.domain.purchase_order import ExtractedOrder
from pipeline.domain.results import Draft, EnrichedLine, NormalizedLine, PricedLine
from pipeline.domain.shop import ShopProduct, ShopVariant
from pipeline.domain.standing import OrderStanding
from pipeline.domain.undo import Creation

# --------------------------------------------------------------------------------- documents and reading


@dataclass(frozen=True, slots=True)
class Document:
    """A merchant's file. `name` is as uploaded and hostile; the type is decided by content."""

    id: str
    name: str
    content: bytes
    sha256: str
    mime: str = ""


class Documents(Protocol):
    """Where files are."""

    async def load(self, document_id: str) -> Document:
        """The document's bytes. Raises Reject("missing_file") when it is not there."""
        ...


@dataclass(frozen=True, slots=True)
class Reading:
    """What reading without a model found: an order, or why not, and what a model would be shown.

    `unreadable` is empty when `order` is set. `text` is the plain text found, `pages` are PNG images of
    scanned pages for a model that sees.
    """

    order: ExtractedOrder | None
    unreadable: str = ""
    text: str = ""
    pages: tuple[bytes, ...] = ()


class Reader(Protocol):
    """Reads structured documents without a model, in a bounded child process."""

    async def read(self, document: Document, own_names: Sequence[str]) -> Reading:
        """Read one document. `own_names` are the merchant's: evidence against being the supplier.

        Raises Retry when the child process was killed (memory, time), Reject when the file is refused.
        """
        ...


@dataclass(frozen=True, slots=True)
class ModelReply:
    """A model's reading, checked against the schema, and what it cost."""

    order: ExtractedOrder
    model: str
    input_tokens: int
    output_tokens: int


class Model(Protocol):
    """A language model that sees. Its output is untrusted."""

    @property
    def configured(self) -> bool:
        """Whether there is a key at all."""
        ...

    async def extract(self, document: Document, reading: Reading, own_names: Sequence[str]) -> ModelReply:
        """Extract an order. Raises Reject when the model refuses or cannot, VendorUnavailable when it is down."""
        ...

    async def enrich(
        self, merchant: Merchant, lines: Sequence[NormalizedLine], prices: Sequence[PricedLine]
    ) -> tuple[Sequence[EnrichedLine], str]:
        """Better words for products, and the model's name."""
        ...


# --------------------------------------------------------------------------------- what we know already


@dataclass(frozen=True, slots=True)
class SupplierRecord:
    """A supplier of this merchant. `orders_confirmed` counts orders a person or rule approved before."""

    id: str
    name: str
    normalized_name: str
    tax_id: str
    email: str
    website: str
    orders_confirmed: int


@dataclass(frozen=True, slots=True)
class SupplierItem:
    """The memory: this supplier's article is that variant. The match that makes the second order easy."""

    sku: str
    gtin: str
    draft_id: str
    draft_variant_id: str
    product_key: str
    variant_key: str
    units_per_pack: int | None
    last_cost: Decimal | None
    currency: str


class Suppliers(Protocol):
    """The merchant's suppliers and what they sold before."""

    async def list_suppliers(self, merchant_id: str) -> Sequence[SupplierRecord]:
        """All suppliers of a merchant, at most 5,000."""
        ...

    async def items(self, supplier_id: str) -> Sequence[SupplierItem]:
        """The memory of one supplier."""
        ...


@dataclass(frozen=True, slots=True)
class OrderRecord:
    """A purchase order as stored, with the run that wrote it."""

    id: str
    supplier_id: str
    key: str
    revision: int
    content_hash: str
    state: str


@dataclass(frozen=True, slots=True)
class Incoming:
    """Units of one item our orders have told a shop to expect: exact while nothing is under way, else within bounds.

    `least` counts what is recorded and no receipt is about to take; `most` what may have been told by now.
    """

    least: int
    most: int


class Orders(Protocol):
    """Purchase orders as stored."""

    async def get(self, order_id: str) -> OrderRecord:
        """The order of that id."""
        ...

    async def find_same_document(self, merchant_id: str, sha256: str, other_than_run: str) -> str | None:
        """The number of an order made from the very same bytes by another run, or None; empty if it is under way."""
        ...

    async def standing(self, order_id: str) -> OrderStanding:
        """What the shop was told of this order so far, counting what a receipt under way is about to take."""
        ...

    async def incoming(
        self, merchant_id: str, location_id: str, inventory_item_ids: Sequence[str], draft_variant_ids: Sequence[str]
    ) -> Mapping[str, Incoming]:
        """What all the merchant's orders have in `incoming` there, by inventory item.

        `draft_variant_ids` are the same goods, for orders so new that nobody has written down which items theirs are.
        """
        ...


class DraftStore(Protocol):
    """Product drafts as stored, with where they live in the shop (product_id empty until confirmed)."""

    async def of_run(self, run_id: str) -> Sequence[StoredDraft]:
        """The drafts this run's order touches, in line order."""
        ...


@dataclass(frozen=True, slots=True)
class StoredVariant:
    """A draft's variant with its place in the shop, empty until it has one."""

    draft_variant_id: str
    variant_key: str
    variant_id: str
    inventory_item_id: str


NEW_PRODUCT = "new"
"""A person's choice: whatever the shop holds, this draft is an article of its own."""


@dataclass(frozen=True, slots=True)
class StoredDraft:
    """A draft with its place in the shop and the quantities this run's order expects.

    `choice` is what a person decided it is: NEW_PRODUCT, a product's id, or empty; `choices` counts decisions, each of
    which begins anew. `elsewhere` are products of other drafts of this merchant that share a GTIN with it, also those
    that another run has created and not recorded yet. `pictures` counts its candidates that nobody has tried yet.
    """

    draft: Draft
    product_id: str
    variants: tuple[StoredVariant, ...]
    choice: str = ""
    choices: int = 0
    elsewhere: tuple[str, ...] = ()
    pictures: int = 0

    @property
    def custom_id(self) -> str:
        """What the product carries in the shop; another one after each decision, so that no old product answers."""
        return f"{self.draft.id}-{self.choices}" if self.choices else self.draft.id


@dataclass(frozen=True, slots=True)
class ApprovedPlan:
    """The plan a person approved, and the entry of the run it was approved for."""

    entry: int
    plan: Plan


class Plans(Protocol):
    """Plans as approved."""

    async def approved(self, run_id: str) -> ApprovedPlan | None:
        """The plan approved last for this run; None when a rule approved it, or a person without a plan."""
        ...


@dataclass(frozen=True, slots=True)
class ReceiptLine:
    """What came in for one variant: units taken into stock, units sent back or broken."""

    draft_variant_id: str
    inventory_item_id: str
    accepted: int
    rejected: int


class Creations(Protocol):
    """What orders created in a shop."""

    async def of_order(self, order_id: str) -> Sequence[Creation]:
        """The products the order created, by title; those it only found or grew are the merchant's."""
        ...


@dataclass(frozen=True, slots=True)
class ReceiptRecord:
    """A receipt as a person entered it. `action` is receive; or close, cancel or undo, and then it has no lines."""

    action: str
    lines: tuple[ReceiptLine, ...]


class Receipts(Protocol):
    """Receipts as people entered them."""

    async def receipt(self, receipt_id: str) -> ReceiptRecord:
        """The receipt of that id."""
        ...


@dataclass(frozen=True, slots=True)
class SentFile:
    """What was last uploaded for a picture, and when that was confirmed: only after it was an attach asked for."""

    key: str
    at: datetime
    sha256: str
    phash: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class StoredImage:
    """A candidate picture of a draft that lives in the shop. `sent` is what earlier attempts of the run uploaded."""

    id: str
    draft_id: str
    product_id: str
    url: str
    position: int
    alt: str
    state: str
    sent: SentFile | None = None


class ImageStore(Protocol):
    """Candidate pictures as stored."""

    async def of_run(self, run_id: str) -> Sequence[StoredImage]:
        """This run's candidates that have no final state yet, by draft and position."""
        ...

    async def hung(self, merchant_id: str, product_ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """By product the phashes of all we ever hung there, for whichever order, also of what was taken down since."""
        ...


# --------------------------------------------------------------------------------- the effect ledger


@dataclass(frozen=True, slots=True)
class Effect:
    """One intended change in the outside world. `external` is the vendor's answer once confirmed.

    `fresh` is true when this very call wrote the intent: only then is it certain that nothing was sent.
    """

    key: str
    state: str
    parameters: Mapping[str, Any]
    external: Mapping[str, Any]
    intended_at: datetime
    fresh: bool


class EffectStore(Protocol):
    """The ledger's table. Both writes are fenced: a stale worker gets LeaseLost."""

    async def find(self, key: str) -> Effect | None:
        """What stands there under that key, None if nothing does."""
        ...

    async def intend(self, run: str, fence: int, key: str, parameters: Mapping[str, Any]) -> Effect:
        """Write the intent, or return what stands there already (with its first parameters).

        Raises AnothersTurn while another run does the same; and where `parameters` has `looked_at` (see
        `pipeline.shopkeeping.products.creation`), for an article that another run of the merchant is about to bring
        into the shop, or has brought there as a product that is not among those.
        """
        ...

    async def confirm(self, run: str, fence: int, key: str, external: Mapping[str, Any]) -> None:
        """Write the vendor's answer beside the intent."""
        ...


# --------------------------------------------------------------------------------- the shop


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


# --------------------------------------------------------------------------------- images


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """A checked, re-encoded picture. `phash` as in `pipeline.domain.pictures`."""

    content: bytes
    mime: str
    width: int
    height: int
    sha256: str
    phash: str


class Images(Protocol):
    """Fetches and checks pictures from hostile addresses."""

    async def fetch(self, url: str, *, allowed_hosts: Sequence[str]) -> EncodedImage:
        """Download, decode under limits, drop metadata, re-encode.

        Raises Reject with the reason, VendorUnavailable when the host cannot be reached.
        """
        ...


# --------------------------------------------------------------------------------- who watches


class Progress(Protocol):
    """Tells upstream's user interface and our page what happens. Losing a message loses nothing."""

    async def tell(self, run_id: str, stage: str, event: str, details: Mapping[str, Any]) -> None:
        """One event: started, progress, finished, retrying, failed, review."""
        ...
