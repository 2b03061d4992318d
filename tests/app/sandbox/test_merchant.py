"""The merchant in the admin: edits that have the effect they have there, and a search that sees them late."""

from __future__ import annotations

from typing import Any

import pytest

from tests.app.sandbox.conftest import ShopClient

FIND = "query ($terms: String!) { productVariants(first: 10, query: $terms) { nodes { sku } } }"


async def edit(shop: ShopClient, do: str, **given: Any) -> str:
    response = await shop.http.post(f"{shop.address}/shops/{shop.domain}/edits", json={"do": do, **given})
    assert response.status_code == 201, response.text
    return str(response.json()["ids"][0])


async def the_product(shop: ShopClient) -> dict[str, Any]:
    (product,) = (await shop.state())["products"]
    return dict(product)


async def hemd(shop: ShopClient) -> str:
    variants = [{"options": {"Size": size}, "sku": f"H-{size}", "available": 2} for size in ("S", "M")]
    return await edit(shop, "add_product", title="Hemd", variants=variants)


async def test_a_product_of_the_merchants_own_is_active_and_by_the_shop(shop: ShopClient) -> None:
    await hemd(shop)
    product = await the_product(shop)
    assert (product["status"], product["vendor"], product["handle"]) == (
        "ACTIVE",
        shop.domain.partition(".")[0],
        "hemd",
    )
    assert [one["quantities"]["available"] for one in product["variants"]] == [2, 2]


async def test_renaming_an_option_or_a_value_keeps_the_variants(shop: ShopClient) -> None:
    product_id = await hemd(shop)
    ids = [one["id"] for one in (await the_product(shop))["variants"]]
    await edit(shop, "rename_option", product_id=product_id, option="Size", name="Größe")
    await edit(shop, "rename_option", product_id=product_id, option="Größe", name="Klein", value="S")
    product = await the_product(shop)
    assert product["options"] == [{"name": "Größe", "values": ["Klein", "M"]}]
    assert [(one["id"], one["title"]) for one in product["variants"]] == list(zip(ids, ["Klein", "M"], strict=True))


async def test_a_new_option_gives_every_variant_its_first_value(shop: ShopClient) -> None:
    product_id = await hemd(shop)
    await edit(shop, "add_option", product_id=product_id, name="Material", value="Linen")
    assert [one["title"] for one in (await the_product(shop))["variants"]] == ["S / Linen", "M / Linen"]


async def test_a_deleted_product_takes_its_metafields_along(shop: ShopClient) -> None:
    product_id = await hemd(shop)
    await edit(shop, "set_metafield", owner_id=product_id, namespace="custom", key="care", value="cold")
    assert (await the_product(shop))["metafields"] == {"custom.care": "cold"}
    await edit(shop, "delete_product", product_id=product_id)
    assert (await shop.state())["products"] == []


async def test_what_is_not_there_cannot_be_edited(shop: ShopClient) -> None:
    body = {"do": "delete_product", "product_id": "gid://shopify/Product/1"}
    response = await shop.http.post(f"{shop.address}/shops/{shop.domain}/edits", json=body)
    assert response.status_code == 422


@pytest.mark.parametrize(("lag_s", "found"), [(0, ["H-S"]), (3600, [])])
async def test_a_search_lags_by_what_it_is_told(shop: ShopClient, lag_s: float, found: list[str]) -> None:
    await shop.open(settings={"search_lag_s": lag_s})
    await hemd(shop)
    nodes = (await shop.data(FIND, terms='sku:"H-S"'))["productVariants"]["nodes"]
    assert [one["sku"] for one in nodes] == found


async def test_a_search_for_a_sku_finds_those_it_begins_as_well(shop: ShopClient) -> None:
    variants = [{"options": {"Size": size}, "sku": sku} for size, sku in (("S", "A-1"), ("M", "A-1-XL"), ("L", "A-10"))]
    await edit(shop, "add_product", title="Apron", variants=variants)
    nodes = (await shop.data(FIND, terms='sku:"A-1"'))["productVariants"]["nodes"]
    assert [one["sku"] for one in nodes] == ["A-1", "A-1-XL"]


async def test_a_refusal_on_order_writes_nothing(shop: ShopClient) -> None:
    await shop.define_draft_id()
    await shop.order("refused", "productSet")
    assert (await shop.set_product())["userErrors"][0]["code"] == "INVALID_INPUT"
    assert (await shop.state())["products"] == []
