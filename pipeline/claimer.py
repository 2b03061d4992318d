"""The slots of one queue: claims while one is free and asking is worth it, sleeps otherwise.

Three things lead to a claim. A *signal*: a job was announced and nobody is known to have taken it. A *doubt*: the
sweep saw jobs waiting, a pause or an outage ended, so the signals may not tell all. And *settling*: the call that
ends an attempt claims the next job for the slot it frees and, if one is free there, takes the successor through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import anyio
import structlog
from anyio.abc import TaskGroup

from pipeline import flow
from pipeline.clock import Clock
from pipeline.errors import BrokenQueue, ReplyLost
from pipeline.queue.backoff import Random
from pipeline.queue.bull import Bull
from pipeline.queue.hindrance import HINDRANCES, Hindrance
from pipeline.queue.job import Claim, ClaimedJob, ClaimNext, Empty, FinishReply, Limited, Paused, RateLimit
from pipeline.queue.ledger import IdLedger
from pipeline.queue.timer import wait_until
from pipeline.runner import Runner
from pipeline.settling import Outcome
from pipeline.solitude import Solitude

IDLE_S = 3600.0
"""A claimer that found nothing sleeps until it is woken; the sweep wakes it whenever something waits."""

TURN_S = 0.02
"""A claimer that lost its last race for an announced job lets others go first for up to so long: enough for the
winner's `active@` to arrive, far below what a person would notice."""

EAGER_S = 0.005
"""Who has won until its turn is as short as this asks at once."""

HAND_BACK_WITHIN_S = 5.0
"""A stopping process asks so long for what its unanswered calls claimed, to hand it back."""

ASK_AGAIN_S = 0.5

Observe = Callable[[str, Outcome, float], None]
"""Told of every settled attempt: queue, outcome, seconds."""

_log = structlog.get_logger()


class Gate:
    """What every claimer of the process asks before a claim: may we, and under which token."""

    def __init__(
        self,
        clock: Clock,
        solitude: Solitude,
        *,
        name: str,
        lease_s: float,
        hold_s: float,
        limits: Mapping[str, RateLimit],
    ) -> None:
        self.closing = anyio.Event()
        self.paused: frozenset[str] = frozenset()
        self._clock = clock
        self._solitude = solitude
        self._name = name
        self._lease_ms = round(lease_s * 1000)
        self._hold_s = hold_s
        self._limits = limits
        self._held_until = clock.monotonic()
        self._claims = 0

    @property
    def hold_s(self) -> float:
        """Seconds for which nothing is claimed, because Redis or Postgres could not serve."""
        return max(0.0, self._held_until - self._clock.monotonic())

    def hold(self) -> None:
        """Claim nothing for a while."""
        self._held_until = self._clock.monotonic() + self._hold_s

    def is_open(self, queue: str) -> bool:
        """Whether people and servers let us, nothing runs that must be alone, and we are not stopping."""
        kept = self.closing.is_set() or self._solitude.taken
        return not kept and queue not in self.paused and self.hold_s == 0

    def new_claim(self, queue: str) -> ClaimNext:
        """A claim under a token nobody has used: this process' name and a number."""
        self._claims += 1
        return ClaimNext(f"{self._name}:{self._claims}", self._lease_ms, self._limits.get(queue))


@dataclass(frozen=True, slots=True)
class Asked:
    """A claim that was sent, and what the ledger knew at that moment."""

    claim: ClaimNext
    mark: int


class Claimer:
    """The slots of one queue. `of` holds the claimers of all queues of this process, for jobs taken through."""

    def __init__(
        self,
        queue: str,
        *,
        bull: Bull,
        runner: Runner,
        gate: Gate,
        ledger: IdLedger,
        clock: Clock,
        random: Random,
        observe: Observe,
        of: Mapping[str, Claimer],
        pause_s: float,
    ) -> None:
        self.queue = queue
        self.hindrance = Hindrance(role="claimer", queue=queue)
        self._bull = bull
        self._runner = runner
        self._gate = gate
        self._ledger = ledger
        self._clock = clock
        self._random = random
        self._observe = observe
        self._of = of
        self._pause_s = pause_s
        self._slots: TaskGroup | None = None
        self._taken = 0
        self._in_doubt = True
        self._turn_s = 0.0
        self._not_before = clock.monotonic()
        self._unanswered: list[Asked] = []
        self._changed = anyio.Event()

    @property
    def taken(self) -> int:
        """Slots in use: attempts under way, and those kept free for a call that may claim into them."""
        return self._taken

    def wake(self) -> None:
        """Look again: a job was announced, or a slot became free."""
        self._changed.set()

    def doubt(self) -> None:
        """Jobs may wait that nobody announced to us: ask until the queue is empty."""
        self._in_doubt = True
        self.wake()

    async def run(self, slots: TaskGroup) -> None:
        """Claim until the gate closes. Attempts run in `slots`, which the caller waits for."""
        self._slots = slots
        while not self._gate.closing.is_set():
            self._changed = anyio.Event()
            pause_s = await self._fill()
            if not self._gate.closing.is_set():
                await self._sleep(pause_s)

    async def _sleep(self, seconds: float) -> None:
        """Sleep until something changes, or until then."""
        end = self._clock.monotonic() + seconds
        await wait_until(self._changed, self._clock, lambda: end - self._clock.monotonic())

    # ----------------------------------------------------------------------------------------- asking

    async def _fill(self) -> float:
        """Claim into every free slot while that is worth it; return for how many seconds there is nothing to do."""
        while self._free and not self._gate.closing.is_set():
            # Asked before every claim: an attempt handed back meanwhile may have said that nothing can be served.
            if not self._gate.is_open(self.queue):
                self._in_doubt = True  # who is told to wait does not listen
                return self._gate.hold_s or self._pause_s
            if (left_s := self._not_before - self._clock.monotonic()) > 0:
                return left_s
            if not self._worth_asking:
                return IDLE_S
            if not await self._turn_came():
                continue
            by_signal = not self._in_doubt
            self._taken += 1  # while the claim is under way, nobody else may fill this slot
            asked, claim = await self._claim()
            self._taken -= 1
            if by_signal:
                self._adjust_turn(claim)
            self._answered(asked, claim)
        return IDLE_S

    @property
    def _free(self) -> bool:
        return self._taken < flow.BY_NAME[self.queue].concurrency

    @property
    def _worth_asking(self) -> bool:
        return self._in_doubt or bool(self._unanswered) or self._ledger.expects(self.queue)

    async def _turn_came(self) -> bool:
        """Let others go first after a lost race for an announced job; False if one had better look anew.

        Whoever won the last race asks at once. So one idle worker is served again and again, and the others hear
        that a job is taken before they ask for it.
        """
        if self._turn_s == 0 or self._in_doubt:
            return True
        mark = self._ledger.mark()
        await self._clock.sleep(self._turn_s * (1 + self._random()) / 2)
        still_there = self._in_doubt or self._ledger.expects_since(self.queue, mark)
        return self._free and still_there and self._gate.is_open(self.queue)

    def _adjust_turn(self, claim: Claim | None) -> None:
        match claim:
            case ClaimedJob():
                self._turn_s = self._turn_s / 2 if self._turn_s > EAGER_S else 0.0
            case Empty():
                self._turn_s = TURN_S

    async def _claim(self) -> tuple[Asked, Claim | None]:
        """One claim; None when Redis or the queue cannot serve. A lost reply is asked for, never sent again.

        And asked for until there is an answer: a job we hold unknowingly lies for a lease and counts as stalled.
        """
        asked = self._ask()
        try:
            claim: Claim | None = await self._adopt()
            while claim is None:
                asked = self._ask()
                claim = await self._claim_anew(asked) or await self._adopt()
        except BrokenQueue as error:
            _log.error("queue is broken", queue=self.queue, reason=str(error))
        except HINDRANCES as error:
            self.hindrance.met(error)
        else:
            self.hindrance.over()
            return asked, claim
        return asked, None

    async def _claim_anew(self, asked: Asked) -> Claim | None:
        """The queue's answer; None if it was lost on the way."""
        sent = asked.claim
        try:
            return await self._bull.claim(self.queue, token=sent.token, lease_ms=sent.lease_ms, limit=sent.limit)
        except ReplyLost:
            self._unanswered.append(asked)
            return None

    async def _adopt(self) -> ClaimedJob | None:
        """What a call of ours claimed whose answer was lost. None says nothing of the queue: it may never have run."""
        while self._unanswered:
            asked = self._unanswered[0]
            adopted = await self._bull.adopt(self.queue, asked.claim.token)
            self._unanswered.remove(asked)
            if adopted.claimed is not None:
                return adopted.claimed
        return None

    def _ask(self) -> Asked:
        return Asked(self._gate.new_claim(self.queue), self._ledger.mark())

    def _answered(self, asked: Asked, claim: Claim | None) -> None:
        """Do what a claim's answer asks for: run the job, or know when to ask again."""
        match claim:
            case ClaimedJob():
                self._ledger.taken(self.queue, claim.id)
                self._start(claim)
            case Empty() | Paused():
                self._ledger.emptied(self.queue, asked.mark)
                self._in_doubt = False
            case Limited():
                self._in_doubt = True
                self._not_before = self._clock.monotonic() + max(0.01, claim.retry_after_ms / 1000)
            case None:
                self._in_doubt = True
                self._not_before = self._clock.monotonic() + self._pause_s

    # ---------------------------------------------------------------------------------------- offering

    def offer(self, *, own_slot: bool) -> Asked | None:
        """A claim for a settling call to make in this queue; keeps a slot free for it unless it frees one itself."""
        limited = self._not_before > self._clock.monotonic()
        if limited or not (own_slot or self._free) or not self._gate.is_open(self.queue):
            return None
        self._taken += not own_slot
        return self._ask()

    def end_offer(self, asked: Asked, reply: FinishReply | None, claim: Claim | None, *, own_slot: bool) -> None:
        """Take what the settling call claimed. Without a reply nobody knows: ask for it before claiming anew."""
        self._taken -= not own_slot
        if reply is not None and claim is not None:
            self._answered(asked, claim)
        else:
            self._in_doubt = True
        if reply is None:
            self._unanswered.append(asked)
        self.wake()

    async def hand_back_unanswered(self) -> None:
        """Ask for what our unanswered calls claimed, and release it: nobody else hears of it before its lease ends."""
        with anyio.move_on_after(HAND_BACK_WITHIN_S, shield=True):
            while self._unanswered:
                try:
                    job = await self._adopt()
                except (BrokenQueue, *HINDRANCES) as error:
                    self.hindrance.met(error)
                    await self._clock.sleep(min(self._pause_s, ASK_AGAIN_S))
                else:
                    if job is not None:
                        await self._runner.release(job)

    # ---------------------------------------------------------------------------------------- working

    def _start(self, job: ClaimedJob) -> None:
        assert self._slots is not None  # noqa: S101 nothing is claimed before `run`
        self._taken += 1
        # A gate that closed while the claim was under way: what was begun now would only be cut off.
        self._slots.start_soon(self._slot if self._gate.is_open(self.queue) else self._return, job)

    async def _slot(self, job: ClaimedJob) -> None:
        """Run one attempt, then start what its settling call claimed."""
        offers = Offers(self, self._of)
        started = self._clock.monotonic()
        try:
            settled = await self._runner.attempt(job, offers)
            offers.reply = settled.reply
            self._observe(self.queue, settled.outcome, self._clock.monotonic() - started)
            if settled.hold:
                self._gate.hold()
            if settled.alone:
                for claimer in self._of.values():
                    claimer.wake()
            if settled.unstarted:
                self._not_before = self._clock.monotonic()  # what we were told when its start still counted
        except Exception as error:  # noqa: BLE001 our own bug: the job comes back when its lease is over, the others go on
            _log.error("slot broke", exc_info=error, queue=self.queue)
        finally:
            self._taken -= 1
            offers.close()
            self.wake()

    async def _return(self, job: ClaimedJob) -> None:
        try:
            await self._runner.release(job)
        except Exception as error:  # noqa: BLE001 as above
            _log.error("slot broke", exc_info=error, queue=self.queue)
        finally:
            self._taken -= 1


class Offers:
    """The slots one attempt's settling call may claim into, asked for at the moment the call is sent.

    Its own slot becomes free by that very call. One in the successor's queue is kept free until the answer is known.
    """

    def __init__(self, own: Claimer, of: Mapping[str, Claimer]) -> None:
        self.reply: FinishReply | None = None
        self._own = own
        self._of = of
        self._made: dict[Claimer, Asked] = {}

    def claim_into(self, queue: str) -> ClaimNext | None:
        """A claim for a free slot of that queue, if this process has one and may fill it."""
        claimer = self._of.get(queue)
        asked = claimer.offer(own_slot=claimer is self._own) if claimer else None
        if claimer is None or asked is None:
            return None
        self._made[claimer] = asked
        return asked.claim

    def close(self) -> None:
        """Let every claimer know what became of its offer. The attempt's own slot is free by now."""
        reply = self.reply
        for claimer, asked in self._made.items():
            own = claimer is self._own
            claim = None if reply is None else reply.next if own else reply.through
            claimer.end_offer(asked, reply, claim, own_slot=own)
