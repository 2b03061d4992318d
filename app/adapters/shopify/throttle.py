"""How fast: the shop's bucket of points, as the shop itself last reported it.

Shopify holds one bucket per app and shop; a request must find its *requested* cost in it and gets the
unused part back. Each answer says what is left, so a client that believes the last answer and adds the
refill since then is never far off. Other processes drink from the same bucket: a THROTTLED answer is
therefore normal, certain not to have been executed, and only corrects the figure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.clock import Clock

FIRST_GUESS = 100.0
"""Points a document is expected to request before the shop has told its price."""


class Throttle:
    """Knows how long to wait before a document may be sent. One per shop and process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._available = float("inf")
        self._restore_rate = 100.0
        self._reported_at = clock.monotonic()
        self._prices: dict[str, float] = {}

    def wait_s(self, document: str) -> float:
        """Seconds until the bucket should hold what `document` requests; 0 when it does now."""
        missing = self._prices.get(document, FIRST_GUESS) - self._level()
        return max(0.0, missing / self._restore_rate)

    def spend(self, document: str) -> None:
        """Reserve a document's price, so that calls sent side by side do not all count on the same points."""
        self._available = self._level() - self._prices.get(document, FIRST_GUESS)
        self._reported_at = self._clock.monotonic()

    def learn(self, document: str, cost: Mapping[str, Any]) -> None:
        """Take over what an answer's `extensions.cost` says."""
        if (requested := cost.get("requestedQueryCost")) is not None:
            self._prices[document] = float(requested)
        status = cost.get("throttleStatus") or {}
        if "currentlyAvailable" in status:
            self._available = float(status["currentlyAvailable"])
            self._restore_rate = max(1.0, float(status.get("restoreRate", self._restore_rate)))
            self._reported_at = self._clock.monotonic()

    def _level(self) -> float:
        return self._available + (self._clock.monotonic() - self._reported_at) * self._restore_rate
