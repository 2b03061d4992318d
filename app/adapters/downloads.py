"""Fetches a file that somebody else serves: bounded in bytes, time and redirects, whatever the server claims."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import cast

import httpx

from app.adapters.addresses import PublicOnlyTransport, RefusedAddressError
from app.adapters.retry_after import retry_after_s
from pipeline.clock import Clock
from pipeline.errors import VendorUnavailable

CONNECT_S = 10.0
SILENCE_S = 30.0
"""Nothing at all for this long is an outage; a slow file has until the total limit."""
REDIRECTS_MAX = 3
_REFUSAL_BYTES_MAX = 4096
_PASSING = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of another's bytes and time one download may take."""

    bytes_max: int
    total_s: float


class RefusedDownloadError(ValueError):
    """The server said no. `status` is its own word, `body` the beginning of what it said beside it."""

    def __init__(self, host: str, status: int, body: bytes = b"") -> None:
        super().__init__(f"{host} answered HTTP {status}")
        self.status = status
        self.body = body


class TooLargeError(ValueError):
    """More bytes than allowed; nothing was kept."""


def _as_it_is(url: httpx.URL) -> httpx.URL:
    return url


class Downloader:
    """GET and nothing else, over a transport that refuses our own network."""

    def __init__(self, transport: PublicOnlyTransport, limits: Limits, clock: Clock) -> None:
        self._http = httpx.AsyncClient(
            transport=transport,
            timeout=httpx.Timeout(SILENCE_S, connect=CONNECT_S),
            follow_redirects=False,
            trust_env=False,
            # No cookies: they would grow for as long as we live, and tell a host of one merchant about another's.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        )
        self._limits = limits
        self._clock = clock

    async def get(
        self,
        link: str,
        *,
        check: Callable[[httpx.URL], None],
        headers: Mapping[str, str] | None = None,
        redirects: int = REDIRECTS_MAX,
        reroute: Callable[[httpx.URL], httpx.URL] = _as_it_is,
    ) -> bytes:
        """The file behind a link. `check` is asked about every hop and raises RefusedAddressError.

        `reroute` says where a hop is really asked; redirects are followed from where the link said.

        Raises RefusedAddressError, RefusedDownloadError, TooLargeError, VendorUnavailable: none of them,
        nor what they were raised from, shows a link or a header, because both may carry a key.
        """
        failure = ""
        try:
            url = httpx.URL(link)
            async with asyncio.timeout(self._limits.total_s):
                for _ in range(redirects + 1):
                    check(url)
                    answer = await self._hop(url, reroute(url), headers or {})
                    if isinstance(answer, bytes):
                        return answer
                    url = answer
        except TimeoutError:
            failure = f"the file did not arrive within {self._limits.total_s:g} s"
        except httpx.TransportError as error:
            failure = f"the file's server cannot be reached ({type(error).__name__})"
        except (httpx.InvalidURL, UnicodeError):  # the second for names IDNA does not know
            raise RefusedAddressError("the link cannot be understood") from None
        if failure:  # raised out here: httpx's exception carries the request, and the request our key
            raise VendorUnavailable(failure)
        raise RefusedAddressError("it is redirected too often")

    async def aclose(self) -> None:
        """Close what is open."""
        await self._http.aclose()

    async def _hop(self, url: httpx.URL, place: httpx.URL, headers: Mapping[str, str]) -> bytes | httpx.URL:
        """The file, asked for at that place, or the link to ask next."""
        # Uncompressed, so that the limit counts what we hold: a kilobyte of gzip may unfold to a megabyte.
        asked = {"Accept": "*/*", "Accept-Encoding": "identity", **headers}
        async with self._http.stream("GET", place, headers=asked) as response:
            if response.has_redirect_location:
                return url.join(response.headers["Location"])
            if response.status_code in _PASSING or response.is_server_error:
                raise VendorUnavailable(
                    f"{url.host} answered HTTP {response.status_code}",
                    retry_after_s=retry_after_s(response.headers, self._clock.now()),
                )
            if response.status_code != httpx.codes.OK:
                raise RefusedDownloadError(url.host, response.status_code, await _beginning(response))
            if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
                raise RefusedAddressError(f"{url.host} sends files compressed although asked not to")
            return await _read(response, self._limits.bytes_max)


async def _read(response: httpx.Response, bytes_max: int) -> bytes:
    """The body, counted as it comes: Content-Length is a claim."""
    claimed = response.headers.get("Content-Length", "")
    if claimed.isdigit() and int(claimed) > bytes_max:
        raise TooLargeError
    content = bytearray()
    # httpx promises an iterator and gives a generator, which must be closed where it is left early.
    body = cast("AsyncGenerator[bytes, None]", response.aiter_raw())
    async with aclosing(body) as chunks:
        async for chunk in chunks:
            content += chunk
            if len(content) > bytes_max:
                raise TooLargeError
    return bytes(content)


async def _beginning(response: httpx.Response) -> bytes:
    content = b""
    async for chunk in response.aiter_raw():
        content += chunk
        if len(content) >= _REFUSAL_BYTES_MAX:
            break
    return content[:_REFUSAL_BYTES_MAX]
