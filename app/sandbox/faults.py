"""Failures on order: the next N calls of an operation go wrong in a chosen way.

Each kind names its fact: [D] Shopify's documentation, [C] captured answers, [J] what any server on the internet does.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel

Kind = Literal[
    # Before anything is executed.
    "unauthorized",  # 401 whose `errors` is a string [C]: the token is wrong, or the app was uninstalled
    "http_402",  # the shop is frozen for an unpaid bill [D]
    "http_403",  # the app may not use this shop at all [D]
    "http_404",  # there is no shop at this address any more [D]
    "http_423",  # the shop is locked, for fraud or too many requests [D]
    "http_429",  # a limit that is not points, with Retry-After `seconds`: hours for 1,000 new variants a day [D]
    "http_500",  # Shopify's own fault [D]
    "http_502",  # something before Shopify could not reach it [J]
    "http_503",  # overloaded, with Retry-After `seconds` if there are any [D]
    "html",  # 200 and a page: something between us and Shopify answered [J]
    "throttled",  # 200 without data, code THROTTLED [C]
    "internal_error",  # 200, data null, code INTERNAL_SERVER_ERROR [C]
    "access_denied",  # 200, data null, code ACCESS_DENIED with the scope in words [C]
    "max_cost",  # 200 without data: a query of more than 1,000 points [D]
    "slow",  # answers rightly after `seconds` [J]
    "hang",  # no answer within `seconds`, then a broken connection [J]
    # After it was executed: the effect has happened, and the caller is not told.
    "timeout_after_success",
    "error_502_after_success",
    "refused",  # 200 with one user error of `code`, and nothing is written [C]
    # After it was executed, half told: `data` and `errors` together (GraphQL specification, 7.1.2).
    "partial_error",
]

AFTER_SUCCESS: frozenset[Kind] = frozenset({"timeout_after_success", "error_502_after_success", "partial_error"})

STATUSES: dict[Kind, tuple[int, str]] = {
    "unauthorized": (401, "[API] Invalid API key or access token (unrecognized login or wrong password)"),
    "http_402": (402, "Unavailable Shop"),
    "http_403": (403, "Forbidden"),
    "http_404": (404, "Not Found"),
    "http_423": (423, "Locked"),
    "http_429": (429, "Too Many Requests"),
    "http_500": (500, "Internal Server Error"),
    "http_502": (502, "Bad Gateway"),
    "http_503": (503, "Service Unavailable"),
}
"""HTTP's own no: the status, and what `errors` says, as a string [C]."""


class Fault(BaseModel):
    """One order; `operation` is a root field's name, or `*` for any."""

    operation: str = "*"
    kind: Kind
    count: int = 1
    code: str = "INVALID_INPUT"
    """What a refused mutation's one user error says; nothing is written."""
    seconds: float = 0.0
    """How long a slow call takes or one hangs, and what a 429 or 503 names as Retry-After."""


@dataclass
class Faults:
    """The orders not yet used up, by shop; a restart forgets them."""

    ordered: dict[str, list[Fault]] = field(default_factory=dict)
    met: Counter[str] = field(default_factory=Counter)
    """How many calls went wrong, by shop."""

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
                self.met[domain] += 1
                return fault
        return None


def refusal(kind: Kind, operations: list[str]) -> dict[str, Any] | None:
    """The GraphQL layer's no for this kind, None where it has none: HTTP 200, and nothing was executed."""
    nothing = {"data": dict.fromkeys(operations)}
    if kind == "internal_error":
        return {**nothing, "errors": [_error("Internal error. Looks like something went wrong on our end.", kind)]}
    if kind == "access_denied":
        scope = "`write_products` access scope."
        message = f"Access denied for {operations[0]} field. Required access: {scope}"
        return {**nothing, "errors": [_error(message, kind, requiredAccess=scope)]}
    if kind == "max_cost":
        return {"errors": [_error("Query cost is 1001, which exceeds the single query max cost limit (1000).", kind)]}
    return None


def half_told(envelope: dict[str, Any], operations: list[str]) -> dict[str, Any]:
    """What was executed, with an error of one part of the answer beside it."""
    error = {**_error("Internal error while reading the result.", "internal_error"), "path": [*operations[:1], "x"]}
    return {**envelope, "errors": [*envelope.get("errors", ()), error]}


def _error(message: str, kind: Kind, **extensions: Any) -> dict[str, Any]:
    codes = {
        "internal_error": "INTERNAL_SERVER_ERROR",
        "access_denied": "ACCESS_DENIED",
        "max_cost": "MAX_COST_EXCEEDED",
    }
    return {"message": message, "extensions": {"code": codes[kind], **extensions}}
