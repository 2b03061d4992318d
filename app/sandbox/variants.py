"""Variants: their fields, how they are told apart, and the bulk mutations that touch only what they name."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from app.sandbox import metafields
from app.sandbox.call import Args, Call, UserErrors, no, user_error
from app.sandbox.media import make_media
from app.sandbox.state import InventoryItem, Option, Variant, now

if TYPE_CHECKING:
    from app.sandbox.state import Product, Shop

TEXT_MAX = 255
COST_MAX = Decimal(10) ** 18
VARIANTS_MAX = 2048

Path = list[str | int]
Errors = list[dict[str, Any]]


def bulk_create(_source: Any, call: Call, args: Args) -> dict[str, Any]:
    """Add variants to a product; a new option value is added with them."""
    product = _product(call.shop, args["productId"])
    given = args["variants"]
    errors: Errors = []
    keep = _standalone_kept(product, args["strategy"])
    taken = {tuple(variant.option_values.items()) for variant in keep}
    chosen = []
    for index, entry in enumerate(given):
        path: Path = ["variants", index]
        errors += check_fields(call.shop, entry, path, None)
        errors += _errors_of_places(call.shop, entry.get("inventoryQuantities"), [*path, "inventoryQuantities"])
        values, found = _named_options(product, entry.get("optionValues") or [], path)
        errors += found
        if tuple(values.items()) in taken:
            message = already_exists(values)
            errors.append(user_error(path, message, "VARIANT_ALREADY_EXISTS"))
        taken.add(tuple(values.items()))
        chosen.append(values)
    if len(taken) > VARIANTS_MAX:
        errors.append(user_error(["variants"], f"A product holds at most {VARIANTS_MAX} variants.", "INVALID"))
    if errors:
        raise UserErrors(errors)
    for variant in [one for one in product.variants if one not in keep]:
        remove(call.shop, product, variant)
    created = []
    for entry, values in zip(given, chosen, strict=True):
        _add_option_values(call.shop, product, values)
        variant = new_variant(call.shop, values)
        product.variants.append(variant)
        write_fields(call, variant, entry)
        for level in entry.get("inventoryQuantities") or []:
            item = call.shop.inventory_items[variant.inventory_item_id]
            item.add(level["locationId"], "available", level["availableQuantity"])
        created.append(variant)
    _attach_media(call, product, args)
    product.updated_at = now()
    return {"product": product, "productVariants": created, "userErrors": []}


def bulk_update(_source: Any, call: Call, args: Args) -> dict[str, Any]:
    """Change the named fields of the named variants, and nothing else."""
    product = _product(call.shop, args["productId"])
    errors: Errors = []
    sound = []
    for index, entry in enumerate(args["variants"]):
        found = _update_errors(call.shop, product, entry, ["variants", index])
        errors += found
        if not found:
            sound.append(entry)
    if errors and not args["allowPartialUpdates"]:
        raise UserErrors(errors)
    by_id = {variant.id: variant for variant in product.variants}
    for entry in sound:
        variant = by_id[entry["id"]]
        write_fields(call, variant, entry)
        if entry.get("optionValues"):
            values, _ = _named_options(product, entry["optionValues"], [])
            variant.option_values.update(values)
        item = call.shop.inventory_items[variant.inventory_item_id]
        for change in entry.get("quantityAdjustments") or []:
            item.add(change["locationId"], "available", change.get("adjustment") or 0)
    _attach_media(call, product, args)
    product.updated_at = now()
    return {
        "product": product,
        "productVariants": [by_id[entry["id"]] for entry in sound],
        "userErrors": errors,
    }


def bulk_delete(_source: Any, call: Call, args: Args) -> dict[str, Any]:
    """Remove variants; a product keeps at least one."""
    product = _product(call.shop, args["productId"])
    wanted = set(args["variantsIds"])
    if not wanted <= {variant.id for variant in product.variants}:
        code = "AT_LEAST_ONE_VARIANT_DOES_NOT_BELONG_TO_THE_PRODUCT"
        raise no(["variantsIds"], "At least one variant does not belong to the product", code)
    if len(wanted) == len(product.variants):
        message = "Cannot delete the last variant of a product"
        raise no(["variantsIds"], message, "CANNOT_DELETE_LAST_VARIANT")
    for variant in [one for one in product.variants if one.id in wanted]:
        remove(call.shop, product, variant)
    product.updated_at = now()
    return {"product": product, "userErrors": []}


def append_media(_source: Any, call: Call, args: Args) -> dict[str, Any]:
    """Show one of the product's images for a variant; Shopify wants it READY, and one per variant."""
    product = _product(call.shop, args["productId"])
    by_id = {variant.id: variant for variant in product.variants}
    errors: Errors = []
    for index, pair in enumerate(args["variantMedia"]):
        path: Path = ["variantMedia", index]
        variant = by_id.get(pair["variantId"])
        if variant is None:
            code = "PRODUCT_VARIANT_DOES_NOT_EXIST_ON_PRODUCT"
            errors.append(user_error([*path, "variantId"], "Variant does not exist on the product", code))
        elif variant.media_ids:
            code = "PRODUCT_VARIANT_ALREADY_HAS_MEDIA"
            errors.append(user_error([*path, "variantId"], "Product variant already has attached media", code))
        if len(pair["mediaIds"]) != 1:
            code = "TOO_MANY_MEDIA_PER_INPUT_PAIR"
            errors.append(user_error([*path, "mediaIds"], "Only one image per variant", code))
        for media_id in pair["mediaIds"]:
            errors += _media_errors(call, product, media_id, [*path, "mediaIds"])
    if errors:
        raise UserErrors(errors)
    changed = []
    for pair in args["variantMedia"]:
        by_id[pair["variantId"]].media_ids = list(pair["mediaIds"])
        changed.append(by_id[pair["variantId"]])
    return {"product": product, "productVariants": changed, "userErrors": []}


def item_update(_source: Any, call: Call, args: Args) -> dict[str, Any]:
    """Change the named fields of an inventory item, its cost for example."""
    item = call.shop.inventory_items.get(args["id"])
    found = call.shop.variant(item.variant_id) if item else None
    if item is None or found is None:
        raise no(["id"], "The product couldn't be updated because it does not exist.")
    entry = {"inventoryItem": args["input"]}
    errors = check_fields(call.shop, entry, ["input"], found[1].id)
    if errors:
        raise UserErrors(errors)
    write_fields(call, found[1], entry)
    return {"inventoryItem": item, "userErrors": []}


def new_variant(shop: Shop, option_values: dict[str, str]) -> Variant:
    """A variant with the inventory item it always has."""
    variant_id, item_id = shop.new_id("ProductVariant"), shop.new_id("InventoryItem")
    item = InventoryItem(id=item_id, variant_id=variant_id)
    item.levels[shop.primary_location_id] = {}
    shop.inventory_items[item_id] = item
    return Variant(id=variant_id, inventory_item_id=item_id, option_values=option_values)


def remove(shop: Shop, product: Product, variant: Variant) -> None:
    """Drop a variant with its item, its stock and its metafields."""
    product.variants = [one for one in product.variants if one.id != variant.id]
    del shop.inventory_items[variant.inventory_item_id]
    metafields.forget(shop, variant.id)


def check_fields(shop: Shop, entry: Args, path: Path, variant_id: str | None) -> Errors:
    """Why these fields cannot be written; the rules are the same in every mutation that takes them."""
    item = entry.get("inventoryItem") or {}
    errors = []
    for name, field, value in (
        ("SKU", "sku", entry.get("sku") or item.get("sku")),
        ("Barcode", "barcode", entry.get("barcode")),
    ):
        if value is not None and len(value) > TEXT_MAX:
            message = f"{name} is too long (maximum is {TEXT_MAX} characters)"
            errors.append(user_error([*path, field], message, "INVALID_INPUT"))
    if "price" in entry and entry["price"] is None:
        errors.append(user_error([*path, "price"], "Price can't be blank", "INVALID_INPUT"))
    for field in ("price", "compareAtPrice"):
        if entry.get(field) is not None and Decimal(entry[field]) < 0:
            message = "Price must be greater than or equal to 0"
            errors.append(user_error([*path, field], message, "INVALID_INPUT"))
    cost = item.get("cost")
    if cost is not None and not 0 <= Decimal(cost) < COST_MAX:
        message = "Cost must be greater than or equal to 0 and less than 1000000000000000000"
        errors.append(user_error([*path, "inventoryItem", "cost"], message, "INVALID_INPUT"))
    media_id = entry.get("mediaId")
    if media_id is not None and media_id not in shop.media:
        errors.append(user_error([*path, "mediaId"], "Media does not exist", "INVALID_INPUT"))
    entries = entry.get("metafields") or []
    for index, message in metafields.errors_of(shop, variant_id, "PRODUCTVARIANT", entries):
        errors.append(user_error([*path, "metafields", index], message, "INVALID_INPUT"))
    return errors


def write_fields(call: Call, variant: Variant, entry: Args) -> None:
    """Write the fields that were sent; one that was left out stays as it is."""
    item = call.shop.inventory_items[variant.inventory_item_id]
    given_item = entry.get("inventoryItem") or {}
    for field, name in (
        ("barcode", "barcode"),
        ("compareAtPrice", "compare_at_price"),
        ("inventoryPolicy", "inventory_policy"),
        ("sku", "sku"),
        ("taxable", "taxable"),
    ):
        if field in entry:
            setattr(variant, name, entry[field])
    if "price" in entry:
        variant.price = _cents(entry["price"])
    if "sku" in given_item:
        variant.sku = given_item["sku"]
    for field, name in (
        ("tracked", "tracked"),
        ("cost", "cost"),
        ("requiresShipping", "requires_shipping"),
        ("countryCodeOfOrigin", "country_code_of_origin"),
        ("harmonizedSystemCode", "harmonized_system_code"),
    ):
        if field in given_item:
            setattr(item, name, given_item[field])
    if "measurement" in given_item:
        item.weight = (given_item["measurement"] or {}).get("weight")
    if entry.get("mediaId"):
        variant.media_ids = [entry["mediaId"]]
    for metafield in entry.get("metafields") or []:
        metafields.write(call.shop, variant.id, metafield)
    variant.updated_at = item.updated_at = now()


def already_exists(values: dict[str, str]) -> str:
    """Shopify's words for two variants with the same option values."""
    title = " / ".join(values.values())
    return f"The variant '{title}' already exists. Please change at least one option value."


def _cents(price: str) -> str:
    return str(Decimal(price).quantize(Decimal("0.01")))


def _product(shop: Shop, product_id: str) -> Product:
    product = shop.products.get(product_id)
    if product is None:
        raise no(["productId"], "Product does not exist", "PRODUCT_DOES_NOT_EXIST")
    return product


def _standalone_kept(product: Product, strategy: str) -> list[Variant]:
    """Shopify: by default the lone 'Default Title' variant gives way to the first real ones."""
    alone = len(product.variants) == 1
    default = alone and product.variants[0].title == "Default Title"
    if strategy == "REMOVE_STANDALONE_VARIANT" and alone:
        return []
    return [] if strategy == "DEFAULT" and default else list(product.variants)


def _named_options(product: Product, given: list[Args], path: Path) -> tuple[dict[str, str], Errors]:
    """Option name -> value, in the product's order, and what is wrong with it."""
    names = {option.id: option.name for option in product.options}
    value_names = {id_: name for option in product.options for name, id_ in option.values.items()}
    chosen: dict[str, str] = {}
    for entry in given:
        option = entry.get("optionName") or names.get(entry.get("optionId") or "")
        value = entry.get("name") or value_names.get(entry.get("id") or "")
        if option is None or option not in names.values() or value is None:
            code = "OPTION_VALUES_FOR_NUMBER_OF_UNKNOWN_OPTIONS"
            return {}, [user_error([*path, "optionValues"], "Option does not exist", code)]
        chosen[option] = value
    missing = [name for name in names.values() if name not in chosen]
    ordered = {name: chosen[name] for name in names.values() if name in chosen}
    if missing:
        message = f"You need to add option values for {', '.join(missing)}"
        return ordered, [user_error([*path, "optionValues"], message, "NEED_TO_ADD_OPTION_VALUES")]
    return ordered, []


def _add_option_values(shop: Shop, product: Product, values: dict[str, str]) -> None:
    for option in product.options:
        value = values[option.name]
        if value not in option.values:
            option.values[value] = shop.new_id("ProductOptionValue")


def _update_errors(shop: Shop, product: Product, entry: Args, path: Path) -> Errors:
    variant_id = entry.get("id")
    if variant_id is None:
        return [user_error([*path, "id"], "Product variant is missing ID attribute", "PRODUCT_VARIANT_ID_MISSING")]
    if variant_id not in {variant.id for variant in product.variants}:
        message = "Product variant does not exist"
        return [user_error([*path, "id"], message, "PRODUCT_VARIANT_DOES_NOT_EXIST")]
    errors = check_fields(shop, entry, path, variant_id)
    errors += _errors_of_places(shop, entry.get("quantityAdjustments"), [*path, "quantityAdjustments"])
    if entry.get("inventoryQuantities"):
        message = "Inventory quantities can only be provided during create."
        code = "NO_INVENTORY_QUANTITIES_ON_VARIANTS_UPDATE"
        errors.append(user_error([*path, "inventoryQuantities"], message, code))
    return errors


def _errors_of_places(shop: Shop, entries: list[Args] | None, path: Path) -> Errors:
    return [
        user_error([*path, index, "locationId"], "Location does not exist", "INVALID_INPUT")
        for index, entry in enumerate(entries or [])
        if entry["locationId"] not in shop.locations
    ]


def _media_errors(call: Call, product: Product, media_id: str, path: Path) -> Errors:
    if media_id not in product.media_ids:
        message = "Media does not exist on the specified product"
        return [user_error(path, message, "MEDIA_DOES_NOT_EXIST_ON_PRODUCT")]
    if call.shop.media[media_id].status(call.at) != "READY":
        return [user_error(path, "Non-ready media are not supported", "NON_READY_MEDIA")]
    return []


def _attach_media(call: Call, product: Product, args: Args) -> None:
    product.media_ids += [make_media(call, entry).id for entry in args.get("media") or []]


def set_options(shop: Shop, current: list[Option], given: list[Args]) -> list[Option]:
    """The options a productSet asks for; names and values that stay keep their ids."""
    known = {option.name: option for option in current}
    options = []
    for entry in given:
        old = known.get(entry["name"])
        ids = {} if old is None else old.values
        names = [value["name"] for value in entry["values"]]
        values = {name: ids.get(name) or shop.new_id("ProductOptionValue") for name in names}
        options.append(Option(id=old.id if old else shop.new_id("ProductOption"), name=entry["name"], values=values))
    return options
