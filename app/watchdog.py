"""Notices a process that no longer works and will not by itself, shows where it hangs, and ends it.

loop   The event loop does not turn: nothing runs, no lease is renewed, no call can be cancelled. Shown after a few
       looks; ended while the leases it cannot renew still hold, so that no call to a vendor is under way from here
       when another worker begins.
role   The loop turns, but a periodic role has ended no round for far longer than the deadlines of all its calls.
       A round that Redis or Postgres refuses has ended: an outage wedges nobody, and restarting heals no server.
       One that gets neither answer nor error hangs where only a mistake of ours can hang it; a restart does heal that.

Silence is counted in looks of this thread and not on a clock. A process that is frozen or starved looks seldom, and
wakes to one look during which everything stood still, however long: it has lost its leases, but it is not wedged.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

import structlog

from pipeline.clock import Clock
from pipeline.queue.lease import MARGIN

EXIT_WEDGED = 70
"""The exit code of a process that ended itself (EX_SOFTWARE of sysexits.h)."""

LOOKS_BLOCKED = 5
"""Silent looks after which a blocked loop is shown."""

LOOKS_PER_LEASE = 20
LOOK_S = 1.0
ROUND_S = 120.0
"""No round of a role takes so long, whatever is down: the deadlines of its calls add up to less."""

REMEMBERED_S = 60.0
"""How long /ready tells of a block that is over: while it lasts nobody can be answered."""

SAY_WITHIN_S = 1.0
FRAMES = 20

_log = structlog.get_logger()

LOOP = "event loop"
Counts = Mapping[str, int]
"""Signs of life, by name: each count grows for as long as its owner works."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How often to look, and for how many seconds of looking each sign of life may be missing."""

    look_s: float
    loop_s: float
    role_s: float

    @classmethod
    def of(cls, *, lease_s: float, beat_s: float, pause_s: float) -> Limits:
        """From the lease, the pause between beats, and the longest pause a role makes between two rounds."""
        return cls(
            look_s=min(LOOK_S, lease_s / LOOKS_PER_LEASE),
            # The oldest lease was renewed a beat before the loop stopped.
            loop_s=lease_s * (1 - MARGIN) - beat_s,
            role_s=pause_s + ROUND_S,
        )


@dataclass(frozen=True, slots=True)
class Silence:
    """How far a count had come, and for how many looks it has stood there."""

    count: int
    looks: int = 0

    def after(self, count: int) -> Silence:
        """The silence after one more look."""
        return Silence(count, self.looks + 1 if count == self.count else 0)


def look(before: Mapping[str, Silence], counts: Counts) -> dict[str, Silence]:
    """Look once at every count."""
    return {name: before[name].after(count) if name in before else Silence(count) for name, count in counts.items()}


def wedged(silences: Mapping[str, Silence], limits: Limits) -> str | None:
    """Name what has been silent for too long, None if nothing has."""
    for name, silence in silences.items():
        if silence.looks * limits.look_s >= (limits.loop_s if name == LOOP else limits.role_s):
            return name
    return None


class Watchdog:
    """The thread that looks, and the tick by which the loop shows that it turns.

    The tick belongs to the loop, the silences to the thread; what both touch is single numbers.
    """

    def __init__(
        self,
        limits: Limits,
        clock: Clock,
        *,
        rounds: Callable[[], Counts] = dict,
        lag_seen: Callable[[float], None] = lambda _seconds: None,
        end: Callable[[int], None] = os._exit,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._rounds = rounds
        self._lag_seen = lag_seen
        self._end = end
        self._ticks = 0
        self._stopped = threading.Event()
        self._blocked_s = 0.0
        self._blocked_until = 0.0

    @property
    def trouble(self) -> str:
        """That the loop was blocked a moment ago; empty if not."""
        ago_s = self._clock.monotonic() - self._blocked_until
        if not self._blocked_s or ago_s > REMEMBERED_S:
            return ""
        return f"the event loop was blocked for {self._blocked_s:.1f} s, {ago_s:.0f} s ago"

    async def run(self) -> None:
        """Watch until cancelled."""
        _arm_last_resort()
        _put_off_last_resort(self._limits.loop_s)  # before the thread's first look, which may never come
        thread = threading.Thread(target=self._watch, args=[threading.get_ident()], name="watchdog", daemon=True)
        thread.start()
        try:
            while True:
                due_at = self._clock.monotonic() + self._limits.look_s
                await self._clock.sleep(self._limits.look_s)
                self._ticks += 1
                self._lag_seen(max(0.0, self._clock.monotonic() - due_at))
        finally:
            self._stopped.set()

    def _watch(self, loop_thread: int) -> None:
        silences: dict[str, Silence] = {}
        while not self._stopped.wait(self._limits.look_s):
            _put_off_last_resort(self._limits.loop_s)
            blocked = silences.get(LOOP, Silence(0)).looks
            silences = look(silences, {LOOP: self._ticks, **self._rounds()})
            self._tell_of_block(blocked, silences[LOOP].looks, loop_thread)
            name = wedged(silences, self._limits)
            if name is not None:
                silent_s = round(silences[name].looks * self._limits.look_s, 3)
                _say("process is wedged, ending it", what=name, silent_s=silent_s, stack=_stack(loop_thread))
                self._end(EXIT_WEDGED)
                break
        _put_off_last_resort(0)

    def _tell_of_block(self, before: int, now: int, loop_thread: int) -> None:
        """One event when a block is noticed, one when it is over."""
        if now == LOOKS_BLOCKED:
            _say("event loop is blocked", silent_s=round(now * self._limits.look_s, 3), stack=_stack(loop_thread))
        if now == 0 and before >= LOOKS_BLOCKED:
            self._blocked_s = before * self._limits.look_s
            self._blocked_until = self._clock.monotonic()
            _say("event loop turns again", silent_s=round(self._blocked_s, 3))


def _stack(thread: int) -> list[str]:
    """Where the thread is, innermost last: places, no values."""
    frame: FrameType | None = sys._current_frames().get(thread)  # noqa: SLF001 the documented way to see another thread
    places = traceback.StackSummary.extract(traceback.walk_stack(frame), limit=FRAMES, lookup_lines=False)
    return [f"{place.filename.rsplit('/', 1)[-1]}:{place.lineno} {place.name}" for place in reversed(places)]


def _say(event: str, **details: Any) -> None:
    """Log from a thread of its own: it may be the log that everything hangs on."""
    thread = threading.Thread(target=_log.error, args=[event], kwargs=details, name="watchdog's word", daemon=True)
    thread.start()
    thread.join(SAY_WITHIN_S)


# ------------------------------------------------------------------------------------------- the last resort


def _arm_last_resort() -> None:
    """Code that never lets go of the interpreter (a regular expression that explodes) stops this thread as well.

    The kernel then ends us, by SIGPROF, once the process has used so much CPU time without a look. CPU time, so that
    a frozen process is not meant; faulthandler writes the stacks without needing the interpreter.
    """
    if sys.__stderr__ is not None:
        faulthandler.register(signal.SIGPROF, file=sys.__stderr__, all_threads=True, chain=True)


def _put_off_last_resort(cpu_s: float) -> None:
    """Not before so many seconds of CPU time from now; 0: not at all."""
    signal.setitimer(signal.ITIMER_PROF, cpu_s)


def leave_within(seconds: float, end: Callable[[int], None] = os._exit) -> None:
    """See to it that a process which has closed everything also ends, with code 0.

    A thread that hangs in a call (a dead network drive) would keep the interpreter from ever ending, and the
    container from being replaced before somebody kills it.
    """

    def leave() -> None:
        time.sleep(seconds)
        _say("something would not end, leaving without it", after_s=seconds)
        end(0)

    threading.Thread(target=leave, name="leaving", daemon=True).start()
