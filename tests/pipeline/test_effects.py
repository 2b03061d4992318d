"""The ledger: an effect happens once, and an intent without an answer is a question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from pipeline.effects import Answer, Ledger
from pipeline.errors import LeaseLost, VendorRefused, VendorUnavailable
from pipeline.ports import Effect
from tests.sandbox_shop import Effects, Killed, Killer, make_given


@dataclass
class Vendor:
    """Does a thing when called and remembers it; may keep its answer to itself."""

    done: list[Mapping[str, Any]] = field(default_factory=list)
    asked: list[Effect] = field(default_factory=list)
    failure: Exception | None = None

    async def call(self, parameters: Mapping[str, Any]) -> Answer:
        if not isinstance(self.failure, VendorRefused):
            self.done.append(parameters)
        if self.failure is not None:
            raise self.failure
        return {"id": len(self.done)}

    async def ask(self, effect: Effect) -> Answer | None:
        self.asked.append(effect)
        return {"id": len(self.done)} if self.done else None


@dataclass
class World:
    """A ledger's table, a vendor, and workers that come and go."""

    effects: Effects = field(default_factory=Effects)
    vendor: Vendor = field(default_factory=Vendor)

    async def attempt(self, killer: Killer | None = None, **parameters: Any) -> Answer:
        ledger = Ledger(self.effects, killer or Killer())
        return await ledger.once(
            make_given("any"), "key", parameters or {"n": 1}, call=self.vendor.call, ask=self.vendor.ask
        )


async def test_an_effect_happens_once_and_its_answer_is_kept() -> None:
    world = World()
    assert await world.attempt() == await world.attempt() == {"id": 1}
    assert len(world.vendor.done) == 1
    assert world.vendor.asked == []


@pytest.mark.parametrize(("at", "gap", "asked"), [(1, "intent", 1), (2, "vendor-call", 1), (3, "confirm", 0)])
async def test_killed_in_any_gap_the_effect_still_happens_once(at: int, gap: str, asked: int) -> None:
    world = World()
    with pytest.raises(Killed, match=gap):
        await world.attempt(Killer(at))
    assert await world.attempt() == {"id": 1}
    assert len(world.vendor.done) == 1
    assert len(world.vendor.asked) == asked


async def test_a_lost_answer_is_asked_for() -> None:
    world = World()
    world.vendor.failure = VendorUnavailable("no answer")
    with pytest.raises(VendorUnavailable):
        await world.attempt()
    world.vendor.failure = None
    assert await world.attempt() == {"id": 1}
    assert len(world.vendor.done) == 1


async def test_a_repeat_is_made_with_the_first_parameters() -> None:
    world = World()
    world.vendor.failure = VendorRefused("no")
    with pytest.raises(VendorRefused):
        await world.attempt(quantity=10)
    world.vendor.failure = None
    await world.attempt(quantity=12)
    assert world.vendor.done == [{"quantity": 10}]
    assert [dict(one.parameters) for one in world.vendor.asked] == [{"quantity": 10}]


async def test_the_lease_is_asked_just_before_the_call() -> None:
    world = World()

    def lost() -> None:
        raise LeaseLost

    given = replace(make_given("any"), still_ours=lost)
    with pytest.raises(LeaseLost):
        await Ledger(world.effects).once(given, "key", {}, call=world.vendor.call, ask=world.vendor.ask)
    assert world.vendor.done == []
    assert world.effects.rows["key"].state == "intent"
