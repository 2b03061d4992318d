"""A sandbox on a real socket, and a client that speaks to one of its shops."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support import loopback

TOKEN = "token-of-demo"

DEFINE_DRAFT_ID = """
mutation ($definition: MetafieldDefinitionInput!) {
  metafieldDefinitionCreate(definition: $definition) { createdDefinition { id } userErrors { code field message } }
}
"""
SET_PRODUCT = """
mutation ($identifier: ProductSetIdentifiers, $input: ProductSetInput!) {
  productSet(identifier: $identifier, input: $input, synchronous: true) {
    product {
      id handle status title tags
      variants(first: 50) { nodes { id title sku price inventoryItem { id tracked unitCost { amount currencyCode } } } }
    }
    userErrors { code field message }
  }
}
"""
ADJUST = """
mutation ($input: InventoryAdjustQuantitiesInput!, $key: String!) {
  inventoryAdjustQuantities(input: $input) @idempotent(key: $key) {
    inventoryAdjustmentGroup { id changes { name delta quantityAfterChange } }
    userErrors { code field message }
  }
}
"""


@dataclass
class ShopClient:
    """One shop, as a test speaks to it."""

    http: httpx.AsyncClient
    address: str
    domain: str
    token: str = TOKEN

    async def open(self, **choices: Any) -> None:
        """Open the shop, or change its token, scopes and settings."""
        wanted = {"domain": self.domain, "token": self.token, "currency": "EUR", **choices}
        response = await self.http.post(f"{self.address}/shops", json=wanted)
        assert response.status_code == 201, response.text

    async def post(self, query: str, **variables: Any) -> httpx.Response:
        return await self.http.post(
            f"{self.address}/shops/{self.domain}/admin/api/2026-10/graphql.json",
            json={"query": query, "variables": variables},
            headers={"X-Shopify-Access-Token": self.token},
        )

    async def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        response = await self.post(query, **variables)
        assert response.status_code == 200, response.text
        return response.json()

    async def data(self, query: str, **variables: Any) -> dict[str, Any]:
        envelope = await self.ask(query, **variables)
        assert "errors" not in envelope, envelope
        return envelope["data"]

    async def state(self) -> dict[str, Any]:
        return (await self.http.get(f"{self.address}/shops/{self.domain}/state")).json()

    async def meter(self) -> dict[str, Any]:
        return (await self.http.get(f"{self.address}/shops/{self.domain}/meter")).json()

    async def order(self, kind: str, operation: str = "*", count: int = 1, seconds: float = 0) -> None:
        fault = {"operation": operation, "kind": kind, "count": count, "seconds": seconds}
        response = await self.http.post(f"{self.address}/shops/{self.domain}/faults", json=fault)
        assert response.status_code == 201

    async def define_draft_id(self) -> None:
        definition = {"name": "d", "namespace": "$app", "key": "draft", "type": "id", "ownerType": "PRODUCT"}
        await self.data(DEFINE_DRAFT_ID, definition=definition)

    async def set_product(self, draft: str = "d1", **changes: Any) -> dict[str, Any]:
        """The payload of productSet for a shirt in two sizes."""
        identifier = {"customId": {"namespace": "$app", "key": "draft", "value": draft}}
        answer = await self.data(SET_PRODUCT, identifier=identifier, input={**shirt(), **changes})
        return answer["productSet"]

    async def first_item(self) -> str:
        """The inventory item of the shirt's first variant; makes the shirt."""
        await self.define_draft_id()
        product = (await self.set_product())["product"]
        return product["variants"]["nodes"][0]["inventoryItem"]["id"]

    async def location(self) -> str:
        return (await self.state())["locations"][0]["id"]

    async def adjust(self, item: str, delta: int, *, key: str | None = None, **changes: Any) -> dict[str, Any]:
        given = await self.adjustment(item, delta, **changes)
        return (await self.data(ADJUST, input=given, key=key or str(uuid4())))["inventoryAdjustQuantities"]

    async def adjustment(self, item: str, delta: int, **changes: Any) -> dict[str, Any]:
        change = {
            "inventoryItemId": item,
            "locationId": await self.location(),
            "delta": delta,
            "changeFromQuantity": None,
            "ledgerDocumentUri": "gid://po-pipeline/PurchaseOrder/1",
        }
        given = {"name": "incoming", "reason": "movement_created", "changes": [change]}
        change |= {name: changes.pop(name) for name in list(changes) if name in change}
        return {**given, **changes}

    async def quantities(self) -> dict[str, int]:
        """Of the first variant, over all locations."""
        return (await self.state())["products"][0]["variants"][0]["quantities"]


def shirt() -> dict[str, Any]:
    return {
        "title": "Linen Shirt",
        "status": "DRAFT",
        "productOptions": [{"name": "Size", "values": [{"name": "S"}, {"name": "M"}]}],
        "variants": [size("S", sku="LS-S", price="49.9"), size("M", sku="LS-M", price="49.90")],
    }


def size(name: str, **fields: Any) -> dict[str, Any]:
    item = {"tracked": True, "cost": "21.50"}
    return {"optionValues": [{"optionName": "Size", "name": name}], "inventoryItem": item, **fields}


@pytest.fixture(scope="session")
def address(expect_children: Callable[[], None]) -> Iterator[str]:
    """One sandbox process for all tests; each opens a shop of its own in it."""
    command = [sys.executable, "-m", "app.sandbox"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        expect_children()
        assert process.stdout is not None
        yield process.stdout.readline().removeprefix("listening on ").strip()
        process.terminate()


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with loopback(timeout=5) as client:
        yield client


@pytest.fixture
async def shop(http: httpx.AsyncClient, address: str) -> ShopClient:
    client = ShopClient(http, address, domain=f"shop-{uuid4().hex[:12]}.myshopify.com")
    await client.open(settings={"processing_s": 0.05})
    return client
