"""The one way to change the outside world: intent, call, confirm.

The intent is written before the call, the answer after it. If the process dies between the two, the next
attempt finds an intent without an answer: that is a *question* to the vendor ("did it happen?"), never a
second call on a guess.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pipeline.contract import StageInput
from pipeline.ports import Effect, EffectStore

Answer = Mapping[str, Any]
"""What the vendor said, as JSON: ids to find the thing again."""

Reach = Callable[[str], None]
"""Called at each named gap between two writes; tests kill the process there."""


def _nowhere(_gap: str) -> None:
    """Production: every gap is just passed."""


class Ledger:
    """Does each effect once, across crashes and replays."""

    def __init__(self, store: EffectStore, reach: Reach = _nowhere) -> None:
        self._store = store
        self._reach = reach

    async def find(self, key: str) -> Effect | None:
        """What stands in the ledger under that key, whoever wrote it."""
        return await self._store.find(key)

    async def intend(self, given: StageInput, key: str, parameters: Mapping[str, Any]) -> Effect:
        """Only write the intent: for effects that one request brings about together, each confirmed by `once` later."""
        return await self._store.intend(given.run.id, given.run.fence, key, parameters)

    async def once(
        self,
        given: StageInput,
        key: str,
        parameters: Mapping[str, Any],
        *,
        call: Callable[[Mapping[str, Any]], Awaitable[Answer]],
        ask: Callable[[Effect], Awaitable[Answer | None]],
    ) -> Answer:
        """Return the vendor's answer to the effect named `key`, making the call only if it never happened.

        `call` is given the *first* parameters written for this key, so that a repeat is the same request byte
        for byte (Shopify compares the variables of an idempotency key). `ask` is given the intent as it was
        first written: a vendor that remembers keys for a day is asked by its age. It returns the answer if
        the vendor has it, None if calling (again) is certainly safe.
        """
        run, fence = given.run.id, given.run.fence
        effect = await self._store.intend(run, fence, key, parameters)
        self._reach("intent")
        if effect.state == "confirmed":
            return effect.external
        answer = None if effect.fresh else await ask(effect)
        if answer is None:
            given.still_ours()
            answer = await call(effect.parameters)
        self._reach("vendor-call")
        await self._store.confirm(run, fence, key, answer)
        self._reach("confirm")
        return answer

    async def decide(
        self,
        given: StageInput,
        key: str,
        parameters: Mapping[str, Any],
        judge: Callable[[Mapping[str, Any]], Answer],
    ) -> tuple[Answer, bool]:
        """What was decided under `key`, and whether that was in an earlier attempt.

        A decision changes nothing outside. Until its answer is written nothing was done by it, so whoever dies before
        leaves no question: the next attempt judges again, from the first parameters and what it sees itself.
        """
        effect = await self._store.intend(given.run.id, given.run.fence, key, parameters)
        if effect.state == "confirmed":
            return effect.external, True
        answer = judge(effect.parameters)
        await self._store.confirm(given.run.id, given.run.fence, key, answer)
        return answer, False
