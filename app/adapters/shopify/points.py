"""How fast, for all replicas together: the arithmetic of a shop's shared bucket of points.

Shopify holds one leaky bucket per app and shop; a request must find its *requested* cost in it and gets the unused
part back. Each answer says what is left (integrations.md B). `Bucket` is our copy of it, less what any replica has
taken and not yet sent: as long as the copy never holds more than that, no request is ever throttled.

Why it never does. Taking moves points from the copy to a replica, sending moves them to Shopify: the sum stays.
Both refill at the same rate. They differ only when one is full, so the copy is full earlier, by what can be in
replicas' hands: whatever was taken arrives at Shopify or is given back within HELD_S, and HELD_S seconds of refill
are left out. Clocks differ, so the copy is refilled a little slower than the shop says.

A bucket that is empty lends: it goes below zero, and what was taken is good after the seconds that refill the debt.
So requests are served in the order in which they asked, the dear ones too, and each asks once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

HELD_S = 10.0
"""Points are sent within a second of being heard of or are given back; nine more may pass before that and on the way,
when a network or a machine stands still. It costs half the burst of a full bucket, nothing of the speed that lasts."""

SLOWER = 0.995
"""Clocks that are kept by NTP differ by less than a thousandth; at full speed for days even that would add up."""

BLOCK_S = 1.0
"""A replica takes at most this many seconds of refill ahead, so it asks about once a second and not for every call."""

FIRST_SIZE = 1000.0
FIRST_RATE = 50.0
FIRST_LEVEL = HELD_S * FIRST_RATE
"""Until the shop has told: the smallest bucket Shopify ever had, and of it no more than the room left for errors."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The shop's own figures from the latest answer: `available` as of now, by the refill and our own calls since.

    `held`: points in the asking replica's hands, which Shopify still has.
    """

    available: float
    size: float
    rate: float
    held: float = 0.0


@dataclass(frozen=True, slots=True)
class Ask:
    """`need` points now; `returned` ones were not used; `longest_s` is how long the asker would wait for them."""

    need: float
    returned: float = 0.0
    seen: Seen | None = None
    longest_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Grant:
    """`points` that are good after `wait_s`. None, when that would be longer than the asker would wait."""

    points: float
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Bucket:
    """Our copy. `at` is a moment in the keeper's seconds; `known`: the shop has told its figures."""

    level: float
    at: float
    size: float = FIRST_SIZE
    rate: float = FIRST_RATE
    known: bool = False

    @property
    def full(self) -> float:
        """The level it is never filled beyond."""
        return max(self.size - HELD_S * self.rate, self.size / 2)


def fresh(at: float) -> Bucket:
    """The bucket of a shop nobody has called yet."""
    return Bucket(FIRST_LEVEL, at)


def reserve(bucket: Bucket, ask: Ask, at: float) -> tuple[Bucket, Grant]:
    """Refill, believe the shop, take back, hand out. `at` may be a little before the bucket's own moment."""
    bucket = _told(_refilled(bucket, at), ask)
    block = min(bucket.level / 2, BLOCK_S * bucket.rate)
    points = max(ask.need, block)
    level = bucket.level - points
    wait_s = max(0.0, -level / (bucket.rate * SLOWER))
    if wait_s > ask.longest_s:
        return bucket, Grant(0.0, wait_s)
    return replace(bucket, level=level), Grant(points, wait_s)


def _refilled(bucket: Bucket, at: float) -> Bucket:
    passed = max(0.0, at - bucket.at)
    return replace(bucket, level=min(bucket.full, bucket.level + passed * bucket.rate * SLOWER), at=max(at, bucket.at))


def _told(bucket: Bucket, ask: Ask) -> Bucket:
    """Take back what was not used, and never believe in more points than the shop says it has.

    It may have fewer than we thought: another process of the app spends them. That it has more says nothing, for
    those are in other replicas' hands; except the first time, when our figures were a guess.
    """
    level = bucket.level + ask.returned
    if ask.seen is not None:
        free = ask.seen.available - ask.seen.held
        rate = max(1.0, ask.seen.rate)
        was_known, bucket = bucket.known, replace(bucket, size=ask.seen.size, rate=rate, known=True)
        level = min(level, free) if was_known else free - (bucket.size - bucket.full) + min(0.0, level)
    return replace(bucket, level=min(bucket.full, level))
