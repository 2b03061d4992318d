"""How fast, in this process: its share of a shop's points, and waiting for more.

Points are taken from the shared bucket in blocks, so that most calls ask nobody. What is not spent within a second
goes back with the next ask: the shared arithmetic counts on that (`points`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from app.adapters.shopify.limits import ShopLimits
from app.adapters.shopify.points import BLOCK_S, Ask, Seen
from pipeline.clock import Clock
from pipeline.errors import VendorUnavailable

GIVEN_BACK_S = 3.0
"""Points that are older are forfeited: the shop's bucket may have been full since, and then they never were missing."""

WAIT_S_MAX = 10.0
"""Longer waits give the slot back: the job comes again, uncounted, when the bucket has refilled."""

WAIT_BEGUN_S_MAX = 60.0
"""Who has spent points on an attempt waits longer: given up, they would be spent once more by the next attempt. So of
any number of attempts those that have begun come through, and those that have not are turned away before they spend."""

LATE_S = 4.0
"""Points that a process hears of later than that are not used: nobody counts on their being ours (`points.HELD_S`)."""

TOLD_FROM_S = 0.5
"""Shorter waits are not worth a word."""

Tell = Callable[[str], Awaitable[None]]
"""Whoever waits says so here."""


async def tell_nobody(_words: str) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True)
class Report:
    """An answer's `extensions.cost`. `actual` is None when the request was throttled."""

    requested: float
    actual: float | None
    available: float
    size: float
    rate: float


def report_of(answer: Any) -> Report | None:
    """The cost extension of an answer; None when it has none (Shopify: a document that fails validation)."""
    extensions = answer.get("extensions") if isinstance(answer, Mapping) else None
    cost = extensions.get("cost") if isinstance(extensions, Mapping) else None
    status = cost.get("throttleStatus") if isinstance(cost, Mapping) else None
    if not isinstance(status, Mapping) or not isinstance(cost, Mapping):
        return None
    try:
        actual = cost.get("actualQueryCost")
        return Report(
            requested=float(cost["requestedQueryCost"]),
            actual=None if actual is None else float(actual),
            available=float(status["currentlyAvailable"]),
            size=float(status["maximumAvailable"]),
            rate=float(status["restoreRate"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


class Budget:
    """One shop's points in this process. Outlives a change of token, for the bucket does."""

    def __init__(self, merchant_id: str, limits: ShopLimits, clock: Clock) -> None:
        self._merchant_id = merchant_id
        self._limits = limits
        self._clock = clock
        self._held = 0.0
        self._held_since = 0.0
        self._unused = 0.0
        self._unused_since = 0.0
        self._report: Report | None = None
        self._available = 0.0
        self._available_at = 0.0

    async def take(self, price: float, tell: Tell = tell_nobody, longest_s: float = WAIT_S_MAX) -> float:
        """Return when `price` points may be spent, and count them as spent; how many seconds that took.

        Raises VendorUnavailable, patient, when they would not be there within `longest_s`.
        """
        self._expire()
        wait_s = 0.0
        if self._held < price or self._unused:
            wait_s = await self._fetch(price, tell, longest_s)
        self._held -= price
        self._available, self._available_at = self._refilled() - price, self._clock.monotonic()
        return wait_s

    def settle(self, price: float, report: Report | None) -> None:
        """An answer came to a call that took `price` points: what it did not use is ours again.

        Without a report nothing comes back, for it may have been spent: that errs on the slow side.
        """
        if report is None:
            return
        self._report, self._available, self._available_at = report, report.available, self._clock.monotonic()
        if report.actual is None:
            # Throttled: somebody outside spends from this bucket. What we held was a mistake, the report counts.
            self._held = self._unused = 0.0
        else:
            self._hold(price - report.actual)

    async def _fetch(self, price: float, tell: Tell, longest_s: float, *, again: bool = False) -> float:
        """Bring what is held up to `price`. Meanwhile it is out of other callers' reach: it is not good yet.

        Points that came too late are asked for once more. Those are used however late they are: the shop may throttle
        us then, which costs a second, while a process that is short of time would ask for ever.
        """
        asked_at = self._clock.monotonic()
        mine, self._held = self._held, 0.0
        returned, self._unused = self._unused, 0.0
        if asked_at - self._unused_since > GIVEN_BACK_S:
            returned = 0.0
        try:
            ask = Ask(max(0.0, price - mine), returned, self._seen(mine), longest_s)
            grant = await self._limits.reserve(self._merchant_id, ask)
            mine += grant.points
            _refuse_if(mine < price, grant.wait_s)
            if grant.wait_s >= TOLD_FROM_S:
                await tell(f"waits {grant.wait_s:.1f} s for the shop's points")
            if grant.wait_s:
                await self._clock.sleep(grant.wait_s)
        except BaseException:
            self._leave(mine, self._clock.monotonic())  # not spent, and perhaps not good yet
            raise
        took_s = self._clock.monotonic() - asked_at
        if took_s - grant.wait_s > LATE_S and not again:
            self._leave(mine, asked_at)
            return took_s + await self._fetch(price, tell, max(0.0, longest_s - took_s), again=True)
        self._hold(mine)
        return grant.wait_s

    def _seen(self, held: float) -> Seen | None:
        """The latest report, brought up to now."""
        if self._report is None:
            return None
        return Seen(self._refilled(), self._report.size, self._report.rate, held)

    def _refilled(self) -> float:
        """What the shop should have by now: what it said, less what was sent since, refilled all the while.

        Calls that brought no report were perhaps charged. They are refilled like the others, so a shop that failed
        for long is not believed empty for ever.
        """
        if self._report is None:
            return 0.0
        passed_s = self._clock.monotonic() - self._available_at
        return min(self._report.size, self._available + passed_s * self._report.rate)

    def _expire(self) -> None:
        """What was held for too long is to be given back."""
        if self._held > 0 and self._clock.monotonic() - self._held_since >= BLOCK_S:
            self._leave(self._held, self._held_since)
            self._held = 0.0

    def _leave(self, points: float, since: float) -> None:
        """Put points aside that go back with the next ask; what lay there for longer makes all of it as old."""
        self._unused_since = min(since, self._unused_since) if self._unused > 0 else since
        self._unused += points

    def _hold(self, points: float) -> None:
        if self._held <= 0:
            self._held_since = self._clock.monotonic()
        self._held += points


def _refuse_if(short: bool, wait_s: float) -> None:
    if short:
        reason = f"waits {wait_s:.0f} s for the shop's points: other work uses them up"
        raise VendorUnavailable(reason, retry_after_s=wait_s, patient=True)
