"""The published contract with our resolvers on it; the lists of what the sandbox can do stand here."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphql import (
    GraphQLError,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLResolveInfo,
    GraphQLScalarType,
    GraphQLSchema,
    GraphQLUnionType,
    build_schema,
    get_directive_values,
)

from app.sandbox import (
    bulk,
    fields,
    inventory,
    media,
    metafields,
    products,
    publishing,
    reads,
    transfers,
    variants,
    webhooks,
)
from app.sandbox.call import Call, Resolver, UserErrors, refused
from app.sandbox.idempotency import once

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

Info = GraphQLResolveInfo[Call]
CONTRACT = Path(__file__).with_name("contract-2026-10.graphql")

MUTATIONS: dict[str, tuple[str, Resolver]] = {
    "bulkOperationRunMutation": ("write_products", bulk.run_mutation),
    "fileCreate": ("write_files", media.file_create),
    "fileDelete": ("write_files", media.file_delete),
    "inventoryItemUpdate": ("write_inventory", variants.item_update),
    "metafieldDefinitionCreate": ("write_products", metafields.definition_create),
    "metafieldsSet": ("write_products", metafields.metafields_set),
    "productDelete": ("write_products", products.product_delete),
    "productSet": ("write_products", products.product_set),
    "productUpdate": ("write_products", products.product_update),
    "productVariantAppendMedia": ("write_products", variants.append_media),
    "productVariantsBulkCreate": ("write_products", variants.bulk_create),
    "productVariantsBulkDelete": ("write_products", variants.bulk_delete),
    "productVariantsBulkUpdate": ("write_products", variants.bulk_update),
    "publishablePublish": ("write_publications", publishing.publish),
    "publishableUnpublish": ("write_publications", publishing.unpublish),
    "stagedUploadsCreate": ("write_products", media.staged_uploads_create),
    "webhookSubscriptionCreate": ("", webhooks.subscription_create),
    "webhookSubscriptionDelete": ("", webhooks.subscription_delete),
}
"""Operation -> the access scope it needs, if any, and what performs it."""

IDEMPOTENT_MUTATIONS: dict[str, tuple[str, Resolver]] = {
    "inventoryActivate": ("write_inventory", inventory.activate),
    "inventoryAdjustQuantities": ("write_inventory", inventory.adjust),
    "inventoryMoveQuantities": ("write_inventory", inventory.move),
    "inventorySetQuantities": ("write_inventory", inventory.set_quantities),
    "inventoryShipmentCreateInTransit": ("write_inventory_shipments", transfers.ship),
    "inventoryShipmentReceive": ("write_inventory_shipments_received_items", transfers.receive),
    "inventoryTransferCancel": ("write_inventory_transfers", transfers.cancel),
    "inventoryTransferCreateAsReadyToShip": ("write_inventory_transfers", transfers.create_ready),
}
"""Those on which Shopify requires `@idempotent(key:)` since 2026-04."""

READ_SCOPES: dict[str, tuple[str, ...]] = {
    "inventoryItem": ("read_inventory", "read_products"),
    "inventoryItems": ("read_inventory", "read_products"),
    "inventoryLevel": ("read_inventory", "read_products"),
    "inventoryShipment": ("read_inventory_shipments",),
    "inventoryTransfer": ("read_inventory_transfers",),
    "inventoryTransfers": ("read_inventory_transfers",),
    "location": ("read_locations", "read_inventory"),
    "locations": ("read_locations", "read_inventory"),
    "product": ("read_products",),
    "productByIdentifier": ("read_products",),
    "productOperation": ("read_products",),
    "productVariant": ("read_products",),
    "productVariantByIdentifier": ("read_products",),
    "productVariants": ("read_products",),
    "products": ("read_products",),
    "publications": ("read_publications",),
}
"""Root queries that need a scope; any of those named will do."""


@cache
def load_schema() -> GraphQLSchema:
    """Build the contract and bind every resolver to its field."""
    schema = build_schema(CONTRACT.read_text(encoding="utf-8"))
    for type_name, resolvers in {"QueryRoot": reads.QUERIES, **fields.FIELDS, **transfers.FIELDS}.items():
        for field_name, resolver in resolvers.items():
            _field(schema, type_name, field_name).resolve = _read(resolver)
    for field in _object(schema, "QueryRoot").fields.values():
        field.resolve = _query(field.resolve or _unknown)
    for field in _object(schema, "Mutation").fields.values():
        field.resolve = _unknown
    for name, (scope, resolver) in MUTATIONS.items():
        _field(schema, "Mutation", name).resolve = _mutation(name, scope, resolver)
    for name, (scope, resolver) in IDEMPOTENT_MUTATIONS.items():
        _field(schema, "Mutation", name).resolve = _mutation(name, scope, resolver, idempotent=True)
    _teach_types(schema)
    return schema


def resolve_plainly(source: Any, info: Info, **_args: Any) -> Any:
    """A field nobody wrote a resolver for: the attribute of the same name, or an honest refusal."""
    if isinstance(source, dict):
        return source.get(info.field_name)
    name = re.sub(r"([A-Z])", lambda match: "_" + match[1].lower(), info.field_name)
    if not hasattr(source, name):
        return _unknown(source, info)
    return getattr(source, name)


def _unknown(_source: Any, info: Info, **_args: Any) -> Any:
    message = f"The sandbox does not know {info.parent_type.name}.{info.field_name}"
    raise refused(message, "NOT_IN_SANDBOX")


def _read(resolver: Resolver) -> Callable[..., Any]:
    def resolve(source: Any, info: Info, **args: Any) -> Any:
        return resolver(source, info.context, args)

    return resolve


def _query(resolve: Callable[..., Any]) -> Callable[..., Any]:
    def query(source: Any, info: Info, **args: Any) -> Any:
        _require_scope(info, READ_SCOPES.get(info.field_name, ()))
        _count(info)
        return resolve(source, info, **args)

    return query


def _mutation(name: str, scope: str, resolver: Resolver, *, idempotent: bool = False) -> Callable[..., Any]:
    def perform(source: Any, info: Info, **args: Any) -> Any:
        call: Call = info.context
        _require_scope(info, (scope,) if scope else ())
        _count(info)
        try:
            if idempotent:
                return once(name, _idempotency_key(info), call, args, resolver)
            return resolver(source, call, args)
        except UserErrors as refusal:
            return {"userErrors": refusal.errors}

    return perform


def _require_scope(info: Info, sufficient: tuple[str, ...]) -> None:
    """Any one of these is enough; Shopify's write scopes include reading."""
    granted = set(info.context.shop.scopes)
    granted |= {scope.replace("write_", "read_") for scope in granted}
    if sufficient and granted.isdisjoint(sufficient):
        needed = f"{' or '.join(f'`{scope}`' for scope in sufficient)} access scope."
        message = f"Access denied for {info.field_name} field. Required access: {needed}"
        raise refused(message, "ACCESS_DENIED", requiredAccess=needed)


def _idempotency_key(info: Info) -> str:
    """Shopify 2026-04: the directive is required; without it the whole field is a BAD_REQUEST."""
    directive = info.schema.get_directive("idempotent")
    found = directive and get_directive_values(directive, info.field_nodes[0], info.variable_values)
    if not found:
        message = "The @idempotent directive is required for this mutation but was not provided."
        raise refused(message, "BAD_REQUEST")
    return str(found["key"])


def _count(info: Info) -> None:
    calls = info.context.shop.calls
    calls[info.field_name] = calls.get(info.field_name, 0) + 1


def _teach_types(schema: GraphQLSchema) -> None:
    """An abstract type's concrete one is written in the global id; decimals are checked as decimals."""
    for type_ in schema.type_map.values():
        if isinstance(type_, GraphQLInterfaceType | GraphQLUnionType):
            type_.resolve_type = _type_by_id
        elif isinstance(type_, GraphQLScalarType) and type_.name in {"Decimal", "Money"}:
            type_.coerce_input_value = _decimal
        elif isinstance(type_, GraphQLScalarType) and type_.name == "DateTime":
            type_.coerce_output_value = _instant


def _type_by_id(value: Any, _info: Info, _type: Any) -> str:
    return str(value.id).split("/")[3]


def _decimal(value: Any) -> str:
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise GraphQLError(f"not a decimal: {value!r}") from None
    if not number.is_finite():
        raise GraphQLError(f"not a finite decimal: {value!r}")
    return str(value)


def _instant(value: datetime) -> str:
    """Shopify writes ISO 8601 in UTC, to the second."""
    return value.strftime("%Y-%m-%dT%H:%M:%SZ")


def _object(schema: GraphQLSchema, name: str) -> GraphQLObjectType:
    found = schema.get_type(name)
    assert isinstance(found, GraphQLObjectType), f"the contract has no type {name}"  # noqa: S101  ours to spell
    return found


def _field(schema: GraphQLSchema, type_name: str, field_name: str) -> GraphQLField:
    field: GraphQLField = _object(schema, type_name).fields[field_name]
    return field
