"""Metafields and their definitions; a definition of type `id` is what makes a custom id possible."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from app.sandbox.call import Args, Call, UserErrors, no, refused, user_error
from app.sandbox.state import APP_ID, Metafield, MetafieldDefinition, now

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from app.sandbox.state import Product, Shop

SET_MAX = 25
OWNER_TYPES = {
    "InventoryTransfer": "INVENTORY_TRANSFER",
    "Location": "LOCATION",
    "Product": "PRODUCT",
    "ProductVariant": "PRODUCTVARIANT",
}


def full_namespace(namespace: str | None) -> str:
    """Shopify: an omitted namespace and `$app` mean the app's own reserved one."""
    own = f"app--{APP_ID}"
    if namespace is None or namespace == "$app":
        return own
    return namespace.replace("$app:", f"{own}--") if namespace.startswith("$app:") else namespace


def owner_type(owner_id: str) -> str:
    """The metafield owner type of a global id."""
    return OWNER_TYPES.get(owner_id.split("/")[3], "SHOP")


def digest(metafield: Metafield) -> str:
    """What `compareDigest` compares."""
    return hashlib.sha256(f"{metafield.type}\0{metafield.value}".encode()).hexdigest()


def definition_create(_source: Any, call: Call, args: Args) -> dict[str, Any]:
    """Declare a key once; a second time it is TAKEN."""
    given = args["definition"]
    namespace = full_namespace(given.get("namespace"))
    if call.shop.find_definition(given["ownerType"], namespace, given["key"]):
        message = f"Key is in use for {given['ownerType'].title()} metafields on the '{namespace}' namespace."
        raise no(["definition", "key"], message, "TAKEN")
    unique = (given.get("capabilities") or {}).get("uniqueValues") or {}
    definition = MetafieldDefinition(
        id=call.shop.new_id("MetafieldDefinition"),
        name=given["name"],
        namespace=namespace,
        key=given["key"],
        owner_type=given["ownerType"],
        type=given["type"],
        description=given.get("description"),
        unique_values=given["type"] == "id" or bool(unique.get("enabled")),
    )
    call.shop.definitions[definition.id] = definition
    return {"createdDefinition": definition, "userErrors": []}


def metafields_set(_source: Any, call: Call, args: Args) -> dict[str, Any]:
    """Write up to 25 values, all or none."""
    entries = args["metafields"]
    if len(entries) > SET_MAX:
        message = f"Exceeded the maximum metafields input limit of {SET_MAX}."
        raise no(["metafields"], message, "LESS_THAN_OR_EQUAL_TO")
    errors = []
    for index, entry in enumerate(entries):
        errors += _set_errors(call.shop, entry, index)
    if errors:
        raise UserErrors(errors)
    written = [write(call.shop, entry["ownerId"], entry) for entry in entries]
    return {"metafields": written, "userErrors": []}


def errors_of(shop: Shop, owner_id: str | None, owner: str, entries: list[Args]) -> list[tuple[int, str]]:
    """Why a list of MetafieldInput cannot be written: (index, message); none when it can."""
    errors = []
    for index, entry in enumerate(entries):
        namespace = full_namespace(entry.get("namespace"))
        definition = shop.find_definition(owner, namespace, entry.get("key") or "")
        if not entry.get("key") or entry.get("value") is None:
            errors.append((index, "Key and value can't be blank"))
        elif definition is None and not entry.get("type"):
            errors.append((index, "Type can't be blank"))
        elif definition is not None and entry.get("type") not in {None, definition.type}:
            errors.append((index, f"Type must be consistent with the definition's type: {definition.type}"))
        elif definition is not None and definition.unique_values:
            holder = find_owner(shop, namespace, entry["key"], entry["value"])
            if holder not in {None, owner_id}:
                errors.append((index, "Value has already been assigned to another metafield"))
    return errors


def write(shop: Shop, owner_id: str, entry: Args) -> Metafield:
    """Set one value; the caller has checked it."""
    namespace = full_namespace(entry.get("namespace"))
    found = shop.find_metafield(owner_id, namespace, entry["key"])
    definition = shop.find_definition(owner_type(owner_id), namespace, entry["key"])
    type_ = entry.get("type") or (definition.type if definition else "single_line_text_field")
    if found is None:
        found = Metafield(
            id=shop.new_id("Metafield"),
            owner_id=owner_id,
            namespace=namespace,
            key=entry["key"],
            type=type_,
            value=entry["value"],
        )
        shop.metafields[found.id] = found
    else:
        found.type, found.value, found.updated_at = type_, entry["value"], now()
    return found


def forget(shop: Shop, owner_id: str, *, but: AbstractSet[tuple[str, str]] = frozenset()) -> None:
    """Drop an owner's values, except the (namespace, key) pairs in `but`."""
    for metafield in list(shop.metafields.values()):
        if metafield.owner_id == owner_id and (metafield.namespace, metafield.key) not in but:
            del shop.metafields[metafield.id]


def find_owner(shop: Shop, namespace: str, key: str, value: str) -> str | None:
    """Who holds a value under a key, or None."""
    for metafield in shop.metafields.values():
        if (metafield.namespace, metafield.key, metafield.value) == (namespace, key, value):
            return metafield.owner_id
    return None


def product_by_custom_id(shop: Shop, custom_id: Args) -> Product | None:
    """The product under a custom id; Shopify demands a definition of type `id` before it looks."""
    owner_id = _owner_by_custom_id(shop, "PRODUCT", custom_id)
    return None if owner_id is None else shop.products.get(owner_id)


def variant_id_by_custom_id(shop: Shop, custom_id: Args) -> str | None:
    """The variant under a custom id, or None."""
    return _owner_by_custom_id(shop, "PRODUCTVARIANT", custom_id)


def _owner_by_custom_id(shop: Shop, owner: str, custom_id: Args) -> str | None:
    namespace = full_namespace(custom_id.get("namespace"))
    definition = shop.find_definition(owner, namespace, custom_id["key"])
    if definition is None or definition.type != "id":
        raise refused("Metafield definition of type 'id' is required when using custom ids.", "NOT_FOUND")
    return find_owner(shop, namespace, custom_id["key"], custom_id["value"])


def _set_errors(shop: Shop, entry: Args, index: int) -> list[dict[str, Any]]:
    path: list[str | int] = ["metafields", index]
    owner_id = entry["ownerId"]
    if owner_id not in shop.products and shop.variant(owner_id) is None and owner_id not in shop.locations:
        return [user_error([*path, "ownerId"], "Owner does not exist.", "INVALID")]
    errors = [
        user_error([*path, "value"], message, "INVALID_VALUE")
        for _, message in errors_of(shop, owner_id, owner_type(owner_id), [entry])
    ]
    found = shop.find_metafield(owner_id, full_namespace(entry.get("namespace")), entry["key"])
    if "compareDigest" in entry and entry["compareDigest"] != (found and digest(found)):
        message = "The resource has been updated since it was loaded. Try again with an updated `compareDigest` value."
        errors.append(user_error([*path, "compareDigest"], message, "STALE_OBJECT"))
    return errors
