"""Numbers no real order contains, taken out before anybody calculates with them.

A reader or a model can return 1E+999999; adding it up, or printing it, would stop the worker for all.
"""

from __future__ import annotations

from decimal import Decimal

from pipeline.domain.purchase_order import Doubt, ExtractedLine, ExtractedOrder

MAX_AMOUNT = Decimal(1_000_000_000)
MAX_UNITS = Decimal(1_000_000)
MAX_PACK = 10_000
_MAX_DECIMALS = 12
_UNITS = ("quantity", "quantity_shipped", "quantity_backordered", "quantity_invoiced")
_COSTS = ("unit_cost", "retail_price")


def plausible(order: ExtractedOrder) -> tuple[ExtractedOrder, tuple[Doubt, ...]]:
    """The order without impossible numbers, and one blocking doubt for each that was taken out."""
    lines, doubts = [], []
    for printed in _numbered(order.lines):
        line, found = _line(printed)
        lines.append(line)
        doubts += found
    wild = [
        name
        for name in ("subtotal", "tax", "freight", "discount", "total")
        if not _sane(getattr(order, name), MAX_AMOUNT)
    ]
    doubts += [_doubt(f"The {name} is not a number an order can have.") for name in wild]
    return order.model_copy(update={"lines": tuple(lines), **dict.fromkeys(wild)}), tuple(doubts)


def _numbered(lines: tuple[ExtractedLine, ...]) -> tuple[ExtractedLine, ...]:
    """The lines under positions of their own: everything later finds a line by its position."""
    if len({line.position for line in lines}) == len(lines):
        return lines
    return tuple(line.model_copy(update={"position": at}) for at, line in enumerate(lines, 1))


def _line(line: ExtractedLine) -> tuple[ExtractedLine, list[Doubt]]:
    wild = [name for name in _UNITS if not _sane(getattr(line, name), MAX_UNITS)]
    wild += [name for name in (*_COSTS, "line_total") if not _sane(getattr(line, name), MAX_AMOUNT)]
    wild += [name for name in _COSTS if name not in wild and (getattr(line, name) or 0) < 0]
    wild += ["pack_size"] if line.pack_size is not None and not 0 < line.pack_size <= MAX_PACK else []
    doubts = [
        _doubt(f"Line {line.position}: the {name.replace('_', ' ')} cannot be right and was left out.", line.position)
        for name in wild
    ]
    return line.model_copy(update=dict.fromkeys(wild)), doubts


def _sane(value: Decimal | None, limit: Decimal) -> bool:
    if value is None:
        return True
    exponent = value.as_tuple().exponent
    return value.is_finite() and isinstance(exponent, int) and exponent >= -_MAX_DECIMALS and abs(value) <= limit


def _doubt(message: str, line: int | None = None) -> Doubt:
    return Doubt(code="implausible_number", message=message, line=line)
