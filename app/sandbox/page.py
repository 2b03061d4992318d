"""One plain page that shows a person what stands in the shops."""

from __future__ import annotations

from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }
body { max-width: 74rem; margin: 0 auto; padding: 1rem; }
.label { padding: .5rem .75rem; border-left: .3rem solid #b45309; background: #b4530922; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 2rem; }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid #8885; vertical-align: top; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
img { width: 3.5rem; height: 3.5rem; object-fit: cover; border-radius: .25rem; }
"""
_HEADINGS = ("Image", "Product", "Status", "Variant", "SKU", "Price", "Cost", "Available", "Incoming")
_NUMBERS = {"Price", "Cost", "Available", "Incoming"}


def render(shops: list[dict[str, Any]]) -> str:
    """The page for these shops, as `shop_view` describes them."""
    body = "".join(_shop(shop) for shop in shops) or "<p>No shop has been opened yet.</p>"
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Sandbox shops</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style><h1>Sandbox shops</h1>"
        '<p class="label"><strong>Sandbox: not Shopify.</strong> '
        "These shops live in this process; nothing here is for sale.</p>"
        f"{body}</html>"
    )


def _shop(shop: dict[str, Any]) -> str:
    heads = "".join(f"<th{_class(name)}>{name}</th>" for name in _HEADINGS)
    rows = "".join(_rows(product) for product in shop["products"])
    count = len(shop["products"])
    table = f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>" if count else "<p>Empty.</p>"
    return (
        f"<h2>{escape(shop['name'])}</h2>"
        f"<p>{escape(shop['domain'])}, {escape(shop['currency'])}, {count} product{'s' if count != 1 else ''}</p>"
        f"{table}"
    )


def _rows(product: dict[str, Any]) -> str:
    rows = []
    for index, variant in enumerate(product["variants"]):
        first = index == 0
        cells = (
            _images(product) if first else "",
            escape(product["title"]) if first else "",
            escape(product["status"].lower()) if first else "",
            escape(variant["title"]),
            escape(variant["sku"] or ""),
            escape(variant["price"]),
            escape(variant["cost"] or ""),
            str(variant["quantities"]["available"]),
            str(variant["quantities"]["incoming"]),
        )
        marked = "".join(f"<td{_class(name)}>{cell}</td>" for name, cell in zip(_HEADINGS, cells, strict=True))
        rows.append(f"<tr>{marked}</tr>")
    return "".join(rows)


def _images(product: dict[str, Any]) -> str:
    return " ".join(
        f'<img src="/files/{escape(media["sha256"])}" alt="{escape(media["alt"] or product["title"])}">'
        if media["status"] == "READY"
        else f"<small>{escape(media['status'].lower())}</small>"
        for media in product["media"]
    )


def _class(name: str) -> str:
    return ' class="number"' if name in _NUMBERS else ""
