"""Two fingerprints are compared in both their halves, and what is none is like nothing."""

from __future__ import annotations

import pytest

from pipeline.domain.pictures import COLOUR_STEPS_MAX, SHAPE_BITS_MAX, is_phash, same_picture


def phash(*, bits: int = 0, steps: int = 0) -> str:
    """A fingerprint that many bits and steps away from the one without any."""
    return f"{(1 << bits) - 1:016x}-{'80' * 47}{0x80 + steps:02x}"


@pytest.mark.parametrize(
    ("bits", "steps", "same"),
    [
        (0, 0, True),
        (SHAPE_BITS_MAX, COLOUR_STEPS_MAX, True),
        (SHAPE_BITS_MAX + 1, 0, False),
        (0, COLOUR_STEPS_MAX + 1, False),
        (0, -COLOUR_STEPS_MAX - 1, False),
    ],
)
def test_shape_and_colour_must_both_agree(bits: int, steps: int, same: bool) -> None:
    assert same_picture(phash(), phash(bits=bits, steps=steps)) is same
    assert same_picture(phash(bits=bits, steps=steps), phash()) is same


@pytest.mark.parametrize("text", ["", "nothing", phash()[:-1], phash() + "0", phash().upper().replace("8", "A")])
def test_what_is_no_fingerprint_is_like_nothing(text: str) -> None:
    assert not is_phash(text)
    assert not same_picture(text, text)
