"""When a person must decide: sums that do not agree, values read with little confidence, a merchant's wish."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from pipeline.domain.merchant import MerchantSettings
from pipeline.domain.money import CENT
from pipeline.domain.purchase_order import DocumentKind, Doubt, ExtractedLine, ExtractedOrder, LineKind
from pipeline.domain.quantities import DELIVERED, amounts_to, billed, expected, pack_size
from pipeline.domain.results import OrderToSave

_GOODS = frozenset({LineKind.GOODS})
_CHARGES = frozenset({LineKind.CHARGE, LineKind.DEPOSIT})
_DISCOUNTS = frozenset({LineKind.DISCOUNT})
_PRICED = _GOODS | _CHARGES | _DISCOUNTS


def check_order(order: ExtractedOrder, settings: MerchantSettings) -> tuple[Doubt, ...]:
    """Everything doubtful about an order as printed: its sums first, then how surely it was read."""
    return (*check_totals(order), *check_lines(order.lines), *check_confidence(order, settings))


def reasons_to_review(settings: MerchantSettings, doubts: Iterable[Doubt], confirmed_orders: int) -> tuple[Doubt, ...]:
    """Why a person must look before anything reaches the shop; empty when nobody must.

    A merchant who approves automatically is asked only where a doubt is blocking. Then all of them are shown.
    """
    found = tuple(dict.fromkeys(doubts))
    if settings.auto_approve and not any(doubt.blocking for doubt in found):
        return ()
    policy: tuple[Doubt, ...] = ()
    if not settings.auto_approve:
        policy += (Doubt(code="merchant_reviews_all", message="You review every order before it reaches the shop."),)
    if confirmed_orders < settings.review_first_orders:
        first = settings.review_first_orders
        message = f"This supplier has {confirmed_orders} confirmed orders; you look at the first {first}."
        policy += (Doubt(code="new_supplier", message=message, blocking=not settings.auto_approve),)
    return tuple(sorted((*found, *policy), key=lambda doubt: not doubt.blocking))


def check_totals(order: ExtractedOrder | OrderToSave) -> tuple[Doubt, ...]:
    """Whether goods + charges - discounts + tax is the total, and the subtotal one of their partial sums."""
    if order.total is None and order.subtotal is None:
        return ()
    unpriced = [
        line.position for line in order.lines if line.kind is LineKind.GOODS and line_amount(line, order.kind) is None
    ]
    if unpriced:
        message = f"The totals cannot be checked: no price on line {', '.join(map(str, unpriced))}."
        return (Doubt(code="totals_unchecked", message=message),)
    sums = _Sums(order)
    return (*sums.check_subtotal(), *sums.check_total())


def confirmed_lines(order: OrderToSave) -> tuple[ExtractedLine, ...]:
    """The lines, with a total of their own where the order's totals prove it.

    Quantity times unit cost is only a guess until the sums printed below agree with it.
    """
    if (order.total is None and order.subtotal is None) or check_totals(order):
        return order.lines
    return tuple(line.model_copy(update={"line_total": line_amount(line, order.kind)}) for line in order.lines)


def check_lines(lines: Iterable[ExtractedLine]) -> tuple[Doubt, ...]:
    """Lines whose printed total is not quantity times unit cost, packs multiplied out or not."""
    return tuple(_mismatch(line) for line in lines if not _line_agrees(line))


def check_confidence(order: ExtractedOrder, settings: MerchantSettings) -> tuple[Doubt, ...]:
    """What was read less surely than the merchant accepts."""
    threshold = settings.confidence_threshold
    doubts = []
    if min(order.confidence, order.kind_confidence) < threshold:
        message = f"The document was read with {min(order.confidence, order.kind_confidence):.0%} confidence."
        doubts.append(Doubt(code="low_confidence", message=f"{message} You ask for {threshold:.0%}: compare it."))
    for line in order.lines:
        if line.evidence.confidence < threshold:
            message = f"Line {line.position} was read with {line.evidence.confidence:.0%} confidence: compare it."
            doubts.append(Doubt(code="low_confidence", line=line.position, message=message))
    return tuple(doubts)


def line_amount(line: ExtractedLine, kind: DocumentKind) -> Decimal | None:
    """What the line adds to the bill: its printed total, else quantity times unit cost."""
    if line.line_total is not None:
        return line.line_total
    quantity = line.quantity_invoiced
    if quantity is None:
        quantity = expected(line, kind) if kind in DELIVERED else line.quantity
    return None if quantity is None or line.unit_cost is None else quantity * line.unit_cost


class _Sums:
    """The order's partial sums. A charge or discount printed both as a line and below the lines counts once."""

    def __init__(self, order: ExtractedOrder | OrderToSave) -> None:
        self._order = order
        self.goods = sum(self._amounts(_GOODS), Decimal(0))
        self.charges = self._with_header(self._amounts(_CHARGES), order.freight)
        self.discounts = self._with_header([abs(amount) for amount in self._amounts(_DISCOUNTS)], order.discount)
        self.tax = order.tax or Decimal(0)
        self.slack = max(2 * CENT, CENT / 2 * len(order.lines))

    def _amounts(self, kinds: frozenset[LineKind]) -> list[Decimal]:
        lines = (line for line in self._order.lines if line.kind in kinds)
        return [line_amount(line, self._order.kind) or Decimal(0) for line in lines]

    @staticmethod
    def _with_header(amounts: list[Decimal], printed: Decimal | None) -> Decimal:
        on_lines = sum(amounts, Decimal(0))
        below = abs(printed or Decimal(0))
        return on_lines if below in (*amounts, on_lines) else on_lines + below

    def check_subtotal(self) -> tuple[Doubt, ...]:
        printed = self._order.subtotal
        partial = (
            self.goods,
            self.goods - self.discounts,
            self.goods + self.charges,
            self.goods + self.charges - self.discounts,
        )
        if printed is None or any(abs(printed - value) <= self.slack for value in partial):
            return ()
        return (_totals_doubt(f"The lines add up to {self.goods:,.2f}, but the subtotal says {printed:,.2f}"),)

    def check_total(self) -> tuple[Doubt, ...]:
        printed = self._order.total
        net = self.goods + self.charges - self.discounts
        if printed is None or abs(printed - net - self.tax) <= self.slack:
            return ()
        if abs(printed - net) <= self.slack:
            message = f"The lines reach the total {printed:,.2f} with the tax of {self.tax:,.2f} already in them."
            return (Doubt(code="gross_prices", message=f"{message} Costs must be net: correct them."),)
        parts = [f"lines {self.goods:,.2f}"]
        parts += [f"+ charges {self.charges:,.2f}"] if self.charges else []
        parts += [f"- discount {self.discounts:,.2f}"] if self.discounts else []
        parts += [f"+ tax {self.tax:,.2f}"] if self.tax else []
        sum_ = f"{' '.join(parts)} = {net + self.tax:,.2f}" if parts[1:] else f"The lines add up to {self.goods:,.2f}"
        return (_totals_doubt(f"{sum_}, but the total says {printed:,.2f}"),)


def _line_agrees(line: ExtractedLine) -> bool:
    cost, total = line.unit_cost, line.line_total
    if line.kind not in _PRICED or cost is None or total is None or not billed(line):
        return True
    sizes = {1, pack_size(line) or 1}
    return any(amounts_to(quantity * size, cost, total) for quantity in billed(line) for size in sizes)


def _mismatch(line: ExtractedLine) -> Doubt:
    quantity, cost = billed(line)[0], line.unit_cost or Decimal(0)
    sum_ = f"{quantity.normalize():f} x {cost} = {quantity * cost:,.2f}"
    message = f"Line {line.position}: {sum_}, but the line says {line.line_total:,.2f}."
    return Doubt(code="line_mismatch", line=line.position, message=message)


def _totals_doubt(arithmetic: str) -> Doubt:
    return Doubt(code="totals_mismatch", message=f"{arithmetic}. Look for a missing or misread line.")
