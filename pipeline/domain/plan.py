"""What an order will do in the shop: read from the shop as it stands, said and compared before it is done.

domain.md section 4: "Before approve, a plan. Apply exactly that or stop." Two plans that claim the same have the same
digest; titles and notes are words, not claims, and may change without asking a person again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from decimal import Decimal

from pipeline.domain.merchant import StockPolicy
from pipeline.domain.values import Value

DIFFERENCES_SHOWN = 20
ARCHIVED = "ARCHIVED"


class VariantStep(Value):
    """One variant. `variant_id` is empty for one that will be created.

    `price` and `cost` are the shop's for a variant that is there, else what it will be created with; `new_cost`
    replaces `cost`, None where that stays. `units` is what the shop is told, negative where some are taken back.
    """

    draft_variant_id: str
    label: str
    variant_id: str = ""
    price: Decimal | None = None
    cost: Decimal | None = None
    new_cost: Decimal | None = None
    units: int = 0


class ProductStep(Value):
    """One product of the order. `product_id` is empty for one that will be created; then `title` is the draft's.

    `problem` is why nothing is done for it, and the way out: then the rest of the order goes on without it, and a
    person is asked. `recognised_by` says how a product of the merchant's own was found (gtin, sku, chosen).
    `pictures` counts those that will be tried; some may turn out to be no pictures.
    """

    draft_id: str
    title: str
    product_id: str = ""
    status: str = ""
    problem: str = ""
    recognised_by: str = ""
    variants: tuple[VariantStep, ...] = ()
    pictures: int = 0


class DroppedUnits(Value):
    """Announced units of a variant that the order's newest revision no longer names; they are taken back."""

    draft_variant_id: str
    units: int


class Stop(Value):
    """Why nothing may be done until a person has put something right. `code` is stable, the message is for people."""

    code: str
    message: str


class Plan(Value):
    """Everything an order will do in the shop. `stock` is what quantities will be told, `note` why it is less."""

    currency: str = ""
    products: tuple[ProductStep, ...] = ()
    dropped: tuple[DroppedUnits, ...] = ()
    stock: StockPolicy = StockPolicy.RECORD
    location_id: str = ""
    location_name: str = ""
    note: str = ""
    stops: tuple[Stop, ...] = ()

    @property
    def digest(self) -> str:
        """The same for two plans that claim the same."""
        written = json.dumps(_claims(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(written.encode()).hexdigest()


def differences(approved: Plan, now: Plan, *, begun: bool = False) -> tuple[str, ...]:
    """What `now` claims that was not approved, in words; empty when it may be applied.

    `begun`: this order has been at work on the approved plan before, and was interrupted. What it did then is no
    difference: a product or variant it was to create is there, a cost it was to write is written.
    """
    if approved.digest == now.digest:
        return ()
    found = [stop.message for stop in now.stops if stop not in approved.stops]
    if not now.stops:  # else the products were perhaps not even read
        found += _shop_differences(approved, now)
        before = {one.draft_id: one for one in approved.products}
        for one in now.products:
            found += _product_differences(before.get(one.draft_id), one, begun=begun)
    if not found and not begun:
        found = ["the shop is not as it was when this was approved"]
    more = len(found) - DIFFERENCES_SHOWN
    return (*found[:DIFFERENCES_SHOWN], *([f"and {more} more differences"] if more > 0 else ()))


def _shop_differences(approved: Plan, now: Plan) -> Iterator[str]:
    if approved.currency != now.currency:
        yield f"the shop sells in {now.currency} now, not in {approved.currency}"
    if approved.stock is not now.stock:
        reason = f" ({now.note})" if now.note else ""
        yield f"goods would be {_STOCK[now.stock]} now, not {_STOCK[approved.stock]}{reason}"
    elif approved.location_id != now.location_id and _tells(now):
        yield f"goods would go to {_place(now)} now, not to {_place(approved)}"
    if approved.dropped != now.dropped:
        yield "other units than approved would be taken back for goods this order no longer names"


def _product_differences(approved: ProductStep | None, now: ProductStep, *, begun: bool) -> Iterator[str]:
    name = f"“{now.title}”"
    if approved is None:
        yield f"{name} was not in the plan"
        return
    if now.problem or approved.problem:
        if approved.problem != now.problem:
            yield now.problem or f"{name} can be brought into the shop by now"
        return
    # What this order created it would know by its link. What it knows by a barcode another order made meanwhile.
    begun = begun and bool(approved.product_id or now.recognised_by not in _RECOGNISED)
    created = begun and not approved.product_id
    if approved.product_id != now.product_id and not created:
        if not approved.product_id:
            yield f"{name} is in the shop by now: it would not be created, but added to"
        elif not now.product_id:
            yield f"“{approved.title}” is no longer in the shop: it would be created anew"
        else:
            yield f"{name} is another product of the shop now"
    elif approved.status != now.status and not created:
        yield f"{name} is {now.status.lower()} in the shop now, not {approved.status.lower()}"
    before = {one.draft_variant_id: one for one in approved.variants}
    for variant in now.variants:
        known = before.get(variant.draft_variant_id)
        said = ["was not in the plan"] if known is None else _variant_differences(known, variant, begun=begun)
        yield from (f"{name}, {variant.label}: {words}" for words in said)


def _variant_differences(approved: VariantStep, now: VariantStep, *, begun: bool) -> Iterator[str]:
    if approved.units != now.units:
        yield f"{now.units} units instead of {approved.units}"
    if begun and not approved.variant_id and now.variant_id:
        return  # ours, from before the interruption
    if approved.variant_id != now.variant_id:
        if not approved.variant_id:
            yield "is in the shop by now and would not be created"
        else:
            yield "is no longer the variant of the shop that it was"
        return
    if approved.price != now.price:
        yield f"the price is {_money(now.price)} now, not {_money(approved.price)}"
    # An average is another one once it is written: what would be written now is then no matter.
    written = begun and approved.new_cost is not None and now.cost == approved.new_cost
    if not written and (approved.cost, approved.new_cost) != (now.cost, now.new_cost):
        yield f"the cost is {_costs(now)} now, not {_costs(approved)}"


# --------------------------------------------------------------------------------------------- in words


def summary(plan: Plan) -> str:
    """One sentence with the counts, as a merchant reads it before approving."""
    if plan.stops:
        return "Nothing can be done yet: " + " ".join(stop.message for stop in plan.stops)
    new = [one for one in plan.products if not one.product_id and not one.problem]
    grown = [(one, _new_variants(one)) for one in plan.products if one.product_id and _new_variants(one)]
    said = []
    if new:
        said.append(f"creates {_count(len(new), 'draft product')} ({_count(sum(map(_new_variants, new)), 'variant')})")
    if grown:
        variants = _count(sum(count for _, count in grown), "variant")
        said.append(f"adds {variants} to {_count(len(grown), 'existing product')}")
    if costs := len([one for one in _variants(plan) if one.new_cost is not None]):
        said.append(f"updates {_count(costs, 'cost')}")
    said += _units_said(plan)
    if pictures := sum(one.pictures for one in plan.products):
        said.append(f"tries {_count(pictures, 'picture')}")
    said.append("publishes nothing")
    sentences = [", ".join(said), *([plan.note] if plan.note else [])]
    if left := [one.problem for one in plan.products if one.problem]:
        more = f" (and {len(left) - 1} more)" if left[1:] else ""
        sentences.append(f"leaves {_count(len(left), 'product')} undone: {left[0]}{more}")
    return " ".join(f"{words[0].upper()}{words[1:].rstrip('.')}." for words in sentences)


class PlanItem(Value):
    """One product's part of a plan in words: what happens to it, and to each of its variants."""

    title: str
    words: str
    variants: tuple[str, ...] = ()


def items(plan: Plan) -> tuple[PlanItem, ...]:
    """The plan product by product; those that nothing happens to come last."""
    found = [
        PlanItem(
            title=one.title, words=_product_said(one), variants=tuple(_variant_said(plan, v) for v in one.variants)
        )
        for one in plan.products
    ]
    if plan.dropped:
        units = _count(-sum(one.units for one in plan.dropped), "announced unit")
        words = f"{units} are taken back: this revision no longer names them"
        found.append(PlanItem(title="Goods no longer ordered", words=words))
    return tuple(sorted(found, key=lambda item: item.words == _NOTHING))


_NOTHING = "is in the shop; nothing about it changes"
_STOCK = {
    StockPolicy.RECORD: "only recorded",
    StockPolicy.INCOMING: "announced",
    StockPolicy.AVAILABLE: "made available at once",
}


def _units_said(plan: Plan) -> Iterator[str]:
    told = _told(plan)
    more, less = sum(units for units in told if units > 0), -sum(units for units in told if units < 0)
    if more:
        units = _count(more, "unit")
        verb = f"announces {units}" if plan.stock is StockPolicy.INCOMING else f"makes {units} available at once"
        yield f"{verb} at {_place(plan)}"
    if less:
        yield f"takes back {_count(less, 'announced unit')} at {_place(plan)}"
    if not told or not (more or less):
        yield "announces nothing"


_RECOGNISED = {"gtin": ", recognised by its barcode", "sku": ", recognised by its SKU", "chosen": ", as you said"}


def _product_said(one: ProductStep) -> str:
    if one.problem:
        return f"is left undone: {one.problem}"
    count = _new_variants(one)
    pictures = f"; {_count(one.pictures, 'picture')} will be tried" if one.pictures else ""
    if not one.product_id:
        return f"is created as a draft with {_count(count, 'variant')}{pictures}"
    exists = f"exists ({one.status.lower()}{_RECOGNISED.get(one.recognised_by, '')})"
    if count:
        return f"{exists} and gets {_count(count, 'new variant')}{pictures}"
    changes = any(variant.units or variant.new_cost is not None for variant in one.variants)
    return f"{exists} and stays as it is{pictures}" if changes or pictures else _NOTHING


def _variant_said(plan: Plan, one: VariantStep) -> str:
    if one.variant_id:
        said = ["exists"]
        if one.new_cost is not None:
            said.append(f"cost {_costs(one)}")
    else:
        said = ["new"]
        said += [f"price {_money(one.price)}"] if one.price is not None else []
        said += [f"cost {_money(one.cost)}"] if one.cost is not None else []
    if one.units > 0:
        verb = "announced" if plan.stock is StockPolicy.INCOMING else "made available"
        said.append(f"{_count(one.units, 'unit')} {verb}")
    elif one.units < 0:
        said.append(f"{_count(-one.units, 'announced unit')} taken back")
    return f"{one.label}: {', '.join(said)}"


def _costs(one: VariantStep) -> str:
    return _money(one.cost) if one.new_cost is None else f"{_money(one.cost)} -> {_money(one.new_cost)}"


def _money(amount: Decimal | None) -> str:
    """An amount without the zeros a column adds, but never fewer than two decimals."""
    if amount is None:
        return "none"
    plain = amount.normalize()
    return f"{plain:.2f}" if plain == round(plain, 2) else f"{plain:f}"


def _place(plan: Plan) -> str:
    return plan.location_name or f"location {plan.location_id.rpartition('/')[2]}"


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


# --------------------------------------------------------------------------------------------- the claims


def _claims(plan: Plan) -> dict[str, list[str]]:
    """What a plan promises, without its words: by what it is about."""
    claims = {
        "shop": [plan.currency, plan.stock, plan.location_id if _tells(plan) else ""],
        **{f"stop:{stop.code}:{stop.message}": [] for stop in plan.stops},
        **{f"dropped:{one.draft_variant_id}": [str(one.units)] for one in plan.dropped},
        **{f"product:{one.draft_id}": [one.product_id, one.status, one.problem] for one in plan.products},
    }
    for one in _variants(plan):
        amounts = [_exact(amount) for amount in (one.price, one.cost, one.new_cost)]
        claims[f"variant:{one.draft_variant_id}"] = [one.variant_id, *amounts, str(one.units)]
    return claims


def _exact(amount: Decimal | None) -> str:
    """The same for 4.5 and 4.50, which the shop may write either way."""
    return "" if amount is None else f"{amount.normalize():f}"


def _variants(plan: Plan) -> Iterator[VariantStep]:
    return (variant for product in plan.products for variant in product.variants)


def _told(plan: Plan) -> list[int]:
    return [*(one.units for one in _variants(plan)), *(one.units for one in plan.dropped)]


def _tells(plan: Plan) -> bool:
    return any(_told(plan))


def _new_variants(product: ProductStep) -> int:
    return sum(not variant.variant_id for variant in product.variants)
