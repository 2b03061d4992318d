"""What an answer means: Shopify's three layers of no, on any HTTP status, as one outcome. Pure.

    HTTP status      401, 402, 403, 404, 423 -> Locked       429, 5xx -> Away       other but 200 -> Refused
    errors[]         ACCESS_DENIED -> Locked                  THROTTLED -> Throttled
                     INTERNAL_SERVER_ERROR .. -> Away         any other -> Refused
    userErrors[]     IDEMPOTENCY_CONCURRENT_REQUEST .. -> Away          any other -> Refused

Shopify answers HTTP 200 to the last two layers, so all three are looked at every time (integrations.md B). Errors
beside `data` count as errors: what is missing from that data is unknown. Source of the shapes: captured responses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

from pipeline.errors import Problem

NEEDS_A_PERSON = {
    401: "the shop refused the access token: connect the shop again",
    402: "the shop is frozen for an unpaid bill",
    403: "the shop denied access to the app: check that it is installed with all its scopes",
    404: "there is no shop at this address",
    423: "the shop is locked",
}
_PASSING_ERRORS = frozenset({"INTERNAL_SERVER_ERROR", "TIMEOUT", "SERVICE_UNAVAILABLE"})
_PASSING_USER_ERRORS = {"IDEMPOTENCY_CONCURRENT_REQUEST": 2.0, "SERVICE_UNAVAILABLE": 10.0}
"""Codes that pass by themselves, with the seconds after which asking again makes sense."""

_QUOTED_MAX = 1000
"""Characters of a vendor's sentence that we repeat; a proxy may answer with a page."""


@dataclass(frozen=True, slots=True)
class Answered:
    """It was done, and this is the `data`."""

    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Throttled:
    """Certainly not done: the bucket did not hold the requested points."""


@dataclass(frozen=True, slots=True)
class Away:
    """It may or may not have been done.

    "fails": the shop does not work. "limits": 429, a limit of another kind than points. "busy": a request like this
    one is still being worked on.
    """

    reason: str
    retry_after_s: float | None = None
    kind: Literal["fails", "limits", "busy"] = "fails"


@dataclass(frozen=True, slots=True)
class Locked:
    """Nothing works, or with `operation` nothing of that name, until a person changes something at the shop."""

    reason: str
    operation: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """Understood and refused, wholly or in part: every problem the shop named."""

    problems: tuple[Problem, ...]

    @property
    def code(self) -> str:
        """The first problem's."""
        return self.problems[0].code


Outcome = Answered | Throttled | Away | Locked | Refused


def outcome_of(operation: str, status: int, body: Any, retry_after_s: float | None = None) -> Outcome:
    """The meaning of one answer. `body` is the parsed JSON, None where it was none."""
    if status in NEEDS_A_PERSON:
        return Locked(NEEDS_A_PERSON[status])
    if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        reason = f"{operation}: the shop answered HTTP {status}{_said(body)}"
        return Away(reason, retry_after_s, "limits" if status == HTTPStatus.TOO_MANY_REQUESTS else "fails")
    if status != HTTPStatus.OK:
        return Refused((Problem(f"http_{status}", (), f"{operation}: the shop answered HTTP {status}{_said(body)}"),))
    if not isinstance(body, dict):
        # Something between us and Shopify answered; whether the request arrived is open.
        return Away(f"{operation}: the answer is not GraphQL")
    return _of_errors(operation, body) or _of_data(operation, body.get("data"))


def _of_errors(operation: str, body: Mapping[str, Any]) -> Outcome | None:
    """The second layer: of several errors the one that says most about what to do next."""
    problems = tuple(_errors(body))
    codes = [problem.code for problem in problems]
    if "ACCESS_DENIED" in codes:
        return Locked(problems[codes.index("ACCESS_DENIED")].message, operation)
    if "THROTTLED" in codes:
        return Throttled()
    passing = next((one for one in problems if one.code in _PASSING_ERRORS), None)
    if passing is not None:
        return Away(f"{operation}: {passing.message}")
    return Refused(problems) if problems else None


def _of_data(operation: str, data: Any) -> Outcome:
    if not isinstance(data, dict):
        return Away(f"{operation}: the answer has no data")
    problems = tuple(problem for payload in data.values() for problem in _user_errors(payload))
    if not problems:
        return Answered(data)
    for problem in problems:
        if problem.code in _PASSING_USER_ERRORS:
            return Away(f"{operation}: {problem}", _PASSING_USER_ERRORS[problem.code], "busy")
    return Refused(problems)


def _errors(body: Mapping[str, Any]) -> Iterator[Problem]:
    """Top-level errors; Shopify sometimes sends one string instead of a list."""
    errors = body.get("errors") or []
    for error in errors if isinstance(errors, list) else [errors]:
        if not isinstance(error, dict):
            yield Problem("graphql_error", (), _words(error))
            continue
        extensions = error.get("extensions")
        extensions = extensions if isinstance(extensions, dict) else {}
        named = [one for one in extensions.get("problems") or () if isinstance(one, dict)]
        code = str(extensions.get("code") or "graphql_error")
        yield Problem(code, _path(error.get("path")), _words(error.get("message")))
        for one in named:
            yield Problem(code, _path(one.get("path")), _words(one.get("explanation")))


def _user_errors(payload: Any) -> Iterator[Problem]:
    errors = payload.get("userErrors") if isinstance(payload, dict) else None
    for error in errors or ():
        # Some payloads have no code (productCreate, stagedUploadsCreate).
        yield Problem(str(error.get("code") or "user_error"), _path(error.get("field")), _words(error.get("message")))


def _path(value: Any) -> tuple[str, ...]:
    return tuple(str(part) for part in value) if isinstance(value, list) else ()


def _said(body: Any) -> str:
    """A body's own words beside a status, where it has any: `{"errors": "a sentence"}`."""
    errors = body.get("errors") if isinstance(body, dict) else None
    return f": {_words(errors)}" if errors else ""


def _words(value: Any) -> str:
    return str(value or "")[:_QUOTED_MAX]
