"""What it means: `pipeline.ports.Shop` in terms of the operations.

Products are found again by a custom id: a metafield of type `id` that holds our draft's id. Shopify looks
it up directly, not through the search index, so a product is found as soon as it was written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from app.adapters.shopify import operations
from app.adapters.shopify.client import ShopClient
from pipeline.contract import Reject
from pipeline.domain.merchant import Merchant
from pipeline.domain.results import Draft, DraftVariant
from pipeline.errors import VendorRefused
from pipeline.ports import QuantityChange, ShopFacts, ShopMedia, ShopProduct, ShopVariant

NAMESPACE = "po_pipeline"
KEY = "draft_id"
STANDALONE = {"Title": "Default Title"}
"""How Shopify spells the one variant of a product without options."""


class CustomIds:
    """The metafield definition that makes our custom ids possible: made sure of once per shop and process."""

    def __init__(self, client: ShopClient) -> None:
        self._client = client
        self._defined = False

    async def ensure(self) -> None:
        """Define it unless that is known to be done; one that is there already (TAKEN) is what we want."""
        if self._defined:
            return
        definition = {
            "name": "Purchase order draft",
            "namespace": NAMESPACE,
            "key": KEY,
            "type": "id",
            "ownerType": "PRODUCT",
            "description": "Links a product to the purchase order draft it was created from.",
        }
        try:
            await self._client.call(operations.DEFINE_CUSTOM_ID, definition=definition)
        except VendorRefused as refused:
            if refused.code != "TAKEN":
                raise Reject("shop_setup_failed", f"the shop refused our product link: {refused}") from refused
        self._defined = True


class ShopifyShop:
    """One merchant's shop. A value of one run: the merchant's settings are those in force now."""

    def __init__(self, client: ShopClient, custom_ids: CustomIds, merchant: Merchant) -> None:
        self._client = client
        self._custom_ids = custom_ids
        self._merchant = merchant

    async def facts(self) -> ShopFacts:
        """Currency, location and scopes; makes sure our custom-id metafield definition exists."""
        data = await self._client.call(operations.SHOP_FACTS)
        scopes = await self._granted(data)
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

    async def find_product(self, draft_id: str) -> ShopProduct | None:
        """The product carrying our custom id."""
        await self._custom_ids.ensure()
        return await self._find({"customId": _custom_id(draft_id)})

    async def find_by_id(self, product_id: str) -> ShopProduct | None:
        """The product of that id with all its variants; None when the merchant deleted it."""
        return await self._find({"id": product_id})

    async def find_variants(self, *, sku: str = "", barcode: str = "") -> Sequence[ShopVariant]:
        """Variants with that SKU or barcode; the search is fuzzy, so what it finds is compared again here."""
        term = f"sku:{_quoted(sku)}" if sku else f"barcode:{_quoted(barcode)}"
        data = await self._client.call(operations.FIND_VARIANTS, query=term)
        found = [_variant(node, node["product"]["id"]) for node in data["productVariants"]["nodes"]]
        return [one for one in found if (one.sku == sku if sku else one.barcode == barcode)]

    async def create_product(self, draft: Draft) -> ShopProduct:
        """Create a DRAFT product with our custom id, tracked, DENY, without quantities. Once per draft.

        productSet is an upsert that takes the lists it is given as complete: on a product that exists it
        would undo the merchant's edits. So look before calling, and never call it again afterwards.
        """
        await self._custom_ids.ensure()
        data = await self._client.call(
            operations.CREATE_PRODUCT,
            identifier={"customId": _custom_id(draft.id)},
            input=_product_input(draft),
        )
        return await self._read(data["productSet"]["product"]["id"])

    async def add_variants(self, product_id: str, draft: Draft, variant_ids: Sequence[str]) -> ShopProduct:
        """Add the draft's variants of those ids to an existing product; touches nothing else."""
        variants = [_bulk_input(draft, variant) for variant in draft.variants if variant.id in variant_ids]
        await self._client.call(operations.ADD_VARIANTS, productId=product_id, variants=variants)
        return await self._read(product_id)

    async def set_costs(self, product_id: str, costs: Mapping[str, Decimal]) -> None:
        """Set the unit cost of a product's variants, by variant id, in the shop's currency. A repeat is harmless."""
        variants = [{"id": name, "inventoryItem": {"cost": _money(cost)}} for name, cost in costs.items()]
        await self._client.call(operations.SET_COSTS, productId=product_id, variants=variants)

    async def adjust(
        self,
        *,
        key: str,
        name: str,
        reason: str,
        document: str,
        location_id: str,
        changes: Sequence[QuantityChange],
    ) -> str:
        """Change quantities of one state (`incoming`, ..) by deltas, idempotent by `key`; returns the group's id.

        A ledger document is required for every state but `available`, where it is forbidden.
        `changeFromQuantity` is sent as null: a compare would make the variables differ on a repeat.
        """
        ledger = {} if name == "available" else {"ledgerDocumentUri": document}
        entries = [
            {
                "inventoryItemId": change.inventory_item_id,
                "locationId": location_id,
                "delta": change.delta,
                "changeFromQuantity": None,
                **ledger,
            }
            for change in changes
        ]
        request = {"name": name, "reason": reason, "referenceDocumentUri": document, "changes": entries}
        data = await self._client.call(operations.ADJUST_QUANTITIES, key=key, input=request)
        return _group_id(data["inventoryAdjustQuantities"])

    async def move(self, *, key: str, document: str, location_id: str, changes: Sequence[QuantityChange]) -> str:
        """Move units from incoming to available in one atomic call, idempotent by `key`."""
        side = {"locationId": location_id, "changeFromQuantity": None}
        entries = [
            {
                "inventoryItemId": change.inventory_item_id,
                "quantity": change.delta,
                "from": {**side, "name": "incoming", "ledgerDocumentUri": document},
                "to": {**side, "name": "available"},
            }
            for change in changes
        ]
        request = {"reason": "movement_received", "referenceDocumentUri": document, "changes": entries}
        data = await self._client.call(operations.MOVE_QUANTITIES, key=key, input=request)
        return _group_id(data["inventoryMoveQuantities"])

    async def media(self, product_id: str) -> Sequence[ShopMedia]:
        """The product's pictures, in the product's order."""
        found: list[ShopMedia] = []
        after: str | None = None
        while True:
            product = (await self._client.call(operations.MEDIA, id=product_id, after=after))["product"]
            if product is None:
                raise VendorRefused("the product was deleted in the shop", code="PRODUCT_DOES_NOT_EXIST")
            found += [_media(node) for node in product["media"]["nodes"]]
            if not product["media"]["pageInfo"]["hasNextPage"]:
                return found
            after = product["media"]["pageInfo"]["endCursor"]

    async def upload_image(self, name: str, mime: str, content: bytes) -> str:
        """Staged upload; returns the resource URL to attach. A repeat leaves an unused file that expires by itself."""
        wanted = {
            "resource": "IMAGE",
            "filename": name,
            "mimeType": mime,
            "httpMethod": "POST",
            "fileSize": str(len(content)),
        }
        data = await self._client.call(operations.STAGE_UPLOAD, input=[wanted])
        target = data["stagedUploadsCreate"]["stagedTargets"][0]
        fields = [(parameter["name"], parameter["value"]) for parameter in target["parameters"]]
        await self._client.upload(target["url"], fields, name, mime, content)
        return str(target["resourceUrl"])

    async def attach_image(self, product_id: str, resource_url: str, alt: str) -> Sequence[ShopMedia]:
        """Add one picture to a product (a repeat adds again: read `media` first)."""
        picture = {"originalSource": resource_url, "alt": alt, "mediaContentType": "IMAGE"}
        await self._client.call(operations.ATTACH_MEDIA, product={"id": product_id}, media=[picture])
        return await self.media(product_id)

    async def _find(self, identifier: Mapping[str, Any]) -> ShopProduct | None:
        variants: list[ShopVariant] = []
        after: str | None = None
        while True:
            data = await self._client.call(operations.FIND_PRODUCT, identifier=identifier, after=after)
            node = data["productByIdentifier"]
            if node is None:
                return None
            variants += [_variant(one, node["id"]) for one in node["variants"]["nodes"]]
            if not node["variants"]["pageInfo"]["hasNextPage"]:
                return ShopProduct(node["id"], node["title"], node["status"], tuple(variants))
            after = node["variants"]["pageInfo"]["endCursor"]

    async def _read(self, product_id: str) -> ShopProduct:
        product = await self.find_by_id(product_id)
        if product is None:
            raise VendorRefused("the product was deleted in the shop", code="PRODUCT_DOES_NOT_EXIST")
        return product

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


def _custom_id(draft_id: str) -> dict[str, str]:
    return {"namespace": NAMESPACE, "key": KEY, "value": draft_id}


def _quoted(term: str) -> str:
    escaped = term.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _option_values(draft: Draft, variant: DraftVariant) -> list[dict[str, str]]:
    options = {name: variant.plan.options[name] for name in draft.plan.option_names} or STANDALONE
    return [{"optionName": name, "name": value} for name, value in options.items()]


def _product_options(draft: Draft) -> list[dict[str, Any]]:
    """Every option with each of its values once, in the order of the variants."""
    if not draft.plan.option_names:
        return [{"name": name, "values": [{"name": value}]} for name, value in STANDALONE.items()]
    return [
        {
            "name": name,
            "position": position,
            "values": [{"name": value} for value in dict.fromkeys(one.plan.options[name] for one in draft.variants)],
        }
        for position, name in enumerate(draft.plan.option_names, start=1)
    ]


def _product_input(draft: Draft) -> dict[str, Any]:
    plan = draft.plan
    return {
        "title": plan.title,
        "descriptionHtml": plan.description_html,
        "vendor": plan.vendor,
        "productType": plan.product_type,
        "tags": list(plan.tags),
        "status": "DRAFT",
        "metafields": [{**_custom_id(draft.id), "type": "id"}],
        "productOptions": _product_options(draft),
        "variants": [{**_variant_input(draft, one), **_given(sku=one.plan.sku)} for one in draft.variants],
    }


def _bulk_input(draft: Draft, variant: DraftVariant) -> dict[str, Any]:
    """As on creation, except that the SKU stands with the inventory item."""
    entry = _variant_input(draft, variant)
    entry["inventoryItem"] |= _given(sku=variant.plan.sku)
    return entry


def _variant_input(draft: Draft, variant: DraftVariant) -> dict[str, Any]:
    plan = variant.plan
    return {
        "optionValues": _option_values(draft, variant),
        "inventoryPolicy": "DENY",
        "inventoryItem": {"tracked": True, **_given(cost=_money(plan.unit_cost))},
        **_given(barcode=plan.gtin, price=_money(plan.price)),
    }


def _given(**fields: str) -> dict[str, str]:
    """Only what there is: Shopify refuses an explicit null price and would store an empty SKU."""
    return {name: value for name, value in fields.items() if value}


def _money(amount: Decimal | None) -> str:
    return "" if amount is None else f"{amount:f}"


def _variant(node: Mapping[str, Any], product_id: str) -> ShopVariant:
    options = {option["name"]: option["value"] for option in node["selectedOptions"]}
    return ShopVariant(
        id=node["id"],
        inventory_item_id=node["inventoryItem"]["id"],
        sku=node["sku"] or "",
        barcode=node["barcode"] or "",
        options={} if options == STANDALONE else options,
        product_id=product_id,
    )


def _media(node: Mapping[str, Any]) -> ShopMedia:
    sources = ((node.get(part) or {}).get("url") or "" for part in ("image", "originalSource"))
    return ShopMedia(
        id=node["id"],
        status=node["status"],
        alt=node["alt"] or "",
        sources=tuple(url for url in sources if url),
        error="; ".join(f"{error['code']}: {error['message']}" for error in node["mediaErrors"]),
    )


def _group_id(payload: Mapping[str, Any]) -> str:
    """The adjustment group's id; empty when nothing changed (Shopify answers null without an error)."""
    group = payload["inventoryAdjustmentGroup"]
    return "" if group is None else str(group["id"])
