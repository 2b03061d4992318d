"""The three layers in which a shop says no, and what every reply carries."""

from __future__ import annotations

import asyncio
from time import monotonic
from uuid import uuid4

import httpx
import pytest

from tests.app.sandbox.conftest import ADJUST, SET_PRODUCT, ShopClient, shirt, size

SHOP = "{ shop { name currencyCode taxesIncluded myshopifyDomain } }"


async def test_a_reply_names_its_version_its_request_and_its_cost(shop: ShopClient) -> None:
    response = await shop.post(SHOP)
    assert response.headers["X-Shopify-API-Version"] == "2026-10"
    assert response.headers["X-Request-Id"]
    body = response.json()
    assert body["data"]["shop"]["currencyCode"] == "EUR"
    cost = body["extensions"]["cost"]
    assert cost["throttleStatus"] | {"currentlyAvailable": 0} == {
        "maximumAvailable": 2000,
        "currentlyAvailable": 0,
        "restoreRate": 100,
    }
    assert cost["actualQueryCost"] <= cost["requestedQueryCost"]


async def test_a_wrong_token_is_a_401_whose_errors_is_a_string(shop: ShopClient) -> None:
    shop.token = "wrong"
    response = await shop.post(SHOP)
    assert response.status_code == 401
    assert isinstance(response.json()["errors"], str)


async def test_a_field_the_contract_lacks_is_refused_before_anything_runs(shop: ShopClient) -> None:
    envelope = await shop.ask("{ shop { bogus } }")
    assert envelope["errors"][0]["extensions"] == {
        "code": "undefinedField",
        "typeName": "Shop",
        "fieldName": "bogus",
    }
    assert "data" not in envelope
    assert (await shop.state())["calls"] == {}


async def test_every_bad_variable_is_named_with_its_path(shop: ShopClient) -> None:
    broken = {**shirt(), "status": "LIVE", "ignored": 1, "variants": [size("S", price="cheap")]}
    error = (await shop.ask(SET_PRODUCT, input=broken))["errors"][0]
    assert error["extensions"]["code"] == "INVALID_VARIABLE"
    paths = [problem["path"] for problem in error["extensions"]["problems"]]
    assert paths == [["ignored"], ["status"], ["variants", 0, "price"]]


async def test_an_identifier_takes_exactly_one_of_its_fields(shop: ShopClient) -> None:
    identifier = {"id": "gid://shopify/Product/1", "handle": "x"}
    error = (await shop.ask(SET_PRODUCT, identifier=identifier, input=shirt()))["errors"][0]
    assert error["extensions"]["code"] == "INVALID_VARIABLE"


async def test_a_list_of_251_is_refused_and_2048_variants_are_not(shop: ShopClient) -> None:
    envelope = await shop.ask(SET_PRODUCT, input={**shirt(), "tags": ["t"] * 251})
    assert envelope["errors"][0]["extensions"]["code"] == "MAX_INPUT_SIZE_EXCEEDED"
    assert envelope["errors"][0]["path"] == ["productSet", "input", "tags"]
    many = {**shirt(), "variants": [size("S")] * 2049}
    envelope = await shop.ask(SET_PRODUCT, input=many)
    assert "2048" in envelope["errors"][0]["message"]


async def test_a_missing_scope_is_access_denied_and_data_is_null(shop: ShopClient) -> None:
    await shop.open(scopes=["read_products"])
    envelope = await shop.ask(SET_PRODUCT, input=shirt())
    assert envelope["errors"][0]["extensions"]["code"] == "ACCESS_DENIED"
    assert envelope["data"] == {"productSet": None}


async def test_writing_a_thing_includes_reading_it_and_nothing_else(shop: ShopClient) -> None:
    await shop.open(scopes=["write_products"])
    await shop.data("{ products(first: 1) { nodes { id } } }")
    envelope = await shop.ask("{ locations(first: 1) { nodes { id } } }")
    assert envelope["errors"][0]["extensions"]["code"] == "ACCESS_DENIED"


async def test_a_query_of_more_than_a_thousand_points_is_never_served(shop: ShopClient) -> None:
    deep = "{ products(first: 250) { nodes { variants(first: 5) { nodes { id } } } } }"
    envelope = await shop.ask(deep)
    assert envelope["errors"][0]["extensions"]["code"] == "MAX_COST_EXCEEDED"


async def test_an_operation_the_sandbox_lacks_says_so(shop: ShopClient) -> None:
    envelope = await shop.ask(
        'mutation { tagsAdd(id: "gid://shopify/Product/1", tags: ["x"]) { userErrors { message } } }'
    )
    assert envelope["errors"][0]["extensions"]["code"] == "NOT_IN_SANDBOX"


async def test_an_empty_bucket_throttles_with_200_and_without_data(shop: ShopClient) -> None:
    await shop.open(settings={"bucket_size": 3, "restore_rate": 0.001})
    await shop.data(SHOP)
    await shop.data(SHOP)
    envelope = await shop.ask("{ shop { name plan { displayName } } locations(first: 2) { nodes { id } } }")
    assert "data" not in envelope
    assert envelope["errors"][0]["extensions"]["code"] == "THROTTLED"
    assert envelope["extensions"]["cost"]["actualQueryCost"] is None
    assert envelope["extensions"]["cost"]["throttleStatus"]["currentlyAvailable"] == 1


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("http_402", 402),
        ("http_403", 403),
        ("http_404", 404),
        ("http_423", 423),
        ("http_429", 429),
        ("http_500", 500),
        ("http_502", 502),
        ("http_503", 503),
        ("unauthorized", 401),
        ("error_502_after_success", 502),
    ],
)
async def test_an_ordered_fault_meets_only_its_operation_and_only_as_often_as_ordered(
    shop: ShopClient, kind: str, status: int
) -> None:
    await shop.order(kind, "productSet")
    assert (await shop.post(SHOP)).status_code == 200
    assert (await shop.post(SET_PRODUCT, input=shirt())).status_code == status
    assert (await shop.post(SET_PRODUCT, input=shirt())).status_code == 200


async def test_a_limit_of_another_kind_says_for_how_long(shop: ShopClient) -> None:
    await shop.order("http_429", seconds=36000)
    response = await shop.post(SHOP)
    assert (response.headers["Retry-After"], type(response.json()["errors"])) == ("36000.0", str)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("internal_error", "INTERNAL_SERVER_ERROR"),
        ("access_denied", "ACCESS_DENIED"),
        ("max_cost", "MAX_COST_EXCEEDED"),
        ("throttled", "THROTTLED"),
    ],
)
async def test_the_second_layers_no_is_a_200_and_nothing_was_executed(shop: ShopClient, kind: str, code: str) -> None:
    await shop.order(kind, "productSet")
    envelope = await shop.ask(SET_PRODUCT, input=shirt())
    assert envelope["errors"][0]["extensions"]["code"] == code
    assert not (envelope.get("data") or {}).get("productSet")
    assert (await shop.state())["products"] == []


async def test_a_partial_error_has_its_effect_its_data_and_an_error_beside_it(shop: ShopClient) -> None:
    await shop.order("partial_error", "productSet")
    envelope = await shop.ask(SET_PRODUCT, input=shirt())
    assert envelope["data"]["productSet"]["product"]["id"]
    assert envelope["errors"][0]["path"][0] == "productSet"
    assert len((await shop.state())["products"]) == 1


async def test_a_page_in_place_of_an_answer(shop: ShopClient) -> None:
    await shop.order("html")
    response = await shop.post(SHOP)
    assert (response.status_code, response.text[:6]) == (200, "<html>")


async def test_a_call_that_hangs_has_no_effect_and_no_answer(shop: ShopClient) -> None:
    await shop.order("hang", "productSet", seconds=0.01)
    with pytest.raises(httpx.TransportError):
        await shop.post(SET_PRODUCT, input=shirt())
    assert (await shop.state())["products"] == []


async def test_while_a_request_is_under_way_all_that_it_requested_is_gone(shop: ShopClient) -> None:
    """Shopify: the bucket must hold the requested cost; what was not used comes back with the answer."""
    await shop.open(settings={"bucket_size": 100, "restore_rate": 0.001, "latency_s": 0.3})
    wide = "{ products(first: 60) { nodes { id } } }"
    first, second = await asyncio.gather(shop.ask(wide), shop.ask(wide))
    refused, served = sorted((first, second), key=lambda one: "data" in one)
    assert refused["errors"][0]["extensions"]["code"] == "THROTTLED"
    assert served["extensions"]["cost"]["throttleStatus"]["currentlyAvailable"] >= 98
    assert (await shop.ask(wide))["data"]
    assert (await shop.meter())["throttled"] == 1
    assert (await shop.meter())["points_used"] < 10, "what was asked for and not used came back"


async def test_latency_is_what_was_set_and_spread_as_was_set(shop: ShopClient) -> None:
    await shop.open(settings={"latency_s": 0.05, "latency_jitter_s": 0.1})
    took = []
    for _ in range(8):
        before = monotonic()
        await shop.data(SHOP)
        took.append(monotonic() - before)
    assert min(took) >= 0.05
    assert max(took) - min(took) > 0.01


async def test_what_fails_validation_has_no_cost(shop: ShopClient) -> None:
    for envelope in (await shop.ask("{ shop { bogus } }"), await shop.ask(SET_PRODUCT, input={"title": 1})):
        assert "extensions" not in envelope


async def test_a_timeout_after_success_has_its_effect_and_no_answer(shop: ShopClient) -> None:
    item = await shop.first_item()
    given, key = await shop.adjustment(item, 7), str(uuid4())
    await shop.order("timeout_after_success", "inventoryAdjustQuantities")
    with pytest.raises(Exception, match=r"(?i)disconnect|read|closed") as caught:
        await shop.post(ADJUST, input=given, key=key)
    assert type(caught.value).__module__.startswith("httpx")
    assert (await shop.quantities())["incoming"] == 7
    await shop.data(ADJUST, input=given, key=key)
    assert (await shop.quantities())["incoming"] == 7


@pytest.mark.parametrize("body", [b"", b"[]", b'{"query": "{ shop { name } }", "variables": []}'])
async def test_a_body_that_is_no_request_is_a_400(shop: ShopClient, body: bytes) -> None:
    address = f"{shop.address}/shops/{shop.domain}/admin/api/2026-10/graphql.json"
    response = await shop.http.post(address, content=body, headers={"X-Shopify-Access-Token": shop.token})
    assert response.status_code == 400


async def test_a_fault_nobody_knows_is_refused_when_it_is_ordered(shop: ShopClient) -> None:
    response = await shop.http.post(f"{shop.address}/shops/{shop.domain}/faults", json={"kind": "meteor"})
    assert response.status_code == 422
