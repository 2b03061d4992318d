"""Which scopes we use, and what an operator loses without each. Read from the shop, never assumed (domain.md 2)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Lack:
    """A scope that was not granted. "fail": no order gets in; "warn": stock is not told; "ok": it is done less well."""

    scope: str
    costs: str
    level: Literal["ok", "warn", "fail"]

    def __str__(self) -> str:
        return f"{self.scope}: {self.costs}"


WRITE_PRODUCTS = "write_products"

USES: tuple[Lack, ...] = (
    Lack(WRITE_PRODUCTS, "no product can be created or changed, so no order reaches the shop", "fail"),
    Lack("write_inventory", "nothing is announced or received; orders are only recorded", "warn"),
    Lack("read_locations", "nobody knows where goods arrive; orders are only recorded", "warn"),
    Lack(
        "write_inventory_transfers",
        "goods are announced by adjustments, not as Shopify's own transfers",
        "ok",
    ),
    Lack(
        "write_inventory_shipments",
        "announced goods are not shown as shipments in the admin",
        "ok",
    ),
    Lack(
        "write_inventory_shipments_received_items",
        "goods are received by adjustments, and what is received in the admin is not taken over",
        "ok",
    ),
    Lack(
        "read_inventory_purchase_orders",
        "a purchase order of Shopify's own for the same goods is not seen, so goods may be announced twice",
        "ok",
    ),
    Lack("write_publications", "products are never published, whatever publish_to says", "ok"),
)

_AS_GOOD_AS = {"read_locations": ("read_inventory", "write_inventory")}
"""Shopify shows locations to whoever may read inventory."""


def missing(granted: Collection[str]) -> list[Lack]:
    """What was not granted, the worst first. Whoever may write a thing may read it."""
    return [lack for lack in USES if not _has(granted, lack.scope)]


def _has(granted: Collection[str], scope: str) -> bool:
    writing = scope.replace("read_", "write_", 1)
    return not {scope, writing, *_AS_GOOD_AS.get(scope, ())}.isdisjoint(granted)
