"""What it means: `pipeline.ports.Shop` in terms of the operations; products stand in `products`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.adapters.shopify import media, operations
from app.adapters.shopify.bulk import ShopifyBulk
from app.adapters.shopify.client import ShopClient
from app.adapters.shopify.products import CustomIds
from app.adapters.shopify.scopes import WRITE_PRODUCTS
from app.adapters.shopify.stock import ShopifyStock
from app.adapters.shopify.transfers import ShopifyTransfers
from pipeline.domain.merchant import Merchant
from pipeline.ports import ShopFacts, ShopGallery


class ShopifyShop(ShopifyBulk, ShopifyStock, ShopifyTransfers):
    """One merchant's shop. A value of one run: the merchant's settings are those in force now."""

    def __init__(self, client: ShopClient, custom_ids: CustomIds, merchant: Merchant) -> None:
        ShopifyStock.__init__(self, client)
        ShopifyBulk.__init__(self, client, custom_ids)
        self._merchant = merchant

    async def facts(self) -> ShopFacts:
        """Currency, location and scopes; makes sure our custom-id metafield definition exists.

        Not where the app may write no products: the shop would refuse, and be parked with its own words instead of
        those of whoever asked. A receipt needs no products, and a plan stops for the scope.
        """
        data = await self._client.call(operations.SHOP_FACTS)
        scopes = await self._granted(data)
        if WRITE_PRODUCTS in scopes:
            await self._custom_ids.ensure()
        locations = await self._locations(scopes)
        location_id, note = self._choose_location(locations)
        return ShopFacts(
            currency=data["shop"]["currencyCode"],
            taxes_included=data["shop"]["taxesIncluded"],
            location_id=location_id,
            location_note=note,
            scopes=scopes,
            location_names={node["id"]: node["name"] for node in locations or ()},
        )

    async def scopes(self) -> frozenset[str]:
        """What the app was granted in this shop. Changes nothing."""
        return await self._granted(await self._client.call(operations.SHOP_FACTS))

    async def _granted(self, facts: Mapping[str, Any]) -> frozenset[str]:
        scopes = frozenset(scope["handle"] for scope in facts["currentAppInstallation"]["accessScopes"])
        await self._client.granted(scopes)
        return scopes

    async def gallery(self, product_id: str) -> ShopGallery:
        """The product's pictures; none, and DELETED, when the merchant deleted it."""
        return await media.read_gallery(self._client, product_id)

    async def upload_image(self, name: str, mime: str, content: bytes) -> str:
        """Staged upload; returns the resource URL to attach. A repeat leaves an unused file that expires by itself."""
        return await media.stage_image(self._client, name, mime, content)

    async def attach_image(self, product_id: str, resource_url: str, alt: str) -> ShopGallery:
        """Add one picture to a product (a repeat adds again: read the gallery first); the gallery with it."""
        return await media.attach_image(self._client, product_id, resource_url, alt)

    async def _locations(self, scopes: frozenset[str]) -> list[dict[str, Any]] | None:
        """The shop's locations, None when we may not know them."""
        if not scopes & {"read_locations", "read_inventory", "write_inventory"}:
            return None
        return list((await self._client.call(operations.LOCATIONS))["locations"]["nodes"])

    def _choose_location(self, nodes: Sequence[dict[str, Any]] | None) -> tuple[str, str]:
        """The location goods are expected at, or none and the reason."""
        if nodes is None:
            return "", "the app may not read the shop's locations (scope read_locations)"
        usable = [node for node in nodes if node["isActive"] and not node["isFulfillmentService"]]
        chosen = self._merchant.settings.location_id
        if chosen:
            if any(node["id"] == chosen for node in usable):
                return chosen, ""
            return "", "the location chosen in the settings is closed or no longer in the shop"
        if len(usable) == 1:
            return str(usable[0]["id"]), ""
        if not usable:
            return "", "the shop has no active location of its own"
        names = ", ".join(node["name"] for node in usable)
        return "", f"the shop has several locations ({names}): choose one in the settings"
