"""A stand-in for OpenAI's Responses API: as strict about requests, and it says only what it was told to say.

It reads nothing. Without a scripted answer for a document it refuses, because an invented reading is worse.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.sandbox.state import now

if TYPE_CHECKING:
    from starlette.requests import Request

MODELS = ("gpt-6-luna", "gpt-6-sol", "gpt-6.1-terra", "gpt-6.1-sol", "gpt-5.4-mini")
REFUSAL = "This is a sandbox without a model: it has not read the document, and no answer was scripted for it."
CHARACTERS_PER_TOKEN = 4


class Answer(BaseModel):
    """What to say to the next requests that match; without `sha256` and `contains` it matches every one."""

    model_config = ConfigDict(extra="forbid")

    sha256: str | None = None
    """Of a file's or image's bytes."""
    contains: str | None = None
    """Stands in the request's text."""
    kind: Literal["text", "refusal", "incomplete", "error"] = "text"
    text: str = ""
    """The JSON text, the refusal's words, the part that was reached, or the error's message."""
    status: int = 500
    code: str | None = None
    retry_after_s: float | None = None
    seconds: float = 0.0
    count: int | None = None
    """How often; None is always."""


_ANSWERS: TypeAdapter[Answer | list[Answer]] = TypeAdapter(Answer | list[Answer])


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Text(_Strict):
    type: Literal["input_text"]
    text: str
    prompt_cache_breakpoint: dict[str, Any] | None = None


class _File(_Strict):
    type: Literal["input_file"]
    filename: str | None = None
    file_data: str | None = None
    file_id: str | None = None
    file_url: str | None = None
    detail: Literal["auto", "low", "high"] = "auto"

    @model_validator(mode="after")
    def _one_source(self) -> _File:
        if [self.file_data, self.file_id, self.file_url].count(None) != 2:  # noqa: PLR2004  two of three are absent
            raise ValueError("give exactly one of file_data, file_id, file_url")
        if self.file_data is not None and self.filename is None:
            raise ValueError("file_data needs a filename")
        return self


class _Image(_Strict):
    type: Literal["input_image"]
    image_url: str | None = None
    file_id: str | None = None
    detail: Literal["low", "high", "auto", "original"] = "auto"

    @model_validator(mode="after")
    def _one_source(self) -> _Image:
        if (self.image_url is None) == (self.file_id is None):
            raise ValueError("give exactly one of image_url, file_id")
        return self


_Part = Annotated[_Text | _File | _Image, Field(discriminator="type")]


class _Message(_Strict):
    type: Literal["message"] = "message"
    role: Literal["user", "system", "developer"]
    content: str | list[_Part]


class _Format(_Strict):
    type: Literal["json_schema"]
    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    schema_: dict[str, Any] = Field(alias="schema")
    strict: Literal[True]
    description: str | None = None


class _TextOptions(_Strict):
    format: _Format
    verbosity: Literal["low", "medium", "high"] | None = None


class _Reasoning(_Strict):
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: str | None = None


class ResponsesRequest(_Strict):
    """The body of `POST /v1/responses`, with the parameters a document reader may send and no other."""

    model: str
    input: list[_Message] = Field(min_length=1)
    text: _TextOptions
    instructions: str | None = None
    reasoning: _Reasoning | None = None
    max_output_tokens: int | None = Field(default=None, ge=16)
    store: bool | None = None
    stream: Literal[False] | None = None
    background: bool | None = None
    service_tier: Literal["auto", "default", "flex", "priority"] | None = None
    metadata: dict[str, str] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    safety_identifier: str | None = None

    def texts(self) -> str:
        """Every word of the request that is text."""
        parts = [self.instructions or ""]
        for message in self.input:
            if isinstance(message.content, str):
                parts.append(message.content)
            else:
                parts += [part.text for part in message.content if isinstance(part, _Text)]
        return "\n".join(parts)

    def documents(self) -> list[bytes]:
        """The bytes that came along; base64 that does not decode is a bad request."""
        parts = [part for message in self.input if isinstance(message.content, list) for part in message.content]
        sources = [
            part.file_data if isinstance(part, _File) else part.image_url
            for part in parts
            if not isinstance(part, _Text)
        ]
        return [_decoded(source) for source in sources if source and source.startswith("data:")]


class Refused(Exception):  # a request the API would not take
    """Answered with OpenAI's error body."""

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param


@dataclass
class ModelServer:
    """Answers scripted answers in the order they were registered, and counts."""

    key: str
    answers: list[Answer] = field(default_factory=list)
    calls: int = 0
    refused: int = 0
    answered: dict[str, int] = field(default_factory=dict)

    def routes(self) -> list[Route]:
        """OpenAI's two addresses, and two for tests."""
        return [
            Route("/v1/responses", self.responses, methods=["POST"]),
            Route("/v1/models", self.models),
            Route("/model/answers", self.register, methods=["POST"]),
            Route("/model/state", self.state),
        ]

    async def responses(self, request: Request) -> Response:
        """One call: checked like a strict server would, then answered from the script."""
        self.calls += 1
        try:
            self._authorize(request)
            asked = _parse(await request.body())
        except Refused as refusal:
            self.refused += 1
            return _error(refusal.status, str(refusal), code=refusal.code, param=refusal.param)
        answer = self._take(asked)
        self.answered[answer.kind] = self.answered.get(answer.kind, 0) + 1
        await asyncio.sleep(answer.seconds)
        if answer.kind == "error":
            return _error(
                answer.status, answer.text or "Scripted error", code=answer.code, after_s=answer.retry_after_s
            )
        return JSONResponse(_envelope(asked, answer), headers={"x-request-id": f"req_{uuid4().hex}"})

    async def models(self, request: Request) -> Response:
        """The models that exist; real ones carry the date on which they stop."""
        try:
            self._authorize(request)
        except Refused as refusal:
            return _error(refusal.status, str(refusal), code=refusal.code)
        listed = [{"id": name, "object": "model", "owned_by": "sandbox", "shutdown_date": None} for name in MODELS]
        return JSONResponse({"object": "list", "data": listed})

    async def register(self, request: Request) -> Response:
        """Add one scripted answer or a list of them; an empty list forgets all."""
        try:
            given = _ANSWERS.validate_json(await request.body())
        except ValidationError as error:
            return JSONResponse({"errors": json.loads(error.json(include_url=False))}, 422)
        answers = given if isinstance(given, list) else [given]
        self.answers = [*self.answers, *answers] if answers else []
        return JSONResponse({"answers": len(self.answers)}, 201)

    async def state(self, _request: Request) -> Response:
        """How often it was called, and with what result."""
        return JSONResponse(
            {
                "calls": self.calls,
                "refused": self.refused,
                "answered": self.answered,
                "answers": [answer.model_dump() for answer in self.answers],
            }
        )

    def _authorize(self, request: Request) -> None:
        if request.headers.get("Authorization") != f"Bearer {self.key}":
            raise Refused(401, "Incorrect API key provided.", code="invalid_api_key")

    def _take(self, asked: ResponsesRequest) -> Answer:
        """The latest registered answer that matches, so a test can override what the demo set up."""
        texts = asked.texts()
        hashes = {hashlib.sha256(content).hexdigest() for content in asked.documents()}
        for answer in reversed(self.answers):
            by_hash = answer.sha256 is None or answer.sha256 in hashes
            by_text = answer.contains is None or answer.contains in texts
            if by_hash and by_text and answer.count != 0:
                if answer.count is not None:
                    answer.count -= 1
                return answer
        return Answer(kind="refusal", text=REFUSAL)


def _parse(body: bytes) -> ResponsesRequest:
    try:
        asked = ResponsesRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        param = ".".join(str(part) for part in first["loc"])
        code = "unknown_parameter" if first["type"] == "extra_forbidden" else "invalid_value"
        raise Refused(400, f"{first['msg']}: {param}", code=code, param=param) from None
    if asked.model not in MODELS:
        message = f"The model `{asked.model}` does not exist or you do not have access to it."
        raise Refused(404, message, code="model_not_found", param="model")
    _require_strict(asked.text.format.schema_, ())
    asked.documents()
    return asked


def _require_strict(schema: Any, path: tuple[str, ...]) -> None:
    """OpenAI's strict mode: every object closed, every property required; no open maps."""
    if isinstance(schema, list):
        for item in schema:
            _require_strict(item, path)
    if not isinstance(schema, dict):
        return
    if schema.get("type") == "object":
        named = set(schema.get("properties", {}))
        if schema.get("additionalProperties") is not False or set(schema.get("required", [])) != named:
            message = (
                f"Invalid schema for response_format: In context={path}, 'additionalProperties' must be false "
                "and 'required' must include every key in properties."
            )
            raise Refused(400, message, code="invalid_json_schema", param="text.format.schema")
    for name, inner in schema.items():
        if name not in {"enum", "const", "default", "required"}:
            _require_strict(inner, (*path, name))


def _decoded(source: str) -> bytes:
    try:
        return base64.b64decode(source.partition(";base64,")[2], validate=True)
    except binascii.Error:
        raise Refused(400, "The file data is not valid base64.", code="invalid_value", param="input") from None


def _envelope(asked: ResponsesRequest, answer: Answer) -> dict[str, Any]:
    """A response object; an incomplete one has text too, which is why a client must look at `status` first."""
    incomplete = answer.kind == "incomplete"
    part = (
        {"type": "refusal", "refusal": answer.text}
        if answer.kind == "refusal"
        else {"type": "output_text", "text": answer.text, "annotations": [], "logprobs": []}
    )
    status = "incomplete" if incomplete else "completed"
    message = {
        "id": f"msg_{uuid4().hex}",
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": [part],
    }
    return {
        "id": f"resp_{uuid4().hex}",
        "object": "response",
        "created_at": int(now().timestamp()),
        "status": status,
        "error": None,
        "incomplete_details": {"reason": answer.code or "max_output_tokens"} if incomplete else None,
        "instructions": asked.instructions,
        "max_output_tokens": asked.max_output_tokens,
        "metadata": asked.metadata or {},
        "model": asked.model,
        "output": [message],
        "parallel_tool_calls": True,
        "store": asked.store is not False,
        "temperature": 1.0,
        "text": {"format": asked.text.format.model_dump(by_alias=True)},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": _usage(asked, answer),
    }


def _usage(asked: ResponsesRequest, answer: Answer) -> dict[str, Any]:
    """Invented but proportional: a longer document costs more."""
    read = len(asked.texts()) + sum(len(content) for content in asked.documents())
    input_tokens = max(1, read // CHARACTERS_PER_TOKEN)
    output_tokens = max(1, len(answer.text) // CHARACTERS_PER_TOKEN)
    return {
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": input_tokens + output_tokens,
    }


def _error(
    status: int, message: str, *, code: str | None = None, param: str | None = None, after_s: float | None = None
) -> Response:
    kinds = {401: "invalid_request_error", 429: "requests", 500: "server_error", 503: "server_error"}
    body = {"message": message, "type": kinds.get(status, "invalid_request_error"), "param": param, "code": code}
    headers = {"x-request-id": f"req_{uuid4().hex}"}
    if after_s is not None:
        headers |= {"retry-after": f"{after_s:.0f}", "retry-after-ms": f"{after_s * 1000:.0f}"}
    return JSONResponse({"error": body}, status, headers=headers)
