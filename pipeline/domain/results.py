"""What each stage finds out: one value per stage, stored in the journal, read by later stages.

Later stages read these from `StageInput.earlier`; the recorder (`app/db/record.py`) also spreads
some of them over tables people query. Ids of drafts and variants are derived (UUIDv5), never drawn,
so a stage that runs twice names the same things the same way.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from pipeline.domain.plan import Plan
from pipeline.domain.purchase_order import DocumentKind, Doubt, ExtractedLine, ExtractedOrder, LineKind
from pipeline.domain.values import Value


class ParsedDocument(Value):
    """1 ai-parsing: the order as read. `reader` says by what (csv, xlsx, pdf, model ..)."""

    order: ExtractedOrder
    sha256: str
    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0


class SupplierChoice(Value):
    """Which supplier a document is from: an existing one (`id`) or a new one by name."""

    id: str | None
    name: str
    normalized_name: str
    tax_id: str = ""
    email: str = ""
    website: str = ""
    matched_by: str = "new"
    score: float = 1.0


class OrderToSave(Value):
    """2 database-save: the purchase order (or its next revision), its lines and its supplier.

    `key` is the number people know, or `document:<sha256>` when the paper has none; orders are unique
    on (merchant, supplier, key). `content_hash` decides whether the same number again is a revision.
    """

    supplier: SupplierChoice
    number: str
    key: str
    content_hash: str
    kind: DocumentKind
    order_date: date | None
    due_date: date | None
    currency: str
    subtotal: Decimal | None
    tax: Decimal | None
    freight: Decimal | None
    discount: Decimal | None
    total: Decimal | None
    confidence: float
    lines: tuple[ExtractedLine, ...]
    doubts: tuple[Doubt, ...] = ()


class NormalizedLine(Value):
    """A goods line in units a shop can hold: each, whole numbers, clean codes.

    `quantity` counts retail units expected to arrive (packs multiplied out, backorders not counted);
    `unit_cost` is per retail unit in the document's currency, net. `packs` explains the arithmetic
    ("2 cases x 12 = 24 units"), empty when nothing was converted.
    """

    position: int
    kind: LineKind
    sku: str
    gtin: str
    name: str
    product_name: str
    options: dict[str, str] = {}
    quantity: int
    unit_cost: Decimal | None
    retail_price: Decimal | None = None
    packs: str = ""
    image_url: str = ""
    confidence: float = 1.0


class NormalizedOrder(Value):
    """3 data-normalization: every line that is goods, cleaned."""

    currency: str
    lines: tuple[NormalizedLine, ...]
    doubts: tuple[Doubt, ...] = ()


class PricedLine(Value):
    """What a merchant's rules make of one line. `unit_cost` is in the shop's currency or None."""

    position: int
    unit_cost: Decimal | None
    price: Decimal | None
    price_rule: str
    product_type: str = ""
    tags: tuple[str, ...] = ()


class PricedOrder(Value):
    """4 merchant-config: prices, categories and tags, line by line, in the shop's currency."""

    currency: str
    lines: tuple[PricedLine, ...]
    doubts: tuple[Doubt, ...] = ()


class EnrichedLine(Value):
    """Words for one line's product."""

    position: int
    title: str
    description_html: str = ""
    product_type: str = ""
    tags: tuple[str, ...] = ()


class Enrichment(Value):
    """5 ai-enrichment: better words; `skipped` says why there are none."""

    lines: tuple[EnrichedLine, ...] = ()
    skipped: str = ""
    model: str = ""


class PlannedVariant(Value):
    """One sellable thing. `positions` are the order lines it stands for; `quantity` their sum."""

    variant_key: str
    positions: tuple[int, ...]
    sku: str
    gtin: str
    options: dict[str, str]
    quantity: int
    unit_cost: Decimal | None
    price: Decimal | None


class PlannedProduct(Value):
    """Lines that belong to one product page. `product_key` names it within its supplier, for ever."""

    product_key: str
    title: str
    description_html: str
    vendor: str
    product_type: str
    tags: tuple[str, ...]
    option_names: tuple[str, ...]
    variants: tuple[PlannedVariant, ...]
    image_urls: tuple[str, ...] = ()


class ProductPlan(Value):
    """6 shopify-payload: the order's lines as products with variants and options."""

    products: tuple[PlannedProduct, ...]
    doubts: tuple[Doubt, ...] = ()


class DraftVariant(Value):
    """A variant of a draft; `id` is derived from (draft, variant key)."""

    id: str
    plan: PlannedVariant


class Draft(Value):
    """A product a person can review; `id` is derived from (merchant, supplier, product key)."""

    id: str
    plan: PlannedProduct
    variants: tuple[DraftVariant, ...]


class Drafts(Value):
    """7 product-draft-creation: once per product, whichever order names it first."""

    drafts: tuple[Draft, ...]
    doubts: tuple[Doubt, ...] = ()


class ImageCandidate(Value):
    """A picture to try; `id` is derived from (draft, url)."""

    id: str
    draft_id: str
    url: str
    source: str
    position: int


class ImageChoice(Value):
    """8 image-attachment: candidate pictures per draft, best first."""

    images: tuple[ImageCandidate, ...]
    doubts: tuple[Doubt, ...] = ()


class SyncedVariant(Value):
    """Where a draft variant lives in the shop."""

    draft_variant_id: str
    variant_id: str
    inventory_item_id: str
    created: bool


class SyncedProduct(Value):
    """Where a draft lives in the shop. `matched_by` says how a product of the merchant's was recognised (gtin, sku ..).

    It is empty for one we created, and for one whose place was known before.
    """

    draft_id: str
    product_id: str
    created: bool
    matched_by: str = ""
    variants: tuple[SyncedVariant, ...]


class StockMove(Value):
    """One quantity of one variant. `move` says which: announced (negative: taken back), received, rejected or surplus.

    Surplus units are counted among the received and rejected too: they are those nobody had announced.
    """

    draft_variant_id: str
    inventory_item_id: str
    quantity: int
    move: str


class FailedProduct(Value):
    """A draft that is not in the shop as it should be: why, in words for the merchant, with the way out."""

    draft_id: str
    code: str
    message: str
    line: int | None = None


class UndoneProduct(Value):
    """A product the undone order had created: archived, or left in the shop; then `left` says why."""

    draft_id: str
    product_id: str
    title: str
    left: str = ""


class ShippedLine(Value):
    """Units of one item that one of the shop's shipments announced, and how many of them were taken back since."""

    shipment_id: str
    transfer_id: str
    inventory_item_id: str
    quantity: int
    taken_back: int = 0


class ReceivedLine(Value):
    """Units of one item that came of one of the shop's shipments by this run."""

    shipment_id: str
    inventory_item_id: str
    accepted: int
    rejected: int


class ShopSync(Value):
    """9 shopify-sync: what now stands in the shop because of this run; `note` says what was not done and why.

    `ended` is the order's last state (closed or cancelled) when the run was to end it.
    `plan` is the plan that was applied where nobody had approved one. `undone` are the products of an undone order.
    """

    products: tuple[SyncedProduct, ...] = ()
    failures: tuple[FailedProduct, ...] = ()
    stock: tuple[StockMove, ...] = ()
    shipped: tuple[ShippedLine, ...] = ()
    received: tuple[ReceivedLine, ...] = ()
    location_id: str = ""
    location_name: str = ""
    note: str = ""
    ended: str = ""
    plan: Plan | None = None
    undone: tuple[UndoneProduct, ...] = ()


class RunOutcome(Value):
    """10 status-update: how the run ended, in words people read."""

    state: str
    summary: str


class AttachedImage(Value):
    """What became of one candidate: attached, duplicate, skipped (not ours to add) or failed, with the reason."""

    image_id: str
    state: str
    media_id: str = ""
    sha256: str = ""
    phash: str = ""
    width: int = 0
    height: int = 0
    reason: str = ""


class AttachedImages(Value):
    """11 background-image-processing: the fate of every candidate. Its failures mark images, not the run."""

    images: tuple[AttachedImage, ...] = ()


Output = (
    ParsedDocument
    | OrderToSave
    | NormalizedOrder
    | PricedOrder
    | Enrichment
    | ProductPlan
    | Drafts
    | ImageChoice
    | ShopSync
    | RunOutcome
    | AttachedImages
)
