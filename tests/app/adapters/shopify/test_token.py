"""The token is in one header and nowhere else: not in an error, its causes or their frames, a log line, or a repr."""

from __future__ import annotations

import traceback
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from app.adapters.shopify import operations
from app.adapters.shopify.alone import AloneLimits
from app.adapters.shopify.client import ShopBounds, ShopClient, ShopCredentials
from app.adapters.shopify.price import Prices
from app.adapters.shops import Shops
from pipeline.errors import PipelineError
from tests.app.adapters.shopify.test_client import ENDPOINT, TOKEN, FakeClock, Wire, ok, shape, user_error
from tests.support import loopback

FAILURES: list[httpx.Response | Exception] = [
    *(shape(name) for name in ("unauthorised", "access_denied_scope", "user_errors", "unknown_input_field")),
    *(httpx.Response(status, json={"errors": "No."}) for status in (302, 400, 402, 403, 404, 423, 429, 500, 502, 503)),
    httpx.Response(200, text="<html>"),
    httpx.Response(200, json={"data": None}),
    user_error("IDEMPOTENCY_CONCURRENT_REQUEST"),
    httpx.ConnectError("refused"),
    httpx.ReadTimeout("slow"),
    httpx.RemoteProtocolError("gone"),
    TimeoutError(),
]


def said_by(error: BaseException) -> str:
    """Everything a log, a tracker or a debugger would show of an error and of all it came from."""
    shown: list[str] = []
    links: list[BaseException | None] = [error]
    while links:
        link = links.pop()
        if link is None:
            continue
        shown += [repr(link), str(link), repr(link.__dict__), repr(getattr(link, "request", ""))]
        shown += [str(headers) for headers in _headers(link)]
        links += [link.__cause__, link.__context__]
    return "".join([*traceback.format_exception(error), *shown])


def _headers(link: BaseException) -> list[Any]:
    """httpx's own exceptions carry the request, and that the header."""
    try:
        return list(link.request.headers.raw)  # type: ignore[attr-defined]
    except (AttributeError, RuntimeError):
        return []


@pytest.mark.parametrize("answer", FAILURES, ids=repr)
async def test_no_failure_shows_the_token(answer: httpx.Response | Exception) -> None:
    wire, clock = Wire(), FakeClock()
    wire.answers = [answer]
    bounds = ShopBounds("m", "m.example", AloneLimits(clock), clock, Prices())
    async with httpx.AsyncClient(transport=httpx.MockTransport(wire)) as http:
        client = ShopClient(http, ShopCredentials(ENDPOINT, TOKEN), clock, bounds)
        with capture_logs() as logs, pytest.raises(PipelineError) as raised:
            await client.call(operations.SHOP_FACTS)
    assert wire.requests[0].headers["X-Shopify-Access-Token"] == TOKEN
    assert TOKEN not in said_by(raised.value)
    assert TOKEN not in repr(logs)


def test_the_search_would_find_it() -> None:
    request = httpx.Request("POST", ENDPOINT, headers={"X-Shopify-Access-Token": TOKEN})
    inner = httpx.ReadTimeout("slow", request=request)
    outer = PipelineError("no answer")
    outer.__context__ = inner
    assert TOKEN in said_by(outer)


async def test_what_falls_forward_and_what_is_throttled_is_logged_without_it() -> None:
    wire, clock = Wire(), FakeClock()
    newer = ok()
    newer.headers["X-Shopify-API-Version"] = "2027-01"
    wire.answers = [newer, ok(), shape("throttled"), ok()]
    bounds = ShopBounds("m", "m.example", AloneLimits(clock), clock, Prices())
    async with httpx.AsyncClient(transport=httpx.MockTransport(wire)) as http:
        client = ShopClient(http, ShopCredentials(ENDPOINT, TOKEN), clock, bounds)
        with capture_logs() as logs:
            for _ in range(3):
                clock.at += 2
                await client.call(operations.SHOP_FACTS)
    assert {one["event"] for one in logs} == {"shop.version_fell_forward", "shop throttled us"}
    assert TOKEN not in repr(logs)


async def test_nothing_that_holds_the_token_says_it() -> None:
    clock = FakeClock()
    credentials = ShopCredentials(ENDPOINT, TOKEN)

    async def find(_merchant: object) -> ShopCredentials:
        return credentials

    bounds = ShopBounds("m", "m.example", AloneLimits(clock), clock, Prices())
    async with loopback() as http:
        holders = [credentials, ShopClient(http, credentials, clock, bounds), Shops(http, find, clock), bounds]
        assert TOKEN not in "".join(f"{one!r}{one}" for one in holders)
