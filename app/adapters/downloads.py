"""Fetches a file that somebody else serves: bounded in bytes, time and redirects, whatever the server claims."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

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


class Downloader:
    """GET and nothing else, over a transport that refuses our own network."""

    def __init__(self, transport: PublicOnlyTransport, limits: Limits, clock: Clock) -> None:
        timeout = httpx.Timeout(SILENCE_S, connect=CONNECT_S)
        self._http = httpx.AsyncClient(transport=transport, timeout=timeout, follow_redirects=False, trust_env=False)
        self._limits = limits
        self._clock = clock

    async def get(
        self,
        link: str,
        *,
        check: Callable[[httpx.URL], None],
        headers: Mapping[str, str] | None = None,
        redirects: int = REDIRECTS_MAX,
    ) -> bytes:
        """The file behind a link. `check` is asked about every hop and raises RefusedAddressError.

        Raises RefusedAddressError, RefusedDownloadError, TooLargeError, VendorUnavailable: none of them,
        nor what they were raised from, shows a link or a header, because both may carry a key.
        """
        failure = ""
        try:
            url = httpx.URL(link)
            async with asyncio.timeout(self._limits.total_s):
                for _ in range(redirects + 1):
                    check(url)
                    answer = await self._hop(url, headers or {})
                    if isinstance(answer, bytes):
                        return answer
                    url = answer
        except TimeoutError:
            failure = f"the file did not arrive within {self._limits.total_s:g} s"
        except httpx.TransportError as error:
            failure = f"the file's server cannot be reached ({type(error).__name__})"
        except httpx.InvalidURL:
            raise RefusedAddressError("the link cannot be understood") from None
        if failure:  # raised out here: httpx's exception carries the request, and the request our key
            raise VendorUnavailable(failure)
        raise RefusedAddressError("it is redirected too often")

    async def aclose(self) -> None:
        """Close what is open."""
        await self._http.aclose()

    async def _hop(self, url: httpx.URL, headers: Mapping[str, str]) -> bytes | httpx.URL:
        """The file, or the link to ask next."""
        # Uncompressed, so that the limit counts what we hold: a kilobyte of gzip may unfold to a megabyte.
        asked = {"Accept": "*/*", "Accept-Encoding": "identity", **headers}
        async with self._http.stream("GET", url, headers=asked) as response:
            if response.has_redirect_location:
                return url.join(response.headers["Location"])
            if response.status_code in _PASSING or response.is_server_error:
                raise VendorUnavailable(
                    f"{url.host} answered HTTP {response.status_code}",
                    retry_after_s=retry_after_s(response.headers, self._clock.now()),
                )
            if response.status_code != httpx.codes.OK:
                raise RefusedDownloadError(url.host, response.status_code, await _beginning(response))
            if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise RefusedAddressError(f"{url.host} sends files compressed although asked not to")
            return await _read(response, self._limits.bytes_max)


async def _read(response: httpx.Response, bytes_max: int) -> bytes:
    """The body, counted as it comes: Content-Length is a claim."""
    claimed = response.headers.get("Content-Length", "")
    if claimed.isdigit() and int(claimed) > bytes_max:
        raise TooLargeError
    content = bytearray()
    async for chunk in response.aiter_raw():
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
