"""What our own books know: suppliers, orders, drafts, plans, receipts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from pipeline.domain.plan import Plan
from pipeline.domain.results import Draft
from pipeline.domain.standing import OrderStanding
from pipeline.domain.undo import Creation


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
