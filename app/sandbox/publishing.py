"""Putting a product into a sales channel; an ACTIVE product is not published by being active."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.sandbox.call import Args, Call, no

if TYPE_CHECKING:
    from app.sandbox.state import Product


def publish(_source: Any, call: Call, args: Args) -> dict[str, Any]:
    """Add the product to each publication named."""
    product, wanted = _named(call, args)
    product.published_on = sorted({*product.published_on, *wanted})
    return {"publishable": product, "shop": call.shop, "userErrors": []}


def unpublish(_source: Any, call: Call, args: Args) -> dict[str, Any]:
    """Take the product out of each publication named."""
    product, wanted = _named(call, args)
    product.published_on = [one for one in product.published_on if one not in wanted]
    return {"publishable": product, "shop": call.shop, "userErrors": []}


def _named(call: Call, args: Args) -> tuple[Product, list[str]]:
    product = call.shop.products.get(args["id"])
    if product is None:
        raise no(["id"], "Resource does not exist")
    wanted = [str(entry.get("publicationId")) for entry in args["input"]]
    for index, publication_id in enumerate(wanted):
        if publication_id not in call.shop.publications:
            raise no(["input", index, "publicationId"], "Publication does not exist")
    return product, wanted
