"""What we really send about products fits the published input types, whatever a document has made of a product."""

from __future__ import annotations

from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import httpx
from graphql import GraphQLInputObjectType, GraphQLSchema, OperationDefinitionNode, build_schema, parse
from graphql.execution.values import get_variable_values
from graphql.utilities import validate_input_value
from hypothesis import given, settings
from hypothesis import strategies as st

from app.adapters.shopify import operations
from app.adapters.shopify.alone import AloneLimits
from app.adapters.shopify.client import ShopBounds, ShopClient, ShopCredentials
from app.adapters.shopify.price import Prices
from app.adapters.shopify.products import CustomIds, ShopifyProducts, bulk_input, product_input
from pipeline.clock import SystemClock
from pipeline.domain.drafting import draft_of
from pipeline.domain.results import Draft, PlannedProduct, PlannedVariant
from pipeline.domain.shop import ShopProduct
from tests.sandbox_shop import TOKEN, SandboxShop, http, make_draft, sandbox

__all__ = ["http", "sandbox"]

CONTRACT = Path(__file__).parents[4] / "app/sandbox/contract-2026-10.graphql"
OF_PRODUCTS = {
    operations.DEFINE_CUSTOM_ID,
    operations.CUSTOM_ID_TYPE,
    operations.FIND_PRODUCT,
    operations.FIND_VARIANTS,
    operations.NODES,
    operations.CREATE_PRODUCT,
    operations.LINK_PRODUCT,
    operations.ADD_VARIANTS,
    operations.STOCK_VALUES,
    operations.SET_COSTS,
}


class Recording(ShopClient):
    """The client as it is, which remembers what it said."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.said: list[tuple[str, dict[str, Any]]] = []

    async def call(self, document: str, **variables: Any) -> dict[str, Any]:
        self.said.append((document, variables))
        return await super().call(document, **variables)


async def test_every_product_operation_is_sent_with_variables_of_its_types(
    sandbox: SandboxShop, http: httpx.AsyncClient
) -> None:
    schema = build_cached()
    clock = SystemClock()
    bounds = ShopBounds("merchant-1", "demo.example", AloneLimits(clock), clock, Prices())
    client = Recording(http, ShopCredentials(sandbox.endpoint, TOKEN), clock, bounds)
    for _ in range(2):  # a second process finds the definition there
        shop = ShopifyProducts(client, CustomIds(client))
        await shop.find_product("nobody")
    draft = make_draft("mug", {"S": 1, "M": 2})
    first = draft.model_copy(update={"variants": draft.variants[:1]})
    product = await shop.create_product(first)
    product = await shop.add_variants(product, draft, [draft.variants[1].id])
    await shop.find_variants(skus=["mug-S"], barcodes=["4006381333931"])
    await shop.list_vanished([product.id, product.variants[0].id])
    await shop.link(product.id, "another")
    values = await shop.stock_values(product.id)
    await shop.set_costs(product.id, dict.fromkeys(values, Decimal("1.50")))

    assert {document for document, _ in client.said} == OF_PRODUCTS
    for document, variables in client.said:
        (operation,) = (one for one in parse(document).definitions if isinstance(one, OperationDefinitionNode))
        coerced = get_variable_values(schema, operation.variable_definitions or (), variables)
        assert not isinstance(coerced, list), (operation.name, coerced)
        declared = {one.variable.name.value for one in operation.variable_definitions or ()}
        assert variables.keys() <= declared, operation.name


text = st.text(min_size=1, max_size=30)
money = st.none() | st.decimals(min_value=0, max_value=10**9, places=4)


@st.composite
def drafts(draw: st.DrawFn) -> Draft:
    """A product as stage 6 might plan it: no, one or several options; whatever letters a document holds."""
    names = draw(st.lists(text, max_size=3, unique_by=str.casefold))
    count = draw(st.integers(1, 4)) if names else 1
    variants = tuple(
        PlannedVariant(
            variant_key=str(number),
            positions=(number + 1,),
            sku=draw(st.just("") | text),
            gtin=draw(st.sampled_from(["", "4006381333931"])),
            options={name: draw(text) for name in names},
            quantity=draw(st.integers(0, 10**6)),
            unit_cost=draw(money),
            price=draw(money),
        )
        for number in range(count)
    )
    plan = PlannedProduct(
        product_key="key",
        title=draw(text),
        description_html=draw(st.text(max_size=50)),
        vendor=draw(st.text(max_size=20)),
        product_type=draw(st.text(max_size=20)),
        tags=tuple(draw(st.lists(text, max_size=3))),
        option_names=tuple(names),
        variants=variants,
    )
    return draft_of("merchant", "supplier", plan)


@given(draft=drafts())
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
def test_any_draft_becomes_an_input_the_contract_knows(draft: Draft) -> None:
    schema = build_cached()
    created = product_input(draft, draft.id)
    check(schema, "ProductSetInput", created)
    assert "inventoryQuantities" not in str(created)
    assert created["status"] == "DRAFT"
    assert [(one["inventoryPolicy"], one["inventoryItem"]["tracked"]) for one in created["variants"]] == [
        ("DENY", True)
    ] * len(draft.variants)
    assert all(one.get("price", "0") is not None for one in created["variants"])
    there = ShopProduct("p", "Title", "DRAFT", (), option_values=dict.fromkeys(draft.plan.option_names, ()))
    for variant in draft.variants:
        added = bulk_input(draft, variant, there)
        check(schema, "ProductVariantsBulkInput", added)
        assert "inventoryQuantities" not in added


def check(schema: GraphQLSchema, name: str, value: Any) -> None:
    kind = schema.get_type(name)
    assert isinstance(kind, GraphQLInputObjectType)
    problems: list[str] = []
    validate_input_value(value, kind, lambda error, path: problems.append(f"{path}: {error}"))
    assert problems == []


@cache
def build_cached() -> GraphQLSchema:
    """Hypothesis asks for it 150 times; a fixture cannot be given to it."""
    return build_schema(CONTRACT.read_text(encoding="utf-8"))
