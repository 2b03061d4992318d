"""What all processes must agree on about one shop: its points, and whether it may be called at all.

`app.db.shop_limits` keeps it in Postgres for the fleet; `app.adapters.shopify.alone` in memory for one process.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from app.adapters.shopify.points import Ask, Grant

COOL_DOWN_S = 15.0
COOL_DOWN_S_MAX = 300.0
"""How long a shop that fails is left alone: doubled each time in a row, up to five minutes."""

PROBE_S = 20.0
"""A probe has said what it found by then: its first call is cut short. If it died, another one goes."""

PARKED_S = 900.0
"""How often somebody looks whether a parked shop answers again, without a person having said so."""


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a shop may be called now. `probe`: we are the only one who tries whether it answers again.

    Otherwise `reason` says why not and `retry_after_s` when to ask again; `parked`: a person must do something first.
    """

    reason: str = ""
    retry_after_s: float = 0.0
    parked: bool = False
    probe: bool = False

    @property
    def open(self) -> bool:
        """Whether calls are allowed."""
        return not self.reason


@dataclass(frozen=True, slots=True)
class Closed:
    """A shop that is tripped, parked, or both. `ask_at` is a moment in the keeper's seconds."""

    parked: str = ""
    operation: str = ""
    tripped: str = ""
    trips: int = 0
    ask_at: float = 0.0

    def admission(self, at: float) -> Admission:
        """What whoever comes too early is told."""
        return Admission(self.parked or self.tripped, max(1.0, self.ask_at - at), bool(self.parked))


def cool_down_s(trips: int) -> float:
    """How long a shop is left alone that was tripped `trips` times in a row before."""
    return min(COOL_DOWN_S_MAX, COOL_DOWN_S * 2.0 ** min(trips, 10))


class ShopLimits(Protocol):
    """Shared by all replicas. Every method raises DatabaseUnavailable where the store cannot be reached."""

    async def reserve(self, merchant_id: str, ask: Ask) -> Grant:
        """Take points out of the shop's bucket, and return those that were not used."""
        ...

    async def admit(self, merchant_id: str) -> Admission:
        """May the shop be called? Of all who ask when its time has come, one is the probe."""
        ...

    async def trip(self, merchant_id: str, reason: str, *, hold_s: float | None = None, probe: bool = False) -> float:
        """Nobody calls the shop for `hold_s`, by default longer each time in a row; seconds until somebody may.

        What a probe found counts always; what others found, only if nobody found it before them.
        """
        ...

    async def park(self, merchant_id: str, reason: str, *, operation: str = "") -> float:
        """Nobody calls the shop until a person says so or a probe finds it well; seconds until a probe may.

        `operation`: the only thing that was denied, so the thing that must work again.
        """
        ...

    async def answered(self, merchant_id: str, operation: str, *, probe: bool) -> bool:
        """The shop answered well: it is no longer tripped, and not parked either if a probe did what was denied.

        Whether it is open now.
        """
        ...

    async def served(self, merchant_id: str, *, asked: str, served: str) -> bool:
        """Write down which version was asked for and served; whether that is news."""
        ...

    async def granted(self, merchant_id: str, scopes: Collection[str]) -> bool:
        """Write down the scopes the shop granted; whether that is news."""
        ...
