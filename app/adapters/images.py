"""Fetches pictures from addresses that strangers wrote into documents, and lets nothing through but a picture.

Three guards, one after the other:

where     https only, from hosts the merchant allows, and (`PublicOnlyTransport`) only public addresses, checked
          and pinned for every hop.
how much  no compression, ten megabytes whatever the length says, fifteen seconds whatever the pace.
what      decoded and written anew by `recoding`, in a bounded child process: nothing but pixels survives.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import cast

import httpx

from app.adapters import recoding
from app.adapters.addresses import PublicOnlyTransport, RefusedAddressError, Resolve, check_link
from app.names import resolve
from pipeline.contract import Reject
from pipeline.domain.pictures import is_phash
from pipeline.errors import VendorUnavailable
from pipeline.ports import EncodedImage

TOTAL_S = 15.0
CONNECT_S = 5.0
BYTES_MAX = 10 * 1024 * 1024
REDIRECTS_MAX = 3
URL_MAX = 2048
DECODE_S = 25.0
DECODERS = 2
"""Pictures decoded at once, each in a process that may take `recoding.MEMORY_BYTES`."""

_PASSING = frozenset({408, 425, 429})


class WebImages:
    """`pipeline.ports.Images` over the open internet.

    `host_map` (host -> base address) sends a host's pictures to a server of ours, past the guard: it is for
    the demo and the tests, and only the composition root may fill it. The client keeps no connections, so
    there is nothing to close.
    """

    def __init__(
        self,
        host_map: Mapping[str, str],
        *,
        resolve: Resolve = resolve,
        inner: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._host_map = {host: base.rstrip("/") for host, base in host_map.items()}
        transport = PublicOnlyTransport(self._host_map.values(), resolve=resolve, inner=inner)
        self._http = httpx.AsyncClient(transport=transport, follow_redirects=False, trust_env=False)
        self._decoding = asyncio.Semaphore(DECODERS)

    async def fetch(self, url: str, *, allowed_hosts: Sequence[str]) -> EncodedImage:
        """Download, decode under limits, drop metadata, re-encode.

        `allowed_hosts` limits where pictures may come from; empty means anywhere in public. Raises Reject
        with the reason, VendorUnavailable when the host cannot be reached.
        """
        try:
            async with asyncio.timeout(TOTAL_S):
                content = await self._download(url, allowed_hosts)
        except RefusedAddressError as refused:
            raise Reject("image_address", str(refused)) from refused
        except TimeoutError as error:
            raise VendorUnavailable(f"the picture did not arrive within {TOTAL_S:.0f} s") from error
        except httpx.TransportError as error:
            raise VendorUnavailable(f"the picture's host failed: {type(error).__name__}") from error
        async with self._decoding:
            return await recode_apart(content)

    async def _download(self, url: str, allowed_hosts: Sequence[str]) -> bytes:
        for _ in range(1 + REDIRECTS_MAX):
            async with self._http.stream(
                "GET",
                self._next_hop(url, allowed_hosts),
                headers={"Accept": "image/*", "Accept-Encoding": "identity"},
                timeout=httpx.Timeout(TOTAL_S, connect=CONNECT_S),
            ) as response:
                if not response.has_redirect_location:
                    return await _read(response)
                url = _join(url, response.headers["Location"])
        raise Reject("image_address", f"more than {REDIRECTS_MAX} redirects")

    def _next_hop(self, url: str, allowed_hosts: Sequence[str]) -> httpx.URL:
        """The address to ask for, checked as far as text can be; redirects come through here as well."""
        link = _parse(url)
        if (base := self._host_map.get(link.host)) is not None:
            return httpx.URL(base + link.raw_path.decode("ascii"))
        check_link(link)
        if link.scheme != "https":
            raise Reject("image_address", "only https addresses are fetched")
        if allowed_hosts and not any(_belongs(link.host, host) for host in allowed_hosts):
            raise Reject("image_address", f"{link.host} is not among the hosts pictures may come from")
        return link


async def recode_apart(content: bytes) -> EncodedImage:
    """`recode` in a process of its own, which may run out of memory or time instead of ours.

    One process per picture: it has opened hostile bytes and is not trusted with the next ones. If we are
    killed it soon ends by itself: its CPU time is bounded.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        recoding.__name__,
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        env={"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"},
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(DECODE_S):
            reply, _ = await process.communicate(content)
    except TimeoutError:
        reply = b""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return _picture(reply)


def _picture(reply: bytes) -> EncodedImage:
    """The child's answer, believed only where it makes sense."""
    head, _, content = reply.partition(b"\n")
    try:
        facts = json.loads(head)
        if "refused" in facts:
            raise Reject(str(facts["refused"]), str(facts["message"]))
        width, height = int(facts["width"]), int(facts["height"])
        mime = {"JPEG": "image/jpeg", "PNG": "image/png"}[facts["format"]]
        phash = str(facts["phash"])
    except (ValueError, KeyError, TypeError) as error:
        raise Reject("image_too_costly", "the picture could not be decoded within bounds") from error
    if not is_phash(phash):
        raise Reject("image_too_costly", "the picture's decoder answered nonsense")
    return EncodedImage(content, mime, width, height, hashlib.sha256(content).hexdigest(), phash)


async def _read(response: httpx.Response) -> bytes:
    """The body, raw and bounded. Neither its declared length nor its declared type is believed."""
    if response.status_code in _PASSING or response.is_server_error:
        raise VendorUnavailable(f"the picture's host answered HTTP {response.status_code}")
    if not response.is_success:
        raise Reject("image_not_found", f"the picture's host answered HTTP {response.status_code}")
    if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise Reject("image_compressed", "the picture's host sent a compressed body nobody asked for")
    content = bytearray()
    # httpx promises an iterator and gives a generator, which must be closed where it is left early.
    body = cast("AsyncGenerator[bytes, None]", response.aiter_raw())
    async with aclosing(body) as chunks:
        async for chunk in chunks:
            content += chunk
            if len(content) > BYTES_MAX:
                raise Reject("image_too_large", f"the file is larger than {BYTES_MAX // 1024 // 1024} MB")
    return bytes(content)


def _parse(url: str) -> httpx.URL:
    if len(url) > URL_MAX:
        raise Reject("image_address", f"the address is longer than {URL_MAX} characters")
    try:
        return httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise Reject("image_address", "the address is not a URL") from error


def _join(url: str, location: str) -> str:
    try:
        return str(httpx.URL(url).join(location))
    except (httpx.InvalidURL, ValueError) as error:
        raise Reject("image_address", "the redirect does not lead to a URL") from error


def _belongs(host: str, allowed: str) -> bool:
    """Whether a host is an allowed one or a name below it."""
    host, name = host.lower().rstrip("."), allowed.lower().strip("*.")
    return host == name or host.endswith(f".{name}")
