"""What the operations on products mean: found, created once, given the variants they lack.

Products are found again by a custom id: a metafield of type `id` that holds our draft's id. Shopify looks
it up directly, not through the search index, so a product is found as soon as it was written.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeVar

from app.adapters.shopify import operations
from app.adapters.shopify.client import ShopClient
from pipeline.contract import Reject
from pipeline.domain.identifiers import fold
from pipeline.domain.matching import option_names, spelled
from pipeline.domain.results import Draft, DraftVariant
from pipeline.domain.shop import ShopProduct, ShopVariant
from pipeline.errors import VendorRefused
from pipeline.ports import StockValue

NAMESPACE = "po_pipeline"
KEY = "draft_id"
STANDALONE = {"Title": "Default Title"}
"""How Shopify spells the one variant of a product without options."""

FIRST_PAGE = 10
PAGE = 50
"""Of a product's variants. The bucket must hold what is requested, and most products have few."""

CREATED_PAGE_MAX = 100
TERMS_PER_SEARCH = 20
SEARCH_PAGES_MAX = 5
IDS_PER_LOOK = 250
"""Shopify takes at most 250 entries in a list."""

T = TypeVar("T")


class CustomIds:
    """The metafield definition that makes our custom ids possible: made sure of once per shop and process."""

    def __init__(self, client: ShopClient) -> None:
        self._client = client
        self._defined = False

    async def ensure(self) -> None:
        """Define it unless that is known to be done; one that is there already (TAKEN) must be of our type.

        Raises Reject("shop_setup_failed") when it is not, or when the shop refuses.
        """
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
            await self._check_type()
        self._defined = True

    async def with_definition(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask something that needs the definition; once more when the merchant deleted it meanwhile."""
        await self.ensure()
        try:
            return await ask()
        except VendorRefused:
            self._defined = False
            await self.ensure()
            return await ask()

    async def _check_type(self) -> None:
        identifier = {"namespace": NAMESPACE, "key": KEY, "ownerType": "PRODUCT"}
        found = (await self._client.call(operations.CUSTOM_ID_TYPE, identifier=identifier))["metafieldDefinition"]
        if found is not None and found["type"]["name"] != "id":
            message = (
                f"the shop defines the product metafield {NAMESPACE}.{KEY} as {found['type']['name']}, "
                "and we need it as an id: delete that definition in the shop's settings, then retry"
            )
            raise Reject("shop_setup_failed", message)


class ShopifyProducts:
    """The products of one merchant's shop."""

    def __init__(self, client: ShopClient, custom_ids: CustomIds) -> None:
        self._client = client
        self._custom_ids = custom_ids

    async def find_product(self, custom_id: str) -> ShopProduct | None:
        """The product carrying our custom id."""
        return await self._custom_ids.with_definition(lambda: self._find({"customId": custom_id_of(custom_id)}))

    async def find_by_id(self, product_id: str) -> ShopProduct | None:
        """The product of that id with all its variants; None when the merchant deleted it."""
        return await self._find({"id": product_id})

    async def find_variants(self, *, skus: Sequence[str] = (), barcodes: Sequence[str] = ()) -> Sequence[ShopVariant]:
        """Variants with one of the SKUs or barcodes; the search is fuzzy, so what it finds is compared again here."""
        wanted = {fold(sku) for sku in skus}
        found: dict[str, ShopVariant] = {}
        for terms in _batches(list(_terms(skus, barcodes)), TERMS_PER_SEARCH):
            for node in await self._search(" OR ".join(terms)):
                variant = _variant(node, node["product"]["id"])
                if fold(variant.sku) in wanted or variant.barcode in barcodes:
                    found[variant.id] = variant
        return list(found.values())

    async def list_vanished(self, ids: Sequence[str]) -> frozenset[str]:
        """Which of these products and variants are no longer in the shop."""
        present: set[str] = set()
        for some in _batches(ids, IDS_PER_LOOK):
            nodes = (await self._client.call(operations.NODES, ids=list(some)))["nodes"]
            present |= {node["id"] for node in nodes if node is not None}
        return frozenset(ids) - present

    async def create_product(self, draft: Draft, custom_id: str = "") -> ShopProduct:
        """Create a DRAFT product with our custom id, tracked, DENY, without quantities. Once per custom id.

        productSet is an upsert that takes the lists it is given as complete: on a product that exists it
        would undo the merchant's edits. So look before calling, and never call it again afterwards.
        """
        await self._custom_ids.ensure()
        data = await self._client.call(
            operations.CREATE_PRODUCT,
            identifier={"customId": custom_id_of(custom_id or draft.id)},
            input=product_input(draft, custom_id or draft.id),
            first=min(len(draft.variants), CREATED_PAGE_MAX),
        )
        node = data["productSet"]["product"]
        if not node["variants"]["pageInfo"]["hasNextPage"]:
            return _product(node, [_variant(one, node["id"]) for one in node["variants"]["nodes"]])
        return await self._read(node["id"])

    async def add_variants(self, product: ShopProduct, draft: Draft, variant_ids: Sequence[str]) -> ShopProduct:
        """Add the draft's variants of those ids to an existing product, in its words; touches nothing else."""
        variants = [bulk_input(draft, variant, product) for variant in draft.variants if variant.id in variant_ids]
        await self._client.call(operations.ADD_VARIANTS, productId=product.id, variants=variants)
        return await self._read(product.id)

    async def archive_product(self, product_id: str) -> None:
        """Take a product out of sight; nothing of it is deleted. A repeat is harmless."""
        await self._client.call(operations.ARCHIVE_PRODUCT, product={"id": product_id, "status": "ARCHIVED"})

    async def stock_values(self, product_id: str) -> Mapping[str, StockValue]:
        """Cost and sellable units of a product's variants, by variant id."""
        found: dict[str, StockValue] = {}
        after: str | None = None
        while True:
            product = (await self._client.call(operations.STOCK_VALUES, id=product_id, after=after))["product"]
            if product is None:
                raise _deleted()
            found |= {node["id"]: _stock_value(node) for node in product["variants"]["nodes"]}
            if not product["variants"]["pageInfo"]["hasNextPage"]:
                return found
            after = product["variants"]["pageInfo"]["endCursor"]

    async def set_costs(self, product_id: str, costs: Mapping[str, Decimal]) -> None:
        """Set the unit cost of a product's variants, by variant id, in the shop's currency. A repeat is harmless."""
        variants = [{"id": name, "inventoryItem": {"cost": _money(cost)}} for name, cost in costs.items()]
        await self._client.call(operations.SET_COSTS, productId=product_id, variants=variants)

    async def link(self, product_id: str, custom_id: str) -> None:
        """Put our custom id on a product that carries none; touches nothing else. One that has one keeps it.

        `compareDigest: null` writes only where there is no value yet; the answer otherwise is STALE_OBJECT.
        """
        metafield = {**custom_id_of(custom_id), "ownerId": product_id, "type": "id", "compareDigest": None}
        try:
            await self._custom_ids.with_definition(
                lambda: self._client.call(operations.LINK_PRODUCT, metafields=[metafield])
            )
        except VendorRefused as refused:
            if refused.code != "STALE_OBJECT":
                raise

    async def _search(self, query: str) -> list[dict[str, Any]]:
        nodes: list[dict[str, Any]] = []
        after: str | None = None
        for _ in range(SEARCH_PAGES_MAX):
            page = (await self._client.call(operations.FIND_VARIANTS, query=query, after=after))["productVariants"]
            nodes += page["nodes"]
            if not page["pageInfo"]["hasNextPage"]:
                return nodes
            after = page["pageInfo"]["endCursor"]
        raise VendorRefused(f"more than {len(nodes)} variants in the shop match {query}", code="too_common")

    async def _find(self, identifier: Mapping[str, Any]) -> ShopProduct | None:
        variants: list[ShopVariant] = []
        after: str | None = None
        while True:
            first = PAGE if after else FIRST_PAGE
            data = await self._client.call(operations.FIND_PRODUCT, identifier=identifier, first=first, after=after)
            node = data["productByIdentifier"]
            if node is None:
                return None
            variants += [_variant(one, node["id"]) for one in node["variants"]["nodes"]]
            if not node["variants"]["pageInfo"]["hasNextPage"]:
                return _product(node, variants)
            after = node["variants"]["pageInfo"]["endCursor"]

    async def _read(self, product_id: str) -> ShopProduct:
        product = await self.find_by_id(product_id)
        if product is None:
            raise _deleted()
        return product


def _deleted() -> VendorRefused:
    return VendorRefused("the product was deleted in the shop", code="PRODUCT_DOES_NOT_EXIST")


def product_input(draft: Draft, custom_id: str) -> dict[str, Any]:
    """`ProductSetInput` of a new product."""
    plan = draft.plan
    return {
        "title": plan.title,
        "descriptionHtml": plan.description_html,
        "vendor": plan.vendor,
        "productType": plan.product_type,
        "tags": list(plan.tags),
        "status": "DRAFT",
        "metafields": [{**custom_id_of(custom_id), "type": "id"}],
        "productOptions": _product_options(draft),
        "variants": [
            {
                **_variant_input(one),
                "optionValues": _option_values({name: one.plan.options[name] for name in plan.option_names}),
                **_given(sku=one.plan.sku),
            }
            for one in draft.variants
        ],
    }


def bulk_input(draft: Draft, variant: DraftVariant, product: ShopProduct) -> dict[str, Any]:
    """`ProductVariantsBulkInput` of a variant the product lacks: as on creation, but the SKU stands with the item.

    Options are called what the product calls them now, so that a renamed one is not refused.
    """
    names = option_names(draft, product) or {name: name for name in draft.plan.option_names}
    values = {names[name]: spelled(value, product, names[name]) for name, value in variant.plan.options.items()}
    entry = {**_variant_input(variant), "optionValues": _option_values(values)}
    entry["inventoryItem"] |= _given(sku=variant.plan.sku)
    return entry


def custom_id_of(value: str) -> dict[str, str]:
    """How Shopify is told a custom id."""
    return {"namespace": NAMESPACE, "key": KEY, "value": value}


def _batches(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _terms(skus: Sequence[str], barcodes: Sequence[str]) -> Iterator[str]:
    yield from (f"sku:{_quoted(sku)}" for sku in skus)
    yield from (f"barcode:{_quoted(barcode)}" for barcode in barcodes)


def _quoted(term: str) -> str:
    escaped = term.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _option_values(options: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"optionName": name, "name": value} for name, value in (options or STANDALONE).items()]


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


def _variant_input(variant: DraftVariant) -> dict[str, Any]:
    plan = variant.plan
    return {
        "inventoryPolicy": "DENY",
        "inventoryItem": {"tracked": True, **_given(cost=_money(plan.unit_cost))},
        **_given(barcode=plan.gtin, price=_money(plan.price)),
    }


def _given(**fields: str) -> dict[str, str]:
    """Only what there is: Shopify refuses an explicit null price and would store an empty SKU."""
    return {name: value for name, value in fields.items() if value}


def _money(amount: Decimal | None) -> str:
    return "" if amount is None else f"{amount:f}"


def _product(node: Mapping[str, Any], variants: Sequence[ShopVariant]) -> ShopProduct:
    options = {option["name"]: tuple(value["name"] for value in option["optionValues"]) for option in node["options"]}
    standalone = options == {name: (value,) for name, value in STANDALONE.items()}
    return ShopProduct(
        id=node["id"],
        title=node["title"],
        status=node["status"],
        variants=tuple(variants),
        vendor=node["vendor"],
        option_values={} if standalone else options,
        link=(node["metafield"] or {}).get("value", ""),
        product_type=node["productType"],
        tags=tuple(node["tags"]),
        description_html=node["descriptionHtml"],
        total_inventory=node["totalInventory"],
    )


def _stock_value(node: Mapping[str, Any]) -> StockValue:
    cost = node["inventoryItem"]["unitCost"]
    return StockValue(None if cost is None else Decimal(cost["amount"]), node["inventoryQuantity"] or 0)


def _variant(node: Mapping[str, Any], product_id: str) -> ShopVariant:
    options = {option["name"]: option["value"] for option in node["selectedOptions"]}
    cost = node["inventoryItem"]["unitCost"]
    return ShopVariant(
        id=node["id"],
        inventory_item_id=node["inventoryItem"]["id"],
        sku=node["sku"] or "",
        barcode=node["barcode"] or "",
        options={} if options == STANDALONE else options,
        product_id=product_id,
        price=Decimal(node["price"]),
        cost=None if cost is None else Decimal(cost["amount"]),
    )
