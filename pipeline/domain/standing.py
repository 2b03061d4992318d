"""How an order stands with the shop: what was announced, what came of it, and how a receipt is parted.

One rule holds it together: what an order has in `incoming` is `announced - taken`, never less than nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.domain.results import StockMove

PLAN = "plan:"
"""Begins the ledger's keys of decisions: nothing changes outside by them, but what follows must not be decided anew."""

ENDED = frozenset({"closed", "cancelled"})
"""States of an order for which nothing is announced or received any more."""


@dataclass(frozen=True, slots=True)
class VariantStanding:
    """One variant of an order: `announced - taken` units of it are still `incoming` in the shop.

    `taken` were announced and have been accepted or rejected since. `surplus` came without having been
    announced: those units never were `incoming`.
    """

    inventory_item_id: str
    announced: int
    taken: int = 0
    surplus: int = 0

    @property
    def open(self) -> int:
        """Units announced that nobody has accounted for."""
        return max(0, self.announced - self.taken)


@dataclass(frozen=True, slots=True)
class OrderStanding:
    """An order in the shop, by draft variant id. `location_id` is where it was announced, empty if it never was.

    `revision` is the newest one these books hold the announcement of, 0 if none. `state` is the order's own;
    `shipments` are those that announced its goods, oldest first, where it was announced by transfers.
    """

    location_id: str
    variants: Mapping[str, VariantStanding]
    revision: int = 0
    state: str = ""
    shipments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Share:
    """One line of a receipt, parted: units taken off what was announced, and units that came on top of it."""

    draft_variant_id: str
    inventory_item_id: str
    accepted: int
    added: int
    rejected: int
    refused: int


def share(draft_variant_id: str, inventory_item_id: str, accepted: int, rejected: int, *, still_open: int) -> Share:
    """Part a receipt's line: at most what is still announced comes off `incoming`, accepted units first."""
    accepted_of_open = min(accepted, still_open)
    rejected_of_open = min(rejected, still_open - accepted_of_open)
    return Share(
        draft_variant_id,
        inventory_item_id,
        accepted=accepted_of_open,
        added=accepted - accepted_of_open,
        rejected=rejected_of_open,
        refused=rejected - rejected_of_open,
    )


def moves_of(one: Share) -> list[StockMove]:
    """What the order's books are told of a receipt's line."""
    counted = {
        "received": one.accepted + one.added,
        "rejected": one.rejected + one.refused,
        "surplus": one.added + one.refused,
    }
    return [
        StockMove(
            draft_variant_id=one.draft_variant_id,
            inventory_item_id=one.inventory_item_id,
            quantity=quantity,
            move=move,
        )
        for move, quantity in counted.items()
        if quantity
    ]


def receipt_plan(receipt_id: str) -> str:
    """The ledger's key of how a receipt was parted."""
    return f"{PLAN}{receipt_id}"


def undo_plan(receipt_id: str) -> str:
    """The ledger's key of which products an undo archives and which it leaves."""
    return f"{PLAN}undo:{receipt_id}"


def run_plan(run_id: str, approved_at: int | None) -> str:
    """The ledger's key of whether a run may apply its plan; None: nobody approved one. A retry decides nothing anew."""
    return f"{PLAN}{run_id}:{'rule' if approved_at is None else approved_at}"
