"""A picture and nothing else: hostile bytes in, a plain JPEG or PNG out. Run as a process of its own by `images`.

Imports only Pillow and the standard library: it starts fast and holds nothing worth stealing.
"""

from __future__ import annotations

import io
import json
import resource
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from PIL import ExifTags, Image, ImageCms

PIXELS_MAX = 50_000_000
SIDE_MAX = 2048
"""Also what keeps every result below the shop's 20 MB: as PNG in the worst case 16.8 MB."""
JPEG_QUALITY = 88
FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
MEMORY_BYTES = 768 * 1024 * 1024
CPU_S = 20
FILES_MAX = 32
WHITE = (255, 255, 255)
BRIGHTER = 2
"""Of 255: less between two fields is noise, and on a plain background there is nothing else."""


class RefusedPictureError(ValueError):
    """These bytes become no picture of ours; `code` is stable, the message is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Recoded:
    """A picture written anew; `format` is JPEG or PNG, `phash` as `pipeline.domain.pictures` compares it."""

    format: str
    width: int
    height: int
    content: bytes
    phash: str


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
    """The first frame, small enough, turned as its EXIF says, in sRGB, with or without transparency.

    Made small first: all that follows then costs little, however many pixels came in.
    """
    picture.seek(0)
    picture.draft("RGB", (SIDE_MAX, SIDE_MAX))  # JPEG only: decodes at a fraction of the size
    turned = picture.getexif().get(ExifTags.Base.Orientation)
    small = _plain(picture)
    small.thumbnail((SIDE_MAX, SIDE_MAX), reducing_gap=2.0)
    small = _to_srgb(small, picture.info.get("icc_profile"))
    return small.transpose(_TURNS[turned]) if turned in _TURNS else small


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _plain(picture: Image.Image) -> Image.Image:
    """The picture in a mode that can be scaled: L, RGB, RGBA or CMYK, eight bits a channel; itself if it can be."""
    if picture.mode.startswith("I"):  # 16 bits of grey, which `convert` would cut off at 255
        return picture.point(lambda grey: grey / 256).convert("L")
    transparent = picture.mode in {"LA", "PA"} or "transparency" in picture.info
    if picture.mode in {"L", "RGB", "RGBA", "CMYK"} and not transparent:
        return picture
    return picture.convert("RGBA" if transparent else "RGB")


def _to_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """Colours as the picture's profile means them, RGB or RGBA; the profile is metadata and stays behind."""
    alpha = picture.getchannel("A") if picture.mode == "RGBA" else None
    shown = _converted(picture.convert("RGB") if alpha else picture, profile).convert("RGB")
    if alpha is not None and alpha.getextrema() != (255, 255):
        shown.putalpha(alpha)
    return shown


def _converted(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """As it is where there is no profile, or a broken one, or one for another kind of picture: no reason to refuse."""
    if not profile:
        return picture
    try:
        meant = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        srgb = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(picture, meant, srgb, outputMode="RGB") or picture
    except (ImageCms.PyCMSError, OSError, ValueError):
        return picture


def _encode(picture: Image.Image) -> Recoded:
    out = io.BytesIO()
    picture.info = {}
    phash = _phash(picture)
    if picture.mode == "RGBA":
        picture.save(out, "PNG")
        return Recoded("PNG", picture.width, picture.height, out.getvalue(), phash)
    picture.save(out, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return Recoded("JPEG", picture.width, picture.height, out.getvalue(), phash)


def _phash(picture: Image.Image) -> str:
    """What the picture shows, on white: see `pipeline.domain.pictures`, which compares it."""
    shown = picture
    if picture.mode == "RGBA":
        shown = Image.new("RGB", picture.size, WHITE)
        shown.paste(picture, mask=picture.getchannel("A"))
    grey = shown.convert("L").resize((9, 8), Image.Resampling.BOX).tobytes()
    bits = 0
    for row in range(8):
        for left, right in pairwise(grey[row * 9 : row * 9 + 9]):
            bits = bits << 1 | (right > left + BRIGHTER)
    return f"{bits:016x}-{shown.resize((4, 4), Image.Resampling.BOX).tobytes().hex()}"


def main() -> None:
    """One picture in on stdin, one line of JSON and the new picture out on stdout, within bounds set before."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES_MAX, FILES_MAX))
    try:
        made = recode(sys.stdin.buffer.read())
    except RefusedPictureError as refused:
        _answer({"refused": refused.code, "message": str(refused)}, b"")
    else:
        facts = {"format": made.format, "width": made.width, "height": made.height, "phash": made.phash}
        _answer(facts, made.content)


def _answer(facts: Mapping[str, object], content: bytes) -> None:
    sys.stdout.buffer.write(json.dumps(facts).encode() + b"\n" + content)


if __name__ == "__main__":
    main()
