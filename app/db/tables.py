"""Every table, in the schema `po`. Migrations build them; this file is what queries are written against.

Ids are texts (UUIDs, or derived UUIDv5 where the same thing must get the same name twice). Money is
NUMERIC beside its currency, instants are timestamptz, document dates are DATE, confidence is 0-1.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

SCHEMA = "po"
metadata = MetaData(
    schema=SCHEMA,
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    },
)


def _instant(name: str, *, now: bool = False) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=not now, server_default=func.now() if now else None)


def _json(name: str, default: str = "{}") -> Column[object]:
    return Column(name, JSONB, nullable=False, server_default=text(f"'{default}'::jsonb"))


def _words(name: str) -> Column[str]:
    """A text that is empty rather than unknown."""
    return Column(name, Text, nullable=False, server_default="")


merchants = Table(
    "merchants",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("shop_domain", Text, nullable=False, unique=True),
    _json("settings"),
    Column("settings_version", Integer, nullable=False, server_default="1"),
    _words("shop_endpoint"),
    Column("shop_token_sealed", LargeBinary),
    _instant("created_at", now=True),
)

# The shop's bucket of points as all replicas share it; see app.adapters.shopify.points. Written at every block taken.
shop_points = Table(
    "shop_points",
    metadata,
    Column("merchant_id", Text, ForeignKey(merchants.c.id, ondelete="CASCADE"), primary_key=True),
    Column("level", Float, nullable=False),
    _instant("level_at", now=True),
    Column("size", Float, nullable=False),
    Column("restore_rate", Float, nullable=False),
    Column("known", Boolean, nullable=False),
)

# Whether a shop may be called at all, and what it last said about itself; see app.db.shop_limits. Seldom written.
shop_states = Table(
    "shop_states",
    metadata,
    Column("merchant_id", Text, ForeignKey(merchants.c.id, ondelete="CASCADE"), primary_key=True),
    # Parked: a person must do something. `parked_operation` is what was denied, empty when all of it was.
    _words("parked_reason"),
    _words("parked_operation"),
    _instant("parked_at"),
    # Tripped: the shop fails, or told us to stay away. `trips` counts how often in a row.
    _words("tripped_reason"),
    _instant("tripped_at"),
    Column("trips", Integer, nullable=False, server_default="0"),
    # Until then nobody calls; afterwards whoever moves it on calls alone.
    _instant("ask_at"),
    _words("version_asked"),
    _words("version_served"),
    _json("scopes", "[]"),
    _instant("scopes_at"),
)

# How a shop's access token (merchants.shop_token_sealed) is got again; a token that was stored before there were
# grants has no row and never expires.
shop_grants = Table(
    "shop_grants",
    metadata,
    Column("merchant_id", Text, ForeignKey(merchants.c.id), primary_key=True),
    # static | client_credentials | offline
    Column("kind", Text, nullable=False),
    _words("client_id"),
    Column("client_secret_sealed", LargeBinary),
    Column("refresh_token_sealed", LargeBinary),
    # The one before it: usable until its replacement is first used.
    Column("spare_refresh_token_sealed", LargeBinary),
    _instant("expires_at"),
    # Grows with every token that is stored: whoever asked for one by an older number must not overwrite it.
    Column("generation", Integer, nullable=False, server_default="0"),
    # Who asks for the next token, and until when nobody else may.
    _words("renewing_by"),
    _instant("renewing_until"),
    # Why no further token can be got; empty while one can.
    _words("trouble"),
    _instant("connected_at", now=True),
    _instant("renewed_at"),
)

suppliers = Table(
    "suppliers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("merchant_id", Text, ForeignKey(merchants.c.id), nullable=False),
    Column("name", Text, nullable=False),
    Column("normalized_name", Text, nullable=False),
    _words("tax_id"),
    _words("email"),
    _words("website"),
    Column("orders_confirmed", Integer, nullable=False, server_default="0"),
    _instant("created_at", now=True),
    UniqueConstraint("merchant_id", "normalized_name"),
)

documents = Table(
    "documents",
    metadata,
    Column("id", Text, primary_key=True),
    Column("merchant_id", Text, nullable=False),
    Column("upload_id", Text, nullable=False),
    _words("name"),
    _words("mime"),
    _words("location"),
    _words("sha256"),
    Column("content", LargeBinary),
    _instant("created_at", now=True),
    UniqueConstraint("merchant_id", "upload_id"),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Text, primary_key=True),
    # No foreign key: a job for an unknown merchant still gets its run, so that its failure can be seen.
    Column("merchant_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("upload_id", Text),
    Column("workflow_id", Text, nullable=False),
    Column("document_id", Text, ForeignKey(documents.c.id)),
    Column("order_id", Text),
    Column("order_revision", Integer),
    Column("supplier_id", Text),
    Column("receipt_id", Text),
    Column("state", Text, nullable=False),
    Column("due_stage", Text),
    _instant("due_since"),
    Column("job_id", Text),
    Column("entry", Integer, nullable=False, server_default="0"),
    Column("fence", BigInteger, nullable=False, server_default="0"),
    Column("stall_baseline", Integer, nullable=False, server_default="0"),
    # Since when it waits at the door for its shop's turn; see app.db.door.
    _instant("parked_at"),
    _json("review", "[]"),
    _words("review_stage"),
    _words("approved_by"),
    _words("failed_stage"),
    _words("failure_code"),
    _words("failure"),
    _words("summary"),
    _words("upstream_order_id"),
    _instant("created_at", now=True),
    _instant("updated_at", now=True),
    _instant("finished_at"),
    Index("uq_runs_upload", "merchant_id", "upload_id", unique=True, postgresql_where=text("kind = 'order'")),
    Index(
        "uq_runs_open_receipt",
        "order_id",
        unique=True,
        postgresql_where=text("kind = 'receipt' AND state = 'running'"),
    ),
    Index("ix_runs_due", "due_since", postgresql_where=text("due_stage IS NOT NULL")),
    Index("ix_runs_merchant_created", "merchant_id", "created_at"),
    Index("ix_runs_in_line", "merchant_id", postgresql_where=text("state = 'running' AND fence > 0")),
    Index("ix_runs_parked", "merchant_id", "created_at", "id", postgresql_where=text("parked_at IS NOT NULL")),
    Index("ix_runs_updated_at", "updated_at"),
    Index("ix_runs_order_id", "order_id"),
)

stage_runs = Table(
    "stage_runs",
    metadata,
    Column("run_id", Text, ForeignKey(runs.c.id), nullable=False),
    Column("stage", Text, nullable=False),
    Column("entry", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("fence", BigInteger, nullable=False),
    # open | finished | failed | waited | released | lost | crashed
    Column("state", Text, nullable=False),
    _words("worker"),
    _words("job_id"),
    _instant("started_at", now=True),
    _instant("ended_at"),
    _words("output_type"),
    # none_as_null: a review without a result has no output, which is not the same as the JSON value null.
    Column("output", JSONB(none_as_null=True)),
    _json("review", "[]"),
    _words("error_code"),
    _words("error"),
    _words("stack"),
    PrimaryKeyConstraint("run_id", "stage", "entry", "attempt"),
    Index("uq_stage_runs_result", "run_id", "stage", "entry", unique=True, postgresql_where=text("state = 'finished'")),
    Index("ix_stage_runs_open", "run_id", postgresql_where=text("state = 'open'")),
)

purchase_orders = Table(
    "purchase_orders",
    metadata,
    Column("id", Text, primary_key=True),
    Column("merchant_id", Text, ForeignKey(merchants.c.id), nullable=False),
    Column("supplier_id", Text, ForeignKey(suppliers.c.id), nullable=False),
    Column("key", Text, nullable=False),
    _words("number"),
    # draft | approved | expected | partially_received | received | closed | cancelled
    Column("state", Text, nullable=False, server_default="draft"),
    Column("kind", Text, nullable=False),
    Column("order_date", Date),
    Column("due_date", Date),
    _words("currency"),
    Column("subtotal", Numeric(18, 4)),
    Column("tax", Numeric(18, 4)),
    Column("freight", Numeric(18, 4)),
    Column("discount", Numeric(18, 4)),
    Column("total", Numeric(18, 4)),
    Column("confidence", Float, nullable=False, server_default="0"),
    Column("revision", Integer, nullable=False, server_default="1"),
    _words("content_hash"),
    # The shop's location its goods were announced at; the rest of the order's life happens there.
    _words("location_id"),
    _instant("created_at", now=True),
    _instant("updated_at", now=True),
    UniqueConstraint("merchant_id", "supplier_id", "key"),
)

order_revisions = Table(
    "order_revisions",
    metadata,
    Column("order_id", Text, ForeignKey(purchase_orders.c.id), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("run_id", Text, ForeignKey(runs.c.id), nullable=False),
    Column("content_hash", Text, nullable=False),
    _instant("created_at", now=True),
    PrimaryKeyConstraint("order_id", "revision"),
    UniqueConstraint("run_id"),
)

line_items = Table(
    "line_items",
    metadata,
    Column("order_id", Text, ForeignKey(purchase_orders.c.id), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("position", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    _words("sku"),
    _words("gtin"),
    _words("description"),
    Column("quantity", Numeric(18, 4)),
    Column("quantity_shipped", Numeric(18, 4)),
    Column("quantity_backordered", Numeric(18, 4)),
    Column("quantity_invoiced", Numeric(18, 4)),
    _words("unit"),
    Column("pack_size", Integer),
    Column("unit_cost", Numeric(18, 6)),
    Column("line_total", Numeric(18, 4)),
    Column("confidence", Float, nullable=False, server_default="0"),
    _words("evidence"),
    # What the rules made of it (stages 3 and 4); empty until then, and for lines that are not goods.
    _words("name"),
    Column("units", Integer),
    Column("unit_cost_each", Numeric(18, 6)),
    _words("packs"),
    Column("price", Numeric(18, 4)),
    _words("product_type"),
    PrimaryKeyConstraint("order_id", "revision", "position"),
)

product_drafts = Table(
    "product_drafts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("merchant_id", Text, ForeignKey(merchants.c.id), nullable=False),
    Column("supplier_id", Text, ForeignKey(suppliers.c.id), nullable=False),
    Column("product_key", Text, nullable=False),
    Column("title", Text, nullable=False),
    _words("description_html"),
    _words("vendor"),
    _words("product_type"),
    _json("tags", "[]"),
    _json("option_names", "[]"),
    _words("product_id"),
    # How a product of the merchant's own was recognised (gtin, sku, chosen); empty for those we created.
    _words("matched_by"),
    # What a person said the draft is: "new", a product's id, or nothing; and how often anybody has said so.
    _words("choice"),
    Column("choices", Integer, nullable=False, server_default="0"),
    Column("first_run_id", Text, nullable=False),
    _instant("created_at", now=True),
    _instant("updated_at", now=True),
    UniqueConstraint("merchant_id", "supplier_id", "product_key"),
)

draft_variants = Table(
    "draft_variants",
    metadata,
    Column("id", Text, primary_key=True),
    Column("draft_id", Text, ForeignKey(product_drafts.c.id), nullable=False),
    Column("variant_key", Text, nullable=False),
    _words("sku"),
    _words("gtin"),
    _json("options"),
    Column("unit_cost", Numeric(18, 6)),
    Column("price", Numeric(18, 4)),
    _words("variant_id"),
    _words("inventory_item_id"),
    UniqueConstraint("draft_id", "variant_key"),
    Index("ix_draft_variants_gtin", "gtin", postgresql_where=text("gtin <> '' AND variant_id <> ''")),
)

supplier_items = Table(
    "supplier_items",
    metadata,
    Column("supplier_id", Text, ForeignKey(suppliers.c.id), nullable=False),
    Column("draft_variant_id", Text, ForeignKey(draft_variants.c.id), nullable=False),
    _words("sku"),
    _words("gtin"),
    Column("units_per_pack", Integer),
    Column("last_cost", Numeric(18, 6)),
    _words("currency"),
    _words("confirmed_by"),
    _instant("confirmed_at", now=True),
    PrimaryKeyConstraint("supplier_id", "draft_variant_id"),
)

order_variants = Table(
    "order_variants",
    metadata,
    Column("order_id", Text, ForeignKey(purchase_orders.c.id), nullable=False),
    Column("draft_variant_id", Text, ForeignKey(draft_variants.c.id), nullable=False),
    Column("expected", Integer, nullable=False, server_default="0"),
    Column("announced", Integer, nullable=False, server_default="0"),
    Column("received", Integer, nullable=False, server_default="0"),
    Column("rejected", Integer, nullable=False, server_default="0"),
    # Of the received and rejected: units nobody had announced, which never were `incoming` in the shop.
    Column("surplus", Integer, nullable=False, server_default="0"),
    PrimaryKeyConstraint("order_id", "draft_variant_id"),
)

receipts = Table(
    "receipts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("order_id", Text, ForeignKey(purchase_orders.c.id), nullable=False),
    Column("run_id", Text, ForeignKey(runs.c.id), nullable=False),
    # receive | close | cancel: the last two end the order, nothing came and there are no lines
    Column("action", Text, nullable=False, server_default="receive"),
    Column("entered_by", Text, nullable=False),
    _instant("created_at", now=True),
)

receipt_lines = Table(
    "receipt_lines",
    metadata,
    Column("receipt_id", Text, ForeignKey(receipts.c.id), nullable=False),
    Column("draft_variant_id", Text, ForeignKey(draft_variants.c.id), nullable=False),
    Column("accepted", Integer, nullable=False),
    Column("rejected", Integer, nullable=False),
    PrimaryKeyConstraint("receipt_id", "draft_variant_id"),
)

# Shipments of the shop (Shopify's transfers) that carry an order's goods, where it was announced by them.
shipments = Table(
    "shipments",
    metadata,
    Column("id", Text, primary_key=True),
    Column("order_id", Text, ForeignKey(purchase_orders.c.id), nullable=False),
    Column("transfer_id", Text, nullable=False),
    _instant("created_at", now=True),
    Index("ix_shipments_order_id", "order_id"),
)

# What came of a shipment, and is in the order's books: whoever received it, we or a person in the shop's admin.
shipment_lines = Table(
    "shipment_lines",
    metadata,
    Column("shipment_id", Text, ForeignKey(shipments.c.id), nullable=False),
    Column("inventory_item_id", Text, nullable=False),
    Column("shipped", Integer, nullable=False),
    # Rejected by us without any goods having come, because they were expected no longer.
    Column("taken_back", Integer, nullable=False, server_default="0"),
    Column("accepted", Integer, nullable=False, server_default="0"),
    Column("rejected", Integer, nullable=False, server_default="0"),
    PrimaryKeyConstraint("shipment_id", "inventory_item_id"),
)

images = Table(
    "images",
    metadata,
    Column("id", Text, primary_key=True),
    Column("draft_id", Text, ForeignKey(product_drafts.c.id), nullable=False),
    Column("run_id", Text, ForeignKey(runs.c.id), nullable=False),
    Column("url", Text, nullable=False),
    _words("source"),
    Column("position", Integer, nullable=False),
    # candidate | attached | duplicate | skipped | failed
    Column("state", Text, nullable=False, server_default="candidate"),
    _words("media_id"),
    _words("sha256"),
    # What the picture shows; see pipeline.domain.pictures.
    _words("phash"),
    Column("width", Integer, nullable=False, server_default="0"),
    Column("height", Integer, nullable=False, server_default="0"),
    _words("reason"),
    UniqueConstraint("draft_id", "url"),
)

effects = Table(
    "effects",
    metadata,
    Column("key", Text, primary_key=True),
    Column("run_id", Text, ForeignKey(runs.c.id), nullable=False),
    Column("fence", BigInteger, nullable=False),
    _json("parameters"),
    # intent | confirmed
    Column("state", Text, nullable=False),
    _json("external"),
    _instant("intended_at", now=True),
    _instant("confirmed_at"),
    Index("ix_effects_run_id", "run_id"),
    # Which articles are being brought into a shop, or have been; see app.db.effects.
    Index(
        "ix_effects_gtins",
        text("(parameters -> 'gtins')"),
        postgresql_using="gin",
        postgresql_where=text("parameters ? 'gtins'"),
    ),
)

plans = Table(
    "plans",
    metadata,
    Column("run_id", Text, ForeignKey(runs.c.id), nullable=False),
    # The entry it was approved for: a retry applies the plan of an earlier one.
    Column("entry", Integer, nullable=False),
    Column("digest", Text, nullable=False),
    _json("content"),
    Column("read_at", DateTime(timezone=True), nullable=False),
    # Empty: a merchant's rule approved it, and it was read by the stage that applied it.
    _words("approved_by"),
    _instant("approved_at", now=True),
    PrimaryKeyConstraint("run_id", "entry"),
)

# What Shopify told us, once each; see app.db.webhooks. Of the bodies only what is acted on is kept.
webhook_events = Table(
    "webhook_events",
    metadata,
    Column("shop_domain", Text, nullable=False),
    Column("webhook_id", Text, nullable=False),
    Column("merchant_id", Text, ForeignKey(merchants.c.id), nullable=False),
    Column("topic", Text, nullable=False),
    _instant("triggered_at", now=True),
    _instant("received_at", now=True),
    _json("facts"),
    # waiting | done | stale | unhandled | refused
    Column("state", Text, nullable=False, server_default="waiting"),
    _words("note"),
    Column("tries", Integer, nullable=False, server_default="0"),
    _instant("due_at", now=True),
    _instant("handled_at"),
    PrimaryKeyConstraint("shop_domain", "webhook_id"),
    Index("ix_webhook_events_due", "due_at", postgresql_where=text("state IN ('waiting', 'unhandled')")),
    Index("ix_webhook_events_merchant_id", "merchant_id"),
    Index("ix_webhook_events_received_at", "received_at"),
)

queue_pauses = Table(
    "queue_pauses",
    metadata,
    Column("queue", Text, primary_key=True),
    Column("paused_by", Text, nullable=False),
    _instant("paused_at", now=True),
)

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _instant("at", now=True),
    Column("who", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("run_id", Text),
    Column("order_id", Text),
    _json("details"),
    Index("ix_audit_run_id", "run_id"),
)
