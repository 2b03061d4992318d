"""What a request costs, and the leaky bucket it is paid from.

Shopify: scalars 0, objects 1, mutations 10, connections by `first` or `last`; a single query may request
at most 1,000 points; the bucket must hold the requested cost, the difference to the actual is given back.
How deep connections are discounted is not documented; here they multiply, so what fits here fits there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    IntValueNode,
    SelectionSetNode,
    VariableNode,
)

MUTATION_POINTS = 10
QUERY_POINTS_MAX = 1000
FREE_OBJECTS = {"nodes", "edges", "node", "pageInfo", "userErrors"}
"""Parts of a connection or a payload; what they hold is counted, they themselves are not."""

INPUT_POINTS = {"variants": 0.2, "files": 1.9, "metafields": 0.4}
"""Shopify's stated complexity of a productSet: per variant, per file, per metafield."""


@dataclass
class Bucket:
    """Points of one app in one shop, refilled by the second. A Standard shop has 2,000, and 100 a second [C]."""

    size: float
    restore_rate: float
    refusals: int = 0
    """Requests it could not pay for: what a well-behaved client never sees."""
    used: float = 0.0
    """Points spent in all, without those given back."""
    level: float = field(init=False)
    filled_at: float = field(default_factory=monotonic)

    def __post_init__(self) -> None:
        self.level = self.size

    def take(self, points: float) -> bool:
        """Pay, or say that the bucket does not hold that much."""
        self._refill()
        if self.level < points:
            return False
        self.level -= points
        self.used += points
        return True

    def drain(self) -> None:
        """Somebody else of the same app spends all there is: the next request is throttled, and told its true price."""
        self.level, self.filled_at = 0.0, monotonic()

    def give_back(self, points: float) -> None:
        """Return what was requested and not used."""
        self.level = min(self.size, self.level + points)
        self.used -= points

    def status(self) -> dict[str, float]:
        """Shopify's `throttleStatus`."""
        self._refill()
        return {
            "maximumAvailable": self.size,
            "currentlyAvailable": math.floor(self.level),
            "restoreRate": self.restore_rate,
        }

    def _refill(self) -> None:
        at = monotonic()
        self.level = min(self.size, self.level + (at - self.filled_at) * self.restore_rate)
        self.filled_at = at


@dataclass(frozen=True)
class Estimate:
    """Counts a document's requested points before anything is executed."""

    fragments: dict[str, FragmentDefinitionNode]
    variables: dict[str, Any]

    def requested(self, selections: SelectionSetNode, *, is_mutation: bool) -> int:
        """The points of a whole operation."""
        points = self._points(selections)
        if is_mutation:
            points += MUTATION_POINTS * len(selections.selections)
            points += self._input_points()
        return math.ceil(points)

    def _points(self, selections: SelectionSetNode) -> float:
        total = 0.0
        for node in selections.selections:
            if isinstance(node, FragmentSpreadNode):
                total += self._points(self.fragments[node.name.value].selection_set)
            elif isinstance(node, InlineFragmentNode):
                total += self._points(node.selection_set)
            elif isinstance(node, FieldNode) and node.selection_set:
                total += self._field_points(node, node.selection_set)
        return total

    def _field_points(self, node: FieldNode, selections: SelectionSetNode) -> float:
        inner = self._points(selections)
        name = node.name.value
        if name in {"nodes", "edges", "node"} and not node.arguments:
            return inner + (1 if name != "edges" else 0)
        if name in FREE_OBJECTS:
            return inner
        page = self._page_size(node)
        return inner * page if page is not None else 1 + inner

    def _page_size(self, node: FieldNode) -> int | None:
        for argument in node.arguments or ():
            if argument.name.value in {"first", "last"}:
                value = argument.value
                if isinstance(value, IntValueNode):
                    return int(value.value)
                if isinstance(value, VariableNode) and self.variables.get(value.name.value) is not None:
                    return int(self.variables[value.name.value])
        return None

    def _input_points(self) -> float:
        given = self.variables.get("input")
        if not isinstance(given, dict):
            return 0.0
        return sum(
            points * len(given[name]) for name, points in INPUT_POINTS.items() if isinstance(given.get(name), list)
        )


def actual(data: Any, *, requested: int, is_mutation: bool) -> int:
    """The points a result really used: one for each object in it, never more than was requested."""
    used = _objects(data, "") - 1 + (MUTATION_POINTS * len(data or ()) if is_mutation else 0)
    return max(1, min(requested, used))


def _objects(value: Any, name: str) -> int:
    if isinstance(value, list):
        return sum(_objects(item, name) for item in value)
    if isinstance(value, dict):
        own = 0 if name in FREE_OBJECTS - {"nodes", "node"} else 1
        return own + sum(_objects(item, key) for key, item in value.items())
    return 0
