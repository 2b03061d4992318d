"""Which pictures are taken for the same: other sizes and files of one photo are, other colours of one article are not.

The photos are made up: an article drawn on a plain background, softened, with a camera's noise. What they show holds
for real ones as far as sizes, compressions and colours go; how photographers crop is their own affair.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from functools import cache
from itertools import combinations

import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from app.adapters.recoding import recode
from pipeline.domain.pictures import is_phash, same_picture

Colour = tuple[int, int, int]

SIDE = 300
COLOURS: dict[str, Colour] = {
    "red": (200, 30, 40),
    "dark red": (130, 20, 30),
    "coral": (240, 120, 100),
    "orange": (240, 130, 30),
    "pink": (240, 170, 190),
    "blue": (40, 60, 190),
    "navy": (15, 20, 70),
    "sky": (130, 180, 230),
    "green": (30, 140, 60),
    "olive": (100, 110, 40),
    "mint": (160, 220, 190),
    "black": (20, 20, 22),
    "charcoal": (60, 60, 62),
    "grey": (128, 128, 128),
    "beige": (225, 205, 170),
    "sand": (215, 190, 150),
    "ivory": (250, 244, 222),
    "white": (250, 250, 250),
}
ARTICLES = ("mug", "shirt", "ball", "box")


@cache
def photo(article: str, colour: Colour, *, seed: int = 1, lid: bool = False) -> Image.Image:
    """One article in one colour, placed and lit as the seed says."""
    dice = random.Random(f"{article}{seed}")
    picture = Image.new("RGB", (SIDE, SIDE), dice.choice([(255, 255, 255), (245, 245, 245), (250, 248, 240)]))
    draw = ImageDraw.Draw(picture)
    left, top = dice.randint(30, 60), dice.randint(30, 60)
    right, bottom = SIDE - dice.randint(30, 60), SIDE - dice.randint(30, 60)
    dark: Colour = (max(0, colour[0] - 40), max(0, colour[1] - 40), max(0, colour[2] - 40))
    match article:
        case "mug":
            draw.rounded_rectangle((left, top, right - 45, bottom), 15, fill=colour, outline=dark, width=3)
            draw.arc((right - 75, top + 45, right, bottom - 45), -90, 90, fill=colour, width=18)
        case "shirt":
            draw.rectangle((left + 50, top, right - 50, bottom), fill=colour, outline=dark)
            draw.polygon([(left, top + 90), (left + 110, top), (left + 110, top + 130), (left + 60, top + 160)], colour)
            draw.polygon(
                [(right, top + 90), (right - 110, top), (right - 110, top + 130), (right - 60, top + 160)], colour
            )
        case "ball":
            draw.ellipse((left, top, right, bottom), fill=colour, outline=dark, width=3)
        case _:
            draw.rectangle((left, top + 35, right, bottom), fill=colour)
            draw.polygon([(left, top + 35), (left + 35, top), (right + 20, top), (right, top + 35)], fill=dark)
    if lid:
        draw.rectangle((left, top - 8, right - 45, top + 20), fill=(20, 20, 20))
    noise = Image.effect_noise((SIDE, SIDE), 12).convert("RGB")
    return Image.blend(picture, noise, 0.04).filter(ImageFilter.GaussianBlur(1))


def file_of(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **({"compress_level": 1} if kind == "PNG" else options))
    return out.getvalue()


def phash(content: bytes) -> str:
    return recode(content).phash


@cache
def phash_of(article: str, colour: Colour, *, seed: int = 1) -> str:
    return phash(file_of(photo(article, colour, seed=seed)))


def cropped(picture: Image.Image, share: float) -> Image.Image:
    cut = int(picture.width * share)
    return picture.crop((cut, cut, picture.width - cut, picture.height - cut))


OTHER_FILES: dict[str, Callable[[Image.Image], bytes]] = {
    "as a thumbnail": lambda picture: file_of(picture.resize((120, 120)), "JPEG", quality=70),
    "twice the size": lambda picture: file_of(picture.resize((600, 600))),
    "larger than we keep": lambda picture: file_of(picture.resize((2100, 2100)), "JPEG"),
    "hard compression": lambda picture: file_of(picture, "JPEG", quality=50),
    "as WebP": lambda picture: file_of(picture, "WEBP", quality=70),
    "as GIF": lambda picture: file_of(picture.quantize(256), "GIF"),
    "sharpened": lambda picture: file_of(ImageEnhance.Sharpness(picture).enhance(2)),
    "a hundredth cut off each side": lambda picture: file_of(cropped(picture, 0.01)),
}


@pytest.mark.parametrize("other", OTHER_FILES)
def test_another_file_of_the_same_photo_is_the_same_picture(other: str) -> None:
    for article in ARTICLES:
        for colour in ("red", "navy", "white"):
            for seed in (1, 2):
                original = photo(article, COLOURS[colour], seed=seed)
                again = phash(OTHER_FILES[other](original))
                assert same_picture(phash_of(article, COLOURS[colour], seed=seed), again), (article, colour, seed)


@pytest.mark.parametrize("article", ARTICLES)
def test_other_colours_of_one_article_are_other_pictures(article: str) -> None:
    """The same photo in every colour the article comes in: to a grey dHash all are one."""
    hashes = {name: phash_of(article, colour) for name, colour in COLOURS.items()}
    merged = [pair for pair in combinations(hashes, 2) if same_picture(hashes[pair[0]], hashes[pair[1]])]
    assert merged == []


def test_most_colours_of_one_article_have_the_same_shape_which_is_why_colour_counts() -> None:
    """Without the second half of the phash the colours would be merged."""
    shapes = {
        phash(file_of(photo("mug", colour)))[:16] for colour in (COLOURS["red"], COLOURS["blue"], COLOURS["olive"])
    }
    assert len(shapes) == 1


@pytest.mark.parametrize("colour", ["red", "navy", "white"])
def test_a_part_in_another_colour_is_another_picture(colour: str) -> None:
    plain, lidded = photo("mug", COLOURS[colour]), photo("mug", COLOURS[colour], lid=True)
    assert not same_picture(phash(file_of(plain)), phash(file_of(lidded)))


def test_other_articles_of_one_colour_are_other_pictures() -> None:
    hashes = [phash_of(article, COLOURS["red"]) for article in ARTICLES]
    assert not any(same_picture(*pair) for pair in combinations(hashes, 2))


def test_transparency_counts_as_white() -> None:
    picture = photo("ball", COLOURS["blue"])
    cut_out = picture.convert("RGBA")
    hole = Image.new("L", picture.size, 255)
    ImageDraw.Draw(hole).rectangle((0, 0, SIDE, 20), fill=0)
    cut_out.putalpha(hole)
    on_white = picture.copy()
    on_white.paste((255, 255, 255), (0, 0, SIDE, 21))
    assert same_picture(phash(file_of(cut_out)), phash(file_of(on_white)))


def test_every_picture_has_a_phash_even_one_of_a_single_dot() -> None:
    assert is_phash(phash(file_of(Image.new("RGB", (1, 1), "red"))))
    assert is_phash(phash(file_of(Image.new("L", (3000, 2)))))
