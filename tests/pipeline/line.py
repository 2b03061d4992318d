"""A line to run attempts on: real Redis, real Postgres, the real runner; only what the stages do is scripted."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import RowMapping, select
from sqlalchemy.dialects.postgresql import insert

from app.connections import open_connections
from app.db.runs import PostgresRuns
from app.db.session import Database
from app.db.tables import merchants, runs, stage_runs
from pipeline import flow
from pipeline.clock import Clock, SystemClock
from pipeline.contract import Done, StageInput, StageResult
from pipeline.domain.results import Enrichment, RunOutcome
from pipeline.queue.bull import Bull
from pipeline.queue.heartbeat import Heartbeat
from pipeline.queue.job import ClaimedJob, ClaimNext, NewJob
from pipeline.queue.notifier import Events
from pipeline.reconciler import Reconciler
from pipeline.runner import Runner
from pipeline.settling import Settlement
from pipeline.worker import Worker, WorkerConfig

MERCHANT = "merchant-1"
ALL = 1000
"""Orders of one shop in the line: as many as a test sends, unless it is about that very number."""

Script = Callable[[StageInput], Awaitable[StageResult]]


class Silent:
    """Nobody watches."""

    async def tell(self, run_id: str, stage: str, event: str, details: Mapping[str, Any]) -> None:
        """Hear nothing."""


@dataclass
class Scripted:
    """A stage that does what the test says, and counts how often it was asked to."""

    script: Script
    calls: int = 0

    async def run(self, given: StageInput) -> StageResult:
        """Play the script."""
        self.calls += 1
        return await self.script(given)


async def _plain(given: StageInput) -> StageResult:
    if given.stage == flow.STATUS:
        state = "needs_review" if given.review else "completed"
        return Done(RunOutcome(state=state, summary="as the test wants it"))
    return Done(Enrichment(skipped=f"{given.stage} by the test"))


class Killed(BaseException):
    """The process dies in a gap, as far as one attempt can tell."""


@dataclass
class Deadly:
    """Called in each gap between two writes; dies in the one that was chosen."""

    gap: str = ""

    def reach(self, gap: str) -> None:
        if gap == self.gap:
            raise Killed(gap)


@dataclass(frozen=True)
class FreeSlots:
    """Slots that are free, by queue."""

    claims: Mapping[str, ClaimNext]

    def claim_into(self, queue: str) -> ClaimNext | None:
        return self.claims.get(queue)


@dataclass
class Line:
    """One worker's parts, driven by hand: `step` claims one job of a queue and runs its attempt."""

    bull: Bull
    database: Database
    store: PostgresRuns
    runner: Runner
    heartbeat: Heartbeat
    reconciler: Reconciler
    stages: dict[str, Scripted]
    deadly: Deadly
    events: Events
    tokens: int = 0

    def script(self, stage: str, script: Script) -> Scripted:
        self.stages[stage] = Scripted(script)
        return self.stages[stage]

    async def add_upload(self, upload: str = "upload-1", **data: Any) -> str:
        payload = {"uploadId": upload, "merchantId": MERCHANT, "fileName": "order.csv", **data}
        envelope = {"workflowId": f"wf_{upload}", "stage": "ai_parsing", "data": payload}
        return (await self.bull.enqueue(flow.FIRST, NewJob(id=None, data=json.dumps(envelope), attempts=3))).id

    async def claim(self, queue: str, *, lease_ms: int = 60_000) -> ClaimedJob:
        self.tokens += 1
        claim = await self.bull.claim(queue, token=f"test:{id(self)}:{self.tokens}", lease_ms=lease_ms)
        assert isinstance(claim, ClaimedJob), f"{queue}: {claim}"
        return claim

    async def step(self, queue: str, **slots: ClaimNext) -> Settlement:
        return await self.runner.attempt(await self.claim(queue), FreeSlots(slots))

    async def walk(self, first: str = flow.FIRST, last: str = flow.IMAGES) -> None:
        names = flow.NAMES
        for queue in names[names.index(first) : names.index(last) + 1]:
            await self.step(queue)

    def worker(self, *, clock: Clock | None = None, **changed: Any) -> Worker:
        quick: dict[str, Any] = {"name": "test", "guard_s": 0.2, "stalled_s": 1, "retry_delay_s": 0.1}
        config = WorkerConfig(**(quick | changed))
        return Worker(
            bull=self.bull,
            events=self.events,
            runner=self.runner,
            heartbeat=self.heartbeat,
            reconciler=self.reconciler,
            pauses=self.store,
            clock=clock or SystemClock(),
            random=lambda: 0.0,
            config=config,
        )

    async def run_row(self, upload: str = "upload-1") -> RowMapping:
        async with self.database.transaction() as connection:
            found = await connection.execute(select(runs).where(runs.c.upload_id == upload))
            return found.mappings().one()

    async def journal(self, upload: str = "upload-1") -> list[tuple[str, int, int, str]]:
        run_id = (await self.run_row(upload))["id"]
        async with self.database.transaction() as connection:
            found = await connection.execute(
                select(stage_runs.c.stage, stage_runs.c.entry, stage_runs.c.attempt, stage_runs.c.state)
                .where(stage_runs.c.run_id == run_id)
                .order_by(stage_runs.c.started_at, stage_runs.c.attempt)
            )
            return [tuple(row) for row in found]


@asynccontextmanager
async def open_line(
    redis_url: str,
    database_url: str,
    *,
    max_stalls: int = 3,
    open_runs: int = ALL,
    clock: Clock | None = None,
    lease_s: float = 60,
    beat_s: float = 10,
    **of_connections: Any,
) -> AsyncIterator[Line]:
    clock = clock or SystemClock()
    database = Database(database_url)
    deadly = Deadly()
    try:
        async with open_connections(redis_url, clock, **of_connections) as connections:
            bull = Bull(connections.commands, leases=connections.leases, clock=clock)
            store = PostgresRuns(database, max_stalls=max_stalls, open_runs=open_runs)
            heartbeat = Heartbeat(bull, clock, every_s=beat_s, lease_s=lease_s)
            stages = {name: Scripted(_plain) for name in flow.NAMES}
            runner = Runner(
                bull=bull,
                runs=store,
                stages=stages,
                heartbeat=heartbeat,
                progress=Silent(),
                clock=clock,
                random=lambda: 0.0,
                worker="test",
                reach=deadly.reach,
            )
            reconciler = Reconciler(bull, store, clock, every_s=60, quiet_s=0)
            await add_merchant(database)
            yield Line(bull, database, store, runner, heartbeat, reconciler, stages, deadly, connections.events)
    finally:
        await database.close()


async def add_merchant(database: Database, merchant_id: str = MERCHANT) -> None:
    async with database.transaction() as connection:
        await connection.execute(
            insert(merchants)
            .values(id=merchant_id, name="Harbor & Pine", shop_domain=f"{merchant_id}.example")
            .on_conflict_do_nothing()
        )
