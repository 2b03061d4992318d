"""Upstream, as far as we meet it: it keeps uploaded files in its storage and adds their jobs with npm bull."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.conformance.oracle import INTEROP
from tests.shop import MERCHANT, Article, articles, csv_of

INLINE_SHAPES = ("buffer", "data", "list", "base64", "text")
"""How releases before October 2025 put a file into the job."""


def small_order(number: int) -> list[Article]:
    """One product without a picture, for stories that are about something else."""
    return [replace(articles(number)[-1], image="")]


@dataclass(frozen=True, slots=True)
class Upload:
    """One uploaded file, with the names upstream gave it, its placeholder order and its workflow."""

    number: int
    content: bytes
    at: datetime
    shape: str | None = None

    @property
    def upload_id(self) -> str:
        return f"cm{self.number:06d}upload"

    @property
    def purchase_order_id(self) -> str:
        return f"cm{self.number:06d}order"

    @property
    def workflow_id(self) -> str:
        return f"wf_{int(self.at.timestamp() * 1000)}_{self.upload_id[:8]}"

    @property
    def file_name(self) -> str:
        return f"order {self.number}.csv"

    @property
    def storage_path(self) -> str:
        """`<merchantId>/<poId>/<ms>_<name>`, as in upstream's bucket."""
        return f"{MERCHANT}/{self.purchase_order_id}/{int(self.at.timestamp() * 1000)}_order_{self.number}.csv"

    def row(self) -> dict[str, Any]:
        """What upstream's tables know about it."""
        return {
            "uploadId": self.upload_id,
            "merchantId": MERCHANT,
            "purchaseOrderId": self.purchase_order_id,
            "workflowId": self.workflow_id,
            "fileUrl": self.storage_path,
            "fileName": self.file_name,
            "fileSize": len(self.content),
            "mimeType": "text/csv",
            "createdAt": self.at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "shape": self.shape,
            "content": base64.b64encode(self.content).decode() if self.shape else None,
        }


class Upstream:
    """The Node app beside us. `storage` is its bucket, here a folder that our worker reads too."""

    def __init__(self, node: str, redis_url: str, storage: Path) -> None:
        self._node = node
        self._redis_url = redis_url
        self.storage = storage

    def store(self, number: int, lines: Sequence[Article]) -> Upload:
        """Take a merchant's file in: it lies in the storage, and nobody has been told yet."""
        upload = Upload(number, csv_of(f"PO-{number}", lines), datetime.now(UTC))
        path = self.storage / upload.storage_path
        path.parent.mkdir(parents=True)
        path.write_bytes(upload.content)
        return upload

    def hold(self, number: int, lines: Sequence[Article], shape: str) -> Upload:
        """Take a file in as older releases did: it is nowhere but in the job to come."""
        return Upload(number, csv_of(f"PO-{number}", lines), datetime.now(UTC), shape)

    async def enqueue(self, *uploads: Upload) -> list[str]:
        """Add a job for each upload, all at once; returns the ids Bull gave them."""
        program = await asyncio.create_subprocess_exec(
            self._node,
            INTEROP / "upstream.js",
            self._redis_url,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        rows = json.dumps([upload.row() for upload in uploads])
        printed, _ = await asyncio.wait_for(program.communicate(rows.encode()), 20)
        assert program.returncode == 0
        ids: list[str] = json.loads(printed)
        return ids
