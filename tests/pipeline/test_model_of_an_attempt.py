"""Two workers, a few orders, and everything that can happen between two writes: nobody is lost, nothing is doubled.

Each worker is the real runner on the real stores. Before and after every call to a store it stops at a gate, and the
machine decides: go on, let the other one go first, die, hear that the store is away, hear nothing. The gates are the
gaps of the runner and of the ledger (`reach`: claim, load, intent, vendor-call, confirm, record, settle,
failure-record, release), and the other side of each call.

The model is small: an order that was accepted ends, a stage has one result per entry, and the vendor was asked to do
each thing once. After every step the invariants of both stores are asked; at the end everything heals, and must.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import asyncpg
import hypothesis.strategies as st
import pytest
import redis
import structlog
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from app.connections import Connections, open_connections
from app.db.effects import PostgresEffects
from app.db.errors import RefusedError
from app.db.people import People
from app.db.runs import PostgresRuns
from app.db.session import Database, PoolSize
from pipeline import flow
from pipeline.clock import SystemClock
from pipeline.contract import Done, Reject, Retry, Review, StageInput, StageResult
from pipeline.domain.purchase_order import Doubt
from pipeline.domain.results import Enrichment, RunOutcome
from pipeline.effects import Answer, Ledger
from pipeline.errors import DatabaseUnavailable, RedisUnavailable, ReplyLost, VendorUnavailable
from pipeline.hand_off import hand_off
from pipeline.ports import Effect
from pipeline.queue.bull import Bull, Commands
from pipeline.queue.heartbeat import Heartbeat
from pipeline.queue.job import ClaimedJob, NewJob
from pipeline.queue.scripts import Argument, Script
from pipeline.reconciler import Reconciler
from pipeline.run_store import NextJob
from pipeline.runner import Runner
from pipeline.settling import Outcome, Settlement
from tests.app.held import held
from tests.invariants import list_pages, list_run_violations, list_violations
from tests.pipeline.line import MERCHANT, Killed, Silent, add_merchant
from tests.pipeline.queue.support import MovedClock
from tests.support import steps_of_a_model

T = TypeVar("T")
LEASE_S = 600
SETTLING = {"finish", "retry", "fail", "snooze", "release", "enqueue"}
MOODS = ("ok", "ok", "ok", "review", "retry", "reject", "bug", "vendor away", "answer lost")
"""How a stage may end; `answer lost`: the vendor did it and we do not hear so."""

fates = st.sampled_from(
    [
        *("waits", "waits", "waits", "ends", "ends", "dies", "dies, its lease too"),
        *("sleeps through its lease", "is overtaken", "is overtaken", "finds a store away", "is told to stop"),
    ]
)

FAILED = (
    "SELECT run_id, stage, count(*) FROM po.stage_runs WHERE state = 'failed' AND error_code <> 'poison' GROUP BY 1, 2"
)
FINISHED = "SELECT DISTINCT run_id, stage FROM po.stage_runs WHERE state = 'finished'"
FAR = 99
"""More gates than any attempt has."""

FAR_AWAY_MS = 2_000_000_000_000
TURNS = 25
"""Turns of the event loop after which whatever was on its way has arrived."""

ORDERS_MAX = 3

COUNTED = frozenset({"retry", "reject", "bug"})
"""After these a failure may stand in the journal, and after nothing else."""

PATIENCE = 200
"""Rounds in which everything must have healed: eleven stages, a few tries each, of a few orders."""


# ------------------------------------------------------------------------------------------ one worker


class Gates:
    """Where one attempt waits to be let on. One at a time: an attempt is one line of thought."""

    def __init__(self) -> None:
        self.at = ""
        self._waiting: asyncio.Future[None] | None = None

    @property
    def stopped(self) -> bool:
        return self._waiting is not None and not self._waiting.done()

    async def stop(self, at: str) -> None:
        self.at = at
        self._waiting = asyncio.get_running_loop().create_future()
        await self._waiting

    def go(self, error: BaseException | None = None) -> None:
        assert self._waiting is not None
        if error is None:
            self._waiting.set_result(None)
        else:
            self._waiting.set_exception(error)


class Gated:
    """A store whose calls stop at a gate before they are made, and again before their answer is heard."""

    def __init__(self, store: object, gates: Gates, names: set[str]) -> None:
        self._store, self._gates, self._names = store, gates, names

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in self._names:
            return method

        async def gated(*given: Any, **named: Any) -> Any:
            await self._gates.stop(f"before {name}")
            answer = await method(*given, **named)
            await self._gates.stop(f"after {name}")
            return answer

        return gated


class GatedCommands:
    """The same for the scripts that settle."""

    def __init__(self, commands: Commands, gates: Gates) -> None:
        self._commands, self._gates = commands, gates

    async def call(self, *args: Argument) -> Any:
        return await self._commands.call(*args)

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        if script.name not in SETTLING:
            return await self._commands.run(script, keys, args)
        await self._gates.stop(f"before {script.name}")
        answer = await self._commands.run(script, keys, args)
        await self._gates.stop(f"after {script.name}")
        return answer


class Impatient(MovedClock):
    """Short pauses (a call that is tried again) pass by themselves; leases and time limits when they are moved."""

    async def sleep(self, seconds: float) -> None:
        if seconds > 1:
            await super().sleep(seconds)
        else:
            self.move(seconds)
            await asyncio.sleep(0)


@dataclass
class Vendor:
    """Does what it is told and remembers it."""

    done: Counter[str] = field(default_factory=Counter)

    async def ask(self, effect: Effect) -> Answer | None:
        return {"id": effect.key} if self.done[effect.key] else None

    def calling(self, key: str, mood: str) -> Callable[[Mapping[str, Any]], Awaitable[Answer]]:
        async def call(_parameters: Mapping[str, Any]) -> Answer:
            if mood == "vendor away":
                raise VendorUnavailable("away", retry_after_s=60)
            self.done[key] += 1
            if mood == "answer lost":
                raise VendorUnavailable("no answer", retry_after_s=60)
            return {"id": key}

        return call


class Worker:
    """One process: a runner behind gates, a clock of its own, and at most one attempt under way."""

    def __init__(
        self, name: str, connections: Connections, database: Database, vendor: Vendor, failures: Counter[str]
    ) -> None:
        self.name, self.mood = name, "ok"
        self.gates, self.clock = Gates(), Impatient()
        self.job: ClaimedJob | None = None
        self.attempt: asyncio.Task[Settlement] | None = None
        self._tokens = 0
        self._vendor, self._failures = vendor, failures
        self._ledger = Ledger(Gated(PostgresEffects(database), self.gates, {"intend", "confirm"}))  # type: ignore[arg-type]
        self.bull = Bull(GatedCommands(connections.commands, self.gates), clock=self.clock)
        runs = Gated(PostgresRuns(database, max_stalls=3), self.gates, {"load", "record", "fail", "wait", "let_go"})
        self.runner = Runner(
            bull=self.bull,
            runs=runs,  # type: ignore[arg-type]
            stages=dict.fromkeys(flow.NAMES, self),  # type: ignore[arg-type]
            heartbeat=Heartbeat(self.bull, self.clock, every_s=10, lease_s=LEASE_S),
            progress=Silent(),
            clock=self.clock,
            random=lambda: 0.5,
            worker=name,
        )

    async def run(self, given: StageInput) -> StageResult:
        """Every stage does one thing to the world, then ends in the mood of the moment."""
        key, mood = f"{given.run.id}:{given.stage}", self.mood
        await self._ledger.once(given, key, {"n": 1}, call=self._vendor.calling(key, mood), ask=self._vendor.ask)
        if mood in COUNTED:
            self._failures[key] += 1
        match mood:
            case "retry":
                raise Retry("it hiccuped")
            case "reject":
                raise Reject("no", "it cannot be")
            case "bug":
                raise KeyError("a bug")
            case "review" if flow.NAMES.index(given.stage) <= flow.NAMES.index(flow.LAST_REVIEWABLE):
                return Review((Doubt(code="look", message="look"),), Enrichment())
        if given.stage == flow.STATUS:
            return Done(RunOutcome(state="needs_review" if given.review else "completed", summary="done"))
        return Done(Enrichment())

    async def claim(self, queue: str, mood: str) -> bool:
        """Begin an attempt at whatever waits there; whether something did."""
        self._tokens += 1
        claim = await self.bull.claim(queue, token=f"{self.name}:{self._tokens}", lease_ms=LEASE_S * 1000)
        if not isinstance(claim, ClaimedJob):
            return False
        self.mood, self.job = mood, claim
        self.attempt = asyncio.create_task(self.runner.attempt(claim, None))
        await self.arrive()
        return True

    async def arrive(self) -> None:
        """Wait until the attempt stands still at a gate, or is over: a cancellation needs a few turns to get there."""
        assert self.attempt is not None
        still = 0
        async with asyncio.timeout(30):
            while still < TURNS and not self.attempt.done():
                still = still + 1 if self.gates.stopped else 0
                await asyncio.sleep(0 if self.gates.stopped else 0.0005)
        if self.attempt.done():
            attempt, self.attempt, self.job = self.attempt, None, None
            assert killed(attempt) or attempt.result().outcome in Outcome

    async def let_on(self, error: BaseException | None = None) -> None:
        self.gates.go(error)
        await self.arrive()


def killed(attempt: asyncio.Task[Settlement]) -> bool:
    """Whether the attempt ended because its process did."""
    error = attempt.exception()
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return isinstance(error, Killed)


def away(gate: str) -> Exception:
    """The store behind a gate refuses the call, or made it and its answer is lost."""
    moment, _, call = gate.partition(" ")
    if call not in SETTLING:
        return DatabaseUnavailable("away")
    return RedisUnavailable("away") if moment == "before" else ReplyLost("no answer")


# ------------------------------------------------------------------------------------------ the machine


@dataclass
class World:
    """The two stores, and the hands of harness and people on them."""

    connections: Connections
    database: Database
    raw: redis.Redis
    sql: asyncpg.Connection
    loop: asyncio.Runner


class AttemptMachine(RuleBasedStateMachine):
    """A few uploads, two workers, one vendor."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.bull = Bull(world.connections.commands)
        self.people = People(world.database)
        self.runs = PostgresRuns(world.database, max_stalls=3)
        self.reconciler = Reconciler(self.bull, self.runs, SystemClock(), every_s=60, quiet_s=0)
        self.vendor = Vendor()
        self.failures: Counter[str] = Counter()
        self.workers = [self.process(name) for name in ("A", "B")]
        self.orders = 0
        self.brought_back = False
        self.news = True  # something happened since a role that always may looked
        world.raw.flushall()
        self.look()
        self.do(self.forget_all())

    # -- orders come in ---------------------------------------------------------------------------

    @initialize(count=st.integers(1, 2))
    def begin(self, count: int) -> None:
        for _ in range(count):
            self.an_upload_comes(again=False, which=0)
        self.news = True

    @precondition(lambda self: self.news or not (self.busy() or self.waiting()))
    @rule(again=st.booleans(), which=st.integers(0, ORDERS_MAX))
    def an_upload_comes(self, which: int, *, again: bool) -> None:
        """A new one, or one that was here before, as a job of its own."""
        self.news = False
        new = not again and self.orders < ORDERS_MAX
        number = self.orders if new else which % self.orders
        self.orders += new
        self.upload(number)

    # -- workers ----------------------------------------------------------------------------------

    @precondition(lambda self: self.idle() and self.waiting())
    @rule(which=st.integers(0, 9), mood=st.sampled_from(MOODS), gates=st.integers(0, 8), fate=fates)
    def claim(self, which: int, mood: str, gates: int, fate: str) -> None:
        """A worker takes a job and comes so far with it."""
        self.news = True
        worker, queues = self.idle()[which % len(self.idle())], self.waiting()
        if self.do(worker.claim(queues[which % len(queues)], mood)):
            self.go_on(worker, gates)
            self.meet(worker, fate, gates)

    @precondition(lambda self: self.busy())
    @rule(which=st.integers(0, 1), gates=st.integers(0, 5), fate=fates)
    def advance(self, which: int, gates: int, fate: str) -> None:
        self.news = True
        worker = self.busy()[which % len(self.busy())]
        self.go_on(worker, gates)
        self.meet(worker, fate, gates)

    @precondition(lambda self: self.idle() and self.waiting())
    @rule(attempts=st.integers(1, 8))
    def work_a_while(self, attempts: int) -> None:
        """The dull part of most days."""
        self.news = True
        for _ in range(attempts):
            self.one_attempt()

    def meet(self, worker: Worker, fate: str, gates: int) -> None:
        """What happens to an attempt under way, at the gate where it stands."""
        match fate if worker.attempt is not None else "nothing":
            case "ends":
                self.go_on(worker, FAR)
            case "dies" | "dies, its lease too":
                lock = self.lock_of(worker)
                self.do(worker.let_on(Killed(worker.gates.at)))
                if fate != "dies":
                    self.world.raw.delete(lock)
            case "sleeps through its lease":  # when it wakes Redis has let its lock go, and so has it
                self.world.raw.delete(self.lock_of(worker))
                worker.clock.move(LEASE_S)
                self.do(worker.arrive())
            case "is overtaken":  # the same, and another worker has its job and comes as far
                queue = self.queue_of(worker)
                self.meet(worker, "sleeps through its lease", gates)
                self.look()
                self.delay_until(FAR_AWAY_MS)
                for _ in range(2):
                    self.do(self.swept())
                for other in self.idle()[:1]:
                    self.do(other.claim(queue, "ok"))
                    self.go_on(other, gates)
            case "finds a store away":
                self.do(worker.let_on(away(worker.gates.at)))
            case "is told to stop":  # and another takes its place
                worker.runner.drain()
                self.do(worker.arrive())
                self.go_on(worker, FAR)
                self.workers[self.workers.index(worker)] = self.process(worker.name + "'")

    # -- what heals -------------------------------------------------------------------------------

    @precondition(lambda self: self.news)
    @rule(leases_end=st.booleans(), delays_end=st.booleans(), checks=st.integers(0, 2), reconciles=st.booleans())
    def the_roles_look(self, *, leases_end: bool, delays_end: bool, checks: int, reconciles: bool) -> None:
        """Time passes, for the locks of the dead too; sweep and reconciler do what they do."""
        self.news = False
        if leases_end:
            held_now = {self.lock_of(worker) for worker in self.busy()}
            self.delete(*(set(self.world.raw.scan_iter("bull:*:lock", count=1000)) - held_now))
        self.delay_until(0 if delays_end else FAR_AWAY_MS)
        for _ in range(checks):
            self.do(self.swept())
        if reconciles:
            emptied = not self.world.raw.exists(self.bull.keys.epoch)
            self.do(self.reconciler.run_once(redis_was_emptied=emptied))

    # -- what people and disasters do -------------------------------------------------------------

    @precondition(lambda self: self.news and self.commands())
    @rule(which=st.integers(0, 9), told=st.booleans())
    def somebody_decides(self, which: int, *, told: bool) -> None:
        """`told`: Redis hears of it at once; else whoever gave the command died, or Redis was away."""
        commands = self.commands()
        command, *about = commands[which % len(commands)]
        match command:
            case "replay":
                self.brought_back |= self.do(self.bull.replay(*about))
            case "remove":
                self.do(self.bull.remove(*about))
            case _:
                self.news = command != "cancel"
                self.do(self.commanded(command, *about, told=told))

    @precondition(lambda self: self.news and self.all_accepted())
    @rule()
    def redis_comes_back_empty(self) -> None:
        self.news = False
        self.world.raw.flushall()

    # -- what must be true ------------------------------------------------------------------------

    @invariant()
    def nothing_is_done_twice(self) -> None:
        assert {key: count for key, count in self.vendor.done.items() if count > 1} == {}

    @invariant()
    def only_failures_count_as_failures(self) -> None:
        for run_id, stage, count in self.do(self.fetch(FAILED)):
            assert count <= self.failures[f"{run_id}:{stage}"], stage

    @invariant()
    def both_stores_are_in_order(self) -> None:
        self.look()
        assert list_violations(self.pages.values()) == []
        found = self.do(list_run_violations(self.world.sql, self.pages.values()))
        # Two of a run's jobs are live only after a person brought a dead one back through Bull.
        assert [one for one in found if one.rule != "two_live_jobs" or not self.brought_back] == []

    def teardown(self) -> None:
        """Everything heals by itself: leases end, roles look, workers work. Then every order has ended."""
        try:
            for worker in self.busy():
                self.go_on(worker, FAR)
            self.delete(*self.world.raw.scan_iter("bull:*:lock"))
            self.do(self.healed())
            self.nothing_is_done_twice()
            self.only_failures_count_as_failures()
            self.both_stores_are_in_order()
            for run_id, state, failure, summary in self.do(
                self.fetch("SELECT id, state, failure, summary FROM po.runs")
            ):
                assert state in {"completed", "needs_review", "cancelled"} or (state, failure) != ("failed", ""), run_id
                assert failure or summary, f"run {run_id} is {state} and nobody knows why"
            for run_id, stage in self.do(self.fetch(FINISHED)):
                assert self.vendor.done[f"{run_id}:{stage}"] == 1
        finally:
            self.do(self.stopped())

    # -- pieces -----------------------------------------------------------------------------------

    def do(self, call: Awaitable[T]) -> T:
        async def awaited() -> T:
            return await call

        return self.world.loop.run(awaited())

    def upload(self, number: int) -> None:
        payload = {"uploadId": f"upload-{number}", "merchantId": MERCHANT, "fileName": "order.csv"}
        envelope = {"workflowId": f"wf-{number}", "stage": "ai_parsing", "data": payload}
        self.do(self.bull.enqueue(flow.FIRST, NewJob(id=None, data=json.dumps(envelope), attempts=3)))

    def process(self, name: str) -> Worker:
        return Worker(name, self.world.connections, self.world.database, self.vendor, self.failures)

    def idle(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.attempt is None]

    def busy(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.attempt is not None]

    def go_on(self, worker: Worker, gates: int) -> None:
        for _ in range(gates):
            if worker.attempt is not None:
                self.do(worker.let_on())

    def one_attempt(self) -> None:
        """One job from beginning to end, the latest stage first."""
        self.look()
        for queue in self.waiting()[-1:]:
            worker = self.idle()[0]
            if self.do(worker.claim(queue, "ok")):
                self.go_on(worker, FAR)

    def queue_of(self, worker: Worker) -> str:
        assert worker.job is not None
        return worker.job.queue

    def lock_of(self, worker: Worker) -> str:
        assert worker.job is not None
        return f"bull:{worker.job.queue}:{worker.job.id}:lock"

    def look(self) -> None:
        """See where all jobs are."""
        self.pages = {page.queue: page for page in list_pages(self.world.raw)}

    def waiting(self) -> list[str]:
        return [queue for queue in flow.NAMES if queue in self.pages and self.pages[queue].entries["wait"]]

    def jobs_in(self, place: str) -> list[tuple[str, str]]:
        return sorted((queue, job_id) for queue, page in self.pages.items() for job_id in page.entries[place])

    def all_accepted(self) -> bool:
        """No upload lives in Redis alone: those are upstream's to send again."""
        return not any(
            job_id.isdigit() for place in ("wait", "delayed") for _, job_id in self.jobs_in(place)
        ) and not any(job_id.isdigit() for job_id in self.world.raw.lrange(f"bull:{flow.FIRST}:active", 0, -1))

    def delay_until(self, due_ms: int) -> None:
        """Back-off times are over now, or not for a long time: never when the machine we run on is slow."""
        for queue, job_id in self.jobs_in("delayed"):
            self.world.raw.zadd(f"bull:{queue}:delayed", {job_id: due_ms * 4096})

    async def swept(self) -> None:
        self.world.raw.delete("bull:po:guard", *(f"bull:{queue}:stalled-check" for queue in flow.NAMES))
        await self.bull.sweep(flow.NAMES, guard_ms=60_000, stalled_interval_ms=60_000)

    async def commanded(self, what: str, run_id: str, *, told: bool) -> None:
        try:
            following = await getattr(self.people, what)(run_id, "somebody")
        except RefusedError:
            return
        if told and isinstance(following, NextJob):
            await self.bull.enqueue(following.stage, hand_off(following))

    async def healed(self) -> None:
        for _ in range(PATIENCE):
            self.look()
            self.delay_until(0)
            await self.swept()
            await self.reconciler.run_once(redis_was_emptied=True)
            self.look()
            if not self.waiting() and not self.jobs_in("delayed") and not await self.open_runs():
                return
            for queue in self.waiting():
                worker = self.workers[0]
                if await worker.claim(queue, "ok"):
                    while worker.attempt is not None:
                        await worker.let_on()
        raise AssertionError(f"still open after all that: {await self.open_runs()}")

    async def stopped(self) -> None:
        for worker in self.workers:
            if worker.attempt is not None:
                worker.attempt.cancel()
                await asyncio.wait({worker.attempt})
                worker.attempt = None

    async def forget_all(self) -> None:
        for table in ("effects", "stage_runs", "audit", "runs", "documents"):
            await self.world.sql.execute(f"DELETE FROM po.{table}")

    def commands(self) -> list[tuple[str, ...]]:
        """What somebody could decide now, by command or with Bull's own tools."""
        words = {"needs_review": "approve", "failed": "retry", "running": "cancel"}
        runs = self.do(
            self.fetch("SELECT state, id FROM po.runs WHERE state = ANY($1) ORDER BY upload_id", list(words))
        )
        removable = self.jobs_in("delayed") if self.all_accepted() else []
        return [
            *((words[state], run_id) for state, run_id in runs),
            *(("replay", *job) for job in self.jobs_in("failed")),
            *(("remove", *job) for job in removable),
        ]

    async def fetch(self, query: str, *args: object) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await self.world.sql.fetch(query, *args)]

    async def open_runs(self) -> list[tuple[Any, ...]]:
        return await self.fetch("SELECT upload_id, state, due_stage, job_id FROM po.runs WHERE due_stage IS NOT NULL")

    def delete(self, *keys: str) -> None:
        if keys:
            self.world.raw.delete(*keys)


@pytest.fixture
def _silent_logs() -> Iterator[None]:
    """Ten thousand attempts that go wrong on purpose need not say so."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("_silent_logs")
def test_whatever_happens_between_two_writes_no_order_is_lost_and_no_effect_doubled(
    redis_url: str, redis_admin: redis.Redis, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pipeline.settling.SHIELDED_S", 3600.0
    )  # an attempt may stand at a gate for longer than in life
    with asyncio.Runner() as loop:
        opened = held(open_connections(redis_url, SystemClock()))
        database = Database(database_url, PoolSize(2))
        sql = loop.run(asyncpg.connect(database_url))
        try:
            loop.run(add_merchant(database))
            world = World(loop.run(opened.__aenter__()), database, redis_admin, sql, loop)
            run_state_machine_as_test(lambda: AttemptMachine(world), settings=steps_of_a_model(examples=6, steps=25))
            loop.run(opened.__aexit__(None, None, None))
        finally:
            loop.run(sql.close())
            loop.run(database.close())
