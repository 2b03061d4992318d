"""Pictures for the sample documents' addresses: one per name, always the same, and a few that are hostile."""

from __future__ import annotations

import hashlib
import io
from functools import lru_cache

from PIL import Image, ImageDraw

SIZE = 640
NOT_AN_IMAGE = b"<!doctype html><title>Sign in</title><p>This address answers with a page, not with a picture."


@lru_cache(maxsize=256)
def picture(name: str) -> bytes:
    """A product photo as JPEG: colours, shape and label follow from the name."""
    seed = hashlib.sha256(name.encode()).digest()
    image = Image.new("RGB", (SIZE, SIZE), (235 + seed[0] % 16, 235 + seed[1] % 16, 235 + seed[2] % 16))
    draw = ImageDraw.Draw(image)
    for index in range(3):
        red, green, blue, x, y, size = seed[3 + 6 * index : 9 + 6 * index]
        left, top, edge = 40 + x, 40 + y, 120 + size
        box = (left, top, left + edge, top + edge)
        shape = (draw.ellipse, draw.rectangle, draw.rounded_rectangle)[seed[21 + index] % 3]
        shape(box, fill=(red, green, blue), outline=(40, 40, 40))
    draw.text((24, SIZE - 48), name, fill=(30, 30, 30), font_size=24)
    content = io.BytesIO()
    image.save(content, "JPEG", quality=85)
    return content.getvalue()


def find_picture(path: str) -> bytes | None:
    """What `/images/<name>.jpg` serves, or None for an address that serves nothing."""
    name = path.rpartition("/")[2]
    if name == "not-an-image.jpg":
        return NOT_AN_IMAGE
    if name == "missing.jpg" or not name.endswith(".jpg"):
        return None
    return picture(name.removesuffix(".jpg"))
