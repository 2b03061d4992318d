"""A crashed worker's jobs run again within its lease and one check, whenever it dies."""

from __future__ import annotations

import random
from statistics import median

import anyio
import redis

from app.connections import open_connections
from pipeline import flow
from pipeline.clock import SystemClock
from pipeline.queue.bull import Bull
from tests.chaos.crew import Beat, OurProcess, all_killed, job_of
from tests.chaos.watching import until
from tests.support import CHAOS_IN_FULL

QUEUES = flow.NAMES[:6]
ROUNDS = 6 if CHAOS_IN_FULL else 1
BEAT = Beat(lease_s=3.0, renew_s=0.75, stalled_s=1.5, guard_s=0.125)
"""Of the proportions of the defaults: 120 s, 30 s, 60 s, 5 s."""
FOR_EVER_MS = 3_600_000
SEED = 20261125


async def test_the_jobs_of_a_crashed_worker_run_again_once_its_lease_is_over(
    redis_url: str, redis_admin: redis.Redis, fork_server: None
) -> None:
    """Six workers at a time die at random moments of their beat and of the checks; another takes their jobs."""
    chance = random.Random(SEED)
    took_s = [took for number in range(ROUNDS) for took in await crash(f"r{number}", redis_url, redis_admin, chance)]
    print(
        f"{len(took_s)} killed: ran again after {min(took_s):.2f} / {median(took_s):.2f} / {max(took_s):.2f} s "
        f"(least, median, most) of {BEAT.lease_s:g} s lease + {BEAT.stalled_s:g} s check"
    )


async def crash(name: str, redis_url: str, admin: redis.Redis, chance: random.Random) -> list[float]:
    """Kill one worker per queue; return for how many seconds each one's job was away."""
    took_s: list[float] = []
    jobs = {queue: f"{name}-{queue}-0" for queue in QUEUES}

    async def kill(doomed: OurProcess, queue: str) -> None:
        await anyio.sleep(chance.uniform(0, BEAT.renew_s + BEAT.stalled_s))
        killed_at = anyio.current_time()
        doomed.kill()
        await until(lambda: ran(admin, jobs[queue], 2), every_s=0.01)
        took_s.append(anyio.current_time() - killed_at)

    with all_killed() as crew:
        doomed = [OurProcess(redis_url, f"doomed-{queue}", BEAT, (queue,)) for queue in QUEUES]
        crew.extend(doomed)
        async with open_connections(redis_url, SystemClock()) as connections:
            for queue in QUEUES:
                job = job_of(f"{name}-{queue}", ms=[FOR_EVER_MS, 0], queues=1)
                await Bull(connections.commands).enqueue(queue, job)
        for job_id in jobs.values():
            await until(lambda job_id=job_id: ran(admin, job_id, 1))
        crew.append(OurProcess(redis_url, "survivor", BEAT, QUEUES))
        async with anyio.create_task_group() as tasks:
            for process, queue in zip(doomed, QUEUES, strict=True):
                tasks.start_soon(kill, process, queue)
        for queue, job_id in jobs.items():
            await until(lambda queue=queue, job_id=job_id: completed(admin, queue, job_id))
            assert admin.lrange(f"po:ran:{job_id}", 0, -1) == [f"doomed-{queue}", "survivor"]
            assert admin.hmget(f"bull:{queue}:{job_id}", "attemptsMade", "stalledCounter") == [None, "1"]
    return took_s


async def ran(admin: redis.Redis, job_id: str, times: int) -> bool:
    return bool(admin.llen(f"po:ran:{job_id}") >= times)


async def completed(admin: redis.Redis, queue: str, job_id: str) -> bool:
    return admin.zscore(f"bull:{queue}:completed", job_id) is not None
