"""Scores the reader on real documents: `python -m tests.pipeline.reading.score`.

Header: fields that are exactly right, of those the truth names. Lines: F1 over (code or description,
quantity, unit cost).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from pipeline.domain.purchase_order import ExtractedLine, ExtractedOrder, LineKind
from pipeline.reading import read

DOCUMENTS = Path(__file__).parents[2] / "data" / "documents"

Goods = tuple[str, Decimal | None, Decimal | None]


@dataclass(frozen=True)
class Score:
    right: int
    asked: int
    wrong: tuple[str, ...]
    f1: float

    def __str__(self) -> str:
        return f"header {self.right}/{self.asked}  lines F1 {self.f1:.2f}  {', '.join(self.wrong)}"


def score(name: str) -> Score:
    order = read((DOCUMENTS / name).read_bytes(), ["KP3 Cafe"]).order
    assert order is not None
    header, lines = EXPECTED[name]
    found = _header(order)
    wrong = tuple(f"{field}: {found[field]!r}" for field, value in header.items() if found[field] != value)
    return Score(len(header) - len(wrong), len(header), wrong, _f1([_goods(line) for line in order.lines], lines))


def _header(order: ExtractedOrder) -> dict[str, Any]:
    return {
        "number": order.number,
        "date": order.order_date,
        "due": order.due_date,
        "currency": order.currency,
        "supplier": order.supplier.name,
        "buyer": order.buyer.name,
        "terms": order.payment_terms,
        "subtotal": order.subtotal,
        "tax": order.tax,
        "freight": order.freight,
        "total": order.total,
    }


def _goods(line: ExtractedLine) -> Goods:
    cost = line.line_total if line.kind is not LineKind.GOODS and line.unit_cost is None else line.unit_cost
    return line.sku or line.description, line.quantity, cost


def _f1(found: list[Goods], expected: list[Goods]) -> float:
    if not found and not expected:
        return 1.0
    hits = sum(1 for goods in found if any(_same(goods, other) for other in expected))
    return 2 * hits / (len(found) + len(expected))


def _same(one: Goods, other: Goods) -> bool:
    return one[1:] == other[1:] and one[0].startswith(other[0])


def _truth(name: str) -> Any:
    return json.loads((DOCUMENTS / f"{name}.truth.json").read_text(encoding="utf-8"))


def _office() -> tuple[dict[str, Any], list[Goods]]:
    truth = _truth("office-supplies-po.pdf")
    header = {
        "number": truth["po_number"],
        "date": date.fromisoformat(truth["date"]),
        "currency": truth["currency"],
        "supplier": truth["vendor"],
        "buyer": truth["buyer"],
        "terms": truth["payment_terms"],
        "subtotal": Decimal(truth["subtotal"]),
        "tax": Decimal(truth["tax"]),
        "total": Decimal(truth["grand_total"]),
    }
    return header, [
        (line["description"], Decimal(line["quantity"]), Decimal(line["unit_cost"])) for line in truth["lines"]
    ]


def _order_x() -> tuple[dict[str, Any], list[Goods]]:
    truth = _truth("order-x-comfort.pdf")
    header = {
        "number": truth["po_number"],
        "date": date.fromisoformat(truth["date"]),
        "currency": truth["currency"],
        "supplier": truth["vendor"],
        "buyer": truth["buyer"],
        "total": Decimal(truth["grand_total"]),
    }
    # The truth's second cost is per two pieces (BasisQuantity 2): per piece is what times the quantity makes the total.
    costs = [Decimal(line["line_total"]) / Decimal(line["quantity"]) for line in truth["lines"]]
    return header, [
        (line["sku"], Decimal(line["quantity"]), cost) for line, cost in zip(truth["lines"], costs, strict=True)
    ]


def _coffee() -> tuple[dict[str, Any], list[Goods]]:
    truth = _truth("coffee-invoice-vs-po.pdf")["parsed"]
    totals = truth["totals"]
    header = {
        "number": truth["invoice_number"],
        "date": date.fromisoformat(truth["invoice_date"]),
        "due": date.fromisoformat(truth["due_date"]),
        "currency": totals["currency"],
        "supplier": truth["supplier"]["name"],
        "buyer": truth["bill_to"]["name"],
        "subtotal": Decimal(str(totals["subtotal"])),
        "tax": Decimal(str(totals["tax"])),
        "freight": Decimal(str(totals["shipping"])),
        "total": Decimal(str(totals["grand_total"])),
    }
    lines = truth["line_items"]
    return header, [(line["description"], Decimal(line["quantity"]), Decimal(str(line["unit_cost"]))) for line in lines]


def _coolblue() -> tuple[dict[str, Any], list[Goods]]:
    truth = _truth("i2d-coolblue1.pdf")[0]
    header = {
        "number": truth["invoice_number"],
        "date": date.fromisoformat(truth["date"]),
        "currency": truth["currency"],
        "supplier": truth["issuer"],
        "subtotal": Decimal(str(truth["amount_untaxed"])),
        "total": Decimal(str(truth["amount"])),
    }
    lines = [line for line in truth["lines"] if "name" in line]
    costs = [Decimal(str(line.get("price_unit", line["price_subtotal"]))) for line in lines]
    return header, [(line["name"], Decimal(line["qty"]), cost) for line, cost in zip(lines, costs, strict=True)]


EXPECTED = {
    "office-supplies-po.pdf": _office(),
    "order-x-comfort.pdf": _order_x(),
    "coffee-invoice-vs-po.pdf": _coffee(),
    "i2d-coolblue1.pdf": _coolblue(),
}

if __name__ == "__main__":
    for document in EXPECTED:
        print(f"{document:32} {score(document)}")
