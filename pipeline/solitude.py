"""Lets one attempt run while nothing else runs in this process: if the process dies then, that attempt killed it.

A document that takes its worker down takes along whatever else runs there. Counting would not tell them apart,
for the same jobs come back together and die together again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import anyio


class Solitude:
    """One for the whole process. Attempts run beside each other until one of them must be alone."""

    def __init__(self) -> None:
        self._beside = 0
        self._taken = False
        self._one_left = anyio.Event()

    @property
    def taken(self) -> bool:
        """Whether an attempt runs alone, or waits for the others to end: nothing else may begin."""
        return self._taken

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Run beside others."""
        self._beside += 1
        try:
            yield
        finally:
            self._beside -= 1
            self._one_left.set()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Wait until the others have ended, then run alone. One at a time: ask `taken` first."""
        self._taken = True
        try:
            while self._beside:
                self._one_left = anyio.Event()
                await self._one_left.wait()
            yield
        finally:
            self._taken = False
