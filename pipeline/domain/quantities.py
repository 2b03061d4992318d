"""How many retail units a line brings, and what one of them costs.

Four columns are four facts (ordered, shipped, backordered, invoiced), and a printed unit may be a pack.
A pack is multiplied out only on evidence (the unit of measure or a pack column) that the arithmetic
confirms; where the two disagree a person decides. "24 ct" in a name is the retail article, not a pack.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from pipeline.domain.money import CENT, round_unit_cost
from pipeline.domain.plausible import MAX_UNITS
from pipeline.domain.purchase_order import DocumentKind, Doubt, ExtractedLine

DELIVERED = frozenset({DocumentKind.INVOICE, DocumentKind.DELIVERY_NOTE})
"""Kinds of documents that tell what left the supplier, not what somebody wanted."""

_DOZEN_UNITS = ("dozen", "dozens", "doz", "dz", "dzn", "dtz", "dutzend", "douzaine", "docena")
_SIZED_UNITS = dict.fromkeys(_DOZEN_UNITS, 12) | {"gross": 144, "gro": 144}
_SHIPPING_UNITS = frozenset(
    {"case", "cases", "cs", "ca", "carton", "cartons", "ctn", "crate", "karton", "kiste", "ve", "colis", "caja"}
)
_SOFT_UNITS = frozenset({"pack", "packs", "pk", "pkt", "box", "boxes", "bx", "inner", "tray", "packung", "paquet"})
_PACK_UNITS = _SHIPPING_UNITS | _SOFT_UNITS
_SINGLE_UNITS = frozenset(
    {"ea", "each", "pc", "pcs", "pce", "piece", "pieces", "unit", "units", "un", "st", "stk", "stuck", "c62", "h87"}
)

_PACK_WORD = "|".join(sorted(_PACK_UNITS, key=len, reverse=True))
_WORD_THEN_SIZE = re.compile(rf"\b(?:{_PACK_WORD})(?:\s+of\s+|\s*/\s*|\s*\(\s*|\s*)(\d{{1,4}})\b", re.IGNORECASE)
_SIZE_THEN_WORD = re.compile(rf"\b(\d{{1,4}})\s*(?:/|per|x)\s*(?:{_PACK_WORD})\b", re.IGNORECASE)
_CASE_IN_TEXT = re.compile(r"\b(?:case|carton|crate)s?\s+of\s+\d+\b", re.IGNORECASE)
"""Worth a question in a name; "box of 24" is as often what a customer takes home."""


@dataclass(frozen=True, slots=True)
class Units:
    """What a line means in retail units; `packs` explains a conversion, empty when there was none."""

    quantity: int
    unit_cost: Decimal | None
    packs: str = ""
    doubts: tuple[Doubt, ...] = ()


def expected(line: ExtractedLine, kind: DocumentKind) -> Decimal | None:
    """How many printed units are coming because of this document; None when it does not say.

    An invoice or a delivery note tells what left the supplier, whatever was ordered.
    """
    ordered, late = line.quantity, line.quantity_backordered
    if ordered is not None and late is not None and late > 0:
        ordered = max(ordered - late, Decimal(0))
    delivered = (line.quantity_shipped, line.quantity_invoiced)
    columns = (*delivered, ordered) if kind in DELIVERED else (ordered, *delivered)
    return next((value for value in columns if value is not None), None)


def billed(line: ExtractedLine) -> tuple[Decimal, ...]:
    """Every quantity the line's total may have been computed from, likeliest first."""
    columns = (line.quantity_invoiced, line.quantity, line.quantity_shipped)
    return tuple(dict.fromkeys(value for value in columns if value is not None))


def amounts_to(quantity: Decimal, unit_cost: Decimal, total: Decimal) -> bool:
    """Whether quantity times unit cost is the total, allowing for a unit cost printed in whole cents."""
    cents = unit_cost / CENT
    in_cents = cents == cents.to_integral_value()
    slack = (abs(quantity) + 1) * CENT / 2 if in_cents else CENT
    return abs(quantity * unit_cost - total) <= max(CENT, min(slack, abs(total) / 100))


def pack_size(line: ExtractedLine) -> int | None:
    """Units in one printed unit, as the unit of measure or the pack column says; None when neither does."""
    unit = _unit_word(line.unit)
    if unit in _SIZED_UNITS:
        return _SIZED_UNITS[unit]
    if unit in _SINGLE_UNITS:
        return None
    printed = _size_in(line.unit) or line.pack_size
    if printed is None and unit in _PACK_UNITS:
        printed = _size_in(line.description)
    return printed if printed and printed > 1 else None


def retail_units(line: ExtractedLine, kind: DocumentKind) -> Units:
    """The line in whole retail units with the cost of one, or a doubt that says what is unclear."""
    count = expected(line, kind)
    if count is None:
        return Units(0, line.unit_cost, doubts=(_doubt(line, "no_quantity", "it does not say how many."),))
    if count < 0:
        return Units(0, line.unit_cost, doubts=(_doubt(line, "return_line", f"{count} units are a return."),))
    size = pack_size(line)
    if size is not None and _is_sold_in_packs(line, size):
        return _multiplied(line, count, size)
    doubts = _pack_doubts(line, size)
    if count != count.to_integral_value():
        said = f"{count.normalize():f} {line.unit}".strip()
        doubts += (
            _doubt(line, "fractional_quantity", f"{said} is not a whole number of units; a shop counts pieces."),
        )
    return Units(int(count), _cost(line), doubts=doubts)


def _is_sold_in_packs(line: ExtractedLine, size: int) -> bool:
    """Whether one printed unit is a pack: the unit of measure names one, or the arithmetic gives it away.

    A pack column alone proves nothing ("24 each, packed by 12"). It does if the total is reached only by
    multiplying the pack out, if a unit costs more than its own retail price, or if fewer units were bought
    than one pack holds.
    """
    if _each_is_priced(line, size) or _names_a_pack(line.unit):
        return True
    if not _adds_up(line):
        return False
    if line.retail_price is not None and line.unit_cost is not None and line.unit_cost > line.retail_price:
        return True
    return all(quantity < size for quantity in billed(line))


def _multiplied(line: ExtractedLine, count: Decimal, size: int) -> Units:
    """The packs as single units; `unit_cost` is divided unless the document already prices the single one."""
    units = count * size
    cost = _cost(line)
    if cost is not None and not _each_is_priced(line, size):
        cost = round_unit_cost(cost / size)
    if units > MAX_UNITS:
        return Units(0, cost, doubts=(_doubt(line, "implausible_number", f"{units:,.0f} units cannot be right."),))
    label = _label(_unit_word(line.unit) or "pack", count)
    doubts: tuple[Doubt, ...] = ()
    if not _adds_up(line) and not _each_is_priced(line, size):
        doubts += (_doubt(line, "pack_unconfirmed", "no sum confirms the pack; please check it.", blocking=False),)
    if units != units.to_integral_value():
        doubts += (_doubt(line, "fractional_quantity", f"{count} {label} x {size} is not a whole number of units."),)
    packs = f"{count.normalize():f} {label} x {size} = {units.normalize():f} units"
    return Units(int(units), cost, packs, doubts)


def _label(word: str, count: Decimal) -> str:
    """The pack's word in the number people expect."""
    if count == 1 or word.endswith("s"):
        return word
    return f"{word}es" if word.endswith("x") else f"{word}s"


def _pack_doubts(line: ExtractedLine, size: int | None) -> tuple[Doubt, ...]:
    """What is unclear about packs on a line that was not multiplied out."""
    if size is not None:
        return (
            _doubt(
                line, "pack_unsure", f"{size} per pack is printed, but the sums do not show if prices are per pack."
            ),
        )
    if _unit_word(line.unit) in _SHIPPING_UNITS:
        return (
            _doubt(line, "pack_unsure", f"it is sold by the {_unit_word(line.unit)}, but not how many are in one."),
        )
    if _unit_word(line.unit) not in _SINGLE_UNITS and _CASE_IN_TEXT.search(line.description):
        return (_doubt(line, "pack_unsure", "the text speaks of a case; is the price for the case or for one?"),)
    return ()


def _cost(line: ExtractedLine) -> Decimal | None:
    """The printed unit cost, or the one the line's total implies."""
    if line.unit_cost is not None or line.line_total is None:
        return line.unit_cost
    quantity = next((value for value in billed(line) if value >= 1), None)
    return None if quantity is None else round_unit_cost(line.line_total / quantity)


def _adds_up(line: ExtractedLine) -> bool:
    """Whether some billed quantity times the unit cost is the line's total."""
    cost, total = line.unit_cost, line.line_total
    return (
        cost is not None and total is not None and any(amounts_to(quantity, cost, total) for quantity in billed(line))
    )


def _each_is_priced(line: ExtractedLine, size: int) -> bool:
    """Whether the total is quantity x pack x cost: packs are counted, single units are priced."""
    cost, total = line.unit_cost, line.line_total
    if cost is None or total is None or _adds_up(line):
        return False
    return any(amounts_to(quantity * size, cost, total) for quantity in billed(line))


def _names_a_pack(unit: str) -> bool:
    return _unit_word(unit) in _PACK_UNITS or _unit_word(unit) in _SIZED_UNITS or _size_in(unit) is not None


def _size_in(text: str) -> int | None:
    """The size in "Case of 12", "CS12", "12/case"; "24 ct" has none."""
    found = _WORD_THEN_SIZE.search(text) or _SIZE_THEN_WORD.search(text)
    return int(found[1]) if found else None


def _unit_word(unit: str) -> str:
    """The unit of measure as the tables above spell it: "CS12" and "12/CS" are cs, C62 is a code of its own."""
    text = unit.strip().casefold().replace("ü", "u")
    if text in _SINGLE_UNITS:
        return text
    found = re.search(r"[^\W\d_]+", text)
    return found[0] if found else ""


def _doubt(line: ExtractedLine, code: str, message: str, *, blocking: bool = True) -> Doubt:
    return Doubt(code=code, line=line.position, blocking=blocking, message=f"Line {line.position}: {message}")
