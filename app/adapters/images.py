"""Fetches pictures from addresses that strangers wrote into documents, and lets nothing through but a picture.

Three guards, one after the other:

where     https only, from hosts the merchant allows, and (`PublicOnlyTransport`) only public addresses, checked
          and pinned for every hop.
how much  (`Downloader`) no compression, ten megabytes whatever the length says, fifteen seconds whatever the pace.
what      decoded and written anew by `recoding`, in a bounded child process: nothing but pixels survives.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress

import httpx

from app.adapters import recoding
from app.adapters.addresses import PublicOnlyTransport, RefusedAddressError, Resolve, check_link
from app.adapters.downloads import Downloader, Limits, RefusedDownloadError, TooLargeError
from app.names import resolve
from pipeline.clock import Clock
from pipeline.contract import Reject
from pipeline.domain.pictures import is_phash
from pipeline.ports import EncodedImage

LIMITS = Limits(bytes_max=10 * 1024 * 1024, total_s=15.0)
URL_MAX = 2048
ACCEPT = "image/jpeg, image/png, image/webp, image/gif"
"""What `recoding` reads. A host that may choose would send AVIF."""
DECODE_S = 25.0
DECODERS = 2
"""Pictures decoded at once, each in a process that may take `recoding.MEMORY_BYTES`."""
REPLY_MAX = 20 * 1024 * 1024
"""What a decoder may answer; also what the shop takes."""


class WebImages:
    """`pipeline.ports.Images` over the open internet.

    `host_map` (host -> base address) sends a host's pictures to a server of ours, past the guard: it is for
    the demo and the tests, and only the composition root may fill it. The client keeps no connections, so
    there is nothing to close.
    """

    def __init__(
        self,
        host_map: Mapping[str, str],
        clock: Clock,
        *,
        limits: Limits = LIMITS,
        resolve: Resolve = resolve,
        inner: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._host_map = {host: base.rstrip("/") for host, base in host_map.items()}
        transport = PublicOnlyTransport(self._host_map.values(), resolve=resolve, inner=inner)
        self._downloader = Downloader(transport, limits, clock)
        self._limits = limits
        self._decoding = asyncio.Semaphore(DECODERS)

    async def fetch(self, url: str, *, allowed_hosts: Sequence[str]) -> EncodedImage:
        """Download, decode under limits, drop metadata, re-encode.

        `allowed_hosts` limits where pictures may come from; empty means anywhere in public. Raises Reject
        with the reason, VendorUnavailable when the host cannot be reached.
        """

        def check(link: httpx.URL) -> None:
            self._check(link, allowed_hosts)

        try:
            content = await self._downloader.get(url, check=check, headers={"Accept": ACCEPT}, reroute=self._reroute)
        except RefusedAddressError as refused:
            raise Reject("image_address", str(refused)) from refused
        except RefusedDownloadError as refused:
            raise Reject("image_not_found", str(refused)) from refused
        except TooLargeError as error:
            megabytes = self._limits.bytes_max // 1024 // 1024
            raise Reject("image_too_large", f"the file is larger than {megabytes} MB") from error
        async with self._decoding:
            return await recode_apart(content)

    def _check(self, link: httpx.URL, allowed_hosts: Sequence[str]) -> None:
        """What can be said of a hop by its text; redirects come through here as well."""
        if len(str(link)) > URL_MAX:
            raise RefusedAddressError(f"the address is longer than {URL_MAX} characters")
        if link.host in self._host_map:
            return
        check_link(link)
        if link.scheme != "https":
            raise RefusedAddressError("only https addresses are fetched")
        if allowed_hosts and not any(_belongs(link.host, host) for host in allowed_hosts):
            raise RefusedAddressError(f"{link.host} is not among the hosts pictures may come from")

    def _reroute(self, link: httpx.URL) -> httpx.URL:
        base = self._host_map.get(link.host)
        return link if base is None else httpx.URL(base + link.raw_path.decode("ascii"))


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
            reply = await _converse(process, content)
    except TimeoutError:
        reply = b""
    finally:
        if process.returncode is None:
            process.kill()
            await _drain(process)
            await process.wait()
    return _picture(reply)


async def _converse(process: Process, content: bytes) -> bytes:
    """The picture in, the answer out, and no more of that than a picture of ours takes."""
    if process.stdin is None or process.stdout is None:
        return b""
    with suppress(ConnectionError):  # it died before it had read everything
        process.stdin.write(content)
        await process.stdin.drain()
    process.stdin.close()
    reply = bytearray()
    while chunk := await process.stdout.read(65_536):
        reply += chunk
        if len(reply) > REPLY_MAX:
            return b""
    await process.wait()  # killing what is just ending would take its end from asyncio, which then complains
    return bytes(reply)


async def _drain(process: Process) -> None:
    """What a dead process left in its pipe: while that is paused, its end is not seen."""
    if process.stdout is not None:
        while await process.stdout.read(65_536):
            pass


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


def _belongs(host: str, allowed: str) -> bool:
    """Whether a host is an allowed one or a name below it."""
    host, name = host.lower().rstrip("."), allowed.lower().strip("*.")
    return host == name or host.endswith(f".{name}")
