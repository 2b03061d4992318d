"""Where merchants' files are: in our own table, else in upstream's bucket, on an allowed host, or in a folder.

A file is fetched once and kept in its row, because the replicas share no disk and links expire. What the
file is, is decided later and by its content; here it is bytes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

import anyio.to_thread
import httpx

from app.adapters.addresses import PublicOnlyTransport, RefusedAddressError, base_of, is_listed
from app.adapters.downloads import Downloader, Limits, RefusedDownloadError, TooLargeError
from app.db.documents import DocumentStore, StoredDocument
from pipeline.clock import Clock
from pipeline.contract import Reject
from pipeline.domain.intake import MAX_DOCUMENT_BYTES
from pipeline.ports import Document

BUCKET = "purchase-orders"
"""Upstream's private bucket."""

TOTAL_S = 100.0
"""Upstream gave a slow bucket two minutes; reading the file must still fit into the stage's time."""

_GONE = frozenset({404, 410})


@dataclass(frozen=True, slots=True)
class DocumentSources:
    """Where files may come from; what is left empty is closed.

    `hosts` are allowed in https links (`*.example.com` for everything below one); `folder` is the root of
    local files; `trusted_bases` (`scheme://host:port`) are reached without the guard, for the demo.
    """

    supabase_url: str = ""
    supabase_key: str = field(default="", repr=False)
    hosts: tuple[str, ...] = ()
    folder: Path | None = None
    trusted_bases: tuple[str, ...] = ()


class FetchedDocuments:
    """`pipeline.ports.Documents` over the table and the places above."""

    def __init__(
        self, table: DocumentStore, sources: DocumentSources, clock: Clock, limits: Limits | None = None
    ) -> None:
        self._table = table
        self._sources = sources
        self._limits = limits or Limits(bytes_max=MAX_DOCUMENT_BYTES, total_s=TOTAL_S)
        self._trusted = frozenset(base_of(httpx.URL(base)) for base in sources.trusted_bases)
        # The operator's own Supabase may well stand in a private network: that address is not a document's word.
        own = (sources.supabase_url,) if sources.supabase_url else ()
        self._downloader = Downloader(PublicOnlyTransport((*own, *sources.trusted_bases)), self._limits, clock)

    async def load(self, document_id: str) -> Document:
        """The document's bytes, fetched and kept on the first call.

        Raises Reject("missing_file" | "file_refused" | "file_too_large"), VendorUnavailable.
        """
        stored = await self._table.find(document_id)
        if stored is None:
            raise Reject("missing_file", "The order's document is not in the database.")
        content, sha256 = stored.content, stored.sha256
        if content is None:
            content, sha256 = await self._table.keep(stored.id, await self._fetch(stored))
        elif not sha256:
            sha256 = await self._table.name(stored.id, content)
        return Document(id=stored.id, name=stored.name, content=content, sha256=sha256, mime=stored.mime)

    async def aclose(self) -> None:
        """Close what is open."""
        await self._downloader.aclose()

    async def _fetch(self, stored: StoredDocument) -> bytes:
        try:
            if not stored.location:
                raise Reject("missing_file", "The upload came without a file and without saying where it is.")
            if "://" in stored.location:
                return await self._downloader.get(stored.location, check=self._check_link)
            if self._sources.supabase_url and not stored.location.startswith("/"):
                return await self._from_bucket(stored)
            return await anyio.to_thread.run_sync(self._from_folder, stored.location)
        except RefusedAddressError as refusal:
            raise Reject("file_refused", f"The file is not fetched: {refusal}.") from None
        except TooLargeError:
            limit = self._limits.bytes_max // 1024**2
            raise Reject("file_too_large", f"The file is larger than {limit} MB.") from None
        except RefusedDownloadError as refusal:
            _reject(refusal.status, str(refusal))

    def _check_link(self, url: httpx.URL) -> None:
        if base_of(url) in self._trusted:
            return
        if url.scheme != "https":
            raise RefusedAddressError("only https links are followed")
        if not is_listed(url.host, self._sources.hosts):
            raise RefusedAddressError(f"{url.host} is not among the hosts documents may come from")

    async def _from_bucket(self, stored: StoredDocument) -> bytes:
        """A path in upstream's bucket, `<merchant>/<order>/<name>`: one merchant's job cannot name another's file."""
        owner, *rest = stored.location.split("/")
        if owner != stored.merchant_id or not rest or {"", ".", ".."} & set(rest):
            raise Reject("file_refused", "The file's path is not one of this merchant's in the upload bucket.")
        base, key = self._sources.supabase_url.rstrip("/"), self._sources.supabase_key
        link = f"{base}/storage/v1/object/{BUCKET}/{quote(stored.location)}"
        headers = {"Authorization": f"Bearer {key}", "apikey": key}
        try:
            # No redirects: they would take the service key along.
            return await self._downloader.get(link, check=lambda _: None, headers=headers, redirects=0)
        except RefusedDownloadError as refusal:
            _reject(_storage_status(refusal), "the upload bucket refused the service-role key or the request")

    def _from_folder(self, location: str) -> bytes:
        root = self._sources.folder
        if root is None:
            raise Reject("missing_file", "The file is named by a path, but no bucket and no folder is configured.")
        try:
            root = root.resolve(strict=True)
            path = (root / location).resolve(strict=True)
            if not path.is_relative_to(root):
                raise Reject("file_refused", "The file's path leads out of the documents' folder.")
            if not path.is_file():  # a pipe or a device would never end
                raise Reject("missing_file", "There is no such file in the documents' folder.")
            with path.open("rb") as file:
                content = file.read(self._limits.bytes_max + 1)
        except (FileNotFoundError, NotADirectoryError):
            raise Reject("missing_file", "There is no such file in the documents' folder.") from None
        except (OSError, ValueError, RuntimeError) as error:  # no permission, no possible name, a loop of links
            raise Reject("file_refused", f"The file cannot be read ({type(error).__name__}).") from None
        if len(content) > self._limits.bytes_max:
            raise TooLargeError
        return content


def _reject(status: int, why: str) -> NoReturn:
    if status in _GONE:
        raise Reject("missing_file", "The file is no longer where the upload said it is.") from None
    raise Reject("file_refused", f"The file cannot be had: {why}.") from None


def _storage_status(refusal: RefusedDownloadError) -> int:
    """Supabase answers 400 and puts what it means into the body: {"statusCode": "404", "error": "not_found"}."""
    try:
        return int(json.loads(refusal.body)["statusCode"])
    except (ValueError, TypeError, KeyError):
        return refusal.status
