"""Bull's workers and ours on the same queues, killed at random: every job runs, and is completed once."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Thread

import anyio
import pytest
import redis

from app.connections import open_connections
from app.consumers import foreign_consumers
from app.core import open_core
from pipeline import flow
from pipeline.clock import SystemClock
from pipeline.queue.bull import Bull
from tests.chaos.crew import CHAIN, Beat, BullProcess, OurProcess, Process, all_killed, job_of
from tests.chaos.watching import check_nothing_counted, until
from tests.conformance.oracle import Node
from tests.shop import articles, check_once, connect_merchant, csv_of, settings_for, settled, submit, working
from tests.support import CHAOS_IN_FULL

pytestmark = pytest.mark.interop

CHAINS = 1500 if CHAOS_IN_FULL else 120
KILLS = 40 if CHAOS_IN_FULL else 6
WORK_MS = (20, 300)
SEED = 20261125


@pytest.mark.parametrize("kills", [0, KILLS])
async def test_in_a_mixed_fleet_every_job_runs_and_only_what_a_killed_process_held_runs_again(
    kills: int, redis_url: str, redis_admin: redis.Redis, node: Node, node_program: str, fork_server: None
) -> None:
    chance = random.Random(SEED)
    names = itertools.count()
    ids = {f"c{number}-{step}" for number in range(CHAINS) for step in range(len(CHAIN))}
    killed: set[str] = set()

    def start(kind: str) -> Process:
        name = f"{kind}-{next(names)}"
        if kind == "bull":
            return BullProcess(node_program, redis_url, name, Beat())
        return OurProcess(redis_url, name, Beat())

    await add_chains(redis_url, node, chance)
    with completions(redis_admin) as completed, all_killed() as crew:
        crew += [start(kind) for kind in ("bull", "ours", "bull", "ours")]
        for kill in range(1, kills + 1):
            await until(lambda kill=kill: is_done(redis_admin, len(ids) * kill // (kills + 1)), within_s=120)
            await anyio.sleep(chance.uniform(0, 0.1))
            place = chance.randrange(len(crew))
            crew[place].kill()
            killed.add(crew[place].name)
            crew[place] = start(chance.choice(["bull", "ours"]))
        await until(lambda: is_done(redis_admin, len(ids)), within_s=120)
    runs = {job_id: redis_admin.lrange(f"po:ran:{job_id}", 0, -1) for job_id in ids}
    assert completed == dict.fromkeys(ids, 1)
    check_all_is_over(redis_admin, ids)
    again = {job_id: ran for job_id, ran in runs.items() if len(ran) > 1}
    assert [ran for ran in again.values() if not killed.issuperset(ran[:-1])] == []
    # A process may die twice with the same job; then two have held it.
    assert all(len(ran) == len(set(ran)) for ran in runs.values())
    done_by, died = sides(ran[-1] for ran in runs.values()), sides(killed)
    assert set(done_by) == {"bull", "ours"} == (set(died) or set(done_by))
    print(f"{len(ids)} jobs, done by {dict(done_by)}, killed {dict(died)}, {len(again)} ran again, 0 completed twice")


async def test_what_upstreams_own_processors_swallowed_is_done_once_they_are_gone(
    redis_url: str, database_url: str, sandbox: str, node: Node
) -> None:
    """They complete our jobs and do nothing of ours. What is due stands in Postgres, so no order is lost by it."""
    orders = [articles(number) for number in range(3)]
    settings = settings_for(
        redis_url,
        database_url,
        sandbox,
        lease_seconds=2,
        heartbeat_seconds=0.4,
        stalled_seconds=0.5,
        reconcile_seconds=1,
    )
    async with open_core(settings) as core:
        await connect_merchant(core, sandbox)
        await node.process(flow.FIRST)
        for number, lines in enumerate(orders):
            await submit(core, f"order-{number}.csv", csv_of(f"PO-{number}", lines))
        await until(lambda: swallowed(node, len(orders)))
        [named] = await foreign_consumers(core.connections.commands, "bull", flow.NAMES)
        assert named.startswith(flow.FIRST)
        await node.forget()
        async with working(settings):
            found = await settled(core, len(orders))
        assert {row.state for row in found} == {"completed"}
        await check_once(core, sandbox, orders)
        await check_nothing_counted(core)


async def swallowed(node: Node, count: int) -> bool:
    return len(node.ran) >= count


def sides(names: Iterable[str]) -> Counter[str]:
    return Counter(name.partition("-")[0] for name in names)


async def add_chains(redis_url: str, node: Node, chance: random.Random) -> None:
    """Every other chain is begun by Node."""
    jobs = [job_of(f"c{number}", ms=[chance.randint(*WORK_MS)]) for number in range(CHAINS)]
    rows = [{"data": json.loads(job.data), "opts": {"jobId": job.id}} for job in jobs[::2]]
    await node.queue(CHAIN[0], "addBulk", rows)
    async with open_connections(redis_url, SystemClock()) as connections:
        bull = Bull(connections.commands)
        for job in jobs[1::2]:
            await bull.enqueue(CHAIN[0], job)


@contextmanager
def completions(admin: redis.Redis) -> Iterator[Counter[str]]:
    """How often each job was said to be completed: filled when the block has ended."""
    told: Counter[str] = Counter()
    with admin.pubsub() as listener:
        channels = [f"bull:{queue}:completed" for queue in CHAIN]
        listener.subscribe(*channels, "po:the-end")

        def listen() -> None:
            for message in listener.listen():
                if message["channel"] == "po:the-end" and message["type"] == "message":
                    return
                if message["type"] == "message":
                    told[json.loads(message["data"])["jobId"]] += 1

        listening = Thread(target=listen, name="completions")
        listening.start()
        try:
            yield told
        finally:
            admin.publish("po:the-end", "")
            listening.join()


async def is_done(admin: redis.Redis, count: int) -> bool:
    return sum(admin.zcard(f"bull:{queue}:completed") for queue in CHAIN) >= count


def check_all_is_over(admin: redis.Redis, ids: set[str]) -> None:
    """Every job is completed, and in no other place; none was a failure."""
    done = [job_id for queue in CHAIN for job_id in admin.zrange(f"bull:{queue}:completed", 0, -1)]
    assert (len(done), set(done)) == (len(ids), ids)
    for queue in CHAIN:
        base = f"bull:{queue}:"
        left = [admin.llen(base + "wait"), admin.llen(base + "active"), admin.zcard(base + "delayed")]
        assert (left, admin.zcard(base + "failed")) == ([0, 0, 0], 0), queue
