"""Whoever watches a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Progress(Protocol):
    """Tells upstream's user interface and our page what happens. Losing a message loses nothing."""

    async def tell(self, run_id: str, stage: str, event: str, details: Mapping[str, Any]) -> None:
        """One event: started, progress, finished, retrying, failed, review."""
        ...
