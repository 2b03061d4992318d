"""Products: productSet, which makes a product what it is told, and productUpdate, which changes what is named."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from app.sandbox import media, metafields, variants
from app.sandbox.call import Args, Call, UserErrors, no, user_error
from app.sandbox.inventory import SETTABLE
from app.sandbox.state import Option, Product, ProductSetOperation, Variant, now

if TYPE_CHECKING:
    from app.sandbox.state import Shop

OPTIONS_MAX = 3
VALUES_MAX = 100
TEXT_MAX = variants.TEXT_MAX

Path = list[str | int]
Errors = list[dict[str, Any]]

_FIELDS = {
    "title": "title",
    "status": "status",
    "vendor": "vendor",
    "productType": "product_type",
    "descriptionHtml": "description_html",
    "templateSuffix": "template_suffix",
    "category": "category",
    "seo": "seo",
}
_NULLABLE = {"templateSuffix", "category"}
_UNKNOWN_FIELDS = {"collections", "collectionsToJoin", "combinedListingRole", "giftCard", "requiresSellingPlan"}


def product_set(_source: Any, call: Call, args: Args) -> dict[str, Any]:
    """Create the product, or make the existing one exactly what the input says.

    A list that is sent is authoritative: what it leaves out is deleted. A list left out stays as it is.
    """
    given = args["input"]
    found = _find_for_set(call.shop, args.get("identifier"), given)
    errors = _errors_of_fields(call.shop, given, found, ["input"])
    errors += _errors_of_options(given)
    errors += _errors_of_variants(call.shop, given, found)
    if errors:
        raise UserErrors(errors)
    product = found or _create(call.shop, given)
    _write_fields(product, given)
    _set_variants(call, product, given)
    _set_metafields(call.shop, product, given, (args.get("identifier") or {}).get("customId"))
    _set_files(call, product, given)
    product.updated_at = now()
    if args["synchronous"]:
        return {"product": product, "userErrors": []}
    operation = ProductSetOperation(id=call.shop.new_id("ProductSetOperation"), product_id=product.id)
    call.shop.operations[operation.id] = operation
    return {"product": None, "productSetOperation": operation, "userErrors": []}


def product_update(_source: Any, call: Call, args: Args) -> dict[str, Any]:
    """Change the fields that are named; media that is sent is added, however often it was sent before."""
    given = args.get("product") or args.get("input") or {}
    product = _find_for_update(call.shop, args.get("identifier") or {"id": given.get("id")})
    errors = _errors_of_fields(call.shop, given, product, ["product"])
    errors += media.errors_of(args.get("media") or [], ["media"])
    errors += media.errors_of_room(product, args.get("media") or [])
    if errors:
        raise UserErrors(errors)
    _write_fields(product, given)
    for entry in given.get("metafields") or []:
        metafields.write(call.shop, product.id, entry)
    product.media_ids += [media.make_media(call, entry).id for entry in args.get("media") or []]
    product.updated_at = now()
    return {"product": product, "userErrors": []}


def product_delete(_source: Any, call: Call, args: Args) -> dict[str, Any]:
    """Remove a product with its variants; its files stay in the shop."""
    product = call.shop.products.get(args["input"]["id"])
    if product is None:
        raise no(["id"], "Product does not exist")
    for variant in list(product.variants):
        variants.remove(call.shop, product, variant)
    metafields.forget(call.shop, product.id)
    del call.shop.products[product.id]
    return {"deletedProductId": product.id, "shop": call.shop, "userErrors": []}


def _find_for_set(shop: Shop, identifier: Args | None, given: Args) -> Product | None:
    if identifier is None:
        product_id = given.get("id")
        return None if product_id is None else _existing(shop, product_id, ["input", "id"])
    if "id" in identifier:
        return _existing(shop, identifier["id"], ["identifier", "id"])
    if "handle" in identifier:
        # Shopify: the identifying handle must stand in the input as well.
        if given.get("handle") is None:
            raise no(["input", "handle"], "Handle is required in the input", "MISSING_FIELD_REQUIRED")
        if given["handle"] != identifier["handle"]:
            raise no(["input", "handle"], "Handle must match the identifier", "INPUT_MISMATCH")
        return shop.product_by_handle(identifier["handle"])
    custom_id = identifier["customId"]
    found = metafields.product_by_custom_id(shop, custom_id)
    if "metafields" in given and not any(_is_custom_id(entry, custom_id) for entry in given["metafields"] or []):
        message = "The input must contain the metafield of the custom id with the same value"
        raise no(["input", "metafields"], message, "METAFIELD_MISMATCH")
    return found


def _existing(shop: Shop, product_id: str, path: Path) -> Product:
    product = shop.products.get(product_id)
    if product is None:
        raise no(path, "Product does not exist", "PRODUCT_DOES_NOT_EXIST")
    return product


def _find_for_update(shop: Shop, identifier: Args) -> Product:
    if "customId" in identifier:
        product = metafields.product_by_custom_id(shop, identifier["customId"])
    elif "handle" in identifier:
        product = shop.product_by_handle(identifier["handle"])
    else:
        product = shop.products.get(identifier["id"] or "")
    if product is None:
        raise no(["id"], "Product does not exist")
    return product


def _is_custom_id(entry: Args, custom_id: Args) -> bool:
    return (
        metafields.full_namespace(entry.get("namespace")) == metafields.full_namespace(custom_id.get("namespace"))
        and entry.get("key") == custom_id["key"]
        and entry.get("value") == custom_id["value"]
    )


def _errors_of_fields(shop: Shop, given: Args, found: Product | None, path: Path) -> Errors:
    errors = [
        user_error([*path, field], f"The sandbox does not know {field}", "INVALID_INPUT")
        for field in sorted(_UNKNOWN_FIELDS & given.keys())
    ]
    if not (given.get("title") or (found and "title" not in given)):
        errors.append(user_error([*path, "title"], "Title can't be blank", "INVALID_INPUT"))
    texts = {field: given.get(field) or "" for field in ("title", "handle", "vendor", "productType")}
    texts |= {"tags": max(given.get("tags") or [""], key=len)}
    for field, text in texts.items():
        if len(text) > TEXT_MAX:
            message = f"{field.capitalize()} is too long (maximum is {TEXT_MAX} characters)"
            errors.append(user_error([*path, field], message, "INVALID_INPUT"))
    if given.get("handle"):
        holder = shop.product_by_handle(slug(given["handle"]))
        if holder is not None and holder is not found:
            message = f"Handle '{given['handle']}' already in use. Please provide a new handle."
            errors.append(user_error([*path, "handle"], message, "HANDLE_NOT_UNIQUE"))
    entries = given.get("metafields") or []
    for index, message in metafields.errors_of(shop, found.id if found else None, "PRODUCT", entries):
        errors.append(user_error([*path, "metafields", index], message, "INVALID_METAFIELD"))
    for index, entry in enumerate(given.get("files") or []):
        if entry.get("id") is not None and entry["id"] not in shop.media:
            errors.append(user_error([*path, "files", index, "id"], "File does not exist", "NOT_FOUND"))
    return errors + media.errors_of(given.get("files") or [], [*path, "files"])


def _errors_of_options(given: Args) -> Errors:
    options, path = given.get("productOptions"), ["input", "productOptions"]
    if options is None:
        return []
    names = [option.get("name") or "" for option in options]
    errors = []
    if given.get("variants") is None:
        # Shopify: variants and productOptions come together or not at all.
        message = "Variants input is required when updating product options"
        errors.append(user_error(["input", "variants"], message, "VARIANTS_INPUT_MISSING"))
    if len(options) > OPTIONS_MAX:
        errors.append(user_error(path, f"A product has at most {OPTIONS_MAX} options", "OPTIONS_OVER_LIMIT"))
    if len(set(names)) < len(names):
        errors.append(user_error(path, "Option names must be unique", "DUPLICATED_OPTION_NAME"))
    for index, option in enumerate(options):
        values = [value.get("name") or "" for value in option.get("values") or []]
        errors += _errors_of_option(names[index], values, [*path, index])
    return errors


def _errors_of_option(name: str, values: list[str], path: Path) -> Errors:
    errors = []
    if not name or " / " in name or len(name) > TEXT_MAX:
        errors.append(user_error([*path, "name"], "Option name is invalid", "INVALID_INPUT"))
    if not values:
        errors.append(user_error([*path, "values"], "Option values are missing", "OPTION_VALUES_MISSING"))
    if len(values) > VALUES_MAX:
        message = f"An option has at most {VALUES_MAX} values"
        errors.append(user_error([*path, "values"], message, "OPTION_VALUES_OVER_LIMIT"))
    if len(set(values)) < len(values):
        errors.append(user_error([*path, "values"], "Option values must be unique", "DUPLICATED_OPTION_VALUE"))
    if any(not value or len(value) > TEXT_MAX for value in values):
        errors.append(user_error([*path, "values"], "Option value name is invalid", "INVALID_INPUT"))
    return errors


def _errors_of_variants(shop: Shop, given: Args, found: Product | None) -> Errors:
    entries = given.get("variants")
    if entries is None:
        return []
    if given.get("productOptions") is None:
        message = "Product options input is required when updating variants"
        return [user_error(["input", "productOptions"], message, "PRODUCT_OPTIONS_INPUT_MISSING")]
    known = {variant.id for variant in found.variants} if found else set()
    errors: Errors = []
    seen: set[tuple[tuple[str, str], ...]] = set()
    for index, entry in enumerate(entries):
        path: Path = ["input", "variants", index]
        if entry.get("id") is not None and entry["id"] not in known:
            message = "Product variant does not exist"
            errors.append(user_error([*path, "id"], message, "PRODUCT_VARIANT_DOES_NOT_EXIST"))
        errors += variants.check_fields(shop, entry, path, entry.get("id"))
        errors += _errors_of_quantities(shop, entry, path)
        errors += _errors_of_choice(given["productOptions"], entry, path)
        values = _choice(given["productOptions"], entry)
        if tuple(values.items()) in seen:
            errors.append(user_error(path, variants.already_exists(values), "INVALID_VARIANT"))
        seen.add(tuple(values.items()))
    return errors


def _errors_of_quantities(shop: Shop, entry: Args, path: Path) -> Errors:
    errors = []
    for index, quantity in enumerate(entry.get("inventoryQuantities") or []):
        at = [*path, "inventoryQuantities", index]
        if quantity["locationId"] not in shop.locations:
            errors.append(user_error([*at, "locationId"], "Location does not exist", "NOT_FOUND"))
        if quantity["name"] not in SETTABLE:
            errors.append(user_error([*at, "name"], "Quantity name is invalid", "INVALID_INPUT"))
    return errors


def _errors_of_choice(options: list[Args], entry: Args, path: Path) -> Errors:
    offered = {option.get("name"): [value.get("name") for value in option.get("values") or []] for option in options}
    errors = []
    for index, value in enumerate(entry["optionValues"]):
        at = [*path, "optionValues", index]
        if value.get("optionName") not in offered:
            errors.append(user_error([*at, "optionName"], "Option does not exist", "OPTION_DOES_NOT_EXIST"))
        elif value.get("name") not in offered[value["optionName"]]:
            errors.append(user_error([*at, "name"], "Option value does not exist", "OPTION_VALUE_DOES_NOT_EXIST"))
    missing = offered.keys() - {value.get("optionName") for value in entry["optionValues"]}
    if missing:
        message = f"Option values are missing for {', '.join(sorted(map(str, missing)))}"
        errors.append(user_error([*path, "optionValues"], message, "INVALID_VARIANT"))
    return errors


def _choice(options: list[Args], entry: Args) -> dict[str, str]:
    """Option name -> value of one variant, in the order of the options."""
    named = {str(value.get("optionName")): str(value.get("name")) for value in entry["optionValues"]}
    return {option["name"]: named[option["name"]] for option in options if option.get("name") in named}


def _create(shop: Shop, given: Args) -> Product:
    handle = slug(given["handle"]) if given.get("handle") else free_handle(shop, slug(given["title"]))
    product = Product(id=shop.new_id("Product"), title=given["title"], handle=handle, vendor=shop.name)
    shop.products[product.id] = product
    shop.products_created += 1
    if given.get("variants") is None:
        value_id = shop.new_id("ProductOptionValue")
        product.options = [Option(id=shop.new_id("ProductOption"), name="Title", values={"Default Title": value_id})]
        product.variants = [variants.new_variant(shop, {"Title": "Default Title"})]
    return product


def _write_fields(product: Product, given: Args) -> None:
    for field, name in _FIELDS.items():
        if field in given and (given[field] is not None or field in _NULLABLE):
            setattr(product, name, given[field])
    if given.get("handle"):
        product.handle = slug(given["handle"])
    if given.get("tags") is not None:
        product.tags = _tidy_tags(given["tags"])


def _set_variants(call: Call, product: Product, given: Args) -> None:
    """Make the variants those of the list; one that is not named by its id is a new one."""
    entries = given.get("variants")
    if entries is None:
        return
    product.options = variants.set_options(call.shop, product.options, given["productOptions"])
    wanted: list[tuple[Variant, Args, bool]] = []
    for entry in entries:
        values = _choice(given["productOptions"], entry)
        variant = _same_variant(call.shop, product, entry, values)
        is_new = variant is None
        variant = variant or variants.new_variant(call.shop, values)
        variant.option_values = values
        wanted.append((variant, entry, is_new))
    kept = {variant.id for variant, _, _ in wanted}
    for gone in [variant for variant in product.variants if variant.id not in kept]:
        variants.remove(call.shop, product, gone)
    product.variants = [variant for variant, _, _ in wanted]
    for variant, entry, is_new in wanted:
        variants.write_fields(call, variant, entry)
        _set_quantities(call.shop, variant, entry)
        if entry.get("file"):
            variant.media_ids = [_file(call, entry["file"])]
            product.media_ids += [one for one in variant.media_ids if one not in product.media_ids]
        if not is_new and "metafields" in entry:
            metafields.forget(call.shop, variant.id, but=_keys(entry["metafields"] or []))


def _same_variant(shop: Shop, product: Product, entry: Args, values: dict[str, str]) -> Variant | None:
    for variant in product.variants:
        by_options = shop.settings.match_variants_by_options and variant.option_values == values
        if variant.id == entry.get("id") or (entry.get("id") is None and by_options):
            return variant
    return None


def _set_quantities(shop: Shop, variant: Variant, entry: Args) -> None:
    item = shop.inventory_items[variant.inventory_item_id]
    for quantity in entry.get("inventoryQuantities") or []:
        held = item.quantity(quantity["locationId"], quantity["name"])
        item.add(quantity["locationId"], "available", quantity["quantity"] - held)


def _set_metafields(shop: Shop, product: Product, given: Args, custom_id: Args | None) -> None:
    if "metafields" in given:
        metafields.forget(shop, product.id, but=_keys(given["metafields"] or []))
    for entry in given.get("metafields") or []:
        metafields.write(shop, product.id, entry)
    if custom_id is not None:
        metafields.write(shop, product.id, custom_id)


def _keys(entries: list[Args]) -> set[tuple[str, str]]:
    return {(metafields.full_namespace(entry.get("namespace")), str(entry.get("key"))) for entry in entries}


def _set_files(call: Call, product: Product, given: Args) -> None:
    if given.get("files") is not None:
        product.media_ids = [_file(call, entry) for entry in given["files"]]


def _file(call: Call, entry: Args) -> str:
    return str(entry["id"]) if entry.get("id") else media.make_media(call, entry).id


def slug(text: str) -> str:
    """Shopify lowercases a handle and collapses everything that is no letter or digit."""
    return re.sub(r"[^\w]+|_+", "-", text.lower()).strip("-") or "product"


def free_handle(shop: Shop, handle: str) -> str:
    """A generated handle that is taken gets -1, one that ends in a number the next number."""
    while shop.product_by_handle(handle) is not None:
        numbered = re.fullmatch(r"(.*)-(\d+)", handle)
        handle = f"{numbered[1]}-{int(numbered[2]) + 1}" if numbered else f"{handle}-1"
    return handle


def _tidy_tags(tags: list[str]) -> list[str]:
    """Shopify splits tags at commas, trims them, drops repeats whatever their case, and sorts them."""
    parts = [part.strip() for tag in tags for part in tag.split(",")]
    unique = {part.casefold(): part for part in reversed(parts) if part}
    return sorted(unique.values(), key=str.casefold)
