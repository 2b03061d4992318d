"""The three layers in which a shop says no, and what every reply carries."""

from __future__ import annotations

from uuid import uuid4

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
    ("kind", "status"), [("http_500", 500), ("http_429", 429), ("unauthorized", 401), ("error_502_after_success", 502)]
)
async def test_an_ordered_fault_meets_only_its_operation_and_only_as_often_as_ordered(
    shop: ShopClient, kind: str, status: int
) -> None:
    await shop.order(kind, "productSet")
    assert (await shop.post(SHOP)).status_code == 200
    assert (await shop.post(SET_PRODUCT, input=shirt())).status_code == status
    assert (await shop.post(SET_PRODUCT, input=shirt())).status_code == 200


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
