"""How long to wait before trying again: pure functions of the attempt, chance handed in."""

from __future__ import annotations

from collections.abc import Callable

Random = Callable[[], float]
"""Returns a number in [0, 1), as `random.random` does."""

_DOUBLINGS_MAX = 32


def exponential(attempt: int, *, base_s: float, cap_s: float) -> float:
    """`base_s` before the second try, doubled for each one after it, never above `cap_s`."""
    return min(cap_s, base_s * float(2 ** min(max(attempt, 1) - 1, _DOUBLINGS_MAX)))


def full_jitter(attempt: int, *, base_s: float, cap_s: float, random: Random) -> float:
    """Anywhere between nothing and the exponential delay, so that a crowd spreads out evenly."""
    return exponential(attempt, base_s=base_s, cap_s=cap_s) * random()
