"""Pictures: where they come from, and what our books know of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class SentFile:
    """What was last uploaded for a picture, and when that was confirmed: only after it was an attach asked for."""

    key: str
    at: datetime
    sha256: str
    phash: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class StoredImage:
    """A candidate picture of a draft that lives in the shop. `sent` is what earlier attempts of the run uploaded."""

    id: str
    draft_id: str
    product_id: str
    url: str
    position: int
    alt: str
    state: str
    sent: SentFile | None = None


class ImageStore(Protocol):
    """Candidate pictures as stored."""

    async def of_run(self, run_id: str) -> Sequence[StoredImage]:
        """This run's candidates that have no final state yet, by draft and position."""
        ...

    async def hung(self, merchant_id: str, product_ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """By product the phashes of all we ever hung there, for whichever order, also of what was taken down since."""
        ...


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """A checked, re-encoded picture. `phash` as in `pipeline.domain.pictures`."""

    content: bytes
    mime: str
    width: int
    height: int
    sha256: str
    phash: str


class Images(Protocol):
    """Fetches and checks pictures from hostile addresses."""

    async def fetch(self, url: str, *, allowed_hosts: Sequence[str]) -> EncodedImage:
        """Download, decode under limits, drop metadata, re-encode.

        Raises Reject with the reason, VendorUnavailable when the host cannot be reached.
        """
        ...
