"""Renewing: all leases in one call; only a refusal or the deadline is a loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
import redis

from app.connections import Connections
from pipeline.errors import RedisUnavailable
from pipeline.queue.bull import Bull
from pipeline.queue.heartbeat import Beat, Heartbeat
from pipeline.queue.job import Held, Retention
from tests.pipeline.queue.support import BASE, QUEUE, Claimer, Enqueuer, MovedClock

if TYPE_CHECKING:
    from pipeline.queue.bull import Commands


class Counted:
    """A real connection that counts its calls and can be told to be down."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self.runs = 0
        self.down = False

    async def call(self, *args: str | bytes | int) -> Any:
        return await self._commands.call(*args)

    async def run(self, *args: Any) -> Any:
        self.runs += 1
        if self.down:
            raise RedisUnavailable("down")
        return await self._commands.run(*args)


async def test_a_beat_renews_all_leases_in_one_call(
    connections: Connections, clock: MovedClock, raw: redis.Redis, enqueue: Enqueuer, claim: Claimer
) -> None:
    leases = Counted(connections.leases)
    heartbeat = Heartbeat(Bull(connections.commands, leases=leases, clock=clock), clock, every_s=30, lease_s=120)
    await enqueue("a", "b", "c")
    jobs = [await claim() for _ in range(3)]
    for job in jobs:
        heartbeat.hold(job)
    raw.sadd(BASE + "stalled", "a", "b", "c")
    clock.move(20)

    assert await heartbeat.run_once() == Beat(renewed=3, lost=0)
    assert leases.runs == 1
    assert raw.pttl(BASE + "a:lock") > 100_000
    assert raw.smembers(BASE + "stalled") == set()
    assert jobs[0].lease.remaining_s == pytest.approx(108)


@pytest.mark.breaks("endless_lock", reason="another holder's lock, set by hand")
async def test_a_refusal_is_a_loss_and_the_others_are_renewed(
    bull: Bull, clock: MovedClock, raw: redis.Redis, enqueue: Enqueuer, claim: Claimer
) -> None:
    heartbeat = Heartbeat(bull, clock, every_s=30, lease_s=120)
    await enqueue("a", "b")
    stolen, kept = await claim(), await claim()
    heartbeat.hold(stolen)
    heartbeat.hold(kept)
    raw.set(BASE + "a:lock", "worker:other")

    assert await heartbeat.run_once() == Beat(renewed=1, lost=1)
    assert stolen.lease.lost
    assert not kept.lease.lost
    assert await heartbeat.run_once() == Beat(renewed=1, lost=0)


async def test_an_error_is_no_loss_and_is_tried_again_quickly(
    connections: Connections, clock: MovedClock, enqueue: Enqueuer, claim: Claimer
) -> None:
    commands = Counted(connections.commands)
    heartbeat = Heartbeat(Bull(commands, clock=clock), clock, every_s=30, lease_s=120)
    await enqueue("a")
    job = await claim(lease_ms=120_000)
    heartbeat.hold(job)
    commands.down = True
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(heartbeat.run)
        await anyio.wait_all_tasks_blocked()
        assert not job.lease.lost
        commands.down = False
        clock.move(1)
        while commands.runs < 2 or job.lease.remaining_s < 107.5:
            await anyio.sleep(0.001)
        tasks.cancel_scope.cancel()
    assert job.lease.remaining_s == pytest.approx(108)


async def test_while_leases_is_down_renewal_goes_by_commands(
    connections: Connections, clock: MovedClock, raw: redis.Redis, enqueue: Enqueuer, claim: Claimer
) -> None:
    leases = Counted(connections.leases)
    leases.down = True
    bull = Bull(connections.commands, leases=leases, clock=clock)
    await enqueue("a")
    job = await claim(lease_ms=1_000)
    assert await bull.renew([Held(QUEUE, "a", job.token)], 60_000) == set()
    assert raw.pttl(BASE + "a:lock") > 50_000


async def test_a_lock_that_cannot_be_read_says_nothing_about_the_lease(
    bull: Bull, raw: redis.Redis, enqueue: Enqueuer, claim: Claimer
) -> None:
    await enqueue("a")
    job = await claim()
    raw.delete(BASE + "a:lock")
    raw.lpush(BASE + "a:lock", "?")
    assert await bull.renew([Held(QUEUE, "a", job.token)], 60_000) == set()
    raw.delete(BASE + "a:lock")
    assert await bull.renew([Held(QUEUE, "a", job.token)], 60_000) == {job.token}


async def test_a_beat_that_meets_a_job_just_settled_is_no_loss(
    bull: Bull, clock: MovedClock, enqueue: Enqueuer, claim: Claimer
) -> None:
    heartbeat = Heartbeat(bull, clock, every_s=30, lease_s=120)
    await enqueue("a")
    job = await claim()
    heartbeat.hold(job)
    await bull.finish(job, returnvalue="1", retention=Retention())
    assert (await heartbeat.run_once()).lost == 0
    assert not job.lease.lost


async def test_leases_are_renewed_when_redis_is_out_of_memory(
    bull: Bull, raw: redis.Redis, enqueue: Enqueuer, claim: Claimer
) -> None:
    await enqueue("a")
    job = await claim(lease_ms=1_000)
    raw.config_set("maxmemory", 1)
    try:
        with pytest.raises(RedisUnavailable, match="OOM"):
            await bull.claim(QUEUE, token="w", lease_ms=1)
        assert await bull.renew([Held(QUEUE, "a", job.token)], 60_000) == set()
        assert (await bull.sweep([QUEUE], guard_ms=1, stalled_interval_ms=1)).queues[QUEUE].active == 1
    finally:
        raw.config_set("maxmemory", 0)
    assert raw.pttl(BASE + "a:lock") > 50_000


async def test_a_dropped_job_is_left_alone(bull: Bull, clock: MovedClock, enqueue: Enqueuer, claim: Claimer) -> None:
    heartbeat = Heartbeat(bull, clock, every_s=30, lease_s=120)
    await enqueue("a")
    job = await claim()
    heartbeat.hold(job)
    heartbeat.drop(job)
    await bull.release(job)
    assert await heartbeat.run_once() == Beat(renewed=0, lost=0)
    assert not job.lease.lost
