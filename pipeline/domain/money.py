"""Money: amounts are `Decimal`, currencies are ISO 4217 codes, and rounding happens here and nowhere else."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_UP, Decimal

CENT = Decimal("0.01")
_UNIT_COST_STEP = Decimal("0.0001")
_CENTS = 2

_WHOLE = ("JPY", "KRW", "VND", "CLP", "ISK", "PYG", "UGX", "XAF", "XOF", "XPF")
_THOUSANDTHS = ("BHD", "JOD", "KWD", "OMR", "TND")
_MINOR_UNITS = dict.fromkeys(_WHOLE, 0) | dict.fromkeys(_THOUSANDTHS, 3)
"""Decimals of the currencies that do not have two (ISO 4217)."""

_SYMBOLS = {
    "€": "EUR",
    "EURO": "EUR",
    "EUROS": "EUR",
    "£": "GBP",
    "US$": "USD",
    "CA$": "CAD",
    "C$": "CAD",
    "AU$": "AUD",
    "A$": "AUD",
    "NZ$": "NZD",
    "ZŁ": "PLN",
    "₹": "INR",
    "₩": "KRW",
    "SFR": "CHF",
}
_DOLLARS = frozenset({"USD", "CAD", "AUD", "NZD", "SGD", "HKD", "MXN"})
_CODE = re.compile(r"[A-Z]{3}")


def minor_units(currency: str) -> int:
    """How many decimals prices in this currency have."""
    return _MINOR_UNITS.get(currency, _CENTS)


def round_money(amount: Decimal, currency: str) -> Decimal:
    """The amount in whole cents of its currency; halves go up, as on every invoice."""
    return amount.quantize(Decimal(1).scaleb(-minor_units(currency)), ROUND_HALF_UP)


def round_unit_cost(amount: Decimal) -> Decimal:
    """A cost per unit, kept to a hundredth of a cent: a case of 24 rarely divides into whole cents."""
    return amount.quantize(_UNIT_COST_STEP, ROUND_HALF_UP)


def round_like(amount: Decimal, model: Decimal) -> Decimal:
    """The amount with as many decimals as another one of its currency."""
    return amount.quantize(model, ROUND_HALF_UP)


def currency_code(printed: str, shop_currency: str) -> str | None:
    """The ISO code of a currency as printed, None when it cannot be told which one is meant.

    A bare dollar sign means the shop's own dollars if it trades in dollars; otherwise it could be any of seven.
    """
    text = printed.strip().upper()
    if text == "$":
        return shop_currency if shop_currency in _DOLLARS else None
    if text in _SYMBOLS:
        return _SYMBOLS[text]
    return text if _CODE.fullmatch(text) else None
