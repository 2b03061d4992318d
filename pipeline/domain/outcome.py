"""How a run ended, said so that a merchant knows what now stands in the shop and what does not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.domain.purchase_order import Doubt
from pipeline.domain.results import RunOutcome, ShopSync

_REASONS_SHOWN = 5
"""A summary is one paragraph; the order's page lists them all."""


def needs_review(doubts: Sequence[Doubt], sync: ShopSync | None = None) -> RunOutcome:
    """The outcome of a run that waits for a person: the first reasons once each, blocking ones before the others.

    Where some products failed (`sync`), it begins with what is in the shop all the same.
    """
    ordered = sorted(doubts, key=lambda doubt: not doubt.blocking)
    messages = list(dict.fromkeys(doubt.message for doubt in ordered))
    more = messages[_REASONS_SHOWN:]
    shown = [*messages[:_REASONS_SHOWN], *([f"And {_count(len(more), 'more reason')}."] if more else [])]
    if sync is not None and sync.failures:
        left = _count(len(sync.failures), "product")
        shown.insert(0, f"In the shop: {completed(sync, receipt=False).summary}. Not done, {left}:")
    return RunOutcome(state="needs_review", summary=" ".join(shown))


def completed(sync: ShopSync, *, receipt: bool) -> RunOutcome:
    """The outcome of a run that did what it could: products and units counted from what the shop confirmed."""
    if sync.ended:
        said = [
            f"order {sync.ended}",
            _announced(sync) if _units(sync, "announced") else "nothing was to be taken back",
            *_undone(sync),
        ]
    elif receipt:
        said = [_received(sync), _rejected(sync)]
    else:
        said = [_products(sync), _announced(sync), _available(sync)]
    summary = ", ".join(part for part in said if part)
    return RunOutcome(state="completed", summary=f"{summary}; {sync.note}" if sync.note else summary)


def _undone(sync: ShopSync) -> Iterator[str]:
    archived = [one for one in sync.undone if not one.left]
    left = [one for one in sync.undone if one.left]
    if archived:
        yield f"{_count(len(archived), 'draft product')} archived"
    if left:
        named = "; ".join(f"“{one.title}”: {one.left}" for one in left[:_REASONS_SHOWN])
        more = f"; and {len(left) - _REASONS_SHOWN} more" if len(left) > _REASONS_SHOWN else ""
        yield (
            f"{_count(len(left), 'product')} left as it is ({named}{more})"
            if len(left) == 1
            else (f"{_count(len(left), 'product')} left as they are ({named}{more})")
        )


def _products(sync: ShopSync) -> str:
    variants = sum(len(product.variants) for product in sync.products)
    text = f"{_count(len(sync.products), 'product')} ({_count(variants, 'variant')})"
    created = sum(product.created for product in sync.products)
    return text if created == len(sync.products) else f"{text}, {created} of them new"


def _announced(sync: ShopSync) -> str:
    """A revision may take units back: then the sum is negative and says so."""
    units = _units(sync, "announced")
    if units < 0:
        return f"{_count(-units, 'announced unit')} taken back{_place(sync)}"
    return f"{_count(units, 'unit')} announced as incoming{_place(sync)}" if units else "no new units announced"


def _available(sync: ShopSync) -> str:
    units = _units(sync, "received")
    return f"{_count(units, 'unit')} made available at once" if units else ""


def _received(sync: ShopSync) -> str:
    return f"{_count(_units(sync, 'received'), 'unit')} received into stock{_place(sync)}"


def _rejected(sync: ShopSync) -> str:
    units = _units(sync, "rejected")
    return f"{_count(units, 'unit')} rejected" if units else ""


def _units(sync: ShopSync, move: str) -> int:
    return sum(entry.quantity for entry in sync.stock if entry.move == move)


def _place(sync: ShopSync) -> str:
    """The location by its name, or by the number Shopify's address bar shows."""
    if sync.location_name:
        return f" at {sync.location_name}"
    return f" at location {sync.location_id.rpartition('/')[2]}" if sync.location_id else ""


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"
