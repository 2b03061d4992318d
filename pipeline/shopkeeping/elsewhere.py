"""What the shop says of expected goods against what our books say: goods that are expected, or came, elsewhere.

Shopify has purchase orders and transfers of its own, and other apps announce goods too. Whatever it was, it
shows as more `incoming` than our orders explain, and to announce the same goods would count them twice. Less
than our orders explain means that somebody received them elsewhere, and to receive them again would count them
twice. A database restored from a backup shows the same two ways: it has forgotten what it told, or what came.
(Shopify's `inventoryPurchaseOrders` would name the purchase order; it is not in the contract we validate against.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from pipeline.domain.purchase_order import Doubt
from pipeline.ports import Incoming, Orders, Shop, ShopLevel
from pipeline.shopkeeping.requests import Unit
from pipeline.shopkeeping.steps import KEY_TRUSTED_FOR

LOOKS = 3
"""What is told or received while we look makes shop and books differ for a moment; what differs three times differs."""

NOTHING = Incoming(0, 0)


@dataclass(frozen=True, slots=True)
class Look:
    """The shop's levels by item, and by how much its `incoming` is off what our orders explain (never 0).

    `transfers` are the shop's own that hold such goods, where we may know them.
    """

    levels: Mapping[str, ShopLevel]
    off: Mapping[str, int]
    transfers: tuple[str, ...] = ()

    def uncountable(self, units: Sequence[Unit]) -> frozenset[str]:
        """Variants Shopify keeps no stock of: bundles, and what is not tracked."""
        return frozenset(
            unit.draft_variant_id
            for unit in units
            if (level := self.levels.get(unit.inventory_item_id)) and (level.bundle or not level.tracked)
        )


async def look(shop: Shop, orders: Orders, merchant_id: str, location_id: str, units: Sequence[Unit]) -> Look:
    """Compare shop and books. What was told before the shop is read is in the books that are read after it."""
    items = list(dict.fromkeys(unit.inventory_item_id for unit in units))
    variants = [unit.draft_variant_id for unit in units]
    levels: Mapping[str, ShopLevel] = {}
    off: dict[str, int] = {}
    for _ in range(LOOKS):
        levels = await shop.levels(items, location_id)
        ours = await orders.incoming(merchant_id, location_id, items, variants)
        off = {item: by for item, level in levels.items() if (by := _off(level.incoming, ours.get(item, NOTHING)))}
        if not off:
            break
    return Look(levels, off)


def expected_elsewhere(seen: Look, units: Sequence[Unit], new: frozenset[str], now: datetime) -> Doubt | None:
    """What a person is asked before goods are announced that the shop expects already.

    Of a variant that is `new` nobody else can expect anything: the surplus is our own announcement, and this
    database has forgotten it. While the shop remembers the key, telling it again changes nothing and mends that.
    """
    foreign = {
        unit.inventory_item_id
        for unit in units
        if seen.off.get(unit.inventory_item_id, 0) > 0
        and not (
            unit.draft_variant_id in new and now - seen.levels[unit.inventory_item_id].created_at < KEY_TRUSTED_FOR
        )
    }
    return doubt_about(seen, foreign)


def doubt_about(seen: Look, foreign: set[str]) -> Doubt | None:
    """The question about these items, of which the shop expects more than our orders explain; None without any."""
    if not foreign and not seen.transfers:
        return None
    what = [_named(seen, foreign)] if foreign else []
    what += [f"transfer {name}" for name in seen.transfers]
    message = (
        f"The shop already expects goods of this order that no order here has announced: {_some(what)}. "
        "Is there a purchase order or transfer in Shopify for them, or was this database restored from a backup? "
        "Nothing was announced, so that nothing is expected twice. Approve to go on without announcing; or cancel "
        "it there first, and approve then."
    )
    return Doubt(code="expected_elsewhere", message=message)


def received_elsewhere(seen: Look) -> Doubt | None:
    """What a person is asked before goods are received that the shop no longer expects."""
    gone = {item for item, by in seen.off.items() if by < 0}
    if not gone:
        return None
    message = (
        f"The shop expects fewer goods than are still open here: {_named(seen, gone)}. Were they received in "
        "Shopify, or was this database restored from a backup? Nothing was received, so that nothing is counted "
        "twice. Look at the inventory history: cancel this receipt if its goods are there already, approve it if not."
    )
    return Doubt(code="received_elsewhere", message=message)


def without_uncountable(target: Sequence[Unit], told: Mapping[str, Unit], uncountable: frozenset[str]) -> list[Unit]:
    """The target with variants Shopify keeps no stock of left where they are."""
    kept = (
        replace(unit, quantity=told[unit.draft_variant_id].quantity if unit.draft_variant_id in told else 0)
        if unit.draft_variant_id in uncountable
        else unit
        for unit in target
    )
    return [unit for unit in kept if unit.quantity]


def why_uncountable(units: Sequence[Unit], seen: Look) -> str:
    """Which goods were left out and why; empty when none were."""
    uncountable = seen.uncountable(units)
    names = {seen.levels[unit.inventory_item_id].name for unit in units if unit.draft_variant_id in uncountable}
    if not names:
        return ""
    return f"not announced, because the shop does not track its stock or it is a bundle: {_some(sorted(names))}"


def _off(incoming: int, ours: Incoming) -> int:
    return max(0, incoming - ours.most) or min(0, incoming - ours.least)


def _named(seen: Look, items: set[str]) -> str:
    levels = seen.levels
    return _some(
        [f"{abs(seen.off[item])} of {levels[item].name} ({levels[item].history_url})" for item in sorted(items)]
    )


def _some(parts: Sequence[str]) -> str:
    more = len(parts) - _SHOWN
    return ", ".join(parts[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


_SHOWN = 5
