"""One GraphQL request from text to envelope, in the order in which Shopify says no.

Parse, validate against the published contract, coerce variables, limit list sizes, charge; execute, save, refund.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLSyntaxError,
    OperationDefinitionNode,
    OperationType,
    StringValueNode,
    VariableNode,
    execute_sync,
    get_operation_ast,
    parse,
    validate,
)
from pydantic import BaseModel, Field

from app.sandbox.call import PAGE_SIZE_MAX, Call
from app.sandbox.cost import QUERY_POINTS_MAX, Bucket, Estimate, actual
from app.sandbox.idempotency import Running
from app.sandbox.schema import load_schema, resolve_plainly
from app.sandbox.state import now
from app.sandbox.variables import invalid_variables

if TYPE_CHECKING:
    from graphql import DocumentNode

    from app.sandbox.state import Shop
    from app.sandbox.store import Store

Envelope = dict[str, Any]

VARIANTS_MAX = 2048
"""Shopify: 2,048 entries in one `variants` list; 250 in every other."""

THROTTLED_HELP = "https://shopify.dev/api/usage/rate-limits"


class GraphqlRequest(BaseModel):
    """The body of a GraphQL request."""

    query: str = ""
    variables: dict[str, Any] | None = None
    operation_name: str | None = Field(default=None, alias="operationName")


@dataclass(frozen=True)
class Charged:
    """A request that was charged what it requested and is now to be executed."""

    document: DocumentNode
    operation: OperationDefinitionNode
    variables: dict[str, Any]
    requested: int

    @property
    def is_mutation(self) -> bool:
        """Whether it changes anything."""
        return self.operation.operation is OperationType.MUTATION


@dataclass
class Gateway:
    """Answers GraphQL for all shops; requests are executed one at a time, so each is atomic.

    They are charged when they arrive and refunded when they are answered: of requests under way at the same time
    each must find all that it requested in the bucket (integrations.md B).
    """

    store: Store
    buckets: dict[str, Bucket] = field(default_factory=dict)
    running: Running = field(default_factory=Running)

    def begin(self, shop: Shop, body: GraphqlRequest) -> Envelope | Charged:
        """Look at one request and charge it; an envelope where that is the end of it. HTTP 200 whatever it says.

        What fails validation has no cost extension [C].
        """
        document = _read(body.query)
        if isinstance(document, list):
            return {"errors": document}
        operation = get_operation_ast(document, body.operation_name)
        if operation is None:
            return {"errors": [{"message": "An operation name is required"}]}
        variables = body.variables or {}
        if invalid := invalid_variables(load_schema(), operation, variables):
            return {"errors": invalid}
        if too_long := _oversized(operation, variables):
            return {"errors": [too_long]}
        return self._charge(shop, document, operation, variables)

    def finish(self, shop: Shop, address: str, charged: Charged, request: object) -> Envelope:
        """Execute what was charged, and give back what it did not use."""
        is_mutation = charged.is_mutation
        call = Call(shop, self.store, address, now(), self.running, request)
        envelope = self._execute(call, charged.document, charged.operation, charged.variables)
        used = actual(envelope["data"], requested=charged.requested, is_mutation=is_mutation)
        bucket = self.bucket(shop)
        bucket.give_back(charged.requested - used)
        envelope["extensions"] = {"cost": _cost(bucket, charged.requested, used)}
        return envelope

    def bucket(self, shop: Shop) -> Bucket:
        """The shop's points; a restart begins with a full bucket."""
        if shop.domain not in self.buckets:
            self.buckets[shop.domain] = Bucket(shop.settings.bucket_size, shop.settings.restore_rate)
        return self.buckets[shop.domain]

    def _charge(
        self, shop: Shop, document: DocumentNode, operation: OperationDefinitionNode, variables: dict[str, Any]
    ) -> Envelope | Charged:
        fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
        is_mutation = operation.operation is OperationType.MUTATION
        requested = Estimate(fragments, variables).requested(operation.selection_set, is_mutation=is_mutation)
        bucket = self.bucket(shop)
        if requested > QUERY_POINTS_MAX and not is_mutation:
            return {"errors": [_too_expensive(requested)]}
        if not bucket.take(requested):
            bucket.refusals += 1
            return throttled(bucket, requested)
        return Charged(document, operation, variables, requested)

    def _execute(
        self, call: Call, document: DocumentNode, operation: OperationDefinitionNode, variables: dict[str, Any]
    ) -> Envelope:
        result = execute_sync(
            load_schema(),
            document,
            context_value=call,
            variable_values=variables,
            operation_name=operation.name.value if operation.name else None,
            field_resolver=resolve_plainly,
        )
        if operation.operation is OperationType.MUTATION:
            self.store.save(call.shop)
        envelope: Envelope = {"data": result.data}
        if result.errors:
            envelope["errors"] = [_formatted(error) for error in result.errors]
        return envelope


@lru_cache(maxsize=256)
def _read(query: str) -> DocumentNode | list[dict[str, Any]]:
    """The document, or why it is none; clients send the same few texts again and again."""
    try:
        document = parse(query)
    except GraphQLSyntaxError as error:
        return [_formatted(error)]
    problems = validate(load_schema(), document)
    return [_validation_error(problem) for problem in problems] or document


def operation_names(query: str) -> list[str]:
    """The root fields a document asks for; empty when it cannot be read."""
    document = _read(query)
    operation = None if isinstance(document, list) else get_operation_ast(document)
    return [] if operation is None else _root_fields(operation)


def idempotency_keys(body: GraphqlRequest) -> list[str]:
    """The keys a request's mutations are marked with."""
    document = _read(body.query)
    operation = None if isinstance(document, list) else get_operation_ast(document, body.operation_name)
    if operation is None:
        return []
    nodes = [node for node in operation.selection_set.selections if isinstance(node, FieldNode)]
    marks = [one for node in nodes for one in node.directives or () if one.name.value == "idempotent"]
    values = [argument.value for mark in marks for argument in mark.arguments or ()]
    named = [(body.variables or {}).get(one.name.value) for one in values if isinstance(one, VariableNode)]
    return [str(key) for key in named if key] + [one.value for one in values if isinstance(one, StringValueNode)]


def throttled(bucket: Bucket, requested: int) -> Envelope:
    """Shopify throttles with HTTP 200, no `data` and `actualQueryCost` null."""
    extensions = {"code": "THROTTLED", "documentation": THROTTLED_HELP}
    return {
        "errors": [{"message": "Throttled", "extensions": extensions}],
        "extensions": {"cost": _cost(bucket, requested, None)},
    }


def _cost(bucket: Bucket, requested: int, used: int | None) -> dict[str, Any]:
    return {
        "requestedQueryCost": requested,
        "actualQueryCost": used,
        "throttleStatus": bucket.status(),
    }


def _too_expensive(requested: int) -> dict[str, Any]:
    message = f"Query cost is {requested}, which exceeds the single query max cost limit ({QUERY_POINTS_MAX})."
    return {
        "message": message,
        "extensions": {"code": "MAX_COST_EXCEEDED", "cost": requested, "maxCost": QUERY_POINTS_MAX},
    }


def _root_fields(operation: OperationDefinitionNode) -> list[str]:
    return [node.name.value for node in operation.selection_set.selections if isinstance(node, FieldNode)]


def _formatted(error: GraphQLError) -> dict[str, Any]:
    if error.original_error is not None and not error.extensions:
        raise error.original_error
    return dict(error.formatted)


def _validation_error(error: GraphQLError) -> dict[str, Any]:
    """Shopify names an undefined field in its own words; other rules keep graphql-core's."""
    formatted = _formatted(error)
    words = error.message.split("'")
    if error.message.startswith("Cannot query field"):
        formatted["message"] = f"Field '{words[1]}' doesn't exist on type '{words[3]}'"
        formatted["extensions"] = {"code": "undefinedField", "typeName": words[3], "fieldName": words[1]}
    return formatted


def _oversized(operation: OperationDefinitionNode, variables: dict[str, Any]) -> dict[str, Any] | None:
    """Shopify refuses a list of more than 250 entries before it looks at any of them."""
    root = _root_fields(operation)[:1]
    for path, size in _list_sizes(variables, root):
        most = VARIANTS_MAX if path[-1] == "variants" else PAGE_SIZE_MAX
        if size > most:
            return {
                "message": f"The input array size of {size} is greater than the maximum allowed of {most}.",
                "path": path,
                "extensions": {"code": "MAX_INPUT_SIZE_EXCEEDED"},
            }
    return None


def _list_sizes(value: Any, path: list[str]) -> list[tuple[list[str], int]]:
    if isinstance(value, dict):
        return [found for name, inner in value.items() for found in _list_sizes(inner, [*path, name])]
    if isinstance(value, list):
        return [(path, len(value)), *(found for inner in value for found in _list_sizes(inner, path))]
    return []
