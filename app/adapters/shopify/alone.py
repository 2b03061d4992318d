"""Shops' limits in memory: for a process that has shops to itself, as commands and tests do.

Keeps to the same promises as Postgres does for a fleet; one test suite holds both to them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

from app.adapters.shopify.limits import PARKED_S, PROBE_S, Admission, Closed, cool_down_s
from app.adapters.shopify.points import Ask, Bucket, Grant, fresh, reserve
from pipeline.clock import Clock


@dataclass
class AloneLimits:
    """Implements `ShopLimits`."""

    clock: Clock
    buckets: dict[str, Bucket] = field(default_factory=dict)
    closed: dict[str, Closed] = field(default_factory=dict)
    versions: dict[str, tuple[str, str]] = field(default_factory=dict)
    scopes: dict[str, frozenset[str]] = field(default_factory=dict)

    async def reserve(self, merchant_id: str, ask: Ask) -> Grant:
        """Take points out of the shop's bucket, and return those that were not used."""
        at = self.clock.monotonic()
        bucket = self.buckets.get(merchant_id) or fresh(at)
        self.buckets[merchant_id], grant = reserve(bucket, ask, at)
        return grant

    async def admit(self, merchant_id: str) -> Admission:
        """May the shop be called?"""
        closed, at = self.closed.get(merchant_id), self.clock.monotonic()
        if closed is None:
            return Admission()
        if closed.ask_at > at:
            return closed.admission(at)
        again_s = PARKED_S if closed.parked else PROBE_S
        self.closed[merchant_id] = replace(closed, ask_at=at + again_s)
        return Admission(probe=True)

    async def trip(self, merchant_id: str, reason: str, *, hold_s: float | None = None, probe: bool = False) -> float:
        """Nobody calls the shop for a while."""
        closed, at = self.closed.get(merchant_id) or Closed(), self.clock.monotonic()
        if closed.ask_at <= at or probe:
            hold_s = cool_down_s(closed.trips) if hold_s is None else hold_s
            closed = replace(closed, tripped=reason, trips=closed.trips + 1, ask_at=at + hold_s)
            self.closed[merchant_id] = closed
        return closed.ask_at - at

    async def park(self, merchant_id: str, reason: str, *, operation: str = "") -> float:
        """Nobody calls the shop until a person says so or a probe finds it well."""
        closed, at = self.closed.get(merchant_id) or Closed(), self.clock.monotonic()
        self.closed[merchant_id] = replace(closed, parked=reason, operation=operation, ask_at=at + PARKED_S)
        return PARKED_S

    async def answered(self, merchant_id: str, operation: str, *, probe: bool) -> bool:
        """The shop answered well; whether it is open now."""
        closed = self.closed.get(merchant_id)
        if closed is not None and closed.parked and not (probe and closed.operation in ("", operation)):
            self.closed[merchant_id] = replace(closed, tripped="", trips=0)
            return False
        self.closed.pop(merchant_id, None)
        return True

    async def unpark(self, merchant_id: str) -> bool:
        """A person has put the shop right."""
        return self.closed.pop(merchant_id, None) is not None

    async def served(self, merchant_id: str, *, asked: str, served: str) -> bool:
        """Write down which version was asked for and served."""
        is_news = self.versions.get(merchant_id) != (asked, served)
        self.versions[merchant_id] = (asked, served)
        return is_news

    async def granted(self, merchant_id: str, scopes: Collection[str]) -> bool:
        """Write down the scopes the shop granted."""
        is_news = self.scopes.get(merchant_id) != frozenset(scopes)
        self.scopes[merchant_id] = frozenset(scopes)
        return is_news
