"""What speaks against working on a server as it is set up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """Something the server is not set up for. "refuse": do not start; "warn": start and say so."""

    level: Literal["refuse", "warn"]
    what: str
    text: str
