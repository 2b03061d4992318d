"""The model stand-in: it takes what OpenAI takes, refuses what OpenAI refuses, and says what it was told."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI, BadRequestError, NotFoundError, RateLimitError

from app.sandbox.server import MODEL_KEY

DOCUMENT = b"%PDF-1.7 an order nobody can read"
FORMAT = {
    "type": "json_schema",
    "name": "order",
    "strict": True,
    "schema": {
        "type": "object",
        "properties": {"number": {"anyOf": [{"type": "string"}, {"type": "null"}]}},
        "required": ["number"],
        "additionalProperties": False,
    },
}


@pytest.fixture
async def openai(address: str, http: httpx.AsyncClient) -> AsyncIterator[AsyncOpenAI]:
    await http.post(f"{address}/model/answers", json=[])
    async with AsyncOpenAI(api_key=MODEL_KEY, base_url=f"{address}/v1", max_retries=0) as client:
        yield client


def _request(**changes: Any) -> dict[str, Any]:
    data = f"data:application/pdf;base64,{base64.b64encode(DOCUMENT).decode()}"
    parts = [
        {"type": "input_text", "text": "Read the purchase order."},
        {"type": "input_file", "filename": "order.pdf", "file_data": data},
    ]
    return {
        "model": "gpt-6-luna",
        "input": [{"role": "user", "content": parts}],
        "text": {"format": FORMAT},
        "store": False,
        **changes,
    }


async def test_without_a_script_it_refuses_instead_of_inventing(openai: AsyncOpenAI) -> None:
    response = await openai.responses.create(**_request())
    assert response.status == "completed"
    part = response.output[0].content[0]
    assert part.type == "refusal"
    assert "has not read the document" in part.refusal


async def test_a_document_is_answered_with_what_was_scripted_for_its_bytes(
    openai: AsyncOpenAI, address: str, http: httpx.AsyncClient
) -> None:
    answer = {"sha256": hashlib.sha256(DOCUMENT).hexdigest(), "text": '{"number": "PO-7"}'}
    await http.post(f"{address}/model/answers", json=answer)
    response = await openai.responses.create(**_request())
    assert response.output_text == '{"number": "PO-7"}'
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    other = _request(input=[{"role": "user", "content": "Another document"}])
    assert (await openai.responses.create(**other)).output[0].content[0].type == "refusal"


async def test_an_incomplete_answer_says_why(openai: AsyncOpenAI, address: str, http: httpx.AsyncClient) -> None:
    await http.post(f"{address}/model/answers", json={"kind": "incomplete", "text": '{"numb'})
    response = await openai.responses.create(**_request())
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"


async def test_a_scripted_error_comes_as_often_as_ordered(
    openai: AsyncOpenAI, address: str, http: httpx.AsyncClient
) -> None:
    error = {"kind": "error", "status": 429, "code": "rate_limit_exceeded", "retry_after_s": 2, "count": 1}
    await http.post(f"{address}/model/answers", json=error)
    with pytest.raises(RateLimitError) as caught:
        await openai.responses.create(**_request())
    assert (caught.value.code, caught.value.response.headers["retry-after"]) == ("rate_limit_exceeded", "2")
    await openai.responses.create(**_request())


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"temperature": 0}, "unknown_parameter"),
        ({"input": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]}, "invalid_value"),
        ({"text": {"format": {**FORMAT, "strict": False}}}, "invalid_value"),
        ({"text": {"format": {**FORMAT, "schema": {"type": "object", "properties": {}}}}}, "invalid_json_schema"),
    ],
)
async def test_a_request_openai_would_refuse_is_refused(
    openai: AsyncOpenAI, changes: dict[str, Any], code: str
) -> None:
    with pytest.raises(BadRequestError) as caught:
        await openai.responses.create(**_request(**changes))
    assert caught.value.code == code


async def test_an_unknown_model_or_key_is_named(openai: AsyncOpenAI, address: str, http: httpx.AsyncClient) -> None:
    with pytest.raises(NotFoundError):
        await openai.responses.create(**_request(model="gpt-1"))
    denied = await http.post(f"{address}/v1/responses", json=_request(), headers={"Authorization": "Bearer other"})
    assert (denied.status_code, denied.json()["error"]["code"]) == (401, "invalid_api_key")
    assert "gpt-6-luna" in [model.id async for model in openai.models.list()]


async def test_every_call_is_counted(openai: AsyncOpenAI, address: str, http: httpx.AsyncClient) -> None:
    before = (await http.get(f"{address}/model/state")).json()["calls"]
    await openai.responses.create(**_request())
    assert (await http.get(f"{address}/model/state")).json()["calls"] == before + 1
