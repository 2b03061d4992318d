"""One plain page that shows a person what stands in the shops, and what brought it there. It works without scripts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

ROWS_MAX = 200
"""Newest adjustments and uploads shown of one shop; `/shops/{domain}/state` has all of them."""

EVERY_S_MAX = 60

_STYLE = """
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }
body { max-width: 90rem; margin: 0 auto; padding: 1rem; }
.label { padding: .5rem .75rem; border-left: .3rem solid #b45309; background: #b4530922; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1rem; }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid #8885; vertical-align: top; }
td { overflow-wrap: anywhere; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.archived { opacity: .6; }
small { display: block; font-size: .85em; opacity: .75; }
summary { cursor: pointer; font-weight: 600; margin: .5rem 0; }
img { width: 3.5rem; height: 3.5rem; object-fit: cover; border-radius: .25rem; margin: 0 .2rem .2rem 0; }
"""

Row = Sequence[str]


def render(shops: list[dict[str, Any]], *, every_s: int = 0) -> str:
    """The page for these shops, as `shop_view` describes them; it loads itself anew `every_s` seconds, 0 never."""
    body = "".join(_shop(shop) for shop in shops) or "<p>No shop has been opened yet.</p>"
    again = f'<meta http-equiv="refresh" content="{every_s}">' if every_s else ""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Sandbox shops</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">{again}'
        f"<style>{_STYLE}</style><h1>Sandbox shops</h1>"
        '<p class="label"><strong>Sandbox: not Shopify.</strong> '
        "These shops live in this process; nothing here is for sale.</p>"
        f"<p>{_refresh(every_s)}</p>{body}</html>"
    )


def seconds(text: str) -> int:
    """How often the page is to load itself anew; 0 for whatever is no sensible number."""
    return int(text) if text.isascii() and text.isdecimal() and 1 <= int(text) <= EVERY_S_MAX else 0


def _refresh(every_s: int) -> str:
    here = f"/?every={every_s}" if every_s else "/"
    other = '<a href="/">stand still</a>' if every_s else '<a href="/?every=5">refresh every 5 s</a>'
    return f'<a href="{here}">Refresh</a> · {other}'


def _shop(shop: dict[str, Any]) -> str:
    products, adjustments, uploads = shop["products"], shop["adjustments"], shop["uploads"]
    facts = [shop["domain"], shop["currency"], _count(len(products), "product"), f"{shop['products_created']} created"]
    return (
        f"<section><h2>{escape(shop['name'])}</h2><p>{escape(', '.join(facts))}"
        f"<small>{escape('scopes: ' + ', '.join(shop['scopes']))}</small></p>"
        + _products(shop)
        + _folded(f"Adjustments ({len(adjustments)})", _adjustments(shop), is_open=True)
        + _folded(f"Uploads ({len(uploads)})", _uploads(shop))
        + _folded("Calls", _table(("Operation", "Times"), _calls(shop["calls"]), {"Times"}))
        + "</section>"
    )


def _products(shop: dict[str, Any]) -> str:
    headings = ("Images", "Product", "Status", "Variant", "SKU", "Price", "Cost", "Stock")
    places = {one["id"]: one["name"] for one in shop["locations"]}
    rows = "".join(_variant_rows(product, places) for product in shop["products"])
    return _table_of(headings, rows, {"Price", "Cost"}) if rows else "<p>No products.</p>"


def _variant_rows(product: dict[str, Any], places: Mapping[str, str]) -> str:
    shown = ' class="archived"' if product["status"] == "ARCHIVED" else ""
    rows = []
    for index, variant in enumerate(product["variants"]):
        first = index == 0
        cells = (
            _images(product) if first else "",
            _product(product) if first else "",
            escape(product["status"].lower()) if first else "",
            escape(variant["title"]) + _metafields(variant["metafields"]),
            escape(variant["sku"] or "")
            + (f"<small>{escape(variant['barcode'])}</small>" if variant["barcode"] else ""),
            escape(variant["price"]),
            escape(variant["cost"] or ""),
            _stock(variant, places),
        )
        rows.append(f"<tr{shown}>{_cells(cells, {5, 6})}</tr>")
    return "".join(rows)


def _product(product: dict[str, Any]) -> str:
    told = [product["id"], product["vendor"], product["product_type"], ", ".join(product["tags"])]
    published = "published" if product["published_on"] else "not published"
    small = escape(" · ".join([*filter(None, told), published]))
    return f"{escape(product['title'])}<small>{small}</small>{_metafields(product['metafields'])}"


def _metafields(metafields: Mapping[str, str]) -> str:
    return "".join(f"<small>{escape(name)} = {escape(value)}</small>" for name, value in metafields.items())


def _stock(variant: dict[str, Any], places: Mapping[str, str]) -> str:
    """By location, the states that hold something; what is not tracked has no stock."""
    if not variant["tracked"]:
        return "not tracked"
    lines = []
    for level in variant["levels"]:
        held = [
            f"{count:,} {name.replace('_', ' ')}" for name, count in level.items() if name != "location_id" and count
        ]
        place = places.get(level["location_id"], level["location_id"])
        lines.append(f"{escape(place)}: {escape(', '.join(held) or 'nothing')}")
    return "<br>".join(lines)


def _adjustments(shop: dict[str, Any]) -> str:
    """The history: what changed, why, and by which document; newest first."""
    names = {one["inventory_item_id"]: one["sku"] or one["title"] for p in shop["products"] for one in p["variants"]}
    places = {one["id"]: one["name"] for one in shop["locations"]}
    rows = (
        (
            _moment(group["created_at"]),
            escape(group["reason"].replace("_", " ")),
            escape(group["reference_document_uri"] or ""),
            "<br>".join(_change(change, names, places) for change in group["changes"]),
        )
        for group in reversed(shop["adjustments"][-ROWS_MAX:])
    )
    return _table(("When", "Reason", "Reference document", "Changes"), rows)


def _change(change: dict[str, Any], names: Mapping[str, str], places: Mapping[str, str]) -> str:
    name = names.get(change["inventory_item_id"], change["inventory_item_id"])
    place = places.get(change["location_id"], change["location_id"])
    told = f"{name}: {change['delta']:+,} {change['name'].replace('_', ' ')} at {place}"
    ledger = change["ledger_document_uri"]
    return escape(told) + (f"<small>ledger {escape(ledger)}</small>" if ledger else "")


def _uploads(shop: dict[str, Any]) -> str:
    """Staged targets: what arrived there, and whether a picture was made of it."""
    sources = [one["original_source"] for one in shop["media"]]
    rows = (
        (
            _moment(one["created_at"]),
            escape(one["filename"]),
            escape(one["mime_type"]),
            f"{one['size']:,}" if one["sha256"] else "",
            _use(one, sources),
        )
        for one in reversed(shop["uploads"][-ROWS_MAX:])
    )
    return _table(("When", "File", "Type", "Bytes", "State"), rows, {"Bytes"})


def _use(upload: dict[str, Any], sources: Sequence[str]) -> str:
    if upload["sha256"] is None:
        return "never arrived"
    return "in use" if any(source.endswith(upload["key"]) for source in sources) else "in use by nothing"


def _images(product: dict[str, Any]) -> str:
    return "".join(
        f'<img src="/files/{escape(media["sha256"])}" alt="{escape(media["alt"] or product["title"])}">'
        if media["status"] == "READY"
        else f"<small>{escape(media['status'].lower())} {escape(media['error_message'] or '')}</small>"
        for media in product["media"]
    )


def _calls(calls: Mapping[str, int]) -> Iterable[Row]:
    return ((escape(name), f"{count:,}") for name, count in sorted(calls.items()))


def _folded(heading: str, content: str, *, is_open: bool = False) -> str:
    return f"<details{' open' * is_open}><summary>{escape(heading)}</summary>{content}</details>"


def _table(headings: Row, rows: Iterable[Row], numbers: Iterable[str] = ()) -> str:
    at = {headings.index(name) for name in numbers}
    body = "".join(f"<tr>{_cells(cells, at)}</tr>" for cells in rows)
    return _table_of(headings, body, set(numbers)) if body else "<p>None.</p>"


def _table_of(headings: Row, body: str, numbers: set[str]) -> str:
    heads = "".join(f'<th{_NUMBER if name in numbers else ""} scope="col">{escape(name)}</th>' for name in headings)
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def _cells(cells: Row, numbers: set[int]) -> str:
    """Cells are HTML already: every text in them was escaped where it was put in."""
    return "".join(f"<td{_NUMBER if at in numbers else ''}>{cell}</td>" for at, cell in enumerate(cells))


_NUMBER = ' class="number"'


def _moment(iso: str) -> str:
    return escape(iso[:19].replace("T", " "))


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"
