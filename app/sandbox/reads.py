"""What can be asked for: the root queries, and any node by its id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.sandbox import metafields, webhooks
from app.sandbox.call import Args, Call, Resolver, connection
from app.sandbox.search import matching_products, matching_variants

if TYPE_CHECKING:
    from datetime import datetime

    from app.sandbox.state import InventoryItem, Shop


@dataclass(frozen=True)
class Level:
    """An item at a location, as a node of its own."""

    item: InventoryItem
    location_id: str

    @property
    def id(self) -> str:
        """Shopify puts both numbers into the level's id."""
        location, item = self.location_id.rpartition("/")[2], self.item.id.rpartition("/")[2]
        return f"gid://shopify/InventoryLevel/{location}?inventory_item_id={item}"

    @property
    def is_active(self) -> bool:
        """Whether the item is stocked here."""
        return self.location_id in self.item.levels

    @property
    def created_at(self) -> datetime:
        """As old as its item."""
        return self.item.created_at

    @property
    def updated_at(self) -> datetime:
        """As fresh as its item."""
        return self.item.updated_at


def find_node(shop: Shop, node_id: str) -> Any | None:
    """Whatever has this global id, or None."""
    kind, _, number = node_id.removeprefix("gid://shopify/").partition("/")
    if kind == "ProductVariant":
        found = shop.variant(node_id)
        return None if found is None else found[1]
    if kind == "InventoryLevel":
        location, _, item = number.partition("?inventory_item_id=")
        holder = shop.inventory_items.get(f"gid://shopify/InventoryItem/{item}")
        return None if holder is None else Level(holder, f"gid://shopify/Location/{location}")
    shelves: dict[str, dict[str, Any]] = {
        "Product": shop.products,
        "BulkOperation": shop.bulk_operations,
        "InventoryItem": shop.inventory_items,
        "InventoryAdjustmentGroup": shop.adjustments,
        "InventoryShipment": shop.shipments,
        "InventoryTransfer": shop.transfers,
        "Location": shop.locations,
        "MediaImage": shop.media,
        "Metafield": shop.metafields,
        "MetafieldDefinition": shop.definitions,
        "ProductSetOperation": shop.operations,
        "Publication": shop.publications,
    }
    return shelves.get(kind, {}).get(node_id)


def _by_id(_source: Any, call: Call, args: Args) -> Any:
    return find_node(call.shop, args["id"])


def _location(_source: Any, call: Call, args: Args) -> Any:
    return call.shop.locations.get(args.get("id") or call.shop.primary_location_id)


def _locations(_source: Any, call: Call, args: Args) -> Any:
    everywhere = args.get("includeInactive")
    return connection([one for one in call.shop.locations.values() if everywhere or one.is_active], args)


def _product_by_identifier(_source: Any, call: Call, args: Args) -> Any:
    identifier = args["identifier"]
    if "id" in identifier:
        return call.shop.products.get(identifier["id"])
    if "handle" in identifier:
        return call.shop.product_by_handle(identifier["handle"])
    return metafields.product_by_custom_id(call.shop, identifier["customId"])


def _variant_by_identifier(_source: Any, call: Call, args: Args) -> Any:
    identifier = args["identifier"]
    if "id" in identifier:
        return find_node(call.shop, identifier["id"])
    variant_id = metafields.variant_id_by_custom_id(call.shop, identifier["customId"])
    return None if variant_id is None else find_node(call.shop, variant_id)


def _definitions(_source: Any, call: Call, args: Args) -> Any:
    found = [one for one in call.shop.definitions.values() if one.owner_type == args["ownerType"]]
    if args.get("namespace") is not None:
        found = [one for one in found if one.namespace == metafields.full_namespace(args["namespace"])]
    if args.get("key") is not None:
        found = [one for one in found if one.key == args["key"]]
    return connection(found, args)


def _definition(_source: Any, call: Call, args: Args) -> Any:
    identifier = args.get("identifier")
    if identifier is None:
        return call.shop.definitions.get(args.get("id") or "")
    namespace = metafields.full_namespace(identifier.get("namespace"))
    return call.shop.find_definition(identifier["ownerType"], namespace, identifier["key"])


def _product_operation(_source: Any, call: Call, args: Args) -> Any:
    """An asynchronous productSet is seen as CREATED in its own reply, then COMPLETE."""
    operation = call.shop.operations.get(args["id"])
    if operation is not None:
        operation.status = "COMPLETE"
    return operation


def _shelf(name: str) -> Resolver:
    return lambda _source, call, args: connection(list(getattr(call.shop, name).values()), args)


QUERIES: dict[str, Resolver] = {
    "bulkOperation": _by_id,
    "bulkOperations": _shelf("bulk_operations"),
    "currentAppInstallation": lambda _source, call, _args: call.shop,
    "files": _shelf("media"),
    "inventoryItem": _by_id,
    "inventoryItems": _shelf("inventory_items"),
    "inventoryLevel": _by_id,
    "inventoryShipment": _by_id,
    "inventoryTransfer": _by_id,
    "inventoryTransfers": _shelf("transfers"),
    "location": _location,
    "locations": _locations,
    "metafieldDefinition": _definition,
    "metafieldDefinitions": _definitions,
    "node": _by_id,
    "nodes": lambda _source, call, args: [find_node(call.shop, one) for one in args["ids"]],
    "product": _by_id,
    "productByIdentifier": _product_by_identifier,
    "productOperation": _product_operation,
    "productVariant": _by_id,
    "productVariantByIdentifier": _variant_by_identifier,
    "productVariants": lambda _source, call, args: connection(matching_variants(call, args.get("query")), args),
    "products": lambda _source, call, args: connection(matching_products(call, args.get("query")), args),
    "publication": _by_id,
    "publications": _shelf("publications"),
    "shop": lambda _source, call, _args: call.shop,
    "webhookSubscriptions": webhooks.subscriptions,
}
