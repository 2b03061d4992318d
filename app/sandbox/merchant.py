"""The merchant at work in the admin while we are: edits that a test orders over HTTP.

Nothing here is part of the Admin API; each edit is one a person can make on Shopify's product page, and has the
effect it has there. Searches see it no sooner than the shop's index does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field

from app.sandbox import metafields, variants
from app.sandbox.call import Call, no
from app.sandbox.media import make_media
from app.sandbox.products import free_handle, slug
from app.sandbox.state import Option, Product, now

if TYPE_CHECKING:
    from app.sandbox.state import Shop, Variant


class VariantGiven(BaseModel):
    """A variant as a person types it in."""

    options: dict[str, str] = Field(default_factory=lambda: {"Title": "Default Title"})
    sku: str | None = None
    barcode: str | None = None
    price: str = "0.00"
    cost: str | None = None
    available: int = 0
    tracked: bool = True


class AddProduct(BaseModel):
    """A product of the merchant's own. Shopify: without a vendor it gets the shop's name."""

    do: Literal["add_product"]
    title: str
    vendor: str | None = None
    status: str = "ACTIVE"
    variants: list[VariantGiven] = Field(default_factory=lambda: [VariantGiven()])

    def apply(self, call: Call) -> str:
        """Make it; answers its id."""
        shop = call.shop
        handle = free_handle(shop, slug(self.title))
        product = Product(
            id=shop.new_id("Product"),
            title=self.title,
            handle=handle,
            vendor=self.vendor or shop.name,
            status=self.status,
        )
        names = list(self.variants[0].options)
        product.options = [Option(id=shop.new_id("ProductOption"), name=name, values={}) for name in names]
        shop.products[product.id] = product
        for given in self.variants:
            _add_variant(shop, product, given)
        return product.id


class EditProduct(BaseModel):
    """What stands on the product's page: title, text, status, tags, vendor."""

    do: Literal["edit_product"]
    product_id: str
    changes: dict[Literal["title", "description_html", "status", "tags", "vendor", "product_type"], Any]

    def apply(self, call: Call) -> str:
        """Write the fields named."""
        product = _product(call.shop, self.product_id)
        for name, value in self.changes.items():
            setattr(product, name, value)
        product.updated_at = now()
        return product.id


class DeleteProduct(BaseModel):
    """Deleted for good: Shopify has no way to bring a product back."""

    do: Literal["delete_product"]
    product_id: str

    def apply(self, call: Call) -> str:
        """Remove it with its variants, stock and metafields."""
        product = _product(call.shop, self.product_id)
        for variant in list(product.variants):
            variants.remove(call.shop, product, variant)
        metafields.forget(call.shop, product.id)
        del call.shop.products[product.id]
        return product.id


class AddVariant(BaseModel):
    """One more variant; Shopify adds its option values to the product."""

    do: Literal["add_variant"]
    product_id: str
    variant: VariantGiven

    def apply(self, call: Call) -> str:
        """Make it; answers its id."""
        return _add_variant(call.shop, _product(call.shop, self.product_id), self.variant)


class EditVariant(BaseModel):
    """A variant's own fields."""

    do: Literal["edit_variant"]
    variant_id: str
    changes: dict[Literal["sku", "barcode", "price", "compare_at_price", "inventory_policy"], Any] = Field(
        default_factory=dict
    )
    cost: str | None = None
    available: int | None = None

    def apply(self, call: Call) -> str:
        """Write the fields named."""
        _, variant = _variant(call.shop, self.variant_id)
        for name, value in self.changes.items():
            setattr(variant, name, value)
        item = call.shop.inventory_items[variant.inventory_item_id]
        if self.cost is not None:
            item.cost = self.cost
        if self.available is not None:
            place = call.shop.primary_location_id
            item.add(place, "available", self.available - item.quantity(place, "available"))
        variant.updated_at = now()
        return variant.id


class DeleteVariant(BaseModel):
    """One variant less; its stock goes with it."""

    do: Literal["delete_variant"]
    variant_id: str

    def apply(self, call: Call) -> str:
        """Remove it."""
        product, variant = _variant(call.shop, self.variant_id)
        variants.remove(call.shop, product, variant)
        return variant.id


class RenameOption(BaseModel):
    """Another name for an option, or for one of its values: variants keep their ids."""

    do: Literal["rename_option"]
    product_id: str
    option: str
    name: str
    value: str | None = None

    def apply(self, call: Call) -> str:
        """Rename the option, or its `value` if one is named, to `name`."""
        product = _product(call.shop, self.product_id)
        option = next(one for one in product.options if one.name == self.option)
        for variant in product.variants:
            variant.option_values = {
                self.name if key == self.option and self.value is None else key: (
                    self.name if key == self.option and held == self.value else held
                )
                for key, held in variant.option_values.items()
            }
        if self.value is None:
            option.name = self.name
        else:
            option.values = {self.name if key == self.value else key: id_ for key, id_ in option.values.items()}
        return option.id


class AddOption(BaseModel):
    """One more option: Shopify gives every variant there is its first value."""

    do: Literal["add_option"]
    product_id: str
    name: str
    value: str

    def apply(self, call: Call) -> str:
        """Add it to the product and to each variant."""
        product = _product(call.shop, self.product_id)
        option = Option(
            id=call.shop.new_id("ProductOption"),
            name=self.name,
            values={self.value: call.shop.new_id("ProductOptionValue")},
        )
        product.options.append(option)
        for variant in product.variants:
            variant.option_values[self.name] = self.value
        return option.id


class AddImage(BaseModel):
    """A picture from an address."""

    do: Literal["add_image"]
    product_id: str
    source: str
    alt: str = ""

    def apply(self, call: Call) -> str:
        """Hang it up; answers its id."""
        product = _product(call.shop, self.product_id)
        media = make_media(call, {"originalSource": self.source, "alt": self.alt, "mediaContentType": "IMAGE"})
        product.media_ids.append(media.id)
        return media.id


class SetMetafield(BaseModel):
    """A value of the merchant's own, or of another app."""

    do: Literal["set_metafield"]
    owner_id: str
    namespace: str
    key: str
    value: str
    type: str = "single_line_text_field"

    def apply(self, call: Call) -> str:
        """Write it."""
        given = {"namespace": self.namespace, "key": self.key, "value": self.value, "type": self.type}
        return metafields.write(call.shop, self.owner_id, given).id


class DeleteMetafield(BaseModel):
    """A value taken off."""

    do: Literal["delete_metafield"]
    owner_id: str
    namespace: str
    key: str

    def apply(self, call: Call) -> str:
        """Remove it."""
        found = call.shop.find_metafield(self.owner_id, self.namespace, self.key)
        if found is None:
            raise no(["key"], "There is no such metafield")
        del call.shop.metafields[found.id]
        return found.id


class DeleteDefinition(BaseModel):
    """A definition deleted in the shop's settings; Shopify asks whether its values go too, here they do."""

    do: Literal["delete_definition"]
    namespace: str
    key: str

    def apply(self, call: Call) -> str:
        """Remove it with every value under its key."""
        shop = call.shop
        gone = [one for one in shop.definitions.values() if (one.namespace, one.key) == (self.namespace, self.key)]
        for definition in gone:
            del shop.definitions[definition.id]
        for one in list(shop.metafields.values()):
            if (one.namespace, one.key) == (self.namespace, self.key):
                del shop.metafields[one.id]
        return ", ".join(one.id for one in gone)


Edit = Annotated[
    AddProduct
    | EditProduct
    | DeleteProduct
    | AddVariant
    | EditVariant
    | DeleteVariant
    | RenameOption
    | AddOption
    | AddImage
    | SetMetafield
    | DeleteMetafield
    | DeleteDefinition,
    Field(discriminator="do"),
]


def _add_variant(shop: Shop, product: Product, given: VariantGiven) -> str:
    for option in product.options:
        option.values.setdefault(given.options[option.name], shop.new_id("ProductOptionValue"))
    variant = variants.new_variant(shop, {option.name: given.options[option.name] for option in product.options})
    variant.sku, variant.barcode, variant.price = given.sku, given.barcode, given.price
    item = shop.inventory_items[variant.inventory_item_id]
    item.cost, item.tracked = given.cost, given.tracked
    item.add(shop.primary_location_id, "available", given.available)
    product.variants.append(variant)
    product.updated_at = now()
    return variant.id


def _product(shop: Shop, product_id: str) -> Product:
    product = shop.products.get(product_id)
    if product is None:
        raise no(["product_id"], "Product does not exist")
    return product


def _variant(shop: Shop, variant_id: str) -> tuple[Product, Variant]:
    found = shop.variant(variant_id)
    if found is None:
        raise no(["variant_id"], "Variant does not exist")
    return found
