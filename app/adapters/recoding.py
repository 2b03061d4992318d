"""A picture and nothing else: hostile bytes in, a plain JPEG or PNG out. Run as a process of its own by `images`.

Imports only Pillow and the standard library: it starts fast and holds nothing worth stealing.
"""

from __future__ import annotations

import io
import json
import resource
import sys
import warnings
from dataclasses import dataclass

from PIL import Image, ImageCms, ImageOps

PIXELS_MAX = 50_000_000
SIDE_MAX = 2048
JPEG_QUALITY = 88
FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
MEMORY_BYTES = 1536 * 1024 * 1024
CPU_S = 20


class RefusedPictureError(ValueError):
    """These bytes become no picture of ours; `code` is stable, the message is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Recoded:
    """A picture written anew; `format` is JPEG or PNG."""

    format: str
    width: int
    height: int
    content: bytes


def recode(content: bytes) -> Recoded:
    """The picture and nothing else: upright, at most SIDE_MAX on its long side, JPEG, or PNG where it is transparent.

    Raises RefusedPictureError when the bytes are no picture of a known format or a picture too large to open.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
                _check_size(picture)
                return _encode(_upright(picture))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as error:
        raise RefusedPictureError("image_too_large", "the picture has too many pixels") from error
    except RefusedPictureError:
        raise
    except Exception as error:  # hostile bytes make decoders raise anything, and it all says the same
        raise RefusedPictureError("image_unreadable", "this is no readable JPEG, PNG, WebP or GIF picture") from error


def _check_size(picture: Image.Image) -> None:
    """By the header, before a pixel is decoded."""
    if picture.width * picture.height > PIXELS_MAX:
        raise RefusedPictureError("image_too_large", f"the picture has {picture.width} x {picture.height} pixels")


def _upright(picture: Image.Image) -> Image.Image:
    """The first frame, small enough, turned as its EXIF says, in sRGB, with or without transparency."""
    picture.seek(0)
    picture.draft("RGB", (SIDE_MAX, SIDE_MAX))  # JPEG only: decodes at a fraction of the size
    upright = ImageOps.exif_transpose(picture)
    upright = _to_srgb(upright)
    transparent = upright.mode in {"LA", "PA", "RGBA"} or "transparency" in upright.info
    plain = upright.convert("RGBA" if transparent else "RGB")
    plain.thumbnail((SIDE_MAX, SIDE_MAX))
    return plain


def _to_srgb(picture: Image.Image) -> Image.Image:
    """Colours as the picture's profile means them; the profile itself is metadata and stays behind."""
    profile = picture.info.get("icc_profile")
    if not profile or picture.mode not in {"RGB", "CMYK"}:
        return picture
    try:
        converted = ImageCms.profileToProfile(
            picture, ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError):
        return picture  # a broken profile is no reason to refuse the picture
    return converted or picture


def _encode(picture: Image.Image) -> Recoded:
    out = io.BytesIO()
    picture.info = {}
    if picture.mode == "RGBA":
        picture.save(out, "PNG")
        return Recoded("PNG", picture.width, picture.height, out.getvalue())
    picture.save(out, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return Recoded("JPEG", picture.width, picture.height, out.getvalue())


def main() -> None:
    """One picture in on stdin, one line of JSON and the new picture out on stdout, within bounds set before."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        made = recode(sys.stdin.buffer.read())
    except RefusedPictureError as refused:
        _answer({"refused": refused.code, "message": str(refused)}, b"")
    else:
        _answer({"format": made.format, "width": made.width, "height": made.height}, made.content)


def _answer(facts: dict[str, object], content: bytes) -> None:
    sys.stdout.buffer.write(json.dumps(facts).encode() + b"\n" + content)


if __name__ == "__main__":
    main()
