"""A product's pictures in Shopify: read, stage a file, attach it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.adapters.shopify import operations
from app.adapters.shopify.client import ShopClient
from pipeline.ports import DELETED, ShopGallery, ShopMedia


async def read_gallery(client: ShopClient, product_id: str) -> ShopGallery:
    """The product's pictures, page by page; none, and DELETED, when the merchant deleted it."""
    found: list[ShopMedia] = []
    after: str | None = None
    while True:
        product = (await client.call(operations.MEDIA, id=product_id, after=after))["product"]
        if product is None:
            return ShopGallery(DELETED, ())
        found += [_media(node) for node in product["media"]["nodes"]]
        if not product["media"]["pageInfo"]["hasNextPage"]:
            return ShopGallery(product["status"], tuple(found))
        after = product["media"]["pageInfo"]["endCursor"]


async def stage_image(client: ShopClient, name: str, mime: str, content: bytes) -> str:
    """Upload a file to a staged target and return what a medium names as its source.

    A target of its own for every file: whether one may be used twice is not settled. What is never attached
    the shop throws away: the policy of a POST target ends after 24 hours.
    """
    wanted = {
        "resource": "IMAGE",
        "filename": name,
        "mimeType": mime,
        "httpMethod": "POST",
        "fileSize": str(len(content)),
    }
    data = await client.call(operations.STAGE_UPLOAD, input=[wanted])
    target = data["stagedUploadsCreate"]["stagedTargets"][0]
    fields = [(parameter["name"], parameter["value"]) for parameter in target["parameters"]]
    await client.upload(target["url"], fields, name, mime, content)
    return str(target["resourceUrl"])


async def attach_image(client: ShopClient, product_id: str, resource_url: str, alt: str) -> ShopGallery:
    """Add one picture (a repeat adds again: read the gallery first) and read the gallery with it."""
    picture = {"originalSource": resource_url, "alt": alt, "mediaContentType": "IMAGE"}
    await client.call(operations.ATTACH_MEDIA, product={"id": product_id}, media=[picture])
    return await read_gallery(client, product_id)


def _media(node: Mapping[str, Any]) -> ShopMedia:
    sources = ((node.get(part) or {}).get("url") or "" for part in ("image", "originalSource"))
    return ShopMedia(
        id=node["id"],
        status=node["status"],
        alt=node["alt"] or "",
        sources=tuple(url for url in sources if url),
        error="; ".join(f"{error['code']}: {error['message']}" for error in node["mediaErrors"]),
    )
