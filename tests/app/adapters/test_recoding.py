"""Hostile bytes in, a plain picture out, or a reason."""

from __future__ import annotations

import io
import random
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress

import pytest
from PIL import ExifTags, Image, ImageCms, ImageOps
from PIL.PngImagePlugin import PngInfo

from app.adapters.recoding import Recoded, RefusedPictureError, recode


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


SECRET = "taken at 52.52 N 13.40 E by Ann"
XMP = f"<x:xmpmeta xmlns:x='adobe:ns:meta/'>{SECRET}</x:xmpmeta>".encode()


def full_of_secrets(kind: str, mode: str = "RGB") -> bytes:
    """A picture with everything a camera, an editor or a joker writes beside the pixels."""
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = SECRET
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (52.0, 31.0, 12.0)
    text = PngInfo()
    text.add_text("Comment", SECRET)
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    more: dict[str, dict[str, object]] = {
        "JPEG": {"comment": SECRET.encode(), "xmp": XMP, "dpi": (300, 300)},
        "PNG": {"pnginfo": text},
        "WEBP": {"xmp": XMP},
    }
    out = io.BytesIO()
    Image.new(mode, (40, 20), "red").save(out, kind, exif=exif, icc_profile=profile, **more[kind])
    return out.getvalue() + b"PK\x03\x04<script>" + SECRET.encode()


@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "RGB"), ("PNG", "RGB"), ("PNG", "RGBA"), ("WEBP", "RGB")])
def test_nothing_but_pixels_survives(kind: str, mode: str) -> None:
    content = full_of_secrets(kind, mode)
    assert SECRET.encode() in content
    made = recode(content)
    assert b"52.52" not in made.content
    assert b"script" not in made.content
    assert set(parts_of(made)) <= {"JFIF", "DQT", "SOF0", "DHT", "SOS", "IHDR", "IDAT", "IEND"}
    assert dict(opened(made.content).getexif()) == {}


def parts_of(made: Recoded) -> Iterator[str]:
    """The names of a file's segments or chunks; what stands behind the last one is an error."""
    content = made.content
    if made.format == "PNG":
        at = 8
        while at < len(content):
            (length,) = struct.unpack(">I", content[at : at + 4])
            yield content[at + 4 : at + 8].decode()
            at += 12 + length
        assert at == len(content)
        return
    names = {0xE0: "JFIF", 0xDB: "DQT", 0xC0: "SOF0", 0xC4: "DHT", 0xDA: "SOS"}
    at = 2
    while True:
        marker, length = struct.unpack(">xBH", content[at : at + 4])
        yield names.get(marker, hex(marker))
        at += 2 + length
        if marker == 0xDA:
            break
    assert content.index(b"\xff\xd9", at) == len(content) - 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_picture_stands_as_its_camera_was_held(kind: str, orientation: int) -> None:
    """Four corners of four colours; Pillow's own turning is the judge."""
    picture = Image.new("RGB", (80, 40), "white")
    for box, colour in (((0, 0), "red"), ((60, 0), "blue"), ((0, 20), "lime"), ((60, 20), "black")):
        picture.paste(colour, (*box, box[0] + 20, box[1] + 20))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    out = io.BytesIO()
    picture.save(out, kind, exif=exif)
    upright = ImageOps.exif_transpose(opened(out.getvalue())).convert("RGB")
    made = opened(recode(out.getvalue()).content)
    assert made.size == upright.size
    for corner in ((4, 4), (made.width - 5, 4), (4, made.height - 5), (made.width - 5, made.height - 5)):
        pairs = zip(pixel(made, corner), pixel(upright, corner), strict=True)
        assert all(abs(one - other) < 40 for one, other in pairs)


def pixel(picture: Image.Image, at: tuple[int, int]) -> tuple[int, ...]:
    found = picture.getpixel(at)
    assert isinstance(found, tuple)
    return tuple(int(value) for value in found)


def with_red_and_blue_exchanged() -> bytes:
    """A profile by which red is blue and blue is red: sRGB, with two of its tags exchanged."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = profile.index(b"rXYZ", 128), profile.index(b"bXYZ", 128)
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(profile)


@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "RGB"), ("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "P")])
def test_colours_are_those_the_profile_means(kind: str, mode: str) -> None:
    out = io.BytesIO()
    picture = Image.new("RGB", (10, 10), (200, 0, 0)).convert(mode)
    if mode == "RGBA":
        picture.putpixel((0, 0), (0, 0, 0, 0))
    picture.save(out, kind, icc_profile=with_red_and_blue_exchanged())
    red, _, blue = pixel(opened(recode(out.getvalue()).content), (5, 5))[:3]
    assert red < 60
    assert blue > 150


@pytest.mark.parametrize("profile", [b"no profile at all", with_red_and_blue_exchanged()[:200]])
def test_a_broken_profile_is_no_reason_to_refuse(profile: bytes) -> None:
    red, _, blue = pixel(opened(recode(jpeg(icc_profile=profile)).content), (5, 5))
    assert red > blue


def test_a_picture_whose_alpha_hides_nothing_is_a_jpeg() -> None:
    out = io.BytesIO()
    Image.new("RGBA", (10, 10), (10, 200, 10, 255)).save(out, "PNG")
    assert recode(out.getvalue()).format == "JPEG"


def test_sixteen_bits_of_grey_keep_their_shades() -> None:
    out = io.BytesIO()
    shades = b"".join(struct.pack("<H", column * 257) for column in range(256))
    Image.frombytes("I;16", (256, 8), shades * 8).save(out, "PNG")
    made = opened(recode(out.getvalue()).content)
    assert [pixel(made, (column, 4))[0] // 16 for column in (8, 136, 248)] == [0, 8, 15]


def test_cmyk_is_what_it_would_be_in_print() -> None:
    out = io.BytesIO()
    Image.new("CMYK", (10, 10), (0, 255, 255, 0)).save(out, "JPEG")
    red, green, blue = pixel(opened(recode(out.getvalue()).content), (5, 5))
    assert (red > 180, green < 80, blue < 80) == (True, True, True)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_the_worst_picture_is_below_the_shops_twenty_megabytes(mode: str) -> None:
    """Noise of the largest size, which no compression helps."""
    out = io.BytesIO()
    Image.frombytes(mode, (2048, 2048), random.Random(7).randbytes(2048 * 2048 * len(mode))).save(
        out, "PNG", compress_level=0
    )
    assert len(recode(out.getvalue()).content) < 20_971_520


@pytest.mark.parametrize(("kind", "mode"), [("PNG", "RGBA"), ("WEBP", "RGBA"), ("PNG", "LA")])
def test_transparency_is_kept_as_png(kind: str, mode: str) -> None:
    out = io.BytesIO()
    Image.new(mode, (10, 10)).save(out, kind)  # black, and all of it transparent
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


@pytest.mark.parametrize(("kind", "side"), [("GIF", 65_535), ("WEBP", 16_383)])
def test_a_canvas_without_pixels_is_refused_by_its_header(kind: str, side: int) -> None:
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, kind)
    content = bytearray(out.getvalue())
    if kind == "GIF":
        content[6:10] = struct.pack("<HH", side, side)
    else:
        at = content.index(b"\x9d\x01\x2a") + 3
        content[at : at + 4] = struct.pack("<HH", side, side)
    with pytest.raises(RefusedPictureError) as refused:
        recode(bytes(content))
    assert refused.value.code == "image_too_large"


def test_text_that_unfolds_without_end_is_refused() -> None:
    """A megabyte of zeros in each of a PNG's text chunks, each a kilobyte in the file."""
    text = PngInfo()
    for number in range(200):
        text.add_text(f"k{number}", "0" * 1_000_000, zip=True)
    out = io.BytesIO()
    Image.new("RGB", (4, 4)).save(out, "PNG", pnginfo=text)
    assert len(out.getvalue()) < 300_000
    with pytest.raises(RefusedPictureError):
        recode(out.getvalue())


def test_only_the_first_frame_of_many_is_opened() -> None:
    frames = [Image.new("RGB", (400, 400), (number * 8, 0, 0)) for number in range(30)]
    for kind in ("GIF", "WEBP", "PNG"):
        out = io.BytesIO()
        frames[0].save(out, kind, save_all=True, append_images=frames[1:])
        began = time.process_time()
        assert (recode(out.getvalue()).width, time.process_time() - began < 2) == (400, True)


def drawn(kind: str) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((64, 64), 80).convert("RGB").save(out, kind)
    return out.getvalue()


NO_PICTURES = {
    "nothing": b"",
    "a page": b"<!doctype html><img src=x>",
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
    "SVG with a declaration": b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>",
    "a GIF's first bytes": b"GIF89a",
    "a JPEG's beginning": jpeg()[:60],
    "most of a JPEG": jpeg(400, 300)[:-40],
    "most of a PNG": drawn("PNG")[:-200],
    "PDF": b"%PDF-1.7",
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    **{kind: drawn(kind) for kind in ("TIFF", "ICO", "BMP", "TGA", "PPM", "JPEG2000", "AVIF")},
}


@pytest.mark.parametrize("what", NO_PICTURES)
def test_what_is_no_picture_we_take_is_refused_whatever_it_calls_itself(what: str) -> None:
    with pytest.raises(RefusedPictureError) as refused:
        recode(NO_PICTURES[what])
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
