"""How long to wait before trying again: pure functions of the attempt, chance handed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Random = Callable[[], float]
"""Returns a number in [0, 1), as `random.random` does."""

_DOUBLINGS_MAX = 32
GIVE_UP = -1


def exponential(attempt: int, *, base_s: float, cap_s: float) -> float:
    """`base_s` before the second try, doubled for each one after it, never above `cap_s`."""
    return min(cap_s, base_s * float(2 ** min(max(attempt, 1) - 1, _DOUBLINGS_MAX)))


def full_jitter(attempt: int, *, base_s: float, cap_s: float, random: Random) -> float:
    """Anywhere between nothing and the exponential delay, so that a crowd spreads out evenly."""
    return exponential(attempt, base_s=base_s, cap_s=cap_s) * random()


def bull_delay_ms(opts: Mapping[str, Any], attempts_made: int) -> int | None:
    """Return the delay that Bull would give a job after its `attempts_made`-th failure.

    0 is at once, GIVE_UP ends the job, None: the job names no back-off, or one that only its producer knows.
    """
    match opts.get("backoff"):
        case bool():
            return None
        case int(delay) | float(delay) | {"type": "fixed", "delay": int(delay) | float(delay)}:
            return round(delay)
        case {"type": "exponential", "delay": int(delay) | float(delay)}:
            return round((float(2 ** min(attempts_made, _DOUBLINGS_MAX)) - 1) * delay)
    return None
