"""Check a request's variables the way Shopify does: every problem, each with its path inside the variable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from graphql import (
    GraphQLEnumType,
    GraphQLError,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLScalarType,
    GraphQLSchema,
    OperationDefinitionNode,
    Undefined,
    print_ast,
    type_from_ast,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graphql import GraphQLInputType

Problem = dict[str, Any]
Path = list[str | int]


def invalid_variables(
    schema: GraphQLSchema, operation: OperationDefinitionNode, variables: dict[str, Any]
) -> list[dict[str, Any]]:
    """One INVALID_VARIABLE error for each variable that does not fit its type; none when all fit."""
    errors = []
    for definition in operation.variable_definitions or ():
        name = definition.variable.name.value
        type_ = cast("GraphQLInputType", type_from_ast(schema, definition.type))
        value = variables.get(name, Undefined)
        if value is Undefined and definition.default_value is not None:
            continue
        problems = list(_problems(value, type_, []))
        if problems:
            errors.append(_error(name, print_ast(definition.type), value, problems))
    return errors


def _error(name: str, type_name: str, value: Any, problems: list[Problem]) -> dict[str, Any]:
    named = ", ".join(
        f"{'.'.join(str(part) for part in problem['path'])} ({problem['explanation']})"
        if problem["path"]
        else f"({problem['explanation']})"
        for problem in problems
    )
    at = " for " if problems[0]["path"] else " "
    return {
        "message": f"Variable ${name} of type {type_name} was provided invalid value{at}{named}",
        "extensions": {
            "code": "INVALID_VARIABLE",
            "value": None if value is Undefined else value,
            "problems": problems,
        },
    }


def _problems(value: Any, type_: GraphQLInputType, path: Path) -> Iterator[Problem]:
    if isinstance(type_, GraphQLNonNull):
        if value is None or value is Undefined:
            yield {"path": path, "explanation": "Expected value to not be null"}
            return
        type_ = type_.of_type
    if value is None or value is Undefined:
        return
    if isinstance(type_, GraphQLList):
        items = value if isinstance(value, list) else [value]
        for index, item in enumerate(items):
            yield from _problems(item, type_.of_type, [*path, index])
    elif isinstance(type_, GraphQLInputObjectType):
        yield from _object_problems(value, type_, path)
    elif isinstance(type_, GraphQLEnumType):
        if value not in type_.values:
            allowed = ", ".join(type_.values)
            yield {"path": path, "explanation": f'Expected "{value}" to be one of: {allowed}'}
    elif isinstance(type_, GraphQLScalarType):
        yield from _scalar_problems(value, type_, path)


def _object_problems(value: Any, type_: GraphQLInputObjectType, path: Path) -> Iterator[Problem]:
    if not isinstance(value, dict):
        yield {"path": path, "explanation": f"Expected {value!r} to be a key-value object."}
        return
    for name in value:
        if name not in type_.fields:
            yield {"path": [*path, name], "explanation": f"Field is not defined on {type_.name}"}
    for name, field in type_.fields.items():
        if name not in value and field.default_value is not Undefined:
            continue
        yield from _problems(value.get(name, Undefined), field.type, [*path, name])
    if type_.is_one_of and (len(value) != 1 or None in value.values()):
        explanation = f"'{type_.name}' requires exactly one argument, but {len(value)} were provided."
        yield {"path": path, "explanation": explanation}


def _scalar_problems(value: Any, type_: GraphQLScalarType, path: Path) -> Iterator[Problem]:
    try:
        type_.coerce_input_value(value)
    except GraphQLError:
        explanation = f"Could not coerce value {value!r} to {type_.name}"
        yield {"path": path, "explanation": explanation}
