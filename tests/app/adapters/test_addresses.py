"""No link leads into our own network, whatever name or number it hides behind."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from app.adapters.addresses import (
    PublicOnlyTransport,
    RefusedAddressError,
    check_link,
    is_listed,
    is_public,
    unpooled,
)
from app.names import resolve
from tests.app.adapters.file_server import file_server, reply

PUBLIC = "93.184.215.14"


class _Recorder(httpx.AsyncBaseTransport):
    """Stands below the guard: what it receives would have gone on the wire."""

    def __init__(self, unreachable: Sequence[str] = ()) -> None:
        self.requests: list[httpx.Request] = []
        self._unreachable = unreachable

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if request.url.host in self._unreachable:
            raise httpx.ConnectError("refused")
        location = request.headers.get("x-redirect-to")
        return httpx.Response(302, headers={"location": location}) if location else httpx.Response(200)


class _Names:
    """A resolver that answers from a table; several answers in turn are a name that changes its mind."""

    def __init__(self, **answers: list[list[str]]) -> None:
        self._answers = {name.replace("_", "."): answer for name, answer in answers.items()}

    async def __call__(self, host: str, _port: int) -> Sequence[str]:
        if host not in self._answers:
            raise OSError
        answers = self._answers[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]


@pytest.fixture
def wire() -> _Recorder:
    return _Recorder()


@pytest.fixture
async def client(wire: _Recorder) -> AsyncIterator[httpx.AsyncClient]:
    names = _Names(
        shop_example=[[PUBLIC]],
        inside_example=[["10.0.0.5"]],
        both_example=[[PUBLIC, "127.0.0.1"]],
        rebinding_example=[[PUBLIC], ["127.0.0.1"]],
        empty_example=[[]],
    )
    transport = PublicOnlyTransport(("http://127.0.0.1:8099",), resolve=names, inner=wire)
    async with httpx.AsyncClient(transport=transport) as client:
        yield client


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "0.0.0.0",
        "10.1.2.3",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.251",
        "255.255.255.255",
        "198.18.0.1",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "::7f00:1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::7f00:1",
        "2002:7f00:1::",
        "2001:0:7f00:1::",
        "2001:db8::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd12:3456::1",
        "ff02::1",
        "100::1",
        "not an address",
        "",
    ],
)
def test_an_address_inside_or_in_disguise_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", [PUBLIC, "8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::1"])
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@given(st.ip_addresses())
def test_what_python_calls_not_global_is_never_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """The standard library keeps its own copy of the registry: ours may be stricter, never laxer."""
    if not address.is_global or address.is_multicast:
        assert not is_public(str(address))


@pytest.mark.parametrize(
    "link",
    [
        "ftp://shop.example/a.pdf",
        "file:///etc/passwd",
        "gopher://shop.example/",
        "/etc/passwd",
        "http://",
        "https://user:secret@shop.example/a.pdf",
        "https://user@shop.example/a.pdf",
        "http://shop.example:6379/",
        "https://shop.example:8443/a.pdf",
    ],
)
def test_a_link_that_is_not_plain_web_is_refused_without_naming_its_secrets(link: str) -> None:
    with pytest.raises(RefusedAddressError) as refusal:
        check_link(httpx.URL(link))
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    "link",
    [
        "https://inside.example/",
        "https://both.example/",
        "http://127.0.0.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://127.1/",
        "http://localhost/",
        "http://169.254.169.254/latest/meta-data/",
    ],
)
async def test_nothing_is_sent_to_a_host_with_any_address_inside(link: str) -> None:
    """Including what only the system's resolver understands: numbers without dots are loopback too."""
    wire = _Recorder()
    names = _Names(inside_example=[["10.0.0.5"]], both_example=[[PUBLIC, "127.0.0.1"]])
    transport = PublicOnlyTransport(resolve=names if ".example" in link else resolve, inner=wire)
    async with httpx.AsyncClient(transport=transport) as client:
        with pytest.raises(RefusedAddressError):
            await client.get(link)
    assert wire.requests == []


async def test_the_connection_goes_to_the_address_that_was_checked_under_the_name_that_was_asked(
    client: httpx.AsyncClient, wire: _Recorder
) -> None:
    """A name that resolves to loopback the second time has no second time."""
    await client.get("https://rebinding.example/a.png?x=1")
    (sent,) = wire.requests
    assert sent.url == f"https://{PUBLIC}/a.png?x=1"
    assert sent.headers["host"] == "rebinding.example"
    assert sent.extensions["sni_hostname"] == "rebinding.example"
    with pytest.raises(RefusedAddressError):
        await client.get("https://rebinding.example/a.png")


async def test_a_redirect_inside_is_refused_although_the_client_follows_it(
    client: httpx.AsyncClient, wire: _Recorder
) -> None:
    with pytest.raises(RefusedAddressError):
        await client.get(
            "https://shop.example/", headers={"x-redirect-to": "http://inside.example/"}, follow_redirects=True
        )
    assert [request.headers["host"] for request in wire.requests] == ["shop.example"]


class _Rerouted(httpx.AsyncBaseTransport):
    """The wire, except that what goes to a public address arrives at a port of ours."""

    def __init__(self, trusted: ssl.SSLContext, port: int) -> None:
        self._inner = unpooled(trusted)
        self._port = port

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(host="127.0.0.1", port=self._port)
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


def _tls_for(name: str, folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What trusts, and what serves, a certificate for one name."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM)
    both = folder / "certificate.pem"
    both.write_bytes(pem + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(both)
    return ssl.create_default_context(cadata=pem.decode()), served


async def test_a_pinned_connection_still_checks_the_certificate_of_the_name(tmp_path: Path) -> None:
    """Two names on one address: the second may not ride on the certificate of the first."""
    trusted, served = _tls_for("shop.example", tmp_path)
    async with file_server(tls=served) as server:
        server.answers["/"] = reply(keep=True)
        names = _Names(shop_example=[[PUBLIC]], neighbour_example=[[PUBLIC]])
        transport = PublicOnlyTransport(resolve=names, inner=_Rerouted(trusted, server.port))
        async with httpx.AsyncClient(transport=transport) as client:
            assert (await client.get("https://shop.example/")).status_code == 200
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                await client.get("https://neighbour.example/")


async def test_the_next_address_is_tried_when_one_takes_no_connection() -> None:
    wire = _Recorder(unreachable=["2606:4700::1"])
    transport = PublicOnlyTransport(resolve=_Names(shop_example=[["2606:4700::1", PUBLIC]]), inner=wire)
    async with httpx.AsyncClient(transport=transport) as client:
        assert (await client.get("https://shop.example/")).status_code == 200
    assert [request.url.host for request in wire.requests] == ["2606:4700::1", PUBLIC]


@pytest.mark.parametrize("host", ["unknown.example", "empty.example"])
async def test_a_host_without_an_address_is_a_network_error_not_a_refusal(client: httpx.AsyncClient, host: str) -> None:
    """The name server may be back in a minute."""
    with pytest.raises(httpx.ConnectError):
        await client.get(f"https://{host}/")


async def test_a_name_no_resolver_would_take_is_refused() -> None:
    async with httpx.AsyncClient(transport=PublicOnlyTransport(inner=_Recorder())) as client:
        with pytest.raises(RefusedAddressError):
            await client.get("https://a..example/")


async def test_a_trusted_base_is_reached_as_it_is_and_only_exactly(client: httpx.AsyncClient, wire: _Recorder) -> None:
    await client.get("http://127.0.0.1:8099/image.png")
    assert wire.requests[0].url == "http://127.0.0.1:8099/image.png"
    for other in ("http://127.0.0.1:8098/", "https://127.0.0.1:8099/", "http://user@127.0.0.1:8099/"):
        with pytest.raises(RefusedAddressError):
            await client.get(other)


@pytest.mark.parametrize(
    ("host", "listed"),
    [
        ("files.example.com", True),
        ("FILES.example.com.", True),
        ("a.cdn.example.net", True),
        ("cdn.example.net", False),
        ("evilcdn.example.net", False),
        ("files.example.com.evil.net", False),
        ("example.com", False),
    ],
)
def test_an_allow_list_names_hosts_exactly_or_everything_below_one(host: str, *, listed: bool) -> None:
    assert is_listed(host, ("files.example.com", "*.cdn.example.net")) is listed
