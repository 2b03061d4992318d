"""A shop as a test or a table wants to read it: everything, nested, without following ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.sandbox.state import QUANTITY_NAMES

if TYPE_CHECKING:
    from datetime import datetime

    from app.sandbox.state import Media, Product, Shop, Variant


def shop_view(shop: Shop, at: datetime) -> dict[str, Any]:
    """The whole state of one shop, without its tokens."""
    return {
        "domain": shop.domain,
        "name": shop.name,
        "currency": shop.currency,
        "scopes": shop.scopes,
        "locations": [one.model_dump(mode="json") for one in shop.locations.values()],
        "products": [_product(shop, product, at) for product in shop.products.values()],
        "media": [_media(one, at) for one in shop.media.values()],
        "uploads": [one.model_dump(mode="json") for one in shop.uploads.values()],
        "definitions": [one.model_dump() for one in shop.definitions.values()],
        "adjustments": [one.model_dump(mode="json") for one in shop.adjustments.values()],
        "transfers": [one.model_dump(mode="json") for one in shop.transfers.values()],
        "shipments": [one.model_dump(mode="json") for one in shop.shipments.values()],
        "products_created": shop.products_created,
        "calls": dict(shop.calls),
        "subscriptions": [one.model_dump(mode="json") for one in shop.subscriptions.values()],
        "tokens_granted": dict(shop.oauth.granted),
        "idempotency_keys": sorted(shop.remembered),
    }


def _product(shop: Shop, product: Product, at: datetime) -> dict[str, Any]:
    plain = product.model_dump(mode="json", exclude={"variants", "media_ids", "options"})
    return {
        **plain,
        "options": [{"name": option.name, "values": list(option.values)} for option in product.options],
        "metafields": _metafields(shop, product.id),
        "media": [_media(shop.media[one], at) for one in product.media_ids],
        "variants": [_variant(shop, variant) for variant in product.variants],
    }


def _variant(shop: Shop, variant: Variant) -> dict[str, Any]:
    item = shop.inventory_items[variant.inventory_item_id]
    return {
        **variant.model_dump(mode="json"),
        "title": variant.title,
        "tracked": item.tracked,
        "cost": item.cost,
        "metafields": _metafields(shop, variant.id),
        "quantities": {name: sum(item.quantity(one, name) for one in item.levels) for name in QUANTITY_NAMES},
        "levels": [
            {"location_id": one, **{name: item.quantity(one, name) for name in QUANTITY_NAMES}} for one in item.levels
        ],
    }


def _media(media: Media, at: datetime) -> dict[str, Any]:
    return {**media.model_dump(mode="json", exclude={"ready_at"}), "status": media.status(at)}


def _metafields(shop: Shop, owner_id: str) -> dict[str, str]:
    """`namespace.key` -> value."""
    found = [one for one in shop.metafields.values() if one.owner_id == owner_id]
    return {f"{one.namespace}.{one.key}": one.value for one in found}
