"""Whether two pictures show the same, told by what is kept of each: its `phash`.

A phash is 16 hexadecimal digits, a dash, 96 more. The first are a 64-bit dHash: for each of 8 x 8 fields of the grey
picture whether it is brighter than its left neighbour. That survives another size, another compression, a narrow
crop, and knows no colour: a red and a blue mug are one to it. So the others are the mean red, green and blue of 4 x 4
fields, and two pictures are the same when both parts say so.
"""

from __future__ import annotations

import re

SHAPE_BITS_MAX = 10
COLOUR_STEPS_MAX = 10
"""Of 255, in the field that differs most.

Measured on made-up product photos (`tests/app/adapters/test_phash.py`): the same picture, rescaled, recompressed or
cropped by a hundredth on each side, differs by 9 bits and 10 steps at most; two colours of one article by 15 steps at
least, with no bit between them. In doubt both pictures hang: a doubled picture is deleted with a click, a colour that
is missing is not noticed.
"""

_PHASH = re.compile(r"[0-9a-f]{16}-[0-9a-f]{96}")


def is_phash(text: str) -> bool:
    """Whether a text is one of our fingerprints."""
    return _PHASH.fullmatch(text) is not None


def same_picture(one: str, other: str) -> bool:
    """Whether two phashes are of the same picture; what has none is like no other."""
    if not (is_phash(one) and is_phash(other)):
        return False
    bits = (int(one[:16], 16) ^ int(other[:16], 16)).bit_count()
    return bits <= SHAPE_BITS_MAX and _colour_steps(one, other) <= COLOUR_STEPS_MAX


def _colour_steps(one: str, other: str) -> int:
    return max(abs(a - b) for a, b in zip(bytes.fromhex(one[17:]), bytes.fromhex(other[17:]), strict=True))
