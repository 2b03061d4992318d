"""Hostile bytes in, a plain picture out, or a reason."""

from __future__ import annotations

import io
import random
import zlib
from contextlib import suppress

import pytest
from PIL import Image

from app.adapters.recoding import RefusedPictureError, recode


def jpeg(width: int = 40, height: int = 20, **options: object) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), (200, 30, 30)).save(out, "JPEG", **options)
    return out.getvalue()


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def test_a_picture_is_made_small_enough_and_keeps_its_shape() -> None:
    made = recode(jpeg(5000, 2500))
    assert (made.width, made.height) == (2048, 1024)
    assert opened(made.content).size == (2048, 1024)


def test_metadata_stays_behind_after_it_turned_the_picture_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    exif[0x010E] = "taken at 52.52 N 13.40 E"
    made = recode(jpeg(40, 20, exif=exif, comment=b"secret"))
    assert (made.width, made.height) == (20, 40)
    assert b"52.52" not in made.content
    assert b"secret" not in made.content
    assert dict(opened(made.content).getexif()) == {}


@pytest.mark.parametrize(("kind", "mode"), [("PNG", "RGBA"), ("WEBP", "RGBA"), ("PNG", "LA")])
def test_transparency_is_kept_as_png(kind: str, mode: str) -> None:
    out = io.BytesIO()
    Image.new(mode, (10, 10)).save(out, kind)
    made = recode(out.getvalue())
    assert made.format == "PNG"
    assert opened(made.content).mode == "RGBA"


@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "CMYK"), ("JPEG", "L"), ("PNG", "P"), ("PNG", "I;16"), ("GIF", "P")]
)
def test_every_other_mode_becomes_a_plain_jpeg(kind: str, mode: str) -> None:
    out = io.BytesIO()
    Image.new(mode, (10, 10)).save(out, kind)
    made = recode(out.getvalue())
    assert made.format == "JPEG"
    assert opened(made.content).mode == "RGB"


def test_an_animation_is_its_first_frame() -> None:
    out = io.BytesIO()
    frames = [Image.new("RGB", (10, 10), colour) for colour in ("red", "blue")]
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    red, _, blue = opened(recode(out.getvalue()).content).getpixel((5, 5))  # type: ignore[misc]  an RGB picture's pixel
    assert red > 200
    assert blue < 50


def test_the_same_picture_gives_the_same_bytes() -> None:
    assert recode(jpeg()) == recode(jpeg())


def png_of(width: int, height: int) -> bytes:
    """A PNG that claims a size its data does not have."""
    out = io.BytesIO()
    Image.new("1", (8, 8)).save(out, "PNG")
    content = bytearray(out.getvalue())
    header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + content[24:29]
    content[12:33] = header + zlib.crc32(header).to_bytes(4, "big")
    return bytes(content)


@pytest.mark.parametrize("side", [7_100, 10_000, 60_000])
def test_a_decompression_bomb_is_refused_by_its_header(side: int) -> None:
    with pytest.raises(RefusedPictureError) as refused:
        recode(png_of(side, side))
    assert refused.value.code == "image_too_large"


def test_what_is_no_picture_is_refused_whatever_it_calls_itself() -> None:
    svg = b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"
    tiff = io.BytesIO()
    Image.new("RGB", (4, 4)).save(tiff, "TIFF")
    for content in (b"", b"<!doctype html>", svg, b"GIF89a", jpeg()[:60], tiff.getvalue(), b"%PDF-1.7"):
        with pytest.raises(RefusedPictureError) as refused:
            recode(content)
        assert refused.value.code == "image_unreadable"


def test_no_mangled_file_raises_anything_but_a_reason() -> None:
    dice = random.Random(7)
    for kind in ("JPEG", "PNG", "WEBP", "GIF"):
        out = io.BytesIO()
        Image.effect_noise((64, 64), 80).convert("RGB").save(out, kind)
        for _ in range(60):
            mangled = bytearray(out.getvalue())
            for _ in range(dice.randint(1, 8)):
                mangled[dice.randrange(len(mangled))] = dice.randrange(256)
            with suppress(RefusedPictureError):
                recode(bytes(mangled[: dice.randint(1, len(mangled))]))
