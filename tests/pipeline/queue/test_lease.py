"""The lease as its holder sees it: gone before anyone else may start."""

from __future__ import annotations

import anyio
import pytest

from pipeline.errors import LeaseLost
from pipeline.queue.lease import Lease
from tests.pipeline.queue.support import MovedClock


def lease_of(clock: MovedClock, *, lease_s: float = 100) -> Lease:
    return Lease("w:1", clock, sent_at=clock.monotonic(), lease_s=lease_s)


def test_it_ends_a_margin_before_the_lock_does(clock: MovedClock) -> None:
    lease = lease_of(clock)
    clock.move(89)
    lease.check()
    clock.move(1)
    with pytest.raises(LeaseLost):
        lease.check()


def test_it_counts_from_before_the_renewal_was_sent(clock: MovedClock) -> None:
    lease = lease_of(clock)
    clock.move(30)
    sent_at = clock.monotonic()
    clock.move(20)  # a slow round trip
    lease.renewed(sent_at)
    assert lease.remaining_s == pytest.approx(70)


def test_a_late_renewal_does_not_bring_it_back(clock: MovedClock) -> None:
    lease = lease_of(clock)
    clock.move(95)
    lease.renewed(clock.monotonic())
    assert lease.lost


def test_revoked_is_lost_at_once(clock: MovedClock) -> None:
    lease = lease_of(clock)
    lease.revoke()
    assert (lease.lost, lease.remaining_s) == (True, 0)


async def test_waiting_for_the_loss_ends_with_a_refusal(clock: MovedClock) -> None:
    lease = lease_of(clock)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lease.wait_lost)
        await anyio.wait_all_tasks_blocked()
        lease.revoke()


async def test_waiting_for_the_loss_follows_a_deadline_that_was_moved(clock: MovedClock) -> None:
    lease = lease_of(clock)
    over = anyio.Event()

    async def wait() -> None:
        await lease.wait_lost()
        over.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        clock.move(60)
        lease.renewed(clock.monotonic())
        clock.move(60)
        await anyio.wait_all_tasks_blocked()
        assert not over.is_set()
        clock.move(30)
        await over.wait()
