"""A shop that hangs, or is well again: what one process does, beyond what the client's tests show."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from structlog.testing import capture_logs

from app.adapters.shopify.alone import AloneLimits
from app.adapters.shopify.circuit import CALL_S, CROWDED_S, FAILURES_MAX, Circuit
from app.adapters.shopify.envelope import Away, Locked
from app.adapters.shopify.limits import COOL_DOWN_S, PARKED_S
from pipeline.errors import VendorUnavailable
from tests.app.adapters.shopify.test_client import FakeClock

DOWN = Away("HTTP 502")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def limits(clock: FakeClock) -> AloneLimits:
    return AloneLimits(clock)


@pytest.fixture
def circuit(limits: AloneLimits, clock: FakeClock) -> Circuit:
    return Circuit("m", "m.example", limits, clock)


async def test_of_calls_to_one_shop_only_one_may_take_its_time(circuit: Circuit) -> None:
    with ExitStack() as stack:
        allowed = [stack.enter_context(circuit.under_way()) for _ in range(3)]
    assert allowed == [CALL_S, CROWDED_S, CROWDED_S]
    with circuit.under_way() as allowed_s:
        assert allowed_s == CALL_S
    await circuit.away(DOWN)
    with circuit.under_way() as allowed_s:
        assert allowed_s == CROWDED_S, "it failed just now"
    await circuit.answered("ShopFacts")
    with circuit.under_way() as allowed_s:
        assert allowed_s == CALL_S


async def test_what_one_attempt_found_the_next_call_of_another_knows(circuit: Circuit, clock: FakeClock) -> None:
    for _ in range(FAILURES_MAX):
        circuit.check()
        await circuit.away(DOWN)
    with pytest.raises(VendorUnavailable, match="502") as raised:
        circuit.check()
    assert not raised.value.uncalled, "this attempt may have called it before"
    clock.at += COOL_DOWN_S
    circuit.check()


async def test_another_process_is_told_before_its_first_call(
    circuit: Circuit, limits: AloneLimits, clock: FakeClock
) -> None:
    other = Circuit("m", "m.example", limits, clock)
    await other.locked(Locked("connect it again"))
    with pytest.raises(VendorUnavailable, match="the shop is parked: connect it again") as raised:
        await circuit.enter()
    assert (raised.value.patient, raised.value.uncalled) == (True, True)
    await limits.unpark("m")
    await circuit.enter()
    circuit.check()


async def test_a_probe_that_fails_is_enough(circuit: Circuit, limits: AloneLimits, clock: FakeClock) -> None:
    await limits.trip("m", "down")
    clock.at += COOL_DOWN_S
    await circuit.enter()
    with circuit.under_way() as allowed_s:
        assert allowed_s == CROWDED_S, "a probe is quick"
    raised = await circuit.away(DOWN)
    assert raised.retry_after_s == 2 * COOL_DOWN_S


async def test_a_probe_that_succeeds_opens_it_for_all(circuit: Circuit, limits: AloneLimits, clock: FakeClock) -> None:
    await limits.park("m", "connect it again")
    clock.at += PARKED_S
    with capture_logs() as logs:
        await circuit.enter()
    assert [one["event"] for one in logs] == ["shop is tried again"]
    await circuit.answered("ShopFacts")
    assert (await limits.admit("m")).open


async def test_a_probe_goes_on_until_what_was_denied_works(
    circuit: Circuit, limits: AloneLimits, clock: FakeClock
) -> None:
    await circuit.locked(Locked("scope write_products", "CreateProduct"))
    clock.at += PARKED_S
    await circuit.enter()
    await circuit.answered("ShopFacts")
    assert (await limits.admit("m")).parked
    await circuit.answered("CreateProduct")
    assert (await limits.admit("m")).open


async def test_a_shop_that_is_well_is_asked_nothing_of_the_store(circuit: Circuit, limits: AloneLimits) -> None:
    limits.answered = None  # type: ignore[assignment, method-assign]  calling it would fail
    for _ in range(3):
        await circuit.answered("ShopFacts")
