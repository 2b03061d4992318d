"""Whether: a shop that fails is left alone, by all replicas, until one of them finds it well again.

Three failures in a row as one process saw them trip it for everybody; then nobody calls for 15 s, 30 s, .. 5 min. When
that is over one attempt of one replica goes ahead, the probe, and the others wait for what it finds. A shop that needs
a person is parked in the same way, and its probes are fewer.

A shop that hangs must not hang all slots of a stage: one call may take its time, those beside it are cut short, and
all are while the shop is under suspicion.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from app.adapters.shopify.envelope import Away, Locked
from app.adapters.shopify.limits import Admission, ShopLimits
from pipeline.clock import Clock
from pipeline.errors import DatabaseUnavailable, VendorUnavailable

FAILURES_MAX = 3
CALL_S = 30.0
CROWDED_S = 8.0
"""What a call may take beside another to the same shop, or after one that failed: most take less than a second."""

HELD_UP_S_MAX = 60.0
"""A 429 that asks for no more holds the shop; a longer one is about this kind of request, so this run waits alone."""

_log = structlog.get_logger(__name__)


class Circuit:
    """One shop as this process knows it. Outlives a change of token."""

    def __init__(self, merchant_id: str, shop: str, limits: ShopLimits, clock: Clock) -> None:
        self._merchant_id = merchant_id
        self._shop = shop
        self._limits = limits
        self._clock = clock
        self._failures = 0
        self._under_way = 0
        self._probing = False
        self._closed: VendorUnavailable | None = None
        self._closed_until = 0.0

    async def enter(self) -> None:
        """An attempt begins. Raises VendorUnavailable where the shop may not be called, patient where it is parked."""
        admission = await self._limits.admit(self._merchant_id)
        self._closed = None
        if not admission.open:
            raise self._shut(admission)
        self._probing = admission.probe
        if admission.probe:
            _log.info("shop is tried again", shop=self._shop)

    def check(self) -> None:
        """Before each call: an attempt that runs for minutes must notice what another in this process found."""
        if self._closed is not None and self._clock.monotonic() < self._closed_until:
            raise VendorUnavailable(
                str(self._closed), retry_after_s=self._closed.retry_after_s, patient=self._closed.patient
            )

    @contextmanager
    def under_way(self) -> Iterator[float]:
        """Around one call; gives the seconds it may take."""
        hurried = self._under_way or self._failures or self._probing
        allowed_s = CROWDED_S if hurried else CALL_S
        self._under_way += 1
        try:
            yield allowed_s
        finally:
            self._under_way -= 1

    async def answered(self, operation: str) -> None:
        """The shop did what it was asked to, or said no in good order."""
        unclean = self._failures or self._probing
        self._failures = 0
        if not unclean:
            return
        try:
            is_open = await self._limits.answered(self._merchant_id, operation, probe=self._probing)
        except DatabaseUnavailable:
            return  # the next answer of a probe says so again; this one is worth more than that
        if is_open:
            self._probing = False

    async def away(self, found: Away) -> VendorUnavailable:
        """The shop fails, or asks for patience: what to raise."""
        if found.kind != "fails":
            return await self._asked_to_wait(found)
        self._failures += 1
        if not (self._probing or self._failures >= FAILURES_MAX):
            return VendorUnavailable(found.reason, retry_after_s=found.retry_after_s)
        probe, self._probing = self._probing, False
        hold_s = await self._limits.trip(self._merchant_id, found.reason, hold_s=found.retry_after_s, probe=probe)
        self._failures = 0
        return self._close(VendorUnavailable(found.reason, retry_after_s=hold_s))

    async def locked(self, found: Locked) -> VendorUnavailable:
        """The shop needs a person: what to raise."""
        self._probing = False
        hold_s = await self._limits.park(self._merchant_id, found.reason, operation=found.operation)
        return self._close(VendorUnavailable(parked(found.reason), retry_after_s=hold_s, patient=True))

    async def _asked_to_wait(self, found: Away) -> VendorUnavailable:
        """429, or a request like ours is still being worked on."""
        wait_s = found.retry_after_s
        if found.kind == "busy" or wait_s is None:
            return VendorUnavailable(found.reason, retry_after_s=wait_s)
        if wait_s > HELD_UP_S_MAX:
            return VendorUnavailable(found.reason, retry_after_s=wait_s, patient=True)
        probe, self._probing = self._probing, False
        hold_s = await self._limits.trip(self._merchant_id, found.reason, hold_s=wait_s, probe=probe)
        return self._close(VendorUnavailable(found.reason, retry_after_s=hold_s))

    def _close(self, error: VendorUnavailable) -> VendorUnavailable:
        self._closed = error
        self._closed_until = self._clock.monotonic() + (error.retry_after_s or 0.0)
        return error

    def _shut(self, admission: Admission) -> VendorUnavailable:
        reason = parked(admission.reason) if admission.parked else f"{admission.reason}; it is asked again later"
        again_s = admission.retry_after_s
        return self._close(VendorUnavailable(reason, retry_after_s=again_s, patient=admission.parked, uncalled=True))


def parked(reason: str) -> str:
    """What a run that waits for a parked shop says."""
    return f"the shop is parked: {reason}"
