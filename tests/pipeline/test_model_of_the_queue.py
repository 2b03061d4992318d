"""A queue as a few Python lists, and the real one beside it: whatever is done in whatever order, they stay alike.

The model knows Bull's rules and none of our scripts. After every step all places of both queues are compared, in
their order, and every invariant is asked. Time passes by hand: leases end, guards end and jobs fall due when a rule
says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import hypothesis.strategies as st
import pytest
import redis
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from app.connections import open_connections
from pipeline.clock import SystemClock
from pipeline.errors import ReplyLost
from pipeline.queue.bull import Bull, Commands
from pipeline.queue.job import (
    Claim,
    ClaimedJob,
    ClaimNext,
    Empty,
    Failure,
    FinishReply,
    Held,
    Limited,
    NewJob,
    Paused,
    RateLimit,
    Retention,
    Settled,
    Successor,
)
from pipeline.queue.scripts import Argument, Script
from pipeline.queue.snapshot import Snapshot
from tests.app.held import held
from tests.invariants import list_pages, list_violations
from tests.pipeline.queue.support import NEXT, QUEUE
from tests.support import steps_of_a_model

T = TypeVar("T")
LEASE_MS, LATER_MS = 600_000, 3_600_000
LIMIT = RateLimit(2, 600_000)
KEPT, GONE = Retention(), Retention(count=0)
LONG_AGO_MS = 1_700_000_000_000

A_FEW = 3
"""With fewer jobs nobody takes any away: a game about an empty queue finds nothing."""

some = st.integers(0, 40)
"""Which of those there are; counted round and round."""

seldom = st.sampled_from([False, False, False, True])


class Form(NamedTuple):
    """One way to add a job; `job_id` None lets Bull number it."""

    job_id: str | None
    priority: int
    front: bool
    delayed: bool


form = st.builds(
    Form,
    job_id=st.none() | st.sampled_from(["a", "b", "c", "d"]),
    priority=st.sampled_from([0, 0, 1, 2, 3]),
    front=st.booleans(),
    delayed=st.sampled_from([False, False, True]),
)


# ------------------------------------------------------------------------------------------ the model


@dataclass
class Job:
    """What a job brought along, and what was counted."""

    priority: int = 0
    lifo: bool = False
    attempts: int = 0
    stalls: int = 0


@dataclass
class Queue:
    """Bull's queue. `waiting` runs from its right end, paused or not; `locks` has the active jobs that are held."""

    jobs: dict[str, Job] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)
    by_priority: dict[str, int] = field(default_factory=dict)
    active: list[str] = field(default_factory=list)
    locks: dict[str, str] = field(default_factory=dict)
    marked: set[str] = field(default_factory=set)
    delayed: set[str] = field(default_factory=set)
    due: list[str] = field(default_factory=list)
    completed: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    paused: bool = False
    started: int = 0
    number: int = 0

    def add(self, job_id: str | None, job: Job, *, delayed: bool) -> tuple[str, bool]:
        """Its id and whether it is new. A number that is taken is stepped over."""
        self.number += 1
        if job_id in self.jobs:
            return job_id, False
        while job_id is None:
            job_id = str(self.number) if str(self.number) not in self.jobs else None
            self.number += job_id is None
        self.jobs[job_id] = job
        if delayed:
            self.delayed.add(job_id)
        else:
            self.push(job_id, job.priority, front=job.lifo)
        return job_id, True

    def push(self, job_id: str, priority: int, *, front: bool = False) -> None:
        """Wire spec 3.0: prioritised jobs gather at the right end, the smallest number last."""
        if priority:
            self.by_priority[job_id] = priority
            before = sum(one <= priority for one in self.by_priority.values()) - 1
            self.waiting.insert(len(self.waiting) - before, job_id)
        elif front:
            self.waiting.append(job_id)
        else:
            self.waiting.insert(0, job_id)

    def take(self, token: str, *, limited: bool) -> str | type[Claim]:
        """The job that runs next, or the answer instead of one."""
        if self.paused:
            return Paused
        if limited and self.started >= LIMIT.max:
            return Limited
        if not self.waiting:
            return Empty
        job_id = self.waiting.pop()
        self.by_priority.pop(job_id, None)
        self.active.append(job_id)
        self.locks[job_id] = token
        self.marked.discard(job_id)
        self.started += limited
        return job_id

    def settle(self, job_id: str, token: str) -> Settled:
        """Whether the holder of that token may say what became of it; if so it is active no more."""
        if self.locks.get(job_id) != token:
            return Settled.LOST if job_id in self.jobs else Settled.GONE
        del self.locks[job_id]
        self.active.remove(job_id)
        self.marked.discard(job_id)
        return Settled.DONE

    def forget(self, job_id: str) -> None:
        """Take a job out of everything."""
        del self.jobs[job_id]
        self.by_priority.pop(job_id, None)
        for place in (self.waiting, self.active, self.due):
            if job_id in place:
                place.remove(job_id)
        for members in (self.delayed, self.completed, self.failed):
            members.discard(job_id)

    def sweep(self) -> int:
        """What is due goes to waiting; how many."""
        for job_id in self.due:
            self.delayed.remove(job_id)
            self.push(job_id, self.jobs[job_id].priority)
        promoted, self.due = len(self.due), []
        return promoted

    def stalled(self) -> set[str]:
        """Who was marked at the last check and still has no lease."""
        return {job_id for job_id in self.marked & set(self.active) if job_id not in self.locks}

    def places(self) -> dict[str, Sequence[str] | set[str]]:
        """As they should stand in Redis."""
        return {
            "wait": [] if self.paused else self.waiting,
            "paused": self.waiting if self.paused else [],
            "active": set(self.active),
            "delayed": self.delayed,
            "completed": self.completed,
            "failed": self.failed,
            "priority": set(self.by_priority),
        }


# ---------------------------------------------------------------------------------------- the machine


class Forgetful:
    """Commands whose next answer may be dropped after the call has run."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self.drop_next = False

    async def call(self, *args: Argument) -> Any:
        return await self._commands.call(*args)

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        reply = await self._commands.run(script, keys, args)
        if self.drop_next:
            self.drop_next = False
            raise ReplyLost("dropped by the test")
        return reply


@dataclass(frozen=True)
class World:
    """The real queue: verbs, a hand of an operator, and the loop they run on."""

    bull: Bull
    line: Forgetful
    raw: redis.Redis
    loop: asyncio.Runner


class QueueMachine(RuleBasedStateMachine):
    """One queue and its successor's, by all verbs."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        world.raw.flushall()
        self.queue, self.next = Queue(), Queue()
        self.held: list[ClaimedJob] = []
        self.stale: list[ClaimedJob] = []
        self.unheard = False  # a lease ended and nobody has asked since
        self.tokens = 0

    # -- in ---------------------------------------------------------------------------------------

    @initialize(forms=st.lists(form, min_size=2, max_size=6))
    def begin(self, forms: list[Form]) -> None:
        """With some work at hand: from an empty queue little can go wrong."""
        self.enqueue_all(forms)
        self.claim_some(1, limited=False)

    @rule(forms=st.lists(form, min_size=1, max_size=4))
    def enqueue(self, forms: list[Form]) -> None:
        self.enqueue_all(forms)

    # -- claim ------------------------------------------------------------------------------------

    @precondition(lambda self: self.queue.waiting)
    @rule(count=st.integers(1, 3), limited=seldom)
    def claim(self, count: int, *, limited: bool) -> None:
        self.claim_some(count, limited=limited)

    @precondition(lambda self: self.queue.waiting and not self.queue.paused)
    @rule(limited=seldom)
    def claim_and_ask_what_it_did(self, *, limited: bool) -> None:
        token = self.token()
        self.lose(self.claiming(token, limited=limited))
        adopted = self.do(self.world.bull.adopt(QUEUE, token)).claimed
        wanted = self.queue.take(token, limited=limited)
        assert (adopted.id if adopted else None) == (wanted if isinstance(wanted, str) else None)
        self.hold(adopted)

    # -- settle -----------------------------------------------------------------------------------

    @precondition(lambda self: self.held)
    @rule(
        which=some,
        kept=st.booleans(),
        successor=st.none() | st.sampled_from(["s", "t"]),
        through=st.booleans(),
        and_claim=st.booleans(),
        limited=st.booleans(),
        reply=st.sampled_from(["answered", "sent again", "asked for"]),
    )
    def finish(
        self,
        which: int,
        *,
        kept: bool,
        successor: str | None,
        through: bool,
        and_claim: bool,
        limited: bool,
        reply: str,
    ) -> None:
        """`through`: the successor's queue is claimed from in the same call, and what came is run at once."""
        job, token = self.drop(which), self.token()
        through_claim = ClaimNext(self.token(), LEASE_MS) if through else None
        following = Successor(NEXT, NewJob(id=successor, data="{}"), through_claim) if successor else None
        claim_next = ClaimNext(token, LEASE_MS, LIMIT if limited else None) if and_claim else None

        def call() -> Awaitable[FinishReply]:
            return self.world.bull.finish(
                job,
                returnvalue="1",
                retention=KEPT if kept else GONE,
                successor=following,
                claim_next=claim_next,
            )

        assert self.queue.settle(job.id, job.token) is Settled.DONE
        self.queue.completed.add(job.id)
        if not kept:
            self.queue.forget(job.id)
        created = self.next.add(successor, Job(), delayed=False)[1] if successor else None
        if reply == "answered":
            answer = self.do(call())
            assert (answer.settled, answer.successor_created) == (Settled.DONE, created)
        else:
            self.lose(call())
        if reply == "asked for":
            self.asked_for(job, kept=kept)
        if reply != "answered":
            answer = self.do(call())
            assert answer.settled is (Settled.DONE if kept else Settled.GONE)
        if and_claim:
            self.took(answer.next, token, limited=limited, again=reply != "answered")
        if successor and through_claim:
            self.run_through(answer.through, through_claim.token)

    @precondition(lambda self: self.held)
    @rule(which=some, later=st.booleans(), twice=st.booleans())
    def retry(self, which: int, *, later: bool, twice: bool) -> None:
        job = self.drop(which)
        attempts = self.queue.jobs[job.id].attempts + 1
        delay_ms = LATER_MS if later else 0
        self.settled(
            lambda: self.world.bull.retry(job, failure=Failure("x"), attempts_made=attempts, delay_ms=delay_ms),
            job,
            twice=twice,
        )
        self.queue.jobs[job.id].attempts = attempts
        if later:
            self.queue.delayed.add(job.id)
        else:
            self.back(job.id, self.queue.jobs[job.id].priority)

    @precondition(lambda self: self.held)
    @rule(which=some, twice=st.booleans())
    def fail(self, which: int, *, twice: bool) -> None:
        job = self.drop(which)
        attempts = self.queue.jobs[job.id].attempts + 1
        self.settled(
            lambda: self.world.bull.fail(job, failure=Failure("x"), attempts_made=attempts, retention=KEPT),
            job,
            twice=twice,
        )
        self.queue.jobs[job.id].attempts = attempts
        self.queue.failed.add(job.id)

    @precondition(lambda self: self.held)
    @rule(which=some, twice=st.booleans())
    def snooze(self, which: int, *, twice: bool) -> None:
        job = self.drop(which)
        self.settled(lambda: self.world.bull.snooze(job, delay_ms=LATER_MS, reason="x"), job, twice=twice)
        self.queue.delayed.add(job.id)

    @precondition(lambda self: self.held)
    @rule(which=some, twice=st.booleans())
    def release(self, which: int, *, twice: bool) -> None:
        job = self.drop(which)
        self.settled(lambda: self.world.bull.release(job), job, twice=twice)
        self.queue.push(job.id, 0, front=True)

    @precondition(lambda self: self.stale)
    @rule(which=some, verb=st.sampled_from(["finish", "retry", "fail", "snooze", "release"]))
    def who_lost_the_lease_changes_nothing(self, which: int, verb: str) -> None:
        job, bull = self.stale[which % len(self.stale)], self.world.bull
        verbs: dict[str, Callable[[], Awaitable[Any]]] = {
            "finish": lambda: bull.finish(job, returnvalue="1", retention=KEPT, claim_next=ClaimNext("no", LEASE_MS)),
            "retry": lambda: bull.retry(job, failure=Failure("x"), attempts_made=9, delay_ms=0),
            "fail": lambda: bull.fail(job, failure=Failure("x"), attempts_made=9, retention=KEPT),
            "snooze": lambda: bull.snooze(job, delay_ms=1, reason="x"),
            "release": lambda: bull.release(job),
        }
        answer = self.do(verbs[verb]())
        found = answer.settled if isinstance(answer, FinishReply) else answer
        assert found is self.queue.settle(job.id, job.token) is not Settled.DONE

    # -- leases -----------------------------------------------------------------------------------

    @precondition(lambda self: self.unheard or self.queue.marked & set(self.queue.locks))
    @rule()
    def renew(self) -> None:
        self.unheard = False
        leases = [Held(QUEUE, job.id, job.token) for job in (*self.held, *self.stale)]
        assert self.do(self.world.bull.renew(leases, LEASE_MS)) == {job.token for job in self.stale}
        self.queue.marked -= set(self.queue.locks)

    @precondition(lambda self: self.held)
    @rule(which=some)
    def a_lease_ends(self, which: int) -> None:
        job = self.drop(which)
        self.stale.append(job)
        self.unheard = True
        del self.queue.locks[job.id]
        assert self.world.raw.delete(f"bull:{QUEUE}:{job.id}:lock")

    @precondition(lambda self: len(self.held) > 1)
    @rule()
    def the_process_dies_and_all_its_leases_end(self) -> None:
        while self.held:
            self.a_lease_ends(0)

    @precondition(lambda self: self.queue.due or self.queue.active)
    @rule(check=st.booleans())
    def sweep(self, *, check: bool) -> None:
        """One round; `check`: the guards of the last one are over, so it looks for stalled jobs too."""
        self.world.raw.delete("bull:po:guard")
        if check:
            self.world.raw.delete(f"bull:{QUEUE}:stalled-check")
        else:
            self.world.raw.set("bull:po:guard", 1, px=LEASE_MS)
        report = self.do(self.world.bull.sweep([QUEUE], guard_ms=LEASE_MS, stalled_interval_ms=LEASE_MS))
        found = report.queues[QUEUE]
        assert (report.ran, found.promoted, found.broken) == (check, self.queue.sweep(), None)
        stalled = self.queue.stalled() if check else set()
        assert (set(found.returned), len(found.returned)) == (stalled, len(stalled))
        for job_id in found.returned:
            self.queue.active.remove(job_id)
            self.queue.jobs[job_id].stalls += 1
            self.queue.waiting.append(job_id)
        if check:
            self.queue.marked = set(self.queue.active)
        assert (found.waiting, found.active, found.delayed) == (
            0 if self.queue.paused else len(self.queue.waiting),
            len(self.queue.active),
            len(self.queue.delayed),
        )

    # -- time and people --------------------------------------------------------------------------

    @precondition(lambda self: set(self.queue.delayed) - set(self.queue.due))
    @rule(which=some)
    def a_delay_ends(self, which: int) -> None:
        rest = sorted(self.queue.delayed - set(self.queue.due))
        job_id = rest[which % len(rest)]
        self.world.raw.zadd(f"bull:{QUEUE}:delayed", {job_id: (LONG_AGO_MS + len(self.queue.due)) * 4096})
        self.queue.due.append(job_id)

    @precondition(lambda self: self.queue.started)
    @rule()
    def the_window_of_the_limit_ends(self) -> None:
        self.world.raw.delete(f"bull:{QUEUE}:limiter")
        self.queue.started = 0

    @precondition(lambda self: self.queue.delayed)
    @rule(which=some)
    def promote(self, which: int) -> None:
        job_id = self.one(which)
        assert self.do(self.world.bull.promote(QUEUE, job_id)) is (job_id in self.queue.delayed)
        if job_id in self.queue.delayed:
            self.queue.delayed.remove(job_id)
            self.queue.due = [one for one in self.queue.due if one != job_id]
            self.queue.push(job_id, self.queue.jobs[job_id].priority)

    @precondition(lambda self: self.queue.failed)
    @rule(which=some)
    def replay(self, which: int) -> None:
        job_id = self.one(which)
        assert self.do(self.world.bull.replay(QUEUE, job_id)) is (job_id in self.queue.failed)
        if job_id in self.queue.failed:
            self.queue.failed.remove(job_id)
            self.back(job_id, 0)

    @precondition(lambda self: len(self.queue.jobs) > A_FEW)
    @rule(which=some)
    def remove(self, which: int) -> None:
        job_id = self.one(which)
        assert self.do(self.world.bull.remove(QUEUE, job_id)) is (job_id not in self.queue.locks)
        if job_id not in self.queue.locks:
            self.queue.forget(job_id)

    @precondition(lambda self: len(self.queue.jobs) > A_FEW)
    @rule(state=st.sampled_from(["waiting", "paused", "active", "delayed", "completed", "failed"]))
    def clean(self, state: str) -> None:
        there = {
            "waiting": [] if self.queue.paused else self.queue.waiting,
            "paused": self.queue.waiting if self.queue.paused else [],
            "active": [job_id for job_id in self.queue.active if job_id not in self.queue.locks],
            "delayed": self.queue.delayed,
            "completed": self.queue.completed,
            "failed": self.queue.failed,
        }[state]
        wanted = set(there)
        assert set(self.do(self.world.bull.clean(QUEUE, state, 0))) == wanted
        for job_id in wanted:
            self.queue.forget(job_id)

    @precondition(lambda self: self.held and not self.queue.paused)
    @rule(times=st.integers(1, 2))
    def pause(self, times: int) -> None:
        for _ in range(times):
            self.do(self.world.bull.pause(QUEUE))
        self.queue.paused = True

    @precondition(lambda self: self.queue.paused)
    @rule(times=st.integers(1, 2))
    def resume(self, times: int) -> None:
        for _ in range(times):
            self.do(self.world.bull.resume(QUEUE))
        self.queue.paused = False

    @precondition(lambda self: len(self.queue.jobs) > 2 * A_FEW)
    @rule()
    def redis_comes_back_empty(self) -> None:
        self.world.raw.flushall()
        self.stale += self.held
        self.held.clear()
        self.queue, self.next = Queue(), Queue()

    # -- what must be true ------------------------------------------------------------------------

    @invariant()
    def the_queues_are_as_the_model_says_and_break_no_rule(self) -> None:
        found = {page.queue: page for page in list_pages(self.world.raw)}
        for name, queue in ((QUEUE, self.queue), (NEXT, self.next)):
            assert (places(found[name]) if name in found else Queue().places()) == queue.places(), name
            assert self.world.raw.smembers(f"bull:{name}:stalled") == queue.marked, name
        for job_id, job in self.queue.jobs.items():
            fields = found[QUEUE].jobs[job_id].fields
            counts = [int(fields.get(name, 0)) for name in ("attemptsMade", "stalledCounter")]
            assert counts == [job.attempts, job.stalls], job_id
        assert list_violations(found.values()) == []

    # -- pieces -----------------------------------------------------------------------------------

    def enqueue_all(self, forms: list[Form]) -> None:
        for job_id, priority, front, delayed in forms:
            delay_ms = LATER_MS if delayed else 0
            given = NewJob(id=job_id, data="{}", delay_ms=delay_ms, front=front, opts={"priority": priority})
            found = self.do(self.world.bull.enqueue(QUEUE, given))
            assert (found.id, found.created) == self.queue.add(job_id, Job(priority, front), delayed=delayed)

    def claim_some(self, count: int, *, limited: bool) -> None:
        for _ in range(count):
            token = self.token()
            self.took(self.do(self.claiming(token, limited=limited)), token, limited=limited)

    def do(self, call: Awaitable[T]) -> T:
        async def awaited() -> T:
            return await call

        return self.world.loop.run(awaited())

    def lose(self, call: Awaitable[Any]) -> None:
        """The call runs, its answer does not arrive."""
        self.world.line.drop_next = True
        with pytest.raises(ReplyLost):
            self.do(call)

    def token(self) -> str:
        self.tokens += 1
        return f"w:{self.tokens}"

    def claiming(self, token: str, *, limited: bool) -> Awaitable[Claim]:
        return self.world.bull.claim(QUEUE, token=token, lease_ms=LEASE_MS, limit=LIMIT if limited else None)

    def took(self, found: Claim | None, token: str, *, limited: bool, again: bool = False) -> None:
        """Compare an answer with the model's; one that is sent again brings a job, or nothing."""
        wanted = self.queue.take(token, limited=limited)
        if isinstance(wanted, str):
            assert isinstance(found, ClaimedJob), found
            job = self.queue.jobs[wanted]
            assert (found.id, found.attempts_made, found.stalled_count) == (wanted, job.attempts, job.stalls)
            self.hold(found)
        elif again:
            assert found is None
        else:
            assert isinstance(found, wanted), found

    def run_through(self, found: Claim | None, token: str) -> None:
        """What came from the successor's queue: finished there, and gone."""
        wanted = self.next.take(token, limited=False)
        assert isinstance(found, ClaimedJob)
        assert found.id == wanted
        self.do(self.world.bull.finish(found, returnvalue="1", retention=GONE))
        assert self.next.settle(found.id, token) is Settled.DONE
        self.next.forget(found.id)

    def hold(self, job: ClaimedJob | None) -> None:
        if job is not None:
            self.held.append(job)

    def drop(self, which: int) -> ClaimedJob:
        return self.held.pop(which % len(self.held))

    def asked_for(self, job: ClaimedJob, *, kept: bool) -> None:
        adopted = self.do(self.world.bull.adopt(QUEUE, job.token, job.id))
        assert (adopted.claimed, adopted.settled, adopted.state) == (None, kept, "completed" if kept else None)

    def settled(self, call: Callable[[], Awaitable[Settled]], job: ClaimedJob, *, twice: bool) -> None:
        """A settling call: once, or once without an answer and then again."""
        if twice:
            self.lose(call())
        assert self.do(call()) is self.queue.settle(job.id, job.token) is Settled.DONE

    def back(self, job_id: str, priority: int) -> None:
        """To waiting, where its producer asked for it."""
        self.queue.push(job_id, priority, front=self.queue.jobs[job_id].lifo)

    def one(self, which: int) -> str:
        known = sorted(self.queue.jobs)
        return known[which % len(known)]


def places(found: Snapshot) -> dict[str, Sequence[str] | set[str]]:
    """The real queue as the model would say it: in order where the order counts."""
    in_order = {place: found.entries[place] for place in ("wait", "paused")}
    return in_order | {place: set(found.entries[place]) for place in Queue().places() if place not in in_order}


def test_whatever_is_done_in_whatever_order_the_queue_does_what_the_model_says(
    redis_url: str, redis_admin: redis.Redis
) -> None:
    with asyncio.Runner() as loop:
        opened = held(open_connections(redis_url, SystemClock()))
        connections = loop.run(opened.__aenter__())
        try:
            line = Forgetful(connections.commands)
            world = World(Bull(line), line, redis_admin, loop)
            run_state_machine_as_test(lambda: QueueMachine(world), settings=steps_of_a_model(examples=60, steps=40))
        finally:
            loop.run(opened.__aexit__(None, None, None))
