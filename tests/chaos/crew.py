"""Workers of the queues alone, ours and Bull's, each a process that can be killed; every run is counted in Redis.

Ours has all the roles of `pipeline.worker` around attempts that only count themselves, work for a while and hand on:
what an attempt means to Postgres is tested elsewhere, and there a job that Node has completed means nothing.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Protocol, cast

import anyio
import redis.asyncio

from app.connections import open_connections
from pipeline import flow
from pipeline.clock import SystemClock
from pipeline.errors import LeaseLost
from pipeline.queue.bull import Bull
from pipeline.queue.heartbeat import Heartbeat
from pipeline.queue.job import ClaimedJob, NewJob, Retention, Successor
from pipeline.reconciler import Reconciler
from pipeline.run_store import DueRun, NextJob
from pipeline.runner import Runner
from pipeline.settling import NoSlots, Outcome, Settlement, Slots
from pipeline.solitude import Solitude
from pipeline.worker import Worker, WorkerConfig
from tests.chaos.doomed import CONTEXT
from tests.conformance.oracle import INTEROP

CHAIN = flow.NAMES[:3]
"""A job is handed on from queue to queue."""


@dataclass(frozen=True, slots=True)
class Beat:
    """How quick both sides are, in seconds: the lease, its renewal, the check for stalled jobs, the sweep.

    Bull pops a job and locks it in a second call. Who waits there for longer than from one check to the next, as Node
    does on a starved machine, loses the job and runs it all the same: the check must not be as quick as the rest.
    """

    lease_s: float = 4.0
    renew_s: float = 0.8
    stalled_s: float = 4.0
    guard_s: float = 0.25

    def for_bull(self) -> dict[str, Any]:
        return {
            "lockDuration": self.lease_s * 1000,
            "lockRenewTime": self.renew_s * 1000,
            "stalledInterval": self.stalled_s * 1000,
            "guardInterval": self.guard_s * 1000,
            "drainDelay": 1,
            "retryProcessDelay": 200,
            "maxStalledCount": 1000,  # both sides must agree (wire spec, rule 10), and ours never fails a job for it
        }


def job_of(chain: str, *, ms: Iterable[int], queues: int = len(CHAIN)) -> NewJob:
    """The first job of a chain; the ids of the others follow from it."""
    ids = [f"{chain}-{step}" for step in range(queues)]
    return NewJob(id=ids[0], data=json.dumps({"ms": list(ms), "next": ids[1:]}))


class Process(Protocol):
    """One worker of the crew."""

    name: str

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""


class BullProcess:
    """Node with npm bull."""

    def __init__(self, node: str, redis_url: str, name: str, beat: Beat) -> None:
        self.name = name
        given = {"queues": {queue: flow.BY_NAME[queue].concurrency for queue in CHAIN}, "settings": beat.for_bull()}
        self._process = subprocess.Popen([node, INTEROP / "worker.js", redis_url, name, json.dumps(given)])

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class OurProcess:
    """Our worker, forked from the warm server."""

    def __init__(self, redis_url: str, name: str, beat: Beat, queues: tuple[str, ...] = CHAIN) -> None:
        self.name = name
        self._process = CONTEXT.Process(target=_crew, args=(redis_url, name, asdict(beat), queues), daemon=True)
        self._process.start()

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


@contextmanager
def all_killed() -> Iterator[list[Process]]:
    """What is put into the list does not outlive the block."""
    crew: list[Process] = []
    with ExitStack() as stack:
        stack.callback(lambda: [process.kill() for process in crew])
        yield crew


# ------------------------------------------------------------------------------------- inside the process


def _crew(redis_url: str, name: str, beat: dict[str, float], queues: tuple[str, ...]) -> None:
    sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 the process ends by kill -9
    anyio.run(_work, redis_url, name, Beat(**beat), queues)


async def _work(redis_url: str, name: str, beat: Beat, queues: tuple[str, ...]) -> None:
    clock = SystemClock()
    async with open_connections(redis_url, clock) as connections, redis.asyncio.Redis.from_url(redis_url) as counting:
        bull = Bull(connections.commands, leases=connections.leases, clock=clock)
        heartbeat = Heartbeat(bull, clock, every_s=beat.renew_s, lease_s=beat.lease_s)
        worker = Worker(
            bull=bull,
            events=connections.events,
            runner=cast("Runner", Counting(name, bull, heartbeat, counting)),
            heartbeat=heartbeat,
            reconciler=Reconciler(bull, NobodyDue(), clock, every_s=60, quiet_s=60),
            pauses=NobodyDue(),
            clock=clock,
            random=random.random,
            config=WorkerConfig(
                name=name,
                stages=queues,
                lease_s=beat.lease_s,
                guard_s=beat.guard_s,
                stalled_s=beat.stalled_s,
                retry_delay_s=0.2,
            ),
        )
        await worker.run()


class Counting:
    """In the runner's place: an attempt is counted, takes its time, and is finished and handed on in one call."""

    def __init__(self, name: str, bull: Bull, heartbeat: Heartbeat, counting: redis.asyncio.Redis) -> None:
        self.solitude = Solitude()
        self._name = name
        self._bull = bull
        self._heartbeat = heartbeat
        self._counting = counting

    async def attempt(self, job: ClaimedJob, slots: Slots | None = None) -> Settlement:
        self._heartbeat.hold(job)
        try:
            data = json.loads(job.data or "")
            runs = await cast("Any", self._counting.rpush(f"po:ran:{job.id}", self._name))
            await anyio.sleep(data["ms"][min(runs, len(data["ms"])) - 1] / 1000)
            job.lease.check()
            return await self._finish(job, data, slots or NoSlots())
        except LeaseLost:
            return Settlement(Outcome.LOST)
        finally:
            self._heartbeat.drop(job)

    async def _finish(self, job: ClaimedJob, data: dict[str, Any], slots: Slots) -> Settlement:
        claim_next = slots.claim_into(job.queue)
        successor = None
        if data["next"]:
            job_id, *rest = data["next"]
            queue = CHAIN[CHAIN.index(job.queue) + 1]
            following = NewJob(id=job_id, data=json.dumps(data | {"next": rest}))
            successor = Successor(queue, following, slots.claim_into(queue))
        reply = await self._bull.finish(
            job,
            returnvalue=json.dumps({"by": self._name}),
            retention=Retention(age_s=3600),
            successor=successor,
            claim_next=claim_next,
        )
        return Settlement(Outcome.FINISHED, reply)


class NobodyDue:
    """Postgres' part: no run waits for a job, and nothing is paused."""

    async def list_due(self, **_given: Any) -> list[DueRun]:
        return []

    async def is_due(self, _job: NextJob) -> bool:
        return False

    async def list_turns(self, _run_id: str | None = None) -> list[DueRun]:
        return []

    async def list_paused(self) -> frozenset[str]:
        return frozenset()
