"""A model's words for a product, trusted with nothing but words: no new numbers, no script, no novel."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import unescape

import nh3

from pipeline.domain.identifiers import clean_text
from pipeline.domain.results import EnrichedLine, NormalizedLine

TEXT_LIMIT = 255
DESCRIPTION_LIMIT = 5000
_TAGS = {"p", "br", "ul", "ol", "li", "strong", "em", "b", "i", "h3", "h4"}
_PACK = re.compile(r"[\s,(/-]*\b(?:case|carton|box|pack|crate)\s+of\s+\d+\b\)?", re.IGNORECASE)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def printed_title(line: NormalizedLine) -> str:
    """What the document calls the product. A purchase pack is no part of what one unit is called."""
    printed = line.product_name or line.name
    return (clean_text(_PACK.sub(" ", printed)) or printed) if line.packs else printed


def checked_words(lines: Sequence[NormalizedLine], proposed: Iterable[EnrichedLine]) -> tuple[EnrichedLine, ...]:
    """The proposals that keep to their line's facts, one per line at most, in line order."""
    by_position = {words.position: words for words in proposed}
    return tuple(_checked(line, by_position[line.position]) for line in lines if line.position in by_position)


def clean_html(html: str) -> str:
    """Simple markup without attributes, links or scripts; too long is nothing rather than half a sentence."""
    cleaned = nh3.clean(html, tags=_TAGS, attributes={}).strip()
    return cleaned if len(cleaned) <= DESCRIPTION_LIMIT else ""


def clean_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Tags without commas (Shopify's separator), repeats or overlong ones."""
    spelled: dict[str, str] = {}
    for tag in (clean_text(tag.replace(",", " ")) for tag in tags):
        if 0 < len(tag) <= TEXT_LIMIT:
            spelled.setdefault(tag.casefold(), tag)
    return tuple(spelled.values())


def _checked(line: NormalizedLine, words: EnrichedLine) -> EnrichedLine:
    facts = " ".join((line.name, line.product_name, line.sku, line.gtin, *line.options.values()))
    title = clean_text(_visible(words.title))[:TEXT_LIMIT].strip()
    description = clean_html(words.description_html)
    return EnrichedLine(
        position=line.position,
        title=title if title and _numbers(title) == _numbers(printed_title(line)) else "",
        description_html=description if _numbers(_visible(description)) <= _numbers(facts) else "",
        product_type=clean_text(words.product_type)[:TEXT_LIMIT].strip(),
        tags=clean_tags(words.tags),
    )


def _visible(html: str) -> str:
    """The text a reader sees; markup such as h3 is not a number."""
    return unescape(re.sub(r"<[^>]*>", " ", html))


def _numbers(text: str) -> frozenset[str]:
    return frozenset(_NUMBER.findall(text))
