"""The lease as its holder sees it: gone before anyone else may start."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import LeaseLost
from pipeline.queue.lease import MARGIN, Lease
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


# ------------------------------------------------------------------- belief and lock, on two clocks that disagree

LEASE_S = 100.0


@dataclass
class Server:
    """Redis' side of one lock, on the server's own clock. Once over, somebody else has it for good."""

    locked_until: float

    def renew(self, at: float) -> bool:
        if at >= self.locked_until:
            return False
        self.locked_until = at + LEASE_S
        return True


@dataclass
class Drifting(MovedClock):
    """The holder's clock: the server's times `rate`. `at` is the server's time now."""

    rate: float
    at: float = field(default=0.0)

    def monotonic(self) -> float:
        return self.at * self.rate


@dataclass(frozen=True)
class Renewal:
    """One beat: a pause before it (a frozen process makes a long one), then its way there and back."""

    pause_s: float
    there_s: float
    back_s: float
    fate: Literal["answered", "lost on the way there", "lost on the way back"]


short, long = st.floats(0, 25), st.floats(25, 150)
seconds = st.one_of(st.just(0.0), short, short, long)
renewals = st.builds(
    Renewal,
    pause_s=seconds,
    there_s=seconds,
    back_s=seconds,
    fate=st.sampled_from(["answered", "answered", "lost on the way there", "lost on the way back"]),
)


@given(
    rate=st.one_of(st.just(1 - MARGIN), st.floats(1 - MARGIN, 1 + MARGIN)),
    claimed=renewals,
    schedule=st.lists(renewals, max_size=12),
)
def test_the_holder_never_believes_in_a_lock_that_is_over(
    rate: float, claimed: Renewal, schedule: list[Renewal]
) -> None:
    """Whatever is late, lost or frozen, and though the holder's clock is slower than the server's by the margin."""
    clock = Drifting(rate)
    sent_at = clock.monotonic()
    clock.at += claimed.there_s
    server = Server(locked_until=clock.at + LEASE_S)
    clock.at += claimed.back_s
    lease = Lease("w:1", clock, sent_at=sent_at, lease_s=LEASE_S)
    check_belief(lease, clock, server)
    for renewal in schedule:
        clock.at += renewal.pause_s
        check_belief(lease, clock, server)
        sent_at = clock.monotonic()
        clock.at += renewal.there_s
        if renewal.fate == "lost on the way there":
            continue
        ours = server.renew(clock.at)
        clock.at += renewal.back_s
        if renewal.fate == "lost on the way back":
            continue
        if ours:
            lease.renewed(sent_at, LEASE_S)
        else:
            lease.revoke()
        check_belief(lease, clock, server)


def check_belief(lease: Lease, clock: Drifting, server: Server) -> None:
    """Who believes now is right, and would still be right at the last moment of believing."""
    if lease.lost:
        return
    assert clock.at < server.locked_until
    assert lease.deadline / clock.rate <= server.locked_until + 1e-9
