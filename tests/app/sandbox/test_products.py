"""Products: one per custom id, lists that are authoritative, and bulk mutations that touch only what they name."""

from __future__ import annotations

from typing import Any

import pytest

from tests.app.sandbox.conftest import DEFINE_DRAFT_ID, SET_PRODUCT, ShopClient, shirt, size

BULK_CREATE = """
mutation ($productId: ID!, $variants: [ProductVariantsBulkInput!]!) {
  productVariantsBulkCreate(productId: $productId, variants: $variants) {
    productVariants { id title inventoryItem { id } } userErrors { code field message }
  }
}
"""
BULK_UPDATE = """
mutation ($productId: ID!, $variants: [ProductVariantsBulkInput!]!) {
  productVariantsBulkUpdate(productId: $productId, variants: $variants) {
    productVariants { id inventoryItem { unitCost { amount } } } userErrors { code field message }
  }
}
"""
SET_METAFIELDS = """
mutation ($metafields: [MetafieldsSetInput!]!) {
  metafieldsSet(metafields: $metafields) { metafields { id value compareDigest } userErrors { code field message } }
}
"""
BY_CUSTOM_ID = """
query ($value: String!) {
  productByIdentifier(identifier: {customId: {namespace: "$app", key: "draft", value: $value}}) { id title }
}
"""
FIND_VARIANTS = "query ($terms: String!) { productVariants(first: 10, query: $terms) { nodes { sku product { id } } } }"


async def test_a_custom_id_without_its_definition_is_refused_and_creates_nothing(shop: ShopClient) -> None:
    identifier = {"customId": {"namespace": "$app", "key": "draft", "value": "d1"}}
    envelope = await shop.ask(SET_PRODUCT, identifier=identifier, input=shirt())
    assert envelope["errors"][0]["extensions"]["code"] == "NOT_FOUND"
    assert (await shop.state())["products_created"] == 0


async def test_the_definition_of_a_key_is_made_once(shop: ShopClient) -> None:
    await shop.define_draft_id()
    again = {"name": "d", "namespace": "$app", "key": "draft", "type": "id", "ownerType": "PRODUCT"}
    payload = (await shop.data(DEFINE_DRAFT_ID, definition=again))["metafieldDefinitionCreate"]
    assert payload["userErrors"][0]["code"] == "TAKEN"


async def test_setting_a_product_again_under_its_custom_id_updates_the_one_product(shop: ShopClient) -> None:
    await shop.define_draft_id()
    first = (await shop.set_product())["product"]
    second = (await shop.set_product(title="Linen Shirt II"))["product"]
    assert first["id"] == second["id"]
    state = await shop.state()
    assert (state["products_created"], [one["title"] for one in state["products"]]) == (1, ["Linen Shirt II"])
    assert (await shop.data(BY_CUSTOM_ID, value="d1"))["productByIdentifier"]["id"] == first["id"]
    assert (await shop.data(BY_CUSTOM_ID, value="d2"))["productByIdentifier"] is None


async def test_a_sent_metafield_list_must_hold_the_custom_id(shop: ShopClient) -> None:
    await shop.define_draft_id()
    other = [{"namespace": "$app", "key": "draft", "value": "another"}]
    assert (await shop.set_product(metafields=other))["userErrors"][0]["code"] == "METAFIELD_MISMATCH"


async def test_a_list_that_is_sent_deletes_what_it_leaves_out_and_one_not_sent_deletes_nothing(
    shop: ShopClient,
) -> None:
    await shop.define_draft_id()
    small, _ = (await shop.set_product())["product"]["variants"]["nodes"]
    only_small = {**size("S", sku="LS-S"), "id": small["id"]}
    kept = (await shop.set_product(variants=[only_small]))["product"]["variants"]["nodes"]
    assert [variant["id"] for variant in kept] == [small["id"]]
    identifier = {"customId": {"namespace": "$app", "key": "draft", "value": "d1"}}
    renamed = await shop.data(SET_PRODUCT, identifier=identifier, input={"title": "Renamed"})
    assert [variant["id"] for variant in renamed["productSet"]["product"]["variants"]["nodes"]] == [small["id"]]


async def test_a_variant_sent_without_its_id_is_a_new_one_unless_the_shop_matches_by_options(
    shop: ShopClient,
) -> None:
    await shop.define_draft_id()
    first = (await shop.set_product())["product"]["variants"]["nodes"]
    second = (await shop.set_product())["product"]["variants"]["nodes"]
    assert {one["id"] for one in first}.isdisjoint(one["id"] for one in second)
    await shop.open(settings={"match_variants_by_options": True})
    third = (await shop.set_product())["product"]["variants"]["nodes"]
    assert third == second


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"variants": None}, "VARIANTS_INPUT_MISSING", ["input", "variants"]),
        ({"productOptions": None}, "PRODUCT_OPTIONS_INPUT_MISSING", ["input", "productOptions"]),
        ({"variants": [size("S"), size("S")]}, "INVALID_VARIANT", ["input", "variants", "1"]),
        (
            {"variants": [size("XL")]},
            "OPTION_VALUE_DOES_NOT_EXIST",
            ["input", "variants", "0", "optionValues", "0", "name"],
        ),
        ({"variants": [size("S", price=None)]}, "INVALID_INPUT", ["input", "variants", "0", "price"]),
        ({"variants": [size("S", sku="x" * 256)]}, "INVALID_INPUT", ["input", "variants", "0", "sku"]),
        (
            {"variants": [size("S", inventoryItem={"cost": "-1"})]},
            "INVALID_INPUT",
            ["input", "variants", "0", "inventoryItem", "cost"],
        ),
        ({"title": "x" * 256}, "INVALID_INPUT", ["input", "title"]),
        ({"title": ""}, "INVALID_INPUT", ["input", "title"]),
    ],
)
async def test_each_rule_of_product_set_has_its_code_and_writes_nothing(
    shop: ShopClient, changes: dict[str, Any], code: str, field: list[str]
) -> None:
    await shop.define_draft_id()
    payload = await shop.set_product(**changes)
    assert [(error["code"], error["field"]) for error in payload["userErrors"]] == [(code, field)]
    assert (await shop.state())["products"] == []


async def test_a_fourth_option_is_over_the_limit(shop: ShopClient) -> None:
    options = [{"name": name, "values": [{"name": "x"}]} for name in ("A", "B", "C", "D")]
    values = [{"optionName": option["name"], "name": "x"} for option in options]
    given = {**shirt(), "productOptions": options, "variants": [{"optionValues": values}]}
    payload = (await shop.data(SET_PRODUCT, input=given))["productSet"]
    assert payload["userErrors"][0]["code"] == "OPTIONS_OVER_LIMIT"


async def test_a_generated_handle_avoids_a_taken_one_and_a_chosen_handle_does_not(shop: ShopClient) -> None:
    handles = [
        (await shop.data(SET_PRODUCT, input={"title": "Linen & Shirt!"}))["productSet"]["product"]["handle"]
        for _ in range(3)
    ]
    assert handles == ["linen-shirt", "linen-shirt-1", "linen-shirt-2"]
    taken = await shop.data(SET_PRODUCT, input={"title": "Other", "handle": "linen-shirt"})
    error = taken["productSet"]["userErrors"][0]
    assert (error["code"], error["field"]) == ("HANDLE_NOT_UNIQUE", ["input", "handle"])


async def test_what_is_not_said_gets_shopifys_defaults_and_tags_are_tidied(shop: ShopClient) -> None:
    given = {"title": "Plain", "tags": ["b, A", "a ", "B"]}
    product = (await shop.data(SET_PRODUCT, input=given))["productSet"]["product"]
    assert (product["status"], product["tags"]) == ("ACTIVE", ["A", "b"])
    assert [variant["title"] for variant in product["variants"]["nodes"]] == ["Default Title"]


async def test_bulk_create_adds_and_touches_no_other_variant(shop: ShopClient) -> None:
    await shop.define_draft_id()
    product = (await shop.set_product())["product"]
    added = await shop.data(BULK_CREATE, productId=product["id"], variants=[size("L", price="60")])
    assert [one["title"] for one in added["productVariantsBulkCreate"]["productVariants"]] == ["L"]
    after = (await shop.state())["products"][0]["variants"]
    assert [one["id"] for one in after[:2]] == [one["id"] for one in product["variants"]["nodes"]]
    again = await shop.data(BULK_CREATE, productId=product["id"], variants=[size("L")])
    error = again["productVariantsBulkCreate"]["userErrors"][0]
    assert (error["code"], error["field"]) == ("VARIANT_ALREADY_EXISTS", ["variants", "0"])
    assert "The variant 'L' already exists" in error["message"]


async def test_bulk_update_changes_only_the_fields_it_names(shop: ShopClient) -> None:
    await shop.define_draft_id()
    product = (await shop.set_product())["product"]
    small = product["variants"]["nodes"][0]
    change = {"id": small["id"], "inventoryItem": {"cost": "23.00"}}
    await shop.data(BULK_UPDATE, productId=product["id"], variants=[change])
    after = (await shop.state())["products"][0]["variants"][0]
    assert (after["cost"], after["price"], after["sku"], after["tracked"]) == ("23.00", "49.90", "LS-S", True)
    counted = {**change, "inventoryQuantities": [{"availableQuantity": 1, "locationId": await shop.location()}]}
    refused = await shop.data(BULK_UPDATE, productId=product["id"], variants=[counted])
    code = refused["productVariantsBulkUpdate"]["userErrors"][0]["code"]
    assert code == "NO_INVENTORY_QUANTITIES_ON_VARIANTS_UPDATE"


async def test_metafields_are_set_with_compare_and_swap(shop: ShopClient) -> None:
    await shop.define_draft_id()
    owner = (await shop.set_product())["product"]["id"]
    entry = {"ownerId": owner, "namespace": "po", "key": "order", "type": "single_line_text_field", "value": "1"}
    first = (await shop.data(SET_METAFIELDS, metafields=[{**entry, "compareDigest": None}]))["metafieldsSet"]
    assert first["userErrors"] == []
    stale = {**entry, "value": "2", "compareDigest": "0"}
    errors = (await shop.data(SET_METAFIELDS, metafields=[stale]))["metafieldsSet"]["userErrors"]
    assert errors[0]["code"] == "STALE_OBJECT"
    errors = (await shop.data(SET_METAFIELDS, metafields=[entry] * 26))["metafieldsSet"]["userErrors"]
    assert errors[0]["code"] == "LESS_THAN_OR_EQUAL_TO"
    assert (await shop.state())["products"][0]["metafields"]["po.order"] == "1"


async def test_a_custom_id_belongs_to_one_product(shop: ShopClient) -> None:
    await shop.define_draft_id()
    await shop.set_product("d1")
    other = (await shop.set_product("d2"))["product"]["id"]
    entry = {"ownerId": other, "namespace": "$app", "key": "draft", "value": "d1"}
    assert (await shop.data(SET_METAFIELDS, metafields=[entry]))["metafieldsSet"]["userErrors"]


async def test_a_search_may_find_several_and_does_not_see_what_is_too_young(shop: ShopClient) -> None:
    await shop.define_draft_id()
    await shop.set_product("d1")
    await shop.set_product("d2")
    found = (await shop.data(FIND_VARIANTS, terms='sku:"LS-S" OR barcode:123'))["productVariants"]["nodes"]
    assert [one["sku"] for one in found] == ["LS-S", "LS-S"]
    await shop.open(settings={"search_lag_s": 60})
    assert (await shop.data(FIND_VARIANTS, terms="sku:LS-S"))["productVariants"]["nodes"] == []


async def test_an_asynchronous_set_is_asked_for_by_its_operation(shop: ShopClient) -> None:
    asynchronous = """
    mutation ($input: ProductSetInput!) {
      productSet(input: $input, synchronous: false) { product { id } productSetOperation { id status } }
    }"""
    follow = "query ($id: ID!) { productOperation(id: $id) { status product { title } } }"
    payload = (await shop.data(asynchronous, input=shirt()))["productSet"]
    assert (payload["product"], payload["productSetOperation"]["status"]) == (None, "CREATED")
    operation = (await shop.data(follow, id=payload["productSetOperation"]["id"]))["productOperation"]
    assert operation == {"status": "COMPLETE", "product": {"title": "Linen Shirt"}}


async def test_a_page_is_followed_by_its_cursor(shop: ShopClient) -> None:
    for title in ("A", "B", "C"):
        await shop.data(SET_PRODUCT, input={"title": title})
    page = """
    query ($after: String) {
      products(first: 2, after: $after) { nodes { title } pageInfo { hasNextPage endCursor } }
    }"""
    first = (await shop.data(page))["products"]
    rest = (await shop.data(page, after=first["pageInfo"]["endCursor"]))["products"]
    titles = [one["title"] for one in first["nodes"] + rest["nodes"]]
    assert (titles, rest["pageInfo"]["hasNextPage"]) == (["A", "B", "C"], False)


async def test_being_active_is_not_being_published(shop: ShopClient) -> None:
    publish = """
    mutation ($id: ID!, $input: [PublicationInput!]!) {
      publishablePublish(id: $id, input: $input) { userErrors { message } }
    }"""
    product = (await shop.data(SET_PRODUCT, input={"title": "A"}))["productSet"]["product"]["id"]
    assert (await shop.state())["products"][0]["published_on"] == []
    publication = (await shop.data("{ publications(first: 1) { nodes { id } } }"))["publications"]["nodes"][0]["id"]
    await shop.data(publish, id=product, input=[{"publicationId": publication}])
    assert (await shop.state())["products"][0]["published_on"] == [publication]
