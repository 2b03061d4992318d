"""Reads the shop and says what an order would do to it now: the plan a person approves, and stage 9 compares.

A plan is decided by the very rules that apply it (`finding`, `products`, `costs`, `stock`); it only reads, and makes
sure our custom id is defined, without which no product of ours could be found.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

import anyio

from pipeline.contract import StageInput
from pipeline.domain import matching
from pipeline.domain.matching import Match, Verdict
from pipeline.domain.merchant import CostPolicy, StockPolicy
from pipeline.domain.plan import ARCHIVED, DroppedUnits, Plan, ProductStep, Stop, VariantStep
from pipeline.domain.results import DraftVariant
from pipeline.domain.shop import ShopProduct, ShopVariant
from pipeline.domain.standing import ENDED, OrderStanding
from pipeline.errors import PipelineError
from pipeline.ports import Orders, Shop, ShopFacts, StoredDraft
from pipeline.shopkeeping import elsewhere
from pipeline.shopkeeping.costs import costs_to_write
from pipeline.shopkeeping.finding import Progress, find_matches
from pipeline.shopkeeping.products import OURS, why_not_placed
from pipeline.shopkeeping.requests import Unit
from pipeline.shopkeeping.stock import OVER, SUPERSEDED, required, stock_policy, to_announce

READS_AT_ONCE = 4
"""Products read side by side: the shop's bucket holds ten such queries."""

WAITS = "no quantities were told: a product whose goods were announced before needs a person first"


async def read_plan(
    given: StageInput,
    shop: Shop,
    facts: ShopFacts,
    stored: Sequence[StoredDraft],
    orders: Orders,
) -> tuple[Plan, dict[str, Match]]:
    """What stage 9 would do now for this order, and what each of its drafts is in the shop, by draft id."""
    standing = await orders.standing(required(given.run.order_id, "order"))
    facts = at_its_place(facts, standing)
    if stops := _stops(given, facts):
        return Plan(currency=facts.currency, stops=stops), {}
    matches = await _look(shop, stored, given.progress)
    refusals = {one.draft.id: why_not_placed(one.draft, matches[one.draft.id]) for one in stored}
    problems = {name: str(refusal) for name, refusal in refusals.items() if refusal}
    stock, note, units = _units(given, facts, [one for one in stored if one.draft.id not in problems], standing)
    if were_announced(stored, problems, standing):
        note, units = WAITS, {}
    more, units = await _counted(given, shop, facts, matches, orders, units)
    note = "; ".join(part for part in (note, more) if part)
    products = [
        ProductStep(
            draft_id=one.draft.id,
            title=matches[one.draft.id].title or one.draft.plan.title,
            problem=problems.get(one.draft.id, ""),
        )
        if one.draft.id in problems
        else await _product(given, shop, one, matches[one.draft.id], units)
        for one in stored
    ]
    named = {variant.id for one in stored for variant in one.draft.variants}
    plan = Plan(
        currency=facts.currency,
        products=tuple(products),
        dropped=tuple(DroppedUnits(draft_variant_id=n, units=u) for n, u in sorted(units.items()) if n not in named),
        stock=stock,
        location_id=facts.location_id,
        location_name=facts.location_names.get(facts.location_id, ""),
        note=note,
    )
    return plan, matches


def at_its_place(facts: ShopFacts, standing: OrderStanding) -> ShopFacts:
    """An order stays where it was announced, whatever location the merchant chose for others since."""
    return replace(facts, location_id=standing.location_id or facts.location_id)


def were_announced(stored: Sequence[StoredDraft], failed: Collection[str], standing: OrderStanding) -> bool:
    """Whether units of a product that failed were announced before.

    Without them the shop would be told that they come no more, or, if the product is gone, refuse the whole change.
    """
    names = {one.id for draft in stored if draft.draft.id in failed for one in draft.draft.variants}
    return any(standing.variants[name].announced for name in names if name in standing.variants)


def _stops(given: StageInput, facts: ShopFacts) -> tuple[Stop, ...]:
    """Why nothing at all may be done in this shop."""
    found = []
    if "write_products" not in facts.scopes:
        message = "The app may not create products in this shop: grant it write_products."
        found.append(Stop(code="missing_scope", message=message))
    currency = given.run.merchant.settings.currency
    if facts.currency != currency:
        message = f"The shop sells in {facts.currency} but the settings say {currency}: prices would be wrong."
        found.append(Stop(code="currency_mismatch", message=message))
    if facts.location_id and facts.location_names and facts.location_id not in facts.location_names:
        message = "The location this order's goods are expected at is closed: open it again in the shop."
        found.append(Stop(code="location_closed", message=message))
    return tuple(found)


async def _look(shop: Shop, stored: Sequence[StoredDraft], progress: Progress) -> dict[str, Match]:
    """What each draft is in the shop, by draft id, with status, prices and costs as they are now.

    A product the merchant archived is a question: nothing is added to it, and nothing brought back unasked.
    """
    matches = await find_matches(shop, stored, progress)
    unread = {one.draft.id: one for one in stored if _is_unread(matches[one.draft.id])}
    products = await _read(shop, [matches[name].product_id for name in unread])
    for name, one in unread.items():
        places = {place.draft_variant_id: place.variant_id for place in one.variants if place.variant_id}
        product = products[matches[name].product_id]
        if product is None:  # in this very moment
            title = one.draft.plan.title
            matches[name] = matching.unclear(one.draft, "product_deleted", f"“{title}” was deleted in the shop.")
        else:
            matches[name] = matching.existing(one.draft, product, "place", places)
    for one in stored:
        if matches[one.draft.id].status == ARCHIVED:
            title = matches[one.draft.id].title
            matches[one.draft.id] = matching.unclear(
                one.draft, "product_archived", f"“{title}” is archived in the shop."
            )
    return matches


def _is_unread(match: Match) -> bool:
    """Known by its place and complete: nothing of it was read on the way."""
    return match.verdict is Verdict.EXISTING and not match.status


async def _read(shop: Shop, product_ids: Sequence[str]) -> dict[str, ShopProduct | None]:
    """The products as the shop has them now, None for those it does not have."""
    found: dict[str, ShopProduct | None] = {}
    troubles: list[PipelineError] = []
    few = anyio.CapacityLimiter(READS_AT_ONCE)

    async def read(product_id: str) -> None:
        async with few:
            try:
                found[product_id] = await shop.find_by_id(product_id)
            except PipelineError as error:  # carried past the task group, which would wrap it
                troubles.append(error)
                tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        for product_id in dict.fromkeys(product_ids):
            tasks.start_soon(read, product_id)
    if troubles:
        raise troubles[0]
    return found


async def _counted(
    given: StageInput,
    shop: Shop,
    facts: ShopFacts,
    matches: Mapping[str, Match],
    orders: Orders,
    units: Mapping[str, int],
) -> tuple[str, dict[str, int]]:
    """Why fewer units are told, and how many are: of what is there already, not what the shop cannot count.

    Nor anything, where the shop expects goods from elsewhere: then a person is asked.
    """
    there = {name: one.inventory_item_id for match in matches.values() for name, one in match.variants.items()}
    more = [Unit(name, there[name], count) for name, count in units.items() if count > 0 and name in there]
    if not more:
        return "", dict(units)
    seen = await elsewhere.look(shop, orders, given.run.merchant.id, facts.location_id, more)
    if doubt := elsewhere.doubt_about(seen, {item for item, by in seen.off.items() if by > 0}):
        return doubt.message, {}
    uncountable = seen.uncountable(more)
    counted = {name: count for name, count in units.items() if name not in uncountable}
    return elsewhere.why_uncountable(more, seen), counted


async def _product(
    given: StageInput, shop: Shop, stored: StoredDraft, match: Match, units: Mapping[str, int]
) -> ProductStep:
    draft = stored.draft
    before = {} if match.by in OURS else match.variants
    costs = {name: Decimal(cost) for _, name, cost in await costs_to_write(given, shop, draft, before)}
    policy = given.run.merchant.settings.cost_on_approve
    return ProductStep(
        draft_id=draft.id,
        title=match.title or draft.plan.title,
        product_id=match.product_id,
        status=match.status,
        recognised_by=match.by,
        variants=tuple(
            _kept(one, match.variants[one.id], costs, units) if one.id in match.variants else _new(one, policy, units)
            for one in draft.variants
        ),
        pictures=stored.pictures,
    )


def _new(one: DraftVariant, policy: CostPolicy, units: Mapping[str, int]) -> VariantStep:
    cost = None if policy is CostPolicy.NEVER else one.plan.unit_cost
    return VariantStep(
        draft_variant_id=one.id, label=_label(one), price=one.plan.price, cost=cost, units=units.get(one.id, 0)
    )


def _kept(one: DraftVariant, there: ShopVariant, costs: Mapping[str, Decimal], units: Mapping[str, int]) -> VariantStep:
    cost = costs.get(there.id)
    return VariantStep(
        draft_variant_id=one.id,
        label=_label(one),
        variant_id=there.id,
        price=there.price,
        cost=there.cost,
        new_cost=None if cost == there.cost else cost,
        units=units.get(one.id, 0),
    )


def _label(one: DraftVariant) -> str:
    options = ", ".join(one.plan.options.values())
    if one.plan.sku and options:
        return f"{one.plan.sku} ({options})"
    return one.plan.sku or options or one.plan.gtin or "the only variant"


def _units(
    given: StageInput, facts: ShopFacts, stored: Sequence[StoredDraft], standing: OrderStanding
) -> tuple[StockPolicy, str, dict[str, int]]:
    """What the shop is told about quantities, why that is less than chosen, and the difference of each variant."""
    policy, note = stock_policy(given, facts)
    if policy is StockPolicy.RECORD:
        return policy, note, {}
    if standing.state in ENDED:
        return policy, OVER, {}
    if standing.revision > (given.run.order_revision or 0):
        return policy, SUPERSEDED, {}
    variants = (variant for one in stored for variant in one.draft.variants)
    expected = [Unit(one.id, "", one.plan.quantity) for one in variants if one.plan.quantity]
    wanted = {unit.draft_variant_id: unit.quantity for unit in to_announce(expected, standing.variants)}
    told = {name: known.announced for name, known in standing.variants.items()}
    units = {name: wanted.get(name, 0) - told.get(name, 0) for name in dict.fromkeys((*wanted, *told))}
    return policy, note, {name: count for name, count in units.items() if count}
