"""What a picture costs: from bytes to a picture of ours, and what of that is the process that opens it.

    python -m bench.pictures [--count 40]

Prints for three kinds of picture the pictures a second, as the worker recodes them (two processes at once), the time of
one alone, the part of it that the recoding itself takes, and the most memory a process held.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import resource
import time
from statistics import median

from PIL import Image

from app.adapters.images import DECODERS, recode_apart
from app.adapters.recoding import recode

KINDS = {"thumbnail, 640": (640, 640), "product photo, 2048": (2048, 2048), "camera, 12 megapixels": (4000, 3000)}


async def measure_all(count: int) -> None:
    """A line for each kind."""
    for name, size in KINDS.items():
        await measure(name, size, count)


async def measure(name: str, size: tuple[int, int], count: int) -> None:
    """One line."""
    content = _photo(size)
    alone: list[float] = []
    for _ in range(max(3, count // 8)):
        began = time.perf_counter()
        await recode_apart(content)
        alone.append(time.perf_counter() - began)
    began = time.perf_counter()
    recode(content)
    inside_s = time.perf_counter() - began
    turns = asyncio.Semaphore(DECODERS)

    async def one() -> None:
        async with turns:
            await recode_apart(content)

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(count)))
    per_s = count / (time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    alone_s = median(alone)
    print(
        f"{name:24}{len(content) / 1e6:6.1f} MB  {per_s:6.1f} a second  alone {alone_s * 1000:6.0f} ms, of it recoding"
        f" {inside_s * 1000:5.0f} ms, the process {(alone_s - inside_s) * 1000:4.0f} ms  so far at most {peak:4.0f} MB"
    )


def _photo(size: tuple[int, int]) -> bytes:
    """Noise over a shade: compresses as badly as a photo does."""
    shade = Image.linear_gradient("L").resize(size).convert("RGB")
    out = io.BytesIO()
    Image.blend(shade, Image.effect_noise(size, 40).convert("RGB"), 0.3).save(out, "JPEG", quality=90)
    return out.getvalue()


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=40)
    asyncio.run(measure_all(parser.parse_args().count))


if __name__ == "__main__":
    main()
