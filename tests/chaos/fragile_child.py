"""The reading child as it is, except that it dies of certain documents, as a parser in C or the kernel would end it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

from app.adapters import reading_child
from pipeline.reading import ReadOutcome, read

SEGFAULT, KILLED, MEMORY = b"SEGFAULT", b"OOM-KILLED", b"MEMORY"


def _read(content: bytes, own_names: Sequence[str]) -> ReadOutcome:
    if SEGFAULT in content:
        ctypes.string_at(0)
    if KILLED in content:
        os.kill(os.getpid(), signal.SIGKILL)
    if MEMORY in content:
        bytearray(1 << 40)
    return read(content, own_names)


if __name__ == "__main__":
    reading_child.read = _read
    reading_child.main(memory_bytes=int(sys.argv[1]), cpu_s=int(sys.argv[2]))
