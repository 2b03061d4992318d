"""What a merchant's rules make of a cost: a retail price, a product type, tags.

A price is always finished upwards, so no rounding rule ever eats into the markup. A cost that cannot be
stated in the shop's currency is left empty: an amount in euro is never written as dollars.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal

from pipeline.domain.merchant import CategoryRule, ExchangeRate, MerchantSettings, Rounding
from pipeline.domain.money import minor_units, round_money
from pipeline.domain.purchase_order import Doubt
from pipeline.domain.results import NormalizedLine, NormalizedOrder, PricedLine, PricedOrder

_ENDINGS = {Rounding.CENTS_99: Decimal("0.99"), Rounding.CENTS_95: Decimal("0.95"), Rounding.WHOLE: Decimal(0)}
_SAME = Decimal(1)


def price_order(order: NormalizedOrder, settings: MerchantSettings) -> PricedOrder:
    """Every line priced in the shop's currency, with one doubt per order where no rate is known."""
    dated = _rate(order.currency, settings)
    lines = tuple(_price_line(line, order.currency, settings, dated) for line in order.lines)
    doubts = tuple(doubt for line, priced in zip(order.lines, lines, strict=True) for doubt in _check(line, priced))
    if dated is None:
        message = f"No {order.currency}/{settings.currency} rate is set, so costs and prices are empty. Enter the rate."
        doubts = (Doubt(code="no_exchange_rate", message=message), *doubts)
    return PricedOrder(currency=settings.currency, lines=lines, doubts=doubts)


def finish(price: Decimal, rounding: Rounding, currency: str) -> Decimal:
    """The smallest price with the wanted ending that is not below `price`; yen have no cents to end on."""
    if rounding is Rounding.NONE:
        return round_money(price, currency)
    ending = _ENDINGS[rounding] if minor_units(currency) else Decimal(0)
    return round_money((price - ending).to_integral_value(ROUND_CEILING) + ending, currency)


def _rate(currency: str, settings: MerchantSettings) -> tuple[Decimal, str] | None:
    """Units of the shop's currency for one of the document's, with the words for it; None when unknown."""
    if currency == settings.currency:
        return _SAME, ""
    rate: ExchangeRate | None = settings.exchange_rates.get(currency)
    return None if rate is None else (rate.rate, f", {currency} at {rate.rate} of {rate.on.isoformat()}")


def _price_line(
    line: NormalizedLine, currency: str, settings: MerchantSettings, dated: tuple[Decimal, str] | None
) -> PricedLine:
    product_type, tags = _category(line, settings.categories)
    cost, price, rule = None, None, f"no price: no rate for {currency}"
    if dated is not None:
        rate, words = dated
        cost = None if line.unit_cost is None else round_money(line.unit_cost * rate, settings.currency)
        price, rule = _price(line, settings, rate)
        rule += words
    return PricedLine(
        position=line.position,
        unit_cost=cost,
        price=price,
        price_rule=rule,
        product_type=product_type,
        tags=tuple(dict.fromkeys((*settings.default_tags, *tags))),
    )


def _price(line: NormalizedLine, settings: MerchantSettings, rate: Decimal) -> tuple[Decimal | None, str]:
    """A printed retail price is the supplier's word and beats the markup; converted, it is finished again."""
    if line.retail_price is not None and line.retail_price > 0:
        if rate == _SAME:
            return round_money(line.retail_price, settings.currency), "printed retail price"
        return finish(line.retail_price * rate, settings.rounding, settings.currency), "printed retail price"
    if line.unit_cost is None or line.unit_cost <= 0:
        return None, "no price: no cost"
    price = finish(line.unit_cost * rate * settings.markup, settings.rounding, settings.currency)
    ending = "" if settings.rounding is Rounding.NONE else f", finished to {settings.rounding.value}"
    return price, f"cost x {settings.markup}{ending}"


def _check(line: NormalizedLine, priced: PricedLine) -> tuple[Doubt, ...]:
    """A printed retail price below cost is more often a case price taken for a unit price than a bargain."""
    if priced.price is None or priced.unit_cost is None or priced.price >= priced.unit_cost:
        return ()
    message = (
        f"Line {line.position}: one costs {priced.unit_cost} but would sell at {priced.price}. Is the cost per pack?"
    )
    return (Doubt(code="price_below_cost", line=line.position, message=message),)


def _category(line: NormalizedLine, rules: tuple[CategoryRule, ...]) -> tuple[str, tuple[str, ...]]:
    """The first rule with a keyword that stands in the line's text as words of its own."""
    text = f"{line.product_name} {line.name}".casefold()
    for rule in rules:
        if any(
            re.search(rf"(?<!\w){re.escape(keyword.casefold())}(?!\w)", text) for keyword in rule.keywords if keyword
        ):
            return rule.product_type, rule.tags
    return "", ()
