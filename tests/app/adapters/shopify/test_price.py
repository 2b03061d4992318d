"""An estimate that is too low is throttled; one that is too high costs nothing."""

from __future__ import annotations

from typing import Any

import pytest
from graphql import FragmentDefinitionNode, OperationDefinitionNode, OperationType, parse

from app.adapters.shopify import operations
from app.adapters.shopify.price import Prices, requested
from app.sandbox.cost import Estimate

LONG = [{"sku": str(number)} for number in range(120)]
VARIABLES: list[dict[str, Any]] = [
    {},
    {"input": {"variants": LONG, "metafields": LONG[:3], "files": LONG[:9]}},
    {"variants": LONG, "media": LONG[:4]},
    {"input": LONG[:10]},
]


@pytest.mark.parametrize("variables", VARIABLES)
@pytest.mark.parametrize("document", operations.ALL)
def test_no_operation_of_ours_is_estimated_below_what_is_requested(document: str, variables: dict[str, Any]) -> None:
    parsed = parse(document)
    fragments = {one.name.value: one for one in parsed.definitions if isinstance(one, FragmentDefinitionNode)}
    [operation] = [one for one in parsed.definitions if isinstance(one, OperationDefinitionNode)]
    is_mutation = operation.operation is OperationType.MUTATION
    theirs = Estimate(fragments, variables).requested(operation.selection_set, is_mutation=is_mutation)
    assert requested(document, variables) >= theirs


@pytest.mark.parametrize("document", operations.ALL)
def test_no_operation_of_ours_is_too_dear_to_be_served(document: str) -> None:
    assert requested(document, {}) <= 1000


def test_shopifys_own_examples() -> None:
    """integrations.md B: productSet 10-27 typical, inventory 10-13, fileCreate 20-24; our documents select little."""
    product = {"variants": LONG[:5], "metafields": LONG[:1]}
    assert requested(operations.CREATE_PRODUCT, {"input": product}) in range(10, 28)
    assert requested(operations.ADJUST_QUANTITIES, {"input": {"changes": LONG}}) in range(10, 15)


def test_a_price_the_shop_named_is_believed_and_the_highest_kept() -> None:
    prices = Prices()
    few, many = {"input": {"variants": LONG[:5]}}, {"input": {"variants": LONG}}
    for price in (12, 9):
        prices.learn(operations.CREATE_PRODUCT, few, price)
    assert prices.of(operations.CREATE_PRODUCT, few) == 12
    assert prices.of(operations.CREATE_PRODUCT, many) == requested(operations.CREATE_PRODUCT, many)
