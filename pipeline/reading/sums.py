"""The sums under the table. Papers print several "totals"; the set that adds up is the right one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import product

from pipeline.domain.purchase_order import Evidence
from pipeline.reading import amounts
from pipeline.reading.amounts import NumberStyle
from pipeline.reading.labels import Labelled
from pipeline.reading.vocabulary import AMOUNT_FIELDS, Field

_CHOICES = 3
_TOLERANCE = Decimal("0.02")
_PROVED, _PRINTED = 0.98, 0.88


@dataclass(frozen=True, slots=True)
class Sums:
    """What the paper says it comes to, and where."""

    values: dict[str, Decimal | None]
    evidence: dict[str, Evidence]


def find_sums(labelled: Sequence[Labelled], style: NumberStyle) -> Sums:
    """Subtotal, tax, freight, discount and total: the first combination that adds up, else the likeliest of each."""
    found = {field: _candidates(labelled, field, style) for field in AMOUNT_FIELDS}
    # The last "Total" is the final one; a "Grand total" beats it.
    totals = [*found[Field.GRAND_TOTAL], *reversed(found[Field.TOTAL])][:_CHOICES]
    parts = [found[field][:_CHOICES] or [None] for field in (Field.SUBTOTAL, Field.TAX, Field.FREIGHT, Field.DISCOUNT)]
    choices = [(totals or [None]), *parts]
    proved = next((choice for choice in product(*choices) if _adds_up(choice)), None)
    chosen = proved or tuple(choice[0] for choice in choices)
    if proved is None and len(parts[0]) > 1:
        chosen = (chosen[0], None, *chosen[2:])  # several subtotals are sums of parts: none of them is the order's
    named = dict(zip(("total", "subtotal", "tax", "freight", "discount"), chosen, strict=True))
    confidence = _PROVED if proved else _PRINTED
    return Sums(
        {name: None if each is None else each.amount for name, each in named.items()},
        {name: each.evidence(confidence) for name, each in named.items() if each is not None},
    )


@dataclass(frozen=True, slots=True)
class _Sum:
    amount: Decimal
    where: str
    text: str

    def evidence(self, confidence: float) -> Evidence:
        return Evidence(confidence=confidence, where=self.where, text=self.text)


def _candidates(labelled: Sequence[Labelled], field: Field, style: NumberStyle) -> list[_Sum | None]:
    found: list[_Sum | None] = []
    for each in labelled:
        if each.field is not field:
            continue
        value = each.value.value
        amount = value if isinstance(value, Decimal) else amounts.find_last(each.value.text, style)
        if amount is not None and all(amount != other.amount for other in found if other):
            found.append(_Sum(abs(amount) if field is Field.DISCOUNT else amount, each.where, each.value.text))
    return found


def _adds_up(choice: tuple[_Sum | None, ...]) -> bool:
    total, subtotal, *others = choice
    if total is None or subtotal is None:
        return False
    tax, freight, discount = (Decimal(0) if each is None else each.amount for each in others)
    return abs(subtotal.amount + tax + freight - discount - total.amount) <= _TOLERANCE
