"""Every document we send is a document of Shopify's published schema."""

from __future__ import annotations

from pathlib import Path

import pytest
from graphql import GraphQLSchema, OperationDefinitionNode, build_schema, parse, validate

from app.adapters.shopify import operations

CONTRACT = Path("app/sandbox/contract-2026-10.graphql")
IDEMPOTENT = {
    "inventoryAdjustQuantities",
    "inventoryMoveQuantities",
    "inventoryShipmentCreateInTransit",
    "inventoryShipmentReceive",
    "inventoryTransferCreateAsReadyToShip",
}
"""Of the mutations we send, those on which 2026-10 requires `@idempotent`."""


@pytest.fixture(scope="module")
def schema() -> GraphQLSchema:
    root = Path(__file__).parents[4]
    return build_schema((root / CONTRACT).read_text(encoding="utf-8"))


def only_operation(document: str) -> OperationDefinitionNode:
    (found,) = (one for one in parse(document).definitions if isinstance(one, OperationDefinitionNode))
    return found


@pytest.mark.parametrize("document", operations.ALL, ids=lambda document: only_operation(document).name.value)
def test_an_operation_is_valid_named_and_unlike_any_other(schema: GraphQLSchema, document: str) -> None:
    assert validate(schema, parse(document)) == []
    assert only_operation(document).name is not None
    assert operations.ALL.count(document) == 1


def test_all_lists_every_operation_of_the_module() -> None:
    documents = [value for name, value in vars(operations).items() if name.isupper() and isinstance(value, str)]
    named = [one for one in documents if not one.strip().startswith("fragment")]
    assert sorted(named) == sorted(operations.ALL)


@pytest.mark.parametrize("document", operations.ALL, ids=lambda document: only_operation(document).name.value)
def test_a_quantity_is_never_sent_without_a_key(document: str) -> None:
    for field in only_operation(document).selection_set.selections:
        if field.name.value in IDEMPOTENT:  # type: ignore[union-attr]  our root selections are plain fields
            assert [directive.name.value for directive in field.directives] == ["idempotent"]


@pytest.mark.parametrize("document", operations.ALL, ids=lambda document: only_operation(document).name.value)
def test_a_mutation_always_asks_what_was_wrong(document: str) -> None:
    if only_operation(document).operation.value == "mutation":
        assert "userErrors" in document
