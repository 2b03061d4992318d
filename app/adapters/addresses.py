"""Keeps our requests on the public internet: an address from a document may not reach inside our network.

A supplier writes the links we follow, so each is hostile. Checking a link's text and then connecting by
name leaves a gap (the name may resolve differently the second time); here the name is resolved once, every
address it has must be public, and the connection is made to that very address. TLS and the Host header
keep the name, so certificates are checked as usual. The check sits in the transport, below redirects:
no request of a client built on it can go round it.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from ipaddress import IPv4Address, ip_address, ip_network

import httpx

from app.names import resolve
from app.tls import tls

_PORTS = frozenset({80, 443})
_DEFAULT_PORTS = {"http": 80, "https": 443}
_CONNECT_TRIES_MAX = 3

_NOT_PUBLIC_V4 = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # carrier-grade NAT
            "127.0.0.0/8",  # loopback
            "169.254.0.0/16",  # link-local; clouds hand out credentials at 169.254.169.254
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocol assignments
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # 6to4 relays
            "192.168.0.0/16",  # private
            "198.18.0.0/15",  # benchmarking
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and broadcast
        ),
    )
)
_PUBLIC_V6 = ip_network("2000::/3")
"""All that is routed. Outside it: loopback, link-local, unique-local, multicast, IPv4-mapped, NAT64 (64:ff9b::)."""
_NOT_PUBLIC_V6 = tuple(
    map(
        ip_network,
        (
            "2001::/23",  # protocol assignments, Teredo among them: an IPv4 address in disguise
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4: an IPv4 address in disguise
            "3fff::/20",  # documentation
        ),
    )
)

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""A host's addresses, in the order in which they should be tried. Raises OSError when there are none."""


class RefusedAddressError(ValueError):
    """A link we do not follow. The message names the host and the reason, never path, query or credentials."""


def is_public(address: str) -> bool:
    """Whether an IP address is one anybody on the internet may reach."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    if isinstance(found, IPv4Address):
        return not any(found in network for network in _NOT_PUBLIC_V4)
    if found.scope_id is not None:  # `%eth0`: an address that means something on one link only
        return False
    return found in _PUBLIC_V6 and not any(found in network for network in _NOT_PUBLIC_V6)


def check_link(url: httpx.URL) -> None:
    """What can be said of a link without asking for its addresses. Raises RefusedAddressError."""
    if url.scheme not in _DEFAULT_PORTS:
        raise RefusedAddressError(f"only http and https links are followed, not {url.scheme[:20] or 'a bare path'}")
    if not url.host:
        raise RefusedAddressError("the link names no host")
    if url.userinfo:
        raise RefusedAddressError(f"the link to {url.host} carries a user name or password")
    if _port(url) not in _PORTS:
        raise RefusedAddressError(f"the link to {url.host} names a port other than 80 and 443")


def is_listed(host: str, allowed: Iterable[str]) -> bool:
    """Whether an allow-list names that host: `files.example.com` itself, `*.example.com` any host below."""
    host = host.lower().rstrip(".")
    return any(
        host.endswith(entry[1:]) if entry.startswith("*.") else host == entry
        for entry in (one.lower().rstrip(".") for one in allowed)
    )


def base_of(url: httpx.URL) -> str:
    """`scheme://host:port` with the port always written: how trusted bases are compared."""
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{url.scheme}://{host}:{_port(url)}"


def unpooled(verify: ssl.SSLContext | None = None) -> httpx.AsyncHTTPTransport:
    """A transport that keeps no connection.

    A pool knows connections by address, and two names may share one: the second name would ride on TLS that
    was checked for the first.
    """
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.AsyncHTTPTransport(verify=verify or tls(), trust_env=False, limits=limits)


class PublicOnlyTransport(httpx.AsyncBaseTransport):
    """Sends a request to a public address or not at all.

    `trusted_bases` (exactly `scheme://host:port`) are the operator's own servers, reached as they are:
    the demo's sandbox on loopback. Raises RefusedAddressError besides httpx's own errors.
    """

    def __init__(
        self,
        trusted_bases: Iterable[str] = (),
        *,
        resolve: Resolve = resolve,
        inner: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._trusted = frozenset(base_of(httpx.URL(base)) for base in trusted_bases)
        self._resolve = resolve
        self._inner = inner or unpooled()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One request, to the first of the host's addresses that takes a connection."""
        if request.url.userinfo == b"" and base_of(request.url) in self._trusted:
            return await self._inner.handle_async_request(request)
        check_link(request.url)
        *others, last = (await self._public_addresses(request))[:_CONNECT_TRIES_MAX]
        for address in others:
            with suppress(httpx.ConnectError, httpx.ConnectTimeout):  # nothing was sent: the next is as good
                return await self._inner.handle_async_request(_pinned(request, address))
        return await self._inner.handle_async_request(_pinned(request, last))

    async def aclose(self) -> None:
        """Close what is open."""
        await self._inner.aclose()

    async def _public_addresses(self, request: httpx.Request) -> Sequence[str]:
        host = request.url.raw_host.decode("ascii")
        try:
            addresses = await self._resolve(host, _port(request.url))
        except OSError:
            raise httpx.ConnectError(f"no address was found for {host}", request=request) from None
        except UnicodeError:
            raise RefusedAddressError(f"{host[:100]} is not a host's name") from None
        if not addresses:
            raise httpx.ConnectError(f"no address was found for {host}", request=request)
        if not all(map(is_public, addresses)):
            raise RefusedAddressError(f"{host} is not a public address")
        return addresses


def _port(url: httpx.URL) -> int:
    return _DEFAULT_PORTS.get(url.scheme, 0) if url.port is None else url.port


def _pinned(request: httpx.Request, address: str) -> httpx.Request:
    """The same request to that address; Host header and TLS keep the name the link gave."""
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": request.url.raw_host.decode("ascii")},
    )
