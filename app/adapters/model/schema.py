"""What a model must answer: strict shapes, so that a wrong form is refused by the vendor and not by us.

Strict mode takes closed objects with every property required and no open maps. Money and quantities are
texts, because a JSON number is a float by the time anybody reads it; what a text is worth is checked later.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from pipeline.domain.purchase_order import DocumentKind, LineKind


class _Closed(BaseModel):
    """No field more, no field less."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Named(_Closed):
    """One entry of what would be a map."""

    name: str
    value: str


class SaidParty(_Closed):
    """A company as printed."""

    name: str
    tax_id: str
    email: str
    website: str
    address: str


class SaidLine(_Closed):
    """One line as the model says it is printed."""

    kind: LineKind
    sku: str
    gtin: str
    description: str
    product_name: str
    quantity: str | None
    quantity_shipped: str | None
    quantity_backordered: str | None
    quantity_invoiced: str | None
    unit: str
    pack_size: str | None
    unit_cost: str | None
    retail_price: str | None
    line_total: str | None
    options: list[Named]
    image_url: str
    confidence: float = Field(allow_inf_nan=False)


class SaidOrder(_Closed):
    """A document as the model says it reads."""

    kind: DocumentKind
    kind_confidence: float = Field(allow_inf_nan=False)
    number: str
    references: list[Named]
    order_date: str | None
    due_date: str | None
    currency: str
    supplier: SaidParty
    buyer: SaidParty
    payment_terms: str
    lines: list[SaidLine]
    subtotal: str | None
    tax: str | None
    freight: str | None
    discount: str | None
    total: str | None
    confidence: float = Field(allow_inf_nan=False)


class SaidWords(_Closed):
    """Words for one line's product."""

    position: int
    title: str
    description_html: str
    product_type: str
    tags: list[str]


class SaidCatalogue(_Closed):
    """Words for every product asked about."""

    lines: list[SaidWords]


def strict_format(name: str, shape: type[BaseModel]) -> dict[str, Any]:
    """`text.format` of a request that must be answered in this shape."""
    return {"type": "json_schema", "name": name, "schema": shape.model_json_schema(), "strict": True}
