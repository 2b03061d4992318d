"""Fetches pictures from addresses that strangers wrote into documents, and lets nothing through but a picture.

Three guards, one after the other:

    where    `AddressGuard`: https, the usual ports, no credentials, and only addresses of the public internet.
             The name is resolved once per hop and the connection goes to the address that was checked, so
             a name that changes its mind between check and connect (rebinding) gains nothing.
    how much `_read`: no compression, ten megabytes whatever the length says, fifteen seconds whatever the pace.
    what     `recode`: decoded under limits, turned upright, and written anew; metadata and anything hidden
             beside the pixels stay behind.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import ipaddress
import socket
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import cast

import anyio
import anyio.to_thread
import httpx
from PIL import Image, ImageCms, ImageOps

from pipeline.contract import Reject
from pipeline.errors import VendorUnavailable
from pipeline.ports import EncodedImage

TOTAL_S = 15.0
CONNECT_S = 5.0
BYTES_MAX = 10 * 1024 * 1024
REDIRECTS_MAX = 3
URL_MAX = 2048
PIXELS_MAX = 50_000_000
SIDE_MAX = 2048
JPEG_QUALITY = 88
FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
DECODERS = 2
"""Pictures decoded at once: each may need PIXELS_MAX times four bytes."""

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""All addresses of a host, as text."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_PASSING = frozenset({408, 425, 429})


async def resolve(host: str, port: int) -> Sequence[str]:
    """All addresses of a host, by the system's resolver, which also understands `0x7f.1` and `2130706433`."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for _, _, _, _, address in found]


@dataclass(frozen=True, slots=True)
class Target:
    """One checked hop: the address to connect to and the name it goes by."""

    url: httpx.URL
    host: str
    headers: Mapping[str, str]
    extensions: Mapping[str, str]


class AddressGuard:
    """Decides where a request may go. Every hop passes here, redirects too."""

    def __init__(self, resolve: Resolve, host_map: Mapping[str, str]) -> None:
        self._resolve = resolve
        self._host_map = host_map

    async def check(self, url: str, allowed_hosts: Sequence[str]) -> Target:
        """The hop to take for `url`. Raises Reject("image_address") when it leads anywhere but out."""
        parsed = _parse(url)
        if (base := self._host_map.get(parsed.host)) is not None:
            return _mapped(base, parsed)
        if parsed.scheme != "https":
            raise _refused("only https addresses are fetched")
        if parsed.port not in {None, 80, 443}:
            raise _refused(f"port {parsed.port} is not one of 80 and 443")
        if allowed_hosts and not any(_belongs(parsed.host, host) for host in allowed_hosts):
            raise _refused(f"{parsed.host} is not among the hosts pictures may come from")
        address = await self._public_address(parsed.host, parsed.port or 443)
        return Target(
            url=parsed.copy_with(host=address, fragment=None),
            host=parsed.host,
            # Closed after use: the pool knows connections by address, and another name may live at this one.
            headers={"Host": parsed.netloc.decode("ascii"), "Connection": "close"},
            extensions={"sni_hostname": parsed.raw_host.decode("ascii")},
        )

    async def _public_address(self, host: str, port: int) -> str:
        """One address of the host; a host with any address inside is refused, not only when that one is drawn."""
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise VendorUnavailable(f"{host} has no address") from error
        if not addresses:
            raise VendorUnavailable(f"{host} has no address")
        if not all(is_public(address) for address in addresses):
            raise _refused(f"{host} does not lead to the public internet")
        return addresses[0]


def is_public(address: str) -> bool:
    """Whether an address belongs to the public internet, in whatever form it is written or wrapped.

    An IPv6 address may carry an IPv4 address inside (mapped, compatible, 6to4, Teredo, NAT64): then both count.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    carried: list[ipaddress.IPv4Address | None] = []
    if isinstance(ip, ipaddress.IPv6Address):
        carried = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
        if ip in _NAT64 or int(ip) >> 32 == 0:  # NAT64, and the long-dead "compatible" form ::127.0.0.1
            carried.append(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
    return all(one.is_global and not one.is_multicast for one in (ip, *carried) if one is not None)


class GuardedImages:
    """`pipeline.ports.Images` over the open internet.

    `host_map` sends a host's pictures elsewhere, past the guard: it is for the demo and the tests, and only
    the composition root may fill it. `http` must not read proxies from the environment: a proxy would
    resolve names itself and undo the pinning.
    """

    def __init__(
        self, http: httpx.AsyncClient, host_map: Mapping[str, str] | None = None, resolve: Resolve = resolve
    ) -> None:
        self._http = http
        self._guard = AddressGuard(resolve, host_map or {})
        self._decoders = anyio.CapacityLimiter(DECODERS)

    async def fetch(self, url: str, *, allowed_hosts: Sequence[str]) -> EncodedImage:
        """Download, decode under limits, drop metadata, re-encode.

        `allowed_hosts` limits where pictures may come from; empty means anywhere in public. Raises Reject
        with the reason, VendorUnavailable when the host cannot be reached.
        """
        failure = ""
        try:
            async with asyncio.timeout(TOTAL_S):
                content = await self._download(url, allowed_hosts)
        except TimeoutError:
            failure = f"no complete answer within {TOTAL_S:.0f} s"
        except httpx.TransportError as error:
            failure = type(error).__name__
        if failure:
            raise VendorUnavailable(f"the picture's host failed: {failure}")
        # A thread, not the loop: Pillow lets go of the interpreter while it decodes.
        return await anyio.to_thread.run_sync(partial(recode, content), limiter=self._decoders)

    async def _download(self, url: str, allowed_hosts: Sequence[str]) -> bytes:
        for _ in range(1 + REDIRECTS_MAX):
            target = await self._guard.check(url, allowed_hosts)
            async with self._http.stream(
                "GET",
                target.url,
                headers={"Accept": "image/*", "Accept-Encoding": "identity", **target.headers},
                extensions=dict(target.extensions),
                timeout=httpx.Timeout(TOTAL_S, connect=CONNECT_S),
                follow_redirects=False,
            ) as response:
                if not response.has_redirect_location:
                    return await _read(response, target.host)
                url = str(httpx.URL(url).join(response.headers["Location"]))
        raise _refused(f"more than {REDIRECTS_MAX} redirects")


def recode(content: bytes) -> EncodedImage:
    """The picture and nothing else: upright, at most SIDE_MAX on its long side, JPEG, or PNG where it is transparent.

    Raises Reject when the bytes are no picture of a known format or a picture too large to open.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
                _check_size(picture)
                return _encode(_upright(picture))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Reject("image_too_large", "the picture has too many pixels") from error
    except Reject:
        raise
    except Exception as error:  # hostile bytes make decoders raise anything, and it all says the same
        raise Reject("image_unreadable", "the address does not serve a JPEG, PNG, WebP or GIF picture") from error


def _check_size(picture: Image.Image) -> None:
    """By the header, before a pixel is decoded."""
    if picture.width * picture.height > PIXELS_MAX:
        raise Reject("image_too_large", f"the picture has {picture.width} x {picture.height} pixels")


def _upright(picture: Image.Image) -> Image.Image:
    """The first frame, small enough, turned as its EXIF says, in sRGB, with or without transparency."""
    picture.seek(0)
    picture.draft("RGB", (SIDE_MAX, SIDE_MAX))  # JPEG only: decodes at a fraction of the size
    upright = ImageOps.exif_transpose(picture)
    upright = _to_srgb(upright)
    transparent = upright.mode in {"LA", "PA", "RGBA"} or "transparency" in upright.info
    plain = upright.convert("RGBA" if transparent else "RGB")
    plain.thumbnail((SIDE_MAX, SIDE_MAX))
    return plain


def _to_srgb(picture: Image.Image) -> Image.Image:
    """Colours as the picture's profile means them; the profile itself is metadata and stays behind."""
    profile = picture.info.get("icc_profile")
    if not profile or picture.mode not in {"RGB", "CMYK"}:
        return picture
    try:
        converted = ImageCms.profileToProfile(
            picture, ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError):
        return picture  # a broken profile is no reason to refuse the picture
    return converted or picture


def _encode(picture: Image.Image) -> EncodedImage:
    out = io.BytesIO()
    picture.info = {}
    if picture.mode == "RGBA":
        mime = "image/png"
        picture.save(out, "PNG")
    else:
        mime = "image/jpeg"
        picture.save(out, "JPEG", quality=JPEG_QUALITY, optimize=True)
    content = out.getvalue()
    return EncodedImage(content, mime, picture.width, picture.height, hashlib.sha256(content).hexdigest())


async def _read(response: httpx.Response, host: str) -> bytes:
    """The body, raw and bounded. Neither its declared length nor its declared type is believed."""
    if response.status_code in _PASSING or response.is_server_error:
        raise VendorUnavailable(f"{host} answered HTTP {response.status_code}")
    if not response.is_success:
        raise Reject("image_not_found", f"{host} answered HTTP {response.status_code}")
    if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise Reject("image_compressed", f"{host} sent a compressed body nobody asked for")
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
        raise _refused(f"the address is longer than {URL_MAX} characters")
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise _refused("the address is not a URL") from error
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise _refused("the address is not a web address")
    if parsed.userinfo:
        raise _refused("the address carries credentials")
    return parsed


def _mapped(base: str, url: httpx.URL) -> Target:
    address = httpx.URL(base.rstrip("/") + url.raw_path.decode("ascii"))
    return Target(url=address, host=url.host, headers={}, extensions={})


def _belongs(host: str, allowed: str) -> bool:
    """Whether a host is an allowed one or a name below it."""
    name = allowed.lower().strip(".")
    return host.lower().rstrip(".") == name or host.lower().rstrip(".").endswith(f".{name}")


def _refused(why: str) -> Reject:
    return Reject("image_address", why)
