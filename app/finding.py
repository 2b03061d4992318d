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


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. "fail": orders do not move, or are lost; "warn": they move, but look at it."""

    level: Literal["ok", "warn", "fail"]
    what: str
    text: str
