"""How it is said: one request with one deadline, within the shop's limits, and the answer as data or as our errors.

    Answered                 its `data`
    Throttled                sent again here while the wait is short: it was certainly not executed
    Away                     VendorUnavailable: it may have been executed, so nothing is resent here
    Locked                   VendorUnavailable, patient: the shop is parked until a person has put it right;
                             a refused token is replaced first, if it can be, and the request sent once more
    Refused                  VendorRefused with every problem the shop named

The token is in the request's headers and nowhere else: no message, no log line, no chained exception that carries a
request.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import httpx
import structlog

from app.adapters.retry_after import retry_after_s
from app.adapters.shopify.budget import WAIT_BEGUN_S_MAX, WAIT_S_MAX, Budget, Tell, report_of, tell_nobody
from app.adapters.shopify.circuit import Circuit
from app.adapters.shopify.envelope import (
    NEEDS_A_PERSON,
    Answered,
    Away,
    Locked,
    Outcome,
    Refused,
    Throttled,
    outcome_of,
)
from app.adapters.shopify.limits import ShopLimits
from app.adapters.shopify.price import Prices
from pipeline.clock import Clock
from pipeline.errors import DatabaseUnavailable, Problem, VendorRefused, VendorUnavailable

CONNECT_S = 5.0
AGAIN_S = 1.0
"""A throttled answer costs patience even when the bucket claims to be full."""

_TOKEN_REFUSED = Locked(NEEDS_A_PERSON[HTTPStatus.UNAUTHORIZED])
_NAME = re.compile(r"\b(?:query|mutation)\s+(\w+)")
_VERSION = re.compile(r"/api/([^/]+)/graphql")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ShopCredentials:
    """Where a shop's GraphQL endpoint is (the full address, version included) and what opens it."""

    endpoint: str
    token: str = field(repr=False)


Renew = Callable[[str], Awaitable[ShopCredentials | None]]
"""What opens the shop now that it refused this token; the same again if nothing else does."""


class ShopBounds:
    """What bounds the calls to one merchant's shop in this process. It outlives a change of token."""

    def __init__(self, merchant_id: str, shop: str, limits: ShopLimits, clock: Clock, prices: Prices) -> None:
        self.merchant_id = merchant_id
        self.limits = limits
        self.prices = prices
        self.circuit = Circuit(merchant_id, shop, limits, clock)
        self.budget = Budget(merchant_id, limits, clock)
        self.version: tuple[str, str] | None = None
        self.scopes: frozenset[str] | None = None


class ShopClient:
    """Sends one shop's operations. Not tied to a process's life: the HTTP client is handed in and closed elsewhere."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        credentials: ShopCredentials,
        clock: Clock,
        bounds: ShopBounds,
        tell: Tell = tell_nobody,
        renew: Renew | None = None,
    ) -> None:
        self._http = http
        self._credentials = credentials
        self._clock = clock
        self._bounds = bounds
        self._tell = tell
        self._renew = renew
        self._has_spent = False

    def telling(self, tell: Tell) -> ShopClient:
        """The same for one attempt, which hears through `tell` when it waits for the shop's points."""
        return ShopClient(self._http, self._credentials, self._clock, self._bounds, tell, self._renew)

    async def call(self, document: str, **variables: Any) -> dict[str, Any]:
        """The `data` of one operation. Raises VendorUnavailable or VendorRefused, as the module says."""
        operation, prices, budget = _name(document), self._bounds.prices, self._bounds.budget
        waited_s, renewed, longest_s = 0.0, False, self._longest_s()
        while True:
            self._bounds.circuit.check()
            price = prices.of(document, variables)
            waited_s += await budget.take(price, self._tell, longest_s - waited_s)
            outcome, answer = await self._post(operation, document, variables)
            report = report_of(answer)
            budget.settle(price, report)
            if report is not None:
                prices.learn(document, variables, report.requested)
            if outcome == _TOKEN_REFUSED and not renewed and await self._has_new_token():
                renewed = True  # and once more: what was refused was not executed
                continue
            if not isinstance(outcome, Throttled):
                self._has_spent = True
                return await self._data(operation, outcome)
            _log.info("shop throttled us", shop_call=operation, requested=price if report is None else report.requested)
            waited_s += AGAIN_S
            if waited_s > longest_s:
                reason = f"{operation}: the shop throttles us although its points should suffice"
                raise VendorUnavailable(reason, retry_after_s=WAIT_S_MAX, patient=True)
            await self._clock.sleep(AGAIN_S)

    def _longest_s(self) -> float:
        """How long a call waits for points. Where nobody is told of it, somebody may be sitting before a page."""
        return WAIT_BEGUN_S_MAX if self._has_spent and self._tell is not tell_nobody else WAIT_S_MAX

    async def granted(self, scopes: frozenset[str]) -> None:
        """Write down what the shop granted, so that people see it without asking the shop."""
        if scopes == self._bounds.scopes:
            return
        try:
            await self._bounds.limits.granted(self._bounds.merchant_id, scopes)
        except DatabaseUnavailable:
            return  # the next run says so
        self._bounds.scopes = scopes

    async def upload(self, url: str, fields: Sequence[tuple[str, str]], name: str, mime: str, content: bytes) -> None:
        """Post a file to a staged upload target, its form fields first and in the order given. Carries no token.

        The target is a storage of Google's: that it fails says nothing about the shop.
        """
        form = [(key, (None, value.encode())) for key, value in fields]
        with self._bounds.circuit.under_way() as within_s:
            response = await self._send(url, within_s, files=[*form, ("file", (name, content, mime))])
        match self._outcome("StagedUpload", response):
            case Away(reason, again_s, _):
                raise VendorUnavailable(reason, retry_after_s=again_s)
            case _ if isinstance(response, httpx.Response) and not response.is_success:
                raise VendorRefused(f"the upload target answered HTTP {response.status_code}", code="upload_refused")

    async def download(self, url: str) -> bytes:
        """What the shop has put at an address of its storage. Carries no token."""
        with self._bounds.circuit.under_way() as within_s:
            response = await self._send(url, within_s, method="GET")
        if isinstance(response, str):
            raise VendorUnavailable(f"Download: no answer from the shop's storage ({response})")
        if response.status_code == httpx.codes.TOO_MANY_REQUESTS or response.is_server_error:
            raise VendorUnavailable(f"Download: the shop's storage answered HTTP {response.status_code}")
        if not response.is_success:
            raise VendorRefused(f"the shop's storage answered HTTP {response.status_code}", code="download_refused")
        return response.content

    async def _data(self, operation: str, outcome: Answered | Away | Locked | Refused) -> dict[str, Any]:
        """What an outcome means to the caller, told to the circuit on the way."""
        circuit = self._bounds.circuit
        if isinstance(outcome, Locked):
            raise await circuit.locked(outcome)
        if isinstance(outcome, Away):
            raise await circuit.away(outcome)
        await circuit.answered(operation)
        if isinstance(outcome, Refused):
            raise _refusal(outcome.problems)
        return outcome.data

    async def _has_new_token(self) -> bool:
        """Whether the refused token was not the last one."""
        refused = self._credentials.token
        credentials = await self._renew(refused) if self._renew is not None else None
        if credentials is None or credentials.token == refused:
            return False
        self._credentials = credentials
        return True

    async def _post(self, operation: str, document: str, variables: Mapping[str, Any]) -> tuple[Outcome, Any]:
        """The outcome of one request, and its body for what it cost."""
        with self._bounds.circuit.under_way() as within_s:
            response = await self._send(
                self._credentials.endpoint,
                within_s,
                json={"query": document, "variables": variables},
                headers={"X-Shopify-Access-Token": self._credentials.token},
            )
        if isinstance(response, httpx.Response):
            await self._notice_version(response)
        return self._outcome(operation, response), _body(response)

    async def _send(self, url: str, within_s: float, *, method: str = "POST", **parts: Any) -> httpx.Response | str:
        """One request under a total deadline; the name of what went wrong where there is no answer.

        Never the exception itself: httpx's carries the request, and the request the token.
        """
        try:
            async with asyncio.timeout(within_s):
                return await self._http.request(
                    method, url, timeout=httpx.Timeout(within_s, connect=CONNECT_S), follow_redirects=False, **parts
                )
        except (httpx.TransportError, TimeoutError) as error:
            return type(error).__name__

    def _outcome(self, operation: str, response: httpx.Response | str) -> Outcome:
        if isinstance(response, str):
            return Away(f"{operation}: no answer from the shop ({response})")
        again_s = retry_after_s(response.headers, self._clock.now())
        return outcome_of(operation, response.status_code, _body(response), again_s)

    async def _notice_version(self, response: httpx.Response) -> None:
        """An expired version falls forward without an error; the only sign is this header."""
        asked = _VERSION.search(self._credentials.endpoint)
        served = response.headers.get("X-Shopify-API-Version")
        bounds = self._bounds
        if not asked or not served or bounds.version == (asked[1], served):
            return
        try:
            is_news = await bounds.limits.served(bounds.merchant_id, asked=asked[1], served=served)
        except DatabaseUnavailable:
            return  # said with the next answer
        bounds.version = (asked[1], served)
        if is_news and served != asked[1]:
            _log.warning("shop.version_fell_forward", asked=asked[1], served=served, merchant_id=bounds.merchant_id)


def _name(document: str) -> str:
    found = _NAME.search(document)
    return found[1] if found else "operation"


def _body(response: httpx.Response | str) -> Any:
    """The JSON of an answer, None where there is none."""
    if isinstance(response, str):
        return None
    try:
        return response.json()
    except ValueError:
        return None


def _refusal(problems: tuple[Problem, ...]) -> VendorRefused:
    """All that the shop found wrong: the first in the message, the others counted there and kept whole beside it."""
    first, more = problems[0], len(problems) - 1
    message = str(first) + (f", and {more} more" if more else "")
    return VendorRefused(message, code=first.code, problems=problems)
