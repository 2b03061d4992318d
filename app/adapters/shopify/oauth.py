"""Asks a shop for an access token: one form, one answer, and three ways to be told no.

    POST https://{shop}/admin/oauth/access_token
      grant_type=client_credentials  client_id client_secret                 -> access_token expires_in (~86,399)
      grant_type=refresh_token       client_id client_secret refresh_token   -> the same (3,600) and refresh_token

Source: shopify.dev, "Client credentials grant" and "Offline access tokens". A refusal is JSON with an OAuth error
code, or a page of HTML; whatever it is, its text stays here: only the code, if it looks like one, is repeated.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import VendorUnavailable

CONNECT_S = 5.0
TOTAL_S = 15.0
ANSWER_MAX = 64 * 1024

_PASSING = frozenset({408, 425, 429})
_CODE = re.compile(r"[a-z][a-z_]{1,39}")


class GrantRefusedError(Exception):
    """The shop will give no token for this; `code` is OAuth's (invalid_grant, invalid_client), or the HTTP status."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Granted:
    """A token and its life in seconds; the refresh token that replaces the one used, empty if there is none."""

    token: str = field(repr=False)
    expires_in_s: float
    refresh_token: str = field(repr=False)


class _Answer(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    access_token: str = Field(min_length=1, max_length=4096)
    expires_in: float = Field(gt=0, le=10 * 365 * 86400)
    refresh_token: str = Field(default="", max_length=4096)


def token_url(domain: str, endpoint: str) -> str:
    """Where a shop gives tokens: beside its GraphQL address, if that is not Shopify's own."""
    base, found, _ = endpoint.partition("/admin/api/")
    return f"{base if found else f'https://{domain}'}/admin/oauth/access_token"


async def ask_for_token(http: httpx.AsyncClient, url: str, form: Mapping[str, str]) -> Granted:
    """One question under one deadline.

    Raises GrantRefusedError, or VendorUnavailable when it may pass by itself; after that it is not known whether
    a token was given.
    """
    failure = ""
    try:
        async with asyncio.timeout(TOTAL_S):
            response = await http.post(
                url,
                data=dict(form),
                headers={"Accept": "application/json"},
                timeout=httpx.Timeout(TOTAL_S, connect=CONNECT_S),
                follow_redirects=False,
            )
    except (httpx.TransportError, TimeoutError) as error:
        failure = type(error).__name__
    if failure:  # raised out here: httpx's exception carries the request, and the request the secret
        raise VendorUnavailable(f"no answer from the shop to the request for a token ({failure})")
    if response.is_server_error or response.status_code in _PASSING:
        raise VendorUnavailable(f"the shop answered the request for a token with HTTP {response.status_code}")
    if response.status_code != httpx.codes.OK:
        raise GrantRefusedError(_code(response))
    return _granted(response)


def _granted(response: httpx.Response) -> Granted:
    answer = None
    if len(response.content) <= ANSWER_MAX:
        try:
            answer = _Answer.model_validate_json(response.content)
        except ValidationError:
            answer = None  # raised out here: the error would carry what was answered
    if answer is None:
        raise VendorUnavailable("the answer to the request for a token is none")
    return Granted(answer.access_token, answer.expires_in, answer.refresh_token)


def _code(response: httpx.Response) -> str:
    try:
        answer = response.json()
    except ValueError:
        answer = None
    code = answer.get("error") if isinstance(answer, dict) else None
    return code if isinstance(code, str) and _CODE.fullmatch(code) else f"http_{response.status_code}"
