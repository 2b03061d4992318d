"""From lines as printed to lines a shop can hold: goods only, clean codes, whole units, one currency."""

from __future__ import annotations

import re
from decimal import Decimal

from pipeline.domain.identifiers import clean_gtin, clean_sku, clean_text
from pipeline.domain.money import currency_code
from pipeline.domain.purchase_order import DocumentKind, Doubt, ExtractedLine, LineKind
from pipeline.domain.quantities import retail_units
from pipeline.domain.results import NormalizedLine, NormalizedOrder, OrderToSave
from pipeline.domain.review import confirmed_lines

_CHARGE_NOUNS = frozenset(
    {
        "freight",
        "shipping",
        "handling",
        "delivery",
        "postage",
        "carriage",
        "insurance",
        "surcharge",
        "fuel",
        "transport",
    }
) | frozenset({"fracht", "frachtkosten", "versand", "versandkosten", "porto", "port", "livraison", "flete", "envio"})
_CHARGE_FILLERS = frozenset({"charge", "charges", "cost", "costs", "fee", "fees", "and", "de", "gastos", "frais"})


def normalize(order: OrderToSave, shop_currency: str) -> NormalizedOrder:
    """The order's goods, cleaned, with every doubt found on the way."""
    lines: list[NormalizedLine] = []
    currency, doubts = _currency(order.currency, shop_currency)
    for printed in confirmed_lines(order):
        line, found = _line(printed, order.kind)
        doubts += found
        if line is not None:
            lines.append(line)
    return NormalizedOrder(currency=currency, lines=tuple(lines), doubts=doubts)


def is_charge(line: ExtractedLine) -> bool:
    """Whether a line is about carrying the goods, whatever its reader called it: nothing else is in its text."""
    words = set(re.findall(r"\w+", f"{line.product_name} {line.description}".casefold()))
    return not line.gtin and bool(words & _CHARGE_NOUNS) and words <= _CHARGE_NOUNS | _CHARGE_FILLERS


def _currency(printed: str, shop_currency: str) -> tuple[str, tuple[Doubt, ...]]:
    if not printed.strip():
        message = f"The document names no currency; {shop_currency} was assumed."
        return shop_currency, (Doubt(code="currency_assumed", blocking=False, message=message),)
    code = currency_code(printed, shop_currency)
    if code is not None:
        return code, ()
    message = f"It is not clear which currency {printed!r} is. Enter it, or costs stay empty."
    return printed.strip(), (Doubt(code="unknown_currency", message=message),)


def _line(printed: ExtractedLine, kind: DocumentKind) -> tuple[NormalizedLine | None, tuple[Doubt, ...]]:
    if printed.kind is LineKind.FREE_GOODS:
        return None, (_aside(printed, "free_goods", "free goods are not announced; count them when they arrive."),)
    if printed.kind is not LineKind.GOODS:
        return None, ()
    if is_charge(printed):
        return None, (_aside(printed, "charge_line", f"{printed.description!r} was taken as a charge, not as goods."),)
    sku, sku_doubts = clean_sku(printed.sku, printed.position)
    gtin, gtin_doubts = clean_gtin(printed.gtin, printed.position)
    name = clean_text(printed.description) or clean_text(printed.product_name) or sku or gtin
    if not name:
        return None, (_aside(printed, "nameless_line", "it has neither a name nor a code.", blocking=True),)
    units = retail_units(printed, kind)
    line = NormalizedLine(
        position=printed.position,
        kind=printed.kind,
        sku=sku,
        gtin=gtin,
        name=name,
        product_name=clean_text(printed.product_name),
        options=_options(printed.options),
        quantity=units.quantity,
        unit_cost=units.unit_cost,
        retail_price=printed.retail_price,
        packs=units.packs,
        image_url=printed.image_url.strip(),
        confidence=printed.evidence.confidence,
    )
    return line, (*sku_doubts, *gtin_doubts, *units.doubts, *_backordered(printed))


def _options(printed: dict[str, str]) -> dict[str, str]:
    """Options that say something: a name and a value each."""
    cleaned = {clean_text(name): clean_text(value) for name, value in printed.items()}
    return {name: value for name, value in cleaned.items() if name and value}


def _backordered(printed: ExtractedLine) -> tuple[Doubt, ...]:
    late = printed.quantity_backordered or Decimal(0)
    if late <= 0:
        return ()
    return (_aside(printed, "backordered", f"{late.normalize():f} are on backorder and were not announced."),)


def _aside(line: ExtractedLine, code: str, message: str, *, blocking: bool = False) -> Doubt:
    return Doubt(code=code, line=line.position, blocking=blocking, message=f"Line {line.position}: {message}")
