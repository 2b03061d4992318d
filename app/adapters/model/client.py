"""How a model is asked: one request with one deadline, and the vendor's answer turned into our errors.

    cannot be reached, 408, 409, 429, 5xx         VendorUnavailable
    429 insufficient_quota                        VendorUnavailable: the operator's bill, not the order's fault
    401, 403, 404                                 Reject: a person must change the key or the model
    400 and the like, refusal, incomplete         Reject("model_could_not_read")
    an answer of the wrong shape                  asked once more, then Reject("model_could_not_read")

`responses.parse` of the SDK would raise on an incomplete answer and hide why; so the status is looked at
first and the text validated here. The SDK repeats nothing (`max_retries=0`): the queue does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Generic, TypeVar

import openai
import structlog
from openai.types.responses import Response
from pydantic import BaseModel, ValidationError

from app.adapters.model.schema import strict_format
from app.adapters.retry_after import retry_after_s
from app.tls import tls
from pipeline.clock import Clock
from pipeline.contract import Reject
from pipeline.errors import PipelineError, VendorUnavailable

COULD_NOT_READ = "model_could_not_read"
OUTPUT_TOKENS_MAX = 32_000
_SHAPE_TRIES = 2
_PASSING = frozenset({408, 409, 425, 429})
_PASSING_FAILURES = frozenset({"server_error", "rate_limit_exceeded", "vector_store_timeout"})
_NEEDS_A_PERSON = {
    401: ("model_refused_key", "The model's vendor refused the key: set OPENAI_API_KEY right."),
    403: ("model_refused_key", "The model's vendor does not let this key use the model: check its permissions."),
    404: ("model_not_found", "The model's vendor does not know the model: set OPENAI_MODEL right."),
}
_INCOMPLETE = {
    "max_output_tokens": "the document is too long for one answer",
    "content_filter": "its content filter stopped the answer",
}

Shape = TypeVar("Shape", bound=BaseModel)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Which model, where, and for how long (seconds, all tries together) one question may take."""

    api_key: str = field(repr=False)
    base_url: str
    model: str
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Answer(Generic[Shape]):
    """A checked answer, the model that gave it, and what it cost, a spoilt first try included."""

    said: Shape
    model: str
    input_tokens: int
    output_tokens: int


class ModelClient:
    """Asks one vendor. `configured` is False without a key; asking is a mistake then."""

    def __init__(self, config: ModelConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        # `trust_env`: the environment is read in one place, and it is not here.
        http = openai.DefaultAsyncHttpxClient(trust_env=False, verify=tls())
        self._sdk = openai.AsyncOpenAI(
            api_key=config.api_key or "none",
            base_url=config.base_url,
            timeout=config.timeout_s,
            max_retries=0,
            http_client=http,
        )

    @property
    def configured(self) -> bool:
        """Whether there is a key."""
        return bool(self._config.api_key)

    async def ask(
        self, shape: type[Shape], *, name: str, instructions: str, parts: Sequence[Mapping[str, Any]]
    ) -> Answer[Shape]:
        """The answer in the asked shape. Raises Reject or VendorUnavailable, as the module says."""
        try:
            async with asyncio.timeout(self._config.timeout_s):
                return await self._ask(shape, name, instructions, parts)
        except TimeoutError:
            raise VendorUnavailable(f"no answer from the model within {self._config.timeout_s:g} s") from None

    async def aclose(self) -> None:
        """Close what is open."""
        await self._sdk.close()

    async def _ask(
        self, shape: type[Shape], name: str, instructions: str, parts: Sequence[Mapping[str, Any]]
    ) -> Answer[Shape]:
        spent_in = spent_out = 0
        for _ in range(_SHAPE_TRIES):
            response = await self._request(shape, name, instructions, parts)
            if response.usage is not None:
                spent_in += response.usage.input_tokens
                spent_out += response.usage.output_tokens
            try:
                said = shape.model_validate_json(_text_of(response))
            except ValidationError as error:
                _log.warning("model.answer_misshapen", problems=error.error_count(), response=response.id)
                continue
            return Answer(said, response.model or self._config.model, spent_in, spent_out)
        raise Reject(COULD_NOT_READ, f"The model answered {_SHAPE_TRIES} times in a form that cannot be used.")

    async def _request(
        self, shape: type[BaseModel], name: str, instructions: str, parts: Sequence[Mapping[str, Any]]
    ) -> Response:
        problem: PipelineError
        try:
            response = await self._create(shape, name, instructions, parts)
            # The SDK builds its objects from whatever JSON arrived; a proxy's page has no status.
            if isinstance(response, Response) and response.status and response.output is not None:
                return response
            problem = VendorUnavailable("what answered is not the model's vendor")
        except openai.APIStatusError as error:
            problem = self._of_status(error)
        except openai.APIConnectionError as error:
            problem = VendorUnavailable(f"no answer from the model's vendor ({type(error).__name__})")
        except (openai.OpenAIError, ValueError) as error:  # ValueError: the SDK lets a broken JSON through
            problem = VendorUnavailable(f"what answered is not the model's vendor ({type(error).__name__})")
        raise problem  # out here: the SDK's exception carries the request, and the request the key

    async def _create(
        self, shape: type[BaseModel], name: str, instructions: str, parts: Sequence[Mapping[str, Any]]
    ) -> object:
        asked: dict[str, Any] = {
            "model": self._config.model,
            "instructions": instructions,
            "input": [{"role": "user", "content": list(parts)}],
            "text": {"format": strict_format(name, shape)},
            "reasoning": {"effort": "low"},
            "max_output_tokens": OUTPUT_TOKENS_MAX,
            "store": False,
            "prompt_cache_key": f"po-pipeline-{name}",
        }
        return await self._sdk.responses.create(**asked)

    def _of_status(self, error: openai.APIStatusError) -> PipelineError:
        """The vendor's status and code; never its message, which may quote the document or the key."""
        status, code = error.status_code, error.code or ""
        if code == "insufficient_quota":
            return VendorUnavailable("the quota of the model's key is used up: check the plan and the bill")
        if status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            wait_s = retry_after_s(error.response.headers, self._clock.now())
            return VendorUnavailable(f"the model's vendor answered HTTP {status} {code}".strip(), retry_after_s=wait_s)
        if status in _NEEDS_A_PERSON:
            return Reject(*_NEEDS_A_PERSON[status])
        return Reject(COULD_NOT_READ, f"The model's vendor does not take the document (HTTP {status} {code}).")


def _text_of(response: Response) -> str:
    """The answer's text. Status first: an incomplete answer has text too."""
    if response.status == "incomplete":
        reason = response.incomplete_details.reason if response.incomplete_details else None
        raise Reject(
            COULD_NOT_READ, f"The model did not finish: {_INCOMPLETE.get(reason or '', 'no reason was given')}."
        )
    if response.error is not None and response.error.code in _PASSING_FAILURES:
        raise VendorUnavailable(f"the model's vendor failed while answering ({response.error.code})")
    if response.status != "completed":
        code = response.error.code if response.error else response.status
        raise Reject(COULD_NOT_READ, f"The model could not answer ({code}).")
    parts = [part for item in response.output if item.type == "message" for part in item.content]
    if any(part.type == "refusal" for part in parts):
        raise Reject(COULD_NOT_READ, "The model refused to read the document.")
    return "".join(part.text for part in parts if part.type == "output_text")
