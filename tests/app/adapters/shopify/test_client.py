"""Shopify's three kinds of no, and what must never be in an error: the token."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from app.adapters.shopify import operations
from app.adapters.shopify.alone import AloneLimits
from app.adapters.shopify.budget import WAIT_S_MAX
from app.adapters.shopify.circuit import FAILURES_MAX
from app.adapters.shopify.client import ShopBounds, ShopClient, ShopCredentials
from app.adapters.shopify.limits import COOL_DOWN_S, PARKED_S
from app.adapters.shopify.price import Prices
from pipeline.errors import PipelineError, Problem, VendorRefused, VendorUnavailable
from tests.app.adapters.shopify.test_points import RATE, Shopify, World

TOKEN = "shpat_0123456789abcdef"
ENDPOINT = "https://demo.example/admin/api/2026-10/graphql.json"
SHAPES = json.loads((Path(__file__).parent / "response_shapes.json").read_text(encoding="utf-8"))

Answer = Callable[[httpx.Request], httpx.Response]


class FakeClock:
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.at = 0.0
        self.slept: list[float] = []

    def now(self) -> datetime:
        return datetime.fromtimestamp(1_800_000_000 + self.at, UTC)

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += seconds


class Wire:
    """Answers requests in order, and keeps them."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.answers: list[httpx.Response | Exception] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def client(wire: Wire, clock: FakeClock) -> AsyncIterator[ShopClient]:
    async with httpx.AsyncClient(transport=httpx.MockTransport(wire)) as http:
        bounds = ShopBounds("merchant-1", "demo.example", AloneLimits(clock), clock, Prices())
        yield ShopClient(http, ShopCredentials(ENDPOINT, TOKEN), clock, bounds)


def shape(name: str) -> httpx.Response:
    """A response as captured from Shopify."""
    return httpx.Response(SHAPES[name]["http"], json=SHAPES[name]["body"])


def ok(available: float = 1900, requested: float = 20, **data: Any) -> httpx.Response:
    status = {"maximumAvailable": 2000, "currentlyAvailable": available, "restoreRate": 100}
    cost = {"requestedQueryCost": requested, "actualQueryCost": requested, "throttleStatus": status}
    return httpx.Response(200, json={"data": data or {"shop": {}}, "extensions": {"cost": cost}})


def user_error(code: str | None) -> httpx.Response:
    error = {"code": code, "field": ["input", "changes", "4"], "message": "No."}
    return httpx.Response(200, json={"data": {"anything": {"userErrors": [error]}}})


async def failure(client: ShopClient, wire: Wire, answer: httpx.Response | Exception) -> PipelineError:
    wire.answers = [answer]
    with pytest.raises(PipelineError) as raised:
        await client.call(operations.SHOP_FACTS)
    return raised.value


async def test_the_token_travels_in_its_header_and_the_variables_beside_the_document(
    client: ShopClient, wire: Wire
) -> None:
    wire.answers = [ok()]
    await client.call(operations.MEDIA, id="gid://shopify/Product/1", after=None)
    (request,) = wire.requests
    assert request.headers["X-Shopify-Access-Token"] == TOKEN
    assert json.loads(request.content)["variables"] == {"id": "gid://shopify/Product/1", "after": None}


@pytest.mark.parametrize(
    ("answer", "error", "code"),
    [
        (shape("missing_idempotent_directive_2026_04"), VendorRefused, "BAD_REQUEST"),
        (shape("missing_changeFromQuantity_2026_04"), VendorRefused, "INVALID_FIELD_ARGUMENTS"),
        (shape("unknown_input_field"), VendorRefused, "INVALID_VARIABLE"),
        (shape("array_over_limit"), VendorRefused, "MAX_INPUT_SIZE_EXCEEDED"),
        (shape("user_errors"), VendorRefused, "HANDLE_NOT_UNIQUE"),
        (shape("cas_stale"), VendorRefused, "CHANGE_FROM_QUANTITY_STALE"),
        (user_error("IDEMPOTENCY_KEY_PARAMETER_MISMATCH"), VendorRefused, "IDEMPOTENCY_KEY_PARAMETER_MISMATCH"),
        (user_error(None), VendorRefused, "user_error"),
        (httpx.Response(200, json={"errors": "a string", "data": None}), VendorRefused, "graphql_error"),
        (httpx.Response(302, headers={"Location": "https://elsewhere.example/"}), VendorRefused, "http_302"),
        (httpx.Response(400, json={"errors": "Bad Request"}), VendorRefused, "http_400"),
    ],
)
async def test_what_will_not_pass_by_itself_is_permanent_and_has_a_code(
    client: ShopClient, wire: Wire, answer: httpx.Response, error: type[PipelineError], code: str
) -> None:
    raised = await failure(client, wire, answer)
    assert type(raised) is error
    assert raised.code == code  # type: ignore[attr-defined]  both types carry one
    assert len(wire.requests) == 1


@pytest.mark.parametrize(
    ("answer", "after_s"),
    [
        (httpx.Response(429, headers={"Retry-After": "2.5"}), 2.5),
        (httpx.Response(503, headers={"Retry-After": "Fri, 15 Jan 2027 08:00:30 GMT"}), 30.0),
        (httpx.Response(502, text="Bad Gateway"), None),
        (httpx.Response(500, json={"errors": "Internal Server Error"}), None),
        (httpx.Response(200, text="<html>Back soon</html>"), None),
        (httpx.Response(200, json=["not an object"]), None),
        (httpx.Response(200, json={}), None),
        (
            httpx.Response(200, json={"errors": [{"message": "x", "extensions": {"code": "INTERNAL_SERVER_ERROR"}}]}),
            None,
        ),
        (user_error("IDEMPOTENCY_CONCURRENT_REQUEST"), 2.0),
        (user_error("SERVICE_UNAVAILABLE"), 10.0),
        (httpx.ConnectError("refused"), None),
        (httpx.ConnectTimeout("slow"), None),
        (httpx.ReadTimeout("slow"), None),
        (httpx.RemoteProtocolError("gone"), None),
    ],
)
async def test_what_may_pass_by_itself_is_an_outage_with_the_shops_own_word_for_how_long(
    client: ShopClient, wire: Wire, answer: httpx.Response | Exception, after_s: float | None
) -> None:
    raised = await failure(client, wire, answer)
    assert isinstance(raised, VendorUnavailable)
    assert raised.retry_after_s == after_s
    assert len(wire.requests) == 1, "it may have been executed: nothing is resent here"


@pytest.mark.parametrize(
    "answer",
    [shape("unauthorised"), httpx.Response(500), httpx.ReadTimeout("slow"), shape("user_errors"), httpx.Response(200)],
)
async def test_no_error_carries_the_token_anywhere(
    client: ShopClient, wire: Wire, answer: httpx.Response | Exception
) -> None:
    raised = await failure(client, wire, answer)
    link: BaseException | None = raised
    while link is not None:
        assert not isinstance(link, httpx.HTTPError), "httpx's errors carry the request with its headers"
        link = link.__cause__ or link.__context__
    assert TOKEN not in "".join(traceback.format_exception(raised))
    assert TOKEN not in repr(ShopCredentials(ENDPOINT, TOKEN))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (shape("unauthorised"), "connect the shop again"),
        (httpx.Response(402, json={"errors": "Unavailable Shop"}), "unpaid bill"),
        (httpx.Response(403, json={"errors": "Forbidden"}), "installed with all its scopes"),
        (httpx.Response(404, json={"errors": "Not Found"}), "no shop at this address"),
        (httpx.Response(423, json={"errors": "Locked"}), "locked"),
        (shape("access_denied_scope"), "write_products"),
    ],
)
async def test_what_only_a_person_can_mend_parks_the_shop_and_nobody_calls_it_again(
    client: ShopClient, wire: Wire, answer: httpx.Response, words: str
) -> None:
    raised = await failure(client, wire, answer)
    assert isinstance(raised, VendorUnavailable)
    assert raised.patient, "no patience runs out over it"
    assert raised.retry_after_s == PARKED_S
    assert words in str(raised)
    again = await failure(client, wire, ok())
    assert (type(again), again.patient, str(again)) == (VendorUnavailable, True, str(raised))  # type: ignore[attr-defined]
    assert len(wire.requests) == 1


async def test_every_problem_is_kept_with_its_code_and_its_path(client: ShopClient, wire: Wire) -> None:
    errors = [
        {"code": "TAKEN", "field": ["variants", "4", "sku"], "message": "Taken."},
        {"field": None, "message": "Too long."},
    ]
    wire.answers = [httpx.Response(200, json={"data": {"a": {"userErrors": errors}, "b": {"userErrors": []}}})]
    with pytest.raises(VendorRefused) as raised:
        await client.call(operations.SHOP_FACTS)
    assert raised.value.problems == (
        Problem("TAKEN", ("variants", "4", "sku"), "Taken."),
        Problem("user_error", (), "Too long."),
    )
    assert str(raised.value) == "Taken. (variants.4.sku), and 1 more"


async def test_a_shop_that_fails_three_times_in_a_row_is_left_alone(
    client: ShopClient, wire: Wire, clock: FakeClock
) -> None:
    for _ in range(FAILURES_MAX):
        raised = await failure(client, wire, httpx.Response(502))
    assert raised.retry_after_s == COOL_DOWN_S  # type: ignore[attr-defined]
    again = await failure(client, wire, ok())
    assert again.retry_after_s == COOL_DOWN_S  # type: ignore[attr-defined]
    assert len(wire.requests) == FAILURES_MAX
    clock.at += COOL_DOWN_S
    assert await client.call(operations.SHOP_FACTS)


async def test_failures_between_which_it_answers_leave_it_open(client: ShopClient, wire: Wire) -> None:
    for _ in range(FAILURES_MAX):
        await failure(client, wire, httpx.ReadTimeout("slow"))
        wire.answers = [ok()]
        await client.call(operations.SHOP_FACTS)
    assert len(wire.requests) == 2 * FAILURES_MAX


async def test_a_limit_that_lasts_for_hours_is_waited_for_without_an_end(client: ShopClient, wire: Wire) -> None:
    """Shopify: 1,000 new variants a day beyond 50,000, answered 429. Other requests still work."""
    raised = await failure(client, wire, httpx.Response(429, headers={"Retry-After": "36000"}))
    assert (raised.patient, raised.retry_after_s) == (True, 36000.0)  # type: ignore[attr-defined]
    wire.answers = [ok()]
    assert await client.call(operations.SHOP_FACTS)


async def test_a_short_limit_holds_the_whole_shop(client: ShopClient, wire: Wire, clock: FakeClock) -> None:
    await failure(client, wire, httpx.Response(429, headers={"Retry-After": "7"}))
    again = await failure(client, wire, ok())
    assert (type(again), again.retry_after_s) == (VendorUnavailable, 7.0)  # type: ignore[attr-defined]
    clock.at += 7
    assert await client.call(operations.SHOP_FACTS)


async def test_a_throttled_request_was_not_executed_and_is_sent_again_after_the_refill(
    client: ShopClient, wire: Wire, clock: FakeClock
) -> None:
    wire.answers = [ok(), ok(), shape("throttled"), ok()]
    for _ in range(3):
        clock.at += 2  # long enough to tell the shop's figures to whoever shares the bucket
        await client.call(operations.SHOP_FACTS)
    assert len(wire.requests) == 4
    assert sum(clock.slept) == pytest.approx((752 - 66) / 100, abs=1.1)


async def test_a_bucket_that_stays_empty_gives_the_slot_back(client: ShopClient, wire: Wire, clock: FakeClock) -> None:
    wire.answers = [shape("throttled") for _ in range(20)]
    with pytest.raises(VendorUnavailable) as raised:
        await client.call(operations.SHOP_FACTS)
    assert raised.value.retry_after_s is not None
    assert raised.value.patient
    assert sum(clock.slept) <= WAIT_S_MAX + 1


async def test_more_orders_than_the_points_serve_at_once_come_through_and_none_begins_anew() -> None:
    """Three hundred at once, eight calls each: any that gave up in between would spend its points once more."""
    world = World()
    shopify = Shopify(world)
    begun_anew = 0

    async def answer(_request: httpx.Request) -> httpx.Response:
        report = await shopify.call(12, 12, 0.1)
        return ok(report.available, report.requested)

    async def order(client: ShopClient) -> None:
        nonlocal begun_anew
        while True:
            attempt, calls = client.telling(tell), 0
            try:
                while calls < 8:
                    await attempt.call(operations.SHOP_FACTS)
                    calls += 1
            except VendorUnavailable as full:
                begun_anew += calls > 0
                await world.sleep(full.retry_after_s or 1.0)
            else:
                return

    async def tell(_words: str) -> None:
        return None

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        bounds = ShopBounds("merchant-1", "demo.example", AloneLimits(world), world, Prices())
        client = ShopClient(http, ShopCredentials(ENDPOINT, TOKEN), world, bounds)
        warm_up = asyncio.create_task(client.call(operations.SHOP_FACTS))  # until then nobody knows what a call costs
        await world.pass_until(5.0)
        await warm_up
        orders = [asyncio.create_task(order(client)) for _ in range(300)]
        await world.pass_until(300 * 8 * 12 / RATE * 1.2, *orders)
    assert sum(one.done() for one in orders) == 300
    assert (begun_anew, shopify.throttled) == (0, 0)


async def test_who_waits_for_points_says_so(client: ShopClient, wire: Wire, clock: FakeClock) -> None:
    said: list[str] = []

    async def tell(words: str) -> None:
        said.append(words)

    wire.answers = [ok(available=1900, requested=300), ok(available=100, requested=300), ok()]
    for _ in range(3):
        await client.telling(tell).call(operations.SHOP_FACTS)
    assert said == [f"waits {clock.slept[-1]:.1f} s for the shop's points"]


async def test_an_expired_version_is_noticed_once(client: ShopClient, wire: Wire) -> None:
    served = [ok() for _ in range(2)]
    for response in served:
        response.headers["X-Shopify-API-Version"] = "2027-01"
    wire.answers = [*served]
    with capture_logs() as logs:
        await client.call(operations.SHOP_FACTS)
        await client.call(operations.SHOP_FACTS)
    assert [(one["event"], one["asked"], one["served"]) for one in logs] == [
        ("shop.version_fell_forward", "2026-10", "2027-01")
    ]
