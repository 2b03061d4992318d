"""Makes the sample documents and their truth files. Run it from anywhere; the same bytes come out every time.

A `Paper` is what somebody ordered; a layout prints it the way some supplier's system does. The truth beside
each document is computed from the paper, never from what our reader says.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MERCHANT = "Harbor & Pine LLC"
MERCHANT_ADDRESS = ("12 Dock Street", "Portland, ME 04101")
IMAGES = "https://images.example/"


@dataclass(frozen=True)
class Item:
    """One line of a paper. `units` are retail units expected to arrive, if they differ from `quantity`."""

    sku: str
    name: str
    quantity: int
    cost: str
    options: dict[str, str] = field(default_factory=dict)
    unit: str = ""
    pack: int = 1
    backordered: int = 0
    retail: str = ""
    image: str = ""
    gtin: str = ""

    @property
    def title(self) -> str:
        """The line as one piece of text."""
        return " ".join([self.name, *self.options.values()])

    @property
    def billed(self) -> int:
        """What is charged now."""
        return self.quantity - self.backordered

    @property
    def total(self) -> Decimal:
        """What the line comes to."""
        return self.billed * Decimal(self.cost)

    @property
    def units(self) -> int:
        """Retail units expected because of this paper."""
        return self.billed * self.pack


@dataclass(frozen=True)
class Paper:
    """An order or an invoice, before anybody has printed it."""

    number: str
    supplier: str
    items: tuple[Item, ...]
    kind: str = "purchase_order"
    date: str = "2026-11-02"
    currency: str = "USD"
    freight: str = "0.00"
    tax: str = "0.00"
    reference: str = ""
    misprinted_total: str = ""
    address: tuple[str, ...] = ()

    @property
    def subtotal(self) -> Decimal:
        """The lines together."""
        return sum((item.total for item in self.items), Decimal(0))

    @property
    def total(self) -> Decimal:
        """What the paper prints as its total."""
        added = self.subtotal + Decimal(self.freight) + Decimal(self.tax)
        return Decimal(self.misprinted_total or added).quantize(Decimal("0.01"))


@dataclass(frozen=True)
class Sample:
    """A document of ours: how it is laid out and how it must end."""

    file: str
    layout: Callable[[Paper], bytes]
    paper: Paper
    reason: str | None = None
    about: str = ""

    def content(self) -> bytes:
        """The document's bytes."""
        return self.layout(self.paper)

    def truth(self) -> dict[str, Any]:
        """What a careful merchant says about it."""
        paper = self.paper
        goes_on = self.reason is None
        return {
            "outcome": "completed" if goes_on else "needs_review",
            "reason": self.reason,
            "kind": paper.kind,
            "supplier": paper.supplier,
            "number": paper.number,
            "currency": paper.currency,
            "total": str(paper.total) if paper.items else None,
            "lines": [_line(item) for item in paper.items],
            "units": {item.sku: item.units for item in paper.items} if goes_on else {},
            "products": len({item.name for item in paper.items}) if goes_on else 0,
            "variants": len(paper.items) if goes_on else 0,
        }


def _line(item: Item) -> dict[str, Any]:
    facts = {
        "sku": item.sku,
        "description": item.title,
        "quantity": item.quantity,
        "unit_cost": item.cost,
        "options": item.options,
        "unit": item.unit,
        "backordered": item.backordered,
        "retail_price": item.retail,
        "image_url": item.image,
        "gtin": item.gtin,
    }
    return {name: fact for name, fact in facts.items() if fact or name in ("sku", "description", "quantity")}


# --------------------------------------------------------------------------------------- layouts


def csv_first_row(paper: Paper) -> bytes:
    """Comma separated; what concerns the whole order stands on the first row only."""
    header = {
        "PO Number": paper.number,
        "Supplier": paper.supplier,
        "Order Date": paper.date,
        "Currency": paper.currency,
        "Freight": paper.freight,
        "PO Total": str(paper.total),
    }
    columns = ["SKU", "Product", "Color", "Size", "Qty", "Unit Cost", "Line Total", "MSRP", "UPC", "Image URL"]
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([*header, *columns])
    for number, item in enumerate(paper.items):
        common = list(header.values()) if number == 0 else [""] * len(header)
        options = [item.options.get("Color", ""), item.options.get("Size", "")]
        row = [item.sku, item.name, *options, item.quantity, item.cost, item.total, item.retail, item.gtin, item.image]
        writer.writerow([*common, *row])
    return out.getvalue().encode()


# --------------------------------------------------------------------------------------- papers

CERAMICS = Paper(
    number="PO-2026-0117",
    supplier="Juniper Ceramics Co.",
    freight="18.00",
    items=(
        Item(
            "JC-MUG-SAG", "Stoneware Mug", 24, "6.50", {"Color": "Sage"}, retail="16.00", image=IMAGES + "mug-sage.jpg"
        ),
        Item(
            "JC-MUG-CLY", "Stoneware Mug", 24, "6.50", {"Color": "Clay"}, retail="16.00", image=IMAGES + "mug-clay.jpg"
        ),
        Item("JC-MUG-INK", "Stoneware Mug", 12, "6.75", {"Color": "Ink"}, retail="16.00", image=IMAGES + "mug-ink.jpg"),
        Item("JC-BWL-S", "Ramen Bowl", 16, "11.20", {"Color": "White", "Size": "Small"}, image=IMAGES + "bowl.jpg"),
        Item("JC-BWL-L", "Ramen Bowl", 10, "14.40", {"Color": "White", "Size": "Large"}, image=IMAGES + "bowl.jpg"),
        Item("JC-VAS-01", "Bud Vase", 8, "9.00", image=IMAGES + "vase.jpg"),
    ),
)

SAMPLES = (Sample("01-ceramics-order.csv", csv_first_row, CERAMICS, about="CSV, header fields on the first row only"),)


def main() -> None:
    """Write every document and its truth."""
    for sample in SAMPLES:
        (HERE / sample.file).write_bytes(sample.content())
        truth = json.dumps(sample.truth(), indent=2, ensure_ascii=False) + "\n"
        (HERE / f"{sample.file}.truth.json").write_text(truth, encoding="utf-8")


if __name__ == "__main__":
    main()
