"""Failures on order: the next N calls of an operation go wrong in a chosen way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel

Kind = Literal[
    "http_500",
    "http_429",
    "throttled",
    "unauthorized",
    "slow",
    "timeout_after_success",
    "error_502_after_success",
]

AFTER_SUCCESS: set[Kind] = {"timeout_after_success", "error_502_after_success"}
"""The worst kind: the effect has happened, and the caller is not told."""


class Fault(BaseModel):
    """One order; `operation` is a root field's name, or `*` for any."""

    operation: str = "*"
    kind: Kind
    count: int = 1
    seconds: float = 0.0
    """How long a slow call takes, and what a 429 names as Retry-After."""


@dataclass
class Faults:
    """The orders not yet used up, by shop; a restart forgets them."""

    ordered: dict[str, list[Fault]] = field(default_factory=dict)

    def order(self, domain: str, faults: list[Fault]) -> None:
        """Add to what will go wrong; an empty list clears it."""
        if not faults:
            self.ordered.pop(domain, None)
        self.ordered.setdefault(domain, []).extend(faults)

    def take(self, domain: str, operations: list[str]) -> Fault | None:
        """The fault that meets this call, counted down."""
        for fault in self.ordered.get(domain, []):
            if fault.count > 0 and (fault.operation == "*" or fault.operation in operations):
                fault.count -= 1
                return fault
        return None
