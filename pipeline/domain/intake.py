"""What a job says: upstream's envelope `{workflowId, stage, data}`, checked on receipt.

Two senders speak it. Upstream's ai-parsing jobs name an upload and a file (in four historic shapes when
the bytes are inline); our own hand-offs name a run. Everything in it is hostile until it is here.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError

from pipeline.domain.values import Value

MAX_DOCUMENT_BYTES = 25 * 1024 * 1024
"""Upstream's own upload limit (multer, 25 MB)."""


class BadEnvelopeError(ValueError):
    """The job's data cannot be understood; the message says what is wrong and is shown to people."""


class HandOff(Value):
    """Our own job: run this stage of that run, if this entry of it is still due."""

    run_id: str = Field(alias="runId", min_length=1, max_length=100)
    entry: int = Field(ge=0)
    flow_version: int = Field(alias="flowVersion", ge=1)

    model_config = {**Value.model_config, "extra": "ignore", "populate_by_name": True}


class Intake(Value):
    """Upstream's request to process an upload. `inline` holds the file when the job carried it."""

    merchant_id: str
    upload_id: str
    workflow_id: str
    file_name: str
    mime: str
    location: str
    purchase_order_id: str
    inline: bytes | None = None


def parse(data: str) -> HandOff | Intake:
    """Read a job's data. Raises BadEnvelopeError naming the field that is wrong."""
    envelope = _object(_json(data), "job data")
    payload = _object(envelope.get("data"), "data")
    if "runId" in payload:
        try:
            return HandOff.model_validate(payload)
        except ValidationError as error:
            raise BadEnvelopeError(f"data.{error.errors()[0]['loc'][0]} is not usable") from None
    stage = envelope.get("stage")
    if stage != "ai_parsing":
        raise BadEnvelopeError(f"stage is {_shown(stage)}; only ai_parsing jobs start a run")
    return Intake(
        merchant_id=_text(payload, "merchantId", required=True),
        upload_id=_text(payload, "uploadId", required=True),
        workflow_id=_text(envelope, "workflowId", required=True),
        file_name=_text(payload, "fileName") or "document",
        mime=_text(payload, "mimeType"),
        location=_text(payload, "fileUrl"),
        purchase_order_id="" if payload.get("purchaseOrderId") == "unknown" else _text(payload, "purchaseOrderId"),
        inline=_inline(payload.get("fileBuffer")),
    )


def envelope(*, workflow_id: str, stage: str, run_id: str, entry: int, flow_version: int) -> str:
    """The data of our own hand-off job: ids only, in upstream's envelope so its tools can show it."""
    return json.dumps(
        {
            "workflowId": workflow_id,
            "stage": stage.replace("-", "_"),
            "data": {"runId": run_id, "entry": entry, "flowVersion": flow_version},
        },
        separators=(",", ":"),
    )


def _json(data: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise BadEnvelopeError("job data is not JSON") from None


def _object(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadEnvelopeError(f"{name} is {_shown(value)}, not an object")
    return value


def _text(source: Mapping[str, Any], name: str, *, required: bool = False) -> str:
    value = source.get(name)
    if value is None or value == "":
        if required:
            raise BadEnvelopeError(f"{name} is missing")
        return ""
    if not isinstance(value, str) or len(value) > 2048 or "\0" in value:  # noqa: PLR2004 longest URL Shopify takes
        raise BadEnvelopeError(f"{name} is not a usable text")
    try:
        value.encode()
    except UnicodeEncodeError:  # half a character: JSON can say it, no database stores it
        raise BadEnvelopeError(f"{name} is not a usable text") from None
    return value


def _inline(value: Any) -> bytes | None:
    """The bytes of a file sent inside the job.

    Shapes seen in upstream's history: `{"type": "Buffer", "data": [..]}`, `{"data": [..]}`, a plain list of
    numbers, `{"base64": ".."}`, a bare base64 text.
    """
    if value is None or value == "":
        return None
    if isinstance(value, dict):
        value = value.get("base64", value.get("data"))
    try:
        if isinstance(value, list):
            content = bytes(value)
        elif isinstance(value, str):
            content = base64.b64decode(value, validate=True)
        else:
            raise BadEnvelopeError("fileBuffer has an unknown shape")
    except (ValueError, TypeError, binascii.Error):
        raise BadEnvelopeError("fileBuffer cannot be decoded") from None
    if len(content) > MAX_DOCUMENT_BYTES:
        raise BadEnvelopeError(f"fileBuffer has {len(content)} bytes; the limit is {MAX_DOCUMENT_BYTES}")
    return content


def _shown(value: Any) -> str:
    """A hostile value, short enough for a message."""
    return "missing" if value is None else repr(value)[:60]
