"""How it is said: one request with one deadline, and Shopify's three ways to say no turned into our errors.

    HTTP status      401, 402, 403, 404, 423 -> Reject        429, 5xx, no answer -> VendorUnavailable
    errors[]         ACCESS_DENIED -> Reject                  THROTTLED, INTERNAL_SERVER_ERROR -> VendorUnavailable
    userErrors[]     VendorRefused with Shopify's code        IDEMPOTENCY_CONCURRENT_REQUEST -> VendorUnavailable

Shopify answers HTTP 200 to the last two, so all three are looked at every time. The token is in the
request's headers and nowhere else: no message, no log line, no chained exception that carries a request.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import structlog

from app.adapters.retry_after import retry_after_s
from app.adapters.shopify.throttle import Throttle
from pipeline.clock import Clock
from pipeline.contract import Reject
from pipeline.errors import VendorRefused, VendorUnavailable

CONNECT_S = 5.0
TOTAL_S = 30.0
THROTTLE_WAIT_S_MAX = 10.0
"""Longer waits give the slot back: the job comes again, uncounted, when the bucket has refilled."""

_NEEDS_A_PERSON = {
    401: ("shop_refused_token", "the shop refused the access token: connect the shop again"),
    402: ("shop_frozen", "the shop is frozen for an unpaid bill"),
    403: ("shop_access_denied", "the shop denied access to the app: check that it is installed with all its scopes"),
    404: ("shop_not_found", "there is no shop at this address"),
    423: ("shop_locked", "the shop is locked"),
}
_PASSING_ERRORS = frozenset({"THROTTLED", "INTERNAL_SERVER_ERROR", "TIMEOUT", "SERVICE_UNAVAILABLE"})
_PASSING_USER_ERRORS = {"IDEMPOTENCY_CONCURRENT_REQUEST": 2.0, "SERVICE_UNAVAILABLE": 10.0}
_NAME = re.compile(r"\b(?:query|mutation)\s+(\w+)")
_VERSION = re.compile(r"/api/([^/]+)/graphql")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ShopCredentials:
    """Where a shop's GraphQL endpoint is (the full address, version included) and what opens it."""

    endpoint: str
    token: str = field(repr=False)


class ShopClient:
    """Sends one shop's operations. Not tied to a process's life: the HTTP client is handed in and closed elsewhere."""

    def __init__(self, http: httpx.AsyncClient, credentials: ShopCredentials, clock: Clock) -> None:
        self._http = http
        self._credentials = credentials
        self._clock = clock
        self._throttle = Throttle(clock)
        self._told_version = False

    async def call(self, document: str, **variables: Any) -> dict[str, Any]:
        """The `data` of one operation.

        Raises VendorUnavailable, VendorRefused or Reject, as the module says. A throttled request was
        certainly not executed, so it is sent again here while the wait is short.
        """
        waited = 0.0
        while True:
            wait_s = self._throttle.wait_s(document)
            if waited + wait_s > THROTTLE_WAIT_S_MAX:
                raise VendorUnavailable(f"{_name(document)}: the shop throttles us", retry_after_s=wait_s)
            if wait_s:
                await self._clock.sleep(wait_s)
                waited += wait_s
            self._throttle.spend(document)
            answer = await self._post(document, variables)
            self._throttle.learn(document, (answer.get("extensions") or {}).get("cost") or {})
            if not _is_throttled(answer):
                return _data(_name(document), answer)
            waited += 1.0  # a throttled answer costs patience even when the bucket claims to be full
            await self._clock.sleep(1.0)

    async def upload(self, url: str, fields: Sequence[tuple[str, str]], name: str, mime: str, content: bytes) -> None:
        """Post a file to a staged upload target, its form fields first and in the order given. Carries no token."""
        form = [(key, (None, value.encode())) for key, value in fields]
        response = await self._send("StagedUpload", "POST", url, files=[*form, ("file", (name, content, mime))])
        if not response.is_success:
            raise VendorRefused(f"the upload target answered HTTP {response.status_code}", code="upload_refused")

    async def _post(self, document: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        operation = _name(document)
        response = await self._send(
            operation,
            "POST",
            self._credentials.endpoint,
            json={"query": document, "variables": variables},
            headers={"X-Shopify-Access-Token": self._credentials.token},
        )
        if response.status_code in _NEEDS_A_PERSON:
            raise Reject(*_NEEDS_A_PERSON[response.status_code])
        if response.status_code != httpx.codes.OK:
            message = f"{operation}: the shop answered HTTP {response.status_code}"
            raise VendorRefused(message, code=f"http_{response.status_code}")
        self._notice_version(response)
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            # Something between us and Shopify answered; whether the request arrived is open.
            raise VendorUnavailable(f"{operation}: the answer is not GraphQL")
        return answer

    async def _send(self, operation: str, method: str, url: str, **parts: Any) -> httpx.Response:
        """One request under the total deadline; what may pass by itself becomes VendorUnavailable."""
        failure = ""
        try:
            async with asyncio.timeout(TOTAL_S):
                response = await self._http.request(
                    method, url, timeout=httpx.Timeout(TOTAL_S, connect=CONNECT_S), follow_redirects=False, **parts
                )
        except (httpx.TransportError, TimeoutError) as error:
            failure = type(error).__name__
        if failure:  # raised out here: httpx's exception carries the request, and the request the token
            raise VendorUnavailable(f"{operation}: no answer from the shop ({failure})")
        if response.status_code == httpx.codes.TOO_MANY_REQUESTS or response.is_server_error:
            message = f"{operation}: the shop answered HTTP {response.status_code}"
            raise VendorUnavailable(message, retry_after_s=retry_after_s(response.headers, self._clock.now()))
        return response

    def _notice_version(self, response: httpx.Response) -> None:
        """An expired version falls forward without an error; the only sign is this header."""
        asked = _VERSION.search(self._credentials.endpoint)
        served = response.headers.get("X-Shopify-API-Version")
        if asked and served and served != asked[1] and not self._told_version:
            self._told_version = True
            _log.warning("shop.version_fell_forward", asked=asked[1], served=served)


def _name(document: str) -> str:
    found = _NAME.search(document)
    return found[1] if found else "operation"


def _is_throttled(answer: Mapping[str, Any]) -> bool:
    return any(code == "THROTTLED" for code, _ in _errors(answer))


def _errors(answer: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Top-level errors as (code, message); Shopify sometimes sends one string instead of a list."""
    errors = answer.get("errors") or []
    for error in [errors] if isinstance(errors, str) else errors:
        if isinstance(error, str):
            yield "", error
        else:
            yield (error.get("extensions") or {}).get("code") or "", str(error.get("message", ""))


def _data(operation: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    for code, message in _errors(answer):
        if code == "ACCESS_DENIED":
            raise Reject("shop_access_denied", message)
        if code in _PASSING_ERRORS:
            raise VendorUnavailable(f"{operation}: {message}")
        raise VendorRefused(f"{operation}: {message}", code=code or "graphql_error")
    data = answer.get("data")
    if not isinstance(data, dict):
        raise VendorUnavailable(f"{operation}: the answer has no data")
    for payload in data.values():
        _raise_user_error(payload)
    return data


def _raise_user_error(payload: Any) -> None:
    errors = payload.get("userErrors") if isinstance(payload, dict) else None
    if not errors:
        return
    first = errors[0]
    code = first.get("code") or "user_error"
    where = ".".join(first.get("field") or ())
    message = f"{first.get('message', '')} ({where})" if where else str(first.get("message", ""))
    if code in _PASSING_USER_ERRORS:
        raise VendorUnavailable(message, retry_after_s=_PASSING_USER_ERRORS[code])
    raise VendorRefused(message, code=code)
