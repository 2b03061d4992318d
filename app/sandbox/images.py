"""Pictures for the sample documents' addresses: one per name, always the same, and a few that are hostile."""

from __future__ import annotations

import asyncio
import hashlib
import io
import zlib
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

SIZE = 640
BOMB_SIDE = 30_000
"""900 megapixels claimed by less than a hundred bytes."""

NOT_AN_IMAGE = b"<!doctype html><title>Sign in</title><p>This address answers with a page, not with a picture."
LYING_LENGTH = 5 * 1024**3
DRIP_S = 0.2
DRIPS = 600


def routes() -> list[Route]:
    """The one address."""
    return [Route("/images/{name}", serve)]


async def serve(request: Request) -> Response:
    """A picture, or what a hostile or broken host would send in its place; a query string changes nothing."""
    name = request.path_params["name"]
    if name == "huge.jpg":
        return Response(picture("huge"), media_type="image/jpeg", headers={"Content-Length": str(LYING_LENGTH)})
    if name == "slow.jpg":
        return StreamingResponse(_drip(picture("slow")), media_type="image/jpeg")
    if name == "inward.jpg":
        return RedirectResponse("http://169.254.169.254/latest/meta-data/", 302)
    content = find_picture(name)
    if content is None:
        return PlainTextResponse("Not Found", 404)
    return Response(content, media_type="text/html" if content == NOT_AN_IMAGE else "image/jpeg")


def find_picture(name: str) -> bytes | None:
    """The bytes under `/images/<name>`, or None for an address that serves none."""
    if name == "not-an-image.jpg":
        return NOT_AN_IMAGE
    if name == "bomb.jpg":
        return _bomb()
    if name == "missing.jpg" or not name.endswith(".jpg"):
        return None
    return picture(name.removesuffix(".jpg"))


@lru_cache(maxsize=256)
def picture(name: str) -> bytes:
    """A product photo as JPEG: colours, shapes and label follow from the name."""
    seed = hashlib.sha256(name.encode()).digest()
    image = Image.new("RGB", (SIZE, SIZE), (235 + seed[0] % 16, 235 + seed[1] % 16, 235 + seed[2] % 16))
    draw = ImageDraw.Draw(image)
    for index in range(3):
        red, green, blue, x, y, size = seed[3 + 6 * index : 9 + 6 * index]
        left, top, edge = 40 + x, 40 + y, 120 + size
        shape = (draw.ellipse, draw.rectangle, draw.rounded_rectangle)[seed[21 + index] % 3]
        shape((left, top, left + edge, top + edge), fill=(red, green, blue), outline=(40, 40, 40))
    draw.text((24, SIZE - 48), name, fill=(30, 30, 30), font_size=24)
    content = io.BytesIO()
    image.save(content, "JPEG", quality=85)
    return content.getvalue()


@cache
def _bomb() -> bytes:
    """A tiny picture whose header claims a size no honest photo has; the claim alone must stop a reader."""
    content = io.BytesIO()
    Image.new("1", (8, 8)).save(content, "PNG")
    data = bytearray(content.getvalue())
    data[16:24] = BOMB_SIDE.to_bytes(4, "big") * 2  # width and height in the IHDR chunk
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)


async def _drip(content: bytes) -> AsyncIterator[bytes]:
    """One byte at a time: every read succeeds, the whole never ends."""
    for index in range(DRIPS):
        yield content[index : index + 1]
        await asyncio.sleep(DRIP_S)
