"""The effect ledger: what was meant to happen in the outside world, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Effect:
    """One intended change in the outside world. `external` is the vendor's answer once confirmed.

    `fresh` is true when this very call wrote the intent: only then is it certain that nothing was sent.
    """

    key: str
    state: str
    parameters: Mapping[str, Any]
    external: Mapping[str, Any]
    intended_at: datetime
    fresh: bool


class EffectStore(Protocol):
    """The ledger's table. Both writes are fenced: a stale worker gets LeaseLost."""

    async def find(self, key: str) -> Effect | None:
        """What stands there under that key, None if nothing does."""
        ...

    async def intend(self, run: str, fence: int, key: str, parameters: Mapping[str, Any]) -> Effect:
        """Write the intent, or return what stands there already (with its first parameters).

        Raises AnothersTurn while another run does the same; and where `parameters` has `looked_at` (see
        `pipeline.shopkeeping.products.creation`), for an article that another run of the merchant is about to bring
        into the shop, or has brought there as a product that is not among those.
        """
        ...

    async def confirm(self, run: str, fence: int, key: str, external: Mapping[str, Any]) -> None:
        """Write the vendor's answer beside the intent."""
        ...
