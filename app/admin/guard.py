"""The door: who may ask, from where, how much; and what every answer carries.

    Host        a page on a foreign name that resolves to 127.0.0.1 (DNS rebinding) is turned away
    Origin      a page elsewhere cannot make the reader's browser change anything (CSRF)
    type, size  what changes something is JSON or multipart, and has a length
    token       with ADMIN_TOKEN set, all of /api and the page; header or the cookie the login form sets

Health and metrics hold no order and stay open, for probes that carry no secret. So are webhooks, which prove themselves
by a signature; they alone may come by the public name, so that a proxy in front opens nothing else.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "po_session"
SESSION_S = 12 * 3600
BODY_MAX = 26 * 1024 * 1024
"""A document of 25 MB and the form around it."""

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_EVERYWHERE = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - recognised, not bound
_OPEN = ("/live", "/ready", "/metrics", "/login", "/static/", "/webhooks/")
_BODY_TYPES = frozenset({"application/json", "multipart/form-data"})
_HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not no-referrer: under that a browser sends the login form with `Origin: null`, as a stranger's page would.
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
}


class RefusesToServeError(RuntimeError):
    """The settings would show orders to a network; nothing is served."""


class Tokens:
    """Compares tokens in constant time, and makes sessions out of them that end by themselves."""

    def __init__(self, token: str | None, now: Callable[[], float] = time.time) -> None:
        self._token = token.encode() if token else None
        self._now = now

    @property
    def required(self) -> bool:
        """Whether there is a token at all."""
        return self._token is not None

    def matches(self, given: str) -> bool:
        """Whether this is the token."""
        return self._token is None or hmac.compare_digest(given.encode(), self._token)

    def session(self) -> str:
        """A cookie's value that proves knowledge of the token until it ends, and never reveals it."""
        ends = str(int(self._now()) + SESSION_S)
        return f"{ends}.{self._sign(ends)}"

    def is_session(self, value: str) -> bool:
        """Whether that cookie is ours and still good."""
        ends, _, signature = value.partition(".")
        signed = hmac.compare_digest(signature.encode(), self._sign(ends).encode())
        return signed and ends.isdecimal() and int(ends) > self._now()

    def _sign(self, text: str) -> str:
        return hmac.new(self._token or b"", f"session {text}".encode(), hashlib.sha256).hexdigest()


class Guard:
    """ASGI middleware around everything."""

    def __init__(self, app: ASGIApp, *, host: str, tokens: Tokens, public_host: str = "") -> None:
        if host not in _LOOPBACK and not tokens.required:
            raise RefusesToServeError(f"HTTP_HOST {host!r} is reachable from elsewhere: set ADMIN_TOKEN")
        self._app = app
        self._tokens = tokens
        # Bound to every address, we cannot know by which names we are called; there the token is the door.
        self._hosts = None if host in _EVERYWHERE else _LOOPBACK | {host}
        self._public = {public_host} - {""}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that is refused, hand on one that is not."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = _with_headers(send, asset=scope["path"].startswith("/static/"))
        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, sent)
        elif refusal[0] == "login":
            await _redirect(sent, "/login")
        else:
            await _refuse(sent, *refusal[1:])

    def _refusal(self, scope: Scope) -> tuple[str, int, str, str] | None:
        headers = Headers(scope=scope)
        if self._hosts is not None and _name(headers.get("host", "")) not in self._hosts | self._public_for(scope):
            return ("", 421, "wrong_host", "this host name is not served here")
        if scope["method"] not in {"GET", "HEAD"} and (why := _bad_post(headers)):
            return ("", *why)
        path = scope["path"]
        if path.startswith(_OPEN) or not self._tokens.required or self._known(headers):
            return None
        if path == "/":
            return ("login", 303, "", "")
        return ("", 401, "unauthorized", "send the admin token as `Authorization: Bearer ...`")

    def _public_for(self, scope: Scope) -> set[str]:
        return self._public if scope["path"].startswith("/webhooks/") else set()

    def _known(self, headers: Headers) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._tokens.matches(token.strip())
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        return COOKIE in cookies and self._tokens.is_session(cookies[COOKIE].value)


def _bad_post(headers: Headers) -> tuple[int, str, str] | None:
    """What speaks against a request that changes something."""
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != headers.get("host"):
        return (403, "foreign_origin", "requests that change something must come from this page")
    if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        return (403, "foreign_origin", "requests that change something must come from this page")
    if headers.get("content-type", "").partition(";")[0].strip().lower() not in _BODY_TYPES:
        return (415, "wrong_type", "send application/json or multipart/form-data")
    length = headers.get("content-length", "")
    if not length.isdecimal():
        return (411, "no_length", "say how long the body is (Content-Length)")
    if int(length) > BODY_MAX:
        return (413, "too_large", f"at most {BODY_MAX:,} bytes")
    return None


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _with_headers(send: Send, *, asset: bool) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, "no-cache" if asset and name == "cache-control" else value)
        await send(message)

    return sending


async def _refuse(send: Send, status: int, error: str, message: str) -> None:
    body = json.dumps({"success": False, "error": error, "message": message}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    # The body that was not read would be taken for the next request on this connection.
    headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _redirect(send: Send, where: str) -> None:
    headers = [(b"location", where.encode()), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
