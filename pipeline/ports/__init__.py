"""The holes in the pipeline: what stages need from outside, as small protocols. `app/` fills them.

A port exists where a stage must reach beyond the process or the run; everything else is a plain call.
Adapters translate: a vendor's exception becomes one of `pipeline.errors` and never leaves `app/`.
"""

from __future__ import annotations

from pipeline.ports.documents import Document, Documents, Model, ModelReply, Reader, Reading
from pipeline.ports.ledger import Effect, EffectStore
from pipeline.ports.pictures import EncodedImage, Images, ImageStore, SentFile, StoredImage
from pipeline.ports.progress import Progress
from pipeline.ports.records import (
    NEW_PRODUCT,
    ApprovedPlan,
    Creations,
    DraftStore,
    Incoming,
    OrderRecord,
    Orders,
    Plans,
    ReceiptLine,
    ReceiptRecord,
    Receipts,
    StoredDraft,
    StoredVariant,
    SupplierItem,
    SupplierRecord,
    Suppliers,
)
from pipeline.ports.shop import (
    DELETED,
    Came,
    QuantityChange,
    ShipmentLine,
    Shop,
    ShopFacts,
    ShopGallery,
    ShopLevel,
    ShopMedia,
    Shops,
    ShopTransfer,
    StockValue,
    TransferShop,
)

__all__ = [
    "DELETED",
    "NEW_PRODUCT",
    "ApprovedPlan",
    "Came",
    "Creations",
    "Document",
    "Documents",
    "DraftStore",
    "Effect",
    "EffectStore",
    "EncodedImage",
    "ImageStore",
    "Images",
    "Incoming",
    "Model",
    "ModelReply",
    "OrderRecord",
    "Orders",
    "Plans",
    "Progress",
    "QuantityChange",
    "Reader",
    "Reading",
    "ReceiptLine",
    "ReceiptRecord",
    "Receipts",
    "SentFile",
    "ShipmentLine",
    "Shop",
    "ShopFacts",
    "ShopGallery",
    "ShopLevel",
    "ShopMedia",
    "ShopTransfer",
    "Shops",
    "StockValue",
    "StoredDraft",
    "StoredImage",
    "StoredVariant",
    "SupplierItem",
    "SupplierRecord",
    "Suppliers",
    "TransferShop",
]
