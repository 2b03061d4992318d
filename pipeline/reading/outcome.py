"""What reading found."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.domain.purchase_order import ExtractedOrder


@dataclass(frozen=True, slots=True)
class ReadOutcome:
    """An order, or why there is none, and what a model would need to do better.

    `unreadable` is empty exactly when `order` is set. A document that was read and is no order has an
    `order` of kind UNKNOWN without lines: nobody needs to pay a model to be told the same.
    `text` is the plain text found, `pages` are PNG pictures of scanned pages.
    """

    order: ExtractedOrder | None
    unreadable: str = ""
    text: str = ""
    pages: tuple[bytes, ...] = ()
