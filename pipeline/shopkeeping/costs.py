"""Costs: what the document says a unit costs, written over what the shop knows only where the merchant chose that."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from pipeline.contract import StageInput
from pipeline.domain.merchant import CostPolicy
from pipeline.domain.money import round_like
from pipeline.domain.results import Draft
from pipeline.domain.shop import ShopVariant
from pipeline.effects import Answer, Ledger
from pipeline.ports import Effect, Shop, StockValue

_OVERWRITES = {CostPolicy.LATEST, CostPolicy.WEIGHTED_AVERAGE}


async def set_costs(
    ledger: Ledger, given: StageInput, shop: Shop, draft: Draft, before: Mapping[str, ShopVariant]
) -> None:
    """Costs of the variants that were there `before` this order, by draft variant id; once per order revision.

    Through the ledger although a repeat is harmless: replaying an old order must not undo a newer cost. And even
    where there is nothing to set: when a later attempt comes by, the variants this one adds are there before.
    """
    if given.run.merchant.settings.cost_on_approve not in _OVERWRITES:
        return
    parameters = {"costs": await costs_to_write(given, shop, draft, before)}

    async def call(first: Mapping[str, Any]) -> Answer:
        by_product: dict[str, dict[str, Decimal]] = {}
        for product_id, variant_id, cost in first["costs"]:
            by_product.setdefault(product_id, {})[variant_id] = Decimal(cost)
        for product_id, costs in by_product.items():
            given.still_ours()
            await shop.set_costs(product_id, costs)
        return {}

    async def ask(_effect: Effect) -> Answer | None:
        return None

    key = f"cost:{given.run.order_id}:{given.run.order_revision}:{draft.id}"
    await ledger.once(given, key, parameters, call=call, ask=ask)


async def costs_to_write(
    given: StageInput, shop: Shop, draft: Draft, before: Mapping[str, ShopVariant]
) -> list[list[str]]:
    """[product id, variant id, cost] of each variant that was there `before` and gets a cost; reads only."""
    if given.run.merchant.settings.cost_on_approve not in _OVERWRITES:
        return []
    held: dict[str, StockValue] = {}
    priced = [
        (one.plan, one.plan.unit_cost, before[one.id])
        for one in draft.variants
        if one.id in before and one.plan.unit_cost is not None
    ]
    averaged = given.run.merchant.settings.cost_on_approve is CostPolicy.WEIGHTED_AVERAGE
    for product_id in dict.fromkeys(variant.product_id for _, _, variant in priced if averaged):
        held |= await shop.stock_values(product_id)
    costs = []
    for plan, unit_cost, variant in priced:
        cost = weighted(unit_cost, plan.quantity, held.get(variant.id))
        costs.append([variant.product_id, variant.id, f"{cost:f}"])
    return costs


def weighted(cost: Decimal, quantity: int, held: StockValue | None) -> Decimal:
    """What a unit costs on average once `quantity` more come at `cost`; units without a known cost do not count."""
    units = max(0, held.available) if held else 0
    if held is None or held.unit_cost is None or not units or quantity <= 0:
        return cost
    return round_like((held.unit_cost * units + cost * quantity) / (units + quantity), cost)
