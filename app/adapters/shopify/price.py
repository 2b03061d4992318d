"""What a request will cost: the points Shopify will want to see in the bucket before it looks at anything.

Shopify: scalars are free, an object costs 1, a mutation 10, a connection what it holds times `first` or `last`; lists
in a product's input cost a fraction for each entry. How deep connections are discounted is not documented, so they
multiply here: an estimate that is too high costs nothing, for the difference comes back with the answer, while one
that is too low would be throttled. Once the shop has named its price for such a request, that is believed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    VariableNode,
    parse,
)

MUTATION_POINTS = 10
INPUT_POINTS = {"variants": 0.2, "files": 1.9, "metafields": 0.4, "file": 0.6, "media": 1.9}
"""Shopify's stated complexity of productSet, per entry (`file`: a variant's own); `media` is taken to cost as files."""

PRICES_MAX = 1_000


class Prices:
    """Estimates, and what the shop said in their stead. One for all shops: Shopify's prices are the same in each."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], float] = {}

    def of(self, document: str, variables: Mapping[str, Any]) -> float:
        """The points to have before sending this."""
        estimate = requested(document, variables)
        return self._known.get((document, estimate), float(estimate))

    def learn(self, document: str, variables: Mapping[str, Any], price: float) -> None:
        """The shop named its price. Requests that look alike may differ a little: the highest is kept."""
        key = (document, requested(document, variables))
        if key in self._known or len(self._known) < PRICES_MAX:
            self._known[key] = max(price, self._known.get(key, 0.0))


def requested(document: str, variables: Mapping[str, Any]) -> int:
    """The estimate for a document of one operation."""
    parsed = _parsed(document)
    fragments = {one.name.value: one for one in parsed.definitions if isinstance(one, FragmentDefinitionNode)}
    operation = next(one for one in parsed.definitions if isinstance(one, OperationDefinitionNode))
    points = _points(operation.selection_set, fragments, variables)
    if operation.operation is OperationType.MUTATION:
        points += MUTATION_POINTS * len(operation.selection_set.selections) + _input_points(variables)
    return max(1, math.ceil(points))


@lru_cache(maxsize=256)
def _parsed(document: str) -> DocumentNode:
    return parse(document, no_location=True)


def _points(
    selections: SelectionSetNode, fragments: Mapping[str, FragmentDefinitionNode], variables: Mapping[str, Any]
) -> float:
    total = 0.0
    for node in selections.selections:
        if isinstance(node, FragmentSpreadNode):
            total += _points(fragments[node.name.value].selection_set, fragments, variables)
        elif isinstance(node, InlineFragmentNode):
            total += _points(node.selection_set, fragments, variables)
        elif isinstance(node, FieldNode) and node.selection_set is not None:
            inner = _points(node.selection_set, fragments, variables)
            page = _page_size(node, variables)
            total += 1 + inner if page is None else max(1, page) * max(1.0, inner)
    return total


def _page_size(node: FieldNode, variables: Mapping[str, Any]) -> int | None:
    for argument in node.arguments or ():
        if argument.name.value in {"first", "last"}:
            value = argument.value
            if isinstance(value, IntValueNode):
                return int(value.value)
            if isinstance(value, VariableNode) and isinstance(found := variables.get(value.name.value), int):
                return found
    return None


def _input_points(value: Any) -> float:
    if isinstance(value, Mapping):
        own = sum(
            points * (len(value[name]) if isinstance(value[name], list) else 1)
            for name, points in INPUT_POINTS.items()
            if value.get(name)
        )
        return own + sum(_input_points(one) for one in value.values())
    if isinstance(value, list | tuple):
        return sum(_input_points(one) for one in value)
    return 0.0
