"""Which scopes we use, and what an operator loses without each. Read from the shop, never assumed (domain.md 2)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lack:
    """A scope that was not granted. `needed`: orders stop or stock is not told; else something is done less well."""

    scope: str
    costs: str
    needed: bool

    def __str__(self) -> str:
        return f"{self.scope}: {self.costs}"


USES: tuple[Lack, ...] = (
    Lack("write_products", "no product can be created or changed, so no order reaches the shop", needed=True),
    Lack("write_inventory", "nothing is announced or received; orders are only recorded", needed=True),
    Lack("read_locations", "nobody knows where goods arrive; orders are only recorded", needed=True),
    Lack(
        "write_inventory_transfers",
        "goods are announced by adjustments, not as Shopify's own transfers",
        needed=False,
    ),
    Lack(
        "write_inventory_shipments",
        "announced goods are not shown as shipments in the admin",
        needed=False,
    ),
    Lack(
        "write_inventory_shipments_received_items",
        "goods are received by adjustments, and what is received in the admin is not taken over",
        needed=False,
    ),
    Lack(
        "read_inventory_purchase_orders",
        "a purchase order of Shopify's own for the same goods is not seen, so goods may be announced twice",
        needed=False,
    ),
    Lack("write_publications", "products are never published, whatever publish_to says", needed=False),
)

_AS_GOOD_AS = {"read_locations": ("read_inventory", "write_inventory")}
"""Shopify shows locations to whoever may read inventory."""


def missing(granted: Collection[str]) -> list[Lack]:
    """What was not granted, the needed first. Whoever may write a thing may read it."""
    return [lack for lack in USES if not _has(granted, lack.scope)]


def _has(granted: Collection[str], scope: str) -> bool:
    writing = scope.replace("read_", "write_", 1)
    return not {scope, writing, *_AS_GOOD_AS.get(scope, ())}.isdisjoint(granted)
