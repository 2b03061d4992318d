"""The fields of things that are more than an attribute of the same name."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from app.sandbox import metafields
from app.sandbox.call import Args, Call, Resolver, connection, refused
from app.sandbox.media import file_address
from app.sandbox.reads import Level, find_node
from app.sandbox.state import APP_ID, QUANTITY_NAMES

if TYPE_CHECKING:
    from app.sandbox.state import InventoryItem, Media, Metafield, Product, Shop, Variant


def _metafield(owner: Any, call: Call, args: Args) -> Any:
    return call.shop.find_metafield(owner.id, metafields.full_namespace(args.get("namespace")), args["key"])


def _metafields(owner: Any, call: Call, args: Args) -> Any:
    found = [one for one in call.shop.metafields.values() if one.owner_id == owner.id]
    if args.get("namespace") is not None:
        found = [one for one in found if one.namespace == metafields.full_namespace(args["namespace"])]
    if args.get("keys"):
        found = [one for one in found if f"{one.namespace}.{one.key}" in args["keys"]]
    return connection(found, args)


def _legacy_id(node: Any, _call: Call, _args: Args) -> str:
    return str(node.id.rpartition("/")[2])


def _media_list(product: Product, call: Call, args: Args) -> Any:
    return connection([call.shop.media[one] for one in product.media_ids], args)


def _quantity(shop: Shop, variants: list[Variant]) -> int:
    items = [shop.inventory_items[variant.inventory_item_id] for variant in variants]
    return sum(item.quantity(location_id, "available") for item in items for location_id in item.levels)


def _levels(item: InventoryItem, _call: Call, args: Args) -> Any:
    return connection([Level(item, location_id) for location_id in item.levels], args)


def _level(item: InventoryItem, _call: Call, args: Args) -> Any:
    return Level(item, args["locationId"]) if args["locationId"] in item.levels else None


def _quantities(level: Level, _call: Call, args: Args) -> Any:
    for name in args["names"]:
        if name not in QUANTITY_NAMES:
            raise refused(f"The quantity name '{name}' is not valid.", "BAD_REQUEST")
    return [
        {
            "id": f"{level.id}&name={name}".replace("InventoryLevel", "InventoryQuantity"),
            "name": name,
            "quantity": level.item.quantity(level.location_id, name),
            "updatedAt": level.item.updated_at,
        }
        for name in args["names"]
    ]


def _owner(item: InventoryItem, call: Call, _args: Args) -> Any:
    return find_node(call.shop, item.variant_id)


def _product_of(variant: Variant, call: Call, _args: Args) -> Any:
    found = call.shop.variant(variant.id)
    return found and found[0]


def _display_name(variant: Variant, call: Call, args: Args) -> str:
    return f"{_product_of(variant, call, args).title} - {variant.title}"


def _position(variant: Variant, call: Call, args: Args) -> int:
    siblings: list[Variant] = _product_of(variant, call, args).variants
    return [one.id for one in siblings].index(variant.id) + 1


def _selected_options(variant: Variant, call: Call, args: Args) -> Any:
    ids = {option.name: option.values for option in _product_of(variant, call, args).options}
    return [
        {"name": name, "value": value, "optionValue": {"id": ids[name][value], "name": value}}
        for name, value in variant.option_values.items()
    ]


def _options(product: Product, _call: Call, args: Args) -> Any:
    return [
        {
            "id": option.id,
            "name": option.name,
            "position": position,
            "values": list(option.values),
            "optionValues": [
                {
                    "id": value_id,
                    "name": name,
                    "hasVariants": any(variant.option_values.get(option.name) == name for variant in product.variants),
                }
                for name, value_id in option.values.items()
            ],
        }
        for position, option in enumerate(product.options[: args.get("first") or None], start=1)
    ]


def _image(media: Media, call: Call, _args: Args) -> Any:
    """Shopify: `image` is null until the file is READY."""
    if media.status(call.at) != "READY":
        return None
    return {
        "id": media.id.replace("MediaImage", "ImageSource"),
        "altText": media.alt,
        "width": media.width,
        "height": media.height,
        "url": file_address(call.address, media),
        "src": file_address(call.address, media),
    }


def _original_source(media: Media, call: Call, _args: Args) -> Any:
    """Not settled what it is while the shop works, or which name its address bears: here the stricter, none."""
    if media.status(call.at) != "READY":
        return None
    return {"fileSize": media.size, "url": f"{call.address}/files/{media.sha256}"}


def _media_errors(media: Media, call: Call, _args: Args) -> Any:
    if media.status(call.at) != "FAILED":
        return []
    return [{"code": media.error_code, "details": media.error_message, "message": media.error_message}]


def _preview(media: Media, call: Call, args: Args) -> Any:
    return {"status": media.status(call.at), "image": _image(media, call, args)}


def _money(item: InventoryItem, call: Call, _args: Args) -> Any:
    return None if item.cost is None else {"amount": item.cost, "currencyCode": call.shop.currency}


def _published_on(product: Product, _call: Call, args: Args) -> bool:
    return args["publicationId"] in product.published_on


def _plain(html: str) -> str:
    return re.sub(r"<[^>]+>", "", html)


def _parsed(metafield: Metafield) -> Any:
    """Text types are their own value; every other type is written as JSON."""
    if metafield.type in {"json", "boolean"} or metafield.type.startswith(("list.", "number_")):
        return json.loads(metafield.value)
    return metafield.value


def _duplicates(item: InventoryItem, call: Call) -> int:
    sku = _owner(item, call, {}).sku
    return sum(1 for _, variant in call.shop.variants() if sku and variant.sku == sku) - (1 if sku else 0)


_METAFIELDS: dict[str, Resolver] = {"metafield": _metafield, "metafields": _metafields}

FIELDS: dict[str, dict[str, Resolver]] = {
    "AppInstallation": {
        "id": lambda _shop, _call, _args: f"gid://shopify/AppInstallation/{APP_ID}",
        "accessScopes": lambda shop, _call, _args: [
            {"handle": handle, "description": handle.replace("_", " ")} for handle in shop.scopes
        ],
    },
    "Shop": {
        "id": lambda _shop, _call, _args: "gid://shopify/Shop/1",
        "currencyCode": lambda shop, _call, _args: shop.currency,
        "myshopifyDomain": lambda shop, _call, _args: shop.domain,
        "url": lambda shop, _call, _args: f"https://{shop.domain}",
        "plan": lambda _shop, _call, _args: {
            "displayName": "Sandbox",
            "publicDisplayName": "Sandbox",
            "partnerDevelopment": True,
            "shopifyPlus": False,
        },
    },
    "InventoryChange": {
        "item": lambda change, call, _args: call.shop.inventory_items[change.inventory_item_id],
        "location": lambda change, call, _args: call.shop.locations[change.location_id],
    },
    "Product": {
        **_METAFIELDS,
        "category": lambda product, _call, _args: product.category and {"id": product.category},
        "description": lambda product, _call, _args: _plain(product.description_html),
        "featuredMedia": lambda product, call, _args: (
            call.shop.media[product.media_ids[0]] if product.media_ids else None
        ),
        "hasOnlyDefaultVariant": lambda product, _call, _args: (
            [variant.title for variant in product.variants] == ["Default Title"]
        ),
        "legacyResourceId": _legacy_id,
        "media": _media_list,
        "mediaCount": lambda product, _call, _args: {"count": len(product.media_ids), "precision": "EXACT"},
        "options": _options,
        "publishedOnPublication": _published_on,
        "totalInventory": lambda product, call, _args: _quantity(call.shop, product.variants),
        "tracksInventory": lambda product, call, _args: any(
            call.shop.inventory_items[variant.inventory_item_id].tracked for variant in product.variants
        ),
        "variants": lambda product, _call, args: connection(product.variants, args),
        "variantsCount": lambda product, _call, _args: {"count": len(product.variants), "precision": "EXACT"},
    },
    "ProductVariant": {
        **_METAFIELDS,
        "displayName": _display_name,
        "inventoryItem": lambda variant, call, _args: call.shop.inventory_items[variant.inventory_item_id],
        "inventoryQuantity": lambda variant, call, _args: _quantity(call.shop, [variant]),
        "legacyResourceId": _legacy_id,
        "media": lambda variant, call, args: connection([call.shop.media[one] for one in variant.media_ids], args),
        "position": _position,
        "product": _product_of,
        "requiresComponents": lambda variant, call, _args: (
            call.shop.inventory_items[variant.inventory_item_id].is_bundle
        ),
        "selectedOptions": _selected_options,
    },
    "BulkOperation": {
        "completedAt": lambda one, call, _args: one.ready_at if one.status(call.at) == "COMPLETED" else None,
        "errorCode": lambda _one, _call, _args: None,
        "fileSize": lambda one, _call, _args: str(one.size),
        "objectCount": lambda one, _call, _args: str(one.objects),
        "partialDataUrl": lambda _one, _call, _args: None,
        "rootObjectCount": lambda one, _call, _args: str(one.objects),
        "status": lambda one, call, _args: one.status(call.at),
        "type": lambda _one, _call, _args: "MUTATION",
        "url": lambda one, call, _args: (
            f"{call.address}/files/{one.sha256}" if one.status(call.at) == "COMPLETED" else None
        ),
    },
    "InventoryItem": {
        "duplicateSkuCount": lambda item, call, _args: _duplicates(item, call),
        "inventoryLevel": _level,
        "inventoryLevels": _levels,
        "inventoryHistoryUrl": lambda item, call, _args: (
            f"https://{call.shop.domain}/admin/inventory/{item.id.rpartition('/')[2]}/inventory_history"
        ),
        "legacyResourceId": _legacy_id,
        "measurement": lambda item, _call, _args: {
            "id": item.id.replace("InventoryItem", "InventoryItemMeasurement"),
            "weight": item.weight,
        },
        "sku": lambda item, call, args: _owner(item, call, args).sku,
        "unitCost": _money,
        "variant": _owner,
        "variants": lambda item, call, args: connection([_owner(item, call, args)], args),
    },
    "InventoryLevel": {
        "location": lambda level, call, _args: call.shop.locations[level.location_id],
        "quantities": _quantities,
    },
    "Location": {**_METAFIELDS, "legacyResourceId": _legacy_id},
    "MediaImage": {
        **_METAFIELDS,
        "fileErrors": _media_errors,
        "fileStatus": lambda media, call, _args: media.status(call.at),
        "image": _image,
        "mediaContentType": lambda _media, _call, _args: "IMAGE",
        "mediaErrors": _media_errors,
        "originalSource": _original_source,
        "preview": _preview,
        "status": lambda media, call, _args: media.status(call.at),
    },
    "Metafield": {
        "compareDigest": lambda one, _call, _args: metafields.digest(one),
        "definition": lambda one, call, _args: call.shop.find_definition(
            metafields.owner_type(one.owner_id), one.namespace, one.key
        ),
        "jsonValue": lambda one, _call, _args: _parsed(one),
        "legacyResourceId": _legacy_id,
        "owner": lambda one, call, _args: find_node(call.shop, one.owner_id),
        "ownerType": lambda one, _call, _args: metafields.owner_type(one.owner_id),
    },
    "MetafieldDefinition": {
        "type": lambda definition, _call, _args: {
            "name": definition.type,
            "category": "",
            "supportsDefinitionMigrations": False,
        },
    },
    "ProductSetOperation": {
        "product": lambda operation, call, _args: call.shop.products.get(operation.product_id or ""),
    },
}
