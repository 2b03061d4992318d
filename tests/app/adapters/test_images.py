"""Pictures from hostile addresses: where requests may go, how much is read, and what comes out."""

from __future__ import annotations

import asyncio
import gc
import gzip
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import httpx
import pytest
from PIL import Image

from app.adapters import images
from app.adapters.images import WebImages, recode_apart
from pipeline.contract import Reject
from pipeline.errors import VendorUnavailable

PUBLIC = "93.184.216.34"


def jpeg(width: int = 40, height: int = 20, **options: object) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), (200, 30, 30)).save(out, "JPEG", **options)
    return out.getvalue()


# --------------------------------------------------------------------------- where


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/a.jpg",
        "https://127.1/a.jpg",
        "https://2130706433/a.jpg",
        "https://0x7f000001/a.jpg",
        "https://0x7f.0.0.1/a.jpg",
        "https://0177.0.0.1/a.jpg",
        "https://127。0。0。1/a.jpg",
        "https://localhost/a.jpg",
        "https://localhost./a.jpg",
        "https://[::1]/a.jpg",
        "https://[::ffff:127.0.0.1]/a.jpg",
        "https://[::ffff:7f00:1]/a.jpg",
        "https://[64:ff9b::7f00:1]/a.jpg",
        "https://169.254.169.254/latest/meta-data/",
        "https://[fe80::1]/a.jpg",
    ],
)
async def test_an_address_that_leads_inside_is_refused_by_the_real_resolver(url: str) -> None:
    with pytest.raises((Reject, VendorUnavailable)) as refused:  # unavailable: a form this resolver does not know
        await WebImages({}).fetch(url, allowed_hosts=())
    assert any(words in str(refused.value) for words in ("not a public address", "ConnectError", "not a URL"))


@pytest.mark.parametrize(
    "url",
    [
        "http://pictures.example/a.jpg",
        "ftp://pictures.example/a.jpg",
        "file:///etc/passwd",
        "data:image/png;base64,AAAA",
        "gopher://pictures.example/",
        "//pictures.example/a.jpg",
        "https://user:word@pictures.example/a.jpg",
        "https://pictures.example@127.0.0.1/a.jpg",
        "https://pictures.example:8443/a.jpg",
        "https://pictures.example:22/a.jpg",
        "https://pictures.example:99999/a.jpg",
        "https:///a.jpg",
        "https://pictures.example/" + "a" * 2100,
        "",
    ],
)
async def test_an_address_that_is_no_plain_https_address_is_refused_unresolved(url: str) -> None:
    async def never(_host: str, _port: int) -> Sequence[str]:
        raise AssertionError

    with pytest.raises(Reject) as refused:
        await WebImages({}, resolve=never).fetch(url, allowed_hosts=())
    assert refused.value.code == "image_address"


class Streamed(httpx.AsyncByteStream):
    """A body that is still to be read, as a connection's is."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield jpeg()


def found() -> httpx.Response:
    return httpx.Response(200, stream=Streamed())


def answering(*answers: httpx.Response) -> tuple[httpx.MockTransport, list[httpx.Request]]:
    """Connections that end here, to see where they would have gone."""
    seen: list[httpx.Request] = []
    left = list(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return left.pop(0)

    return httpx.MockTransport(answer), seen


def resolving(*answers: Sequence[str]) -> Callable[[str, int], Awaitable[Sequence[str]]]:
    left = list(answers)

    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return left.pop(0)

    return resolve


async def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    """Rebinding: the second answer would lead inside, but nobody asks a second time."""
    wire, seen = answering(found())
    guarded = WebImages({}, inner=wire, resolve=resolving([PUBLIC], ["127.0.0.1"]))
    await guarded.fetch("https://pictures.example/a.jpg?size=2", allowed_hosts=())

    assert str(seen[0].url) == f"https://{PUBLIC}/a.jpg?size=2"
    assert seen[0].headers["Host"] == "pictures.example"
    assert seen[0].extensions["sni_hostname"] == "pictures.example"


async def test_one_inside_address_among_public_ones_is_enough_to_refuse() -> None:
    wire, seen = answering()
    with pytest.raises(Reject):
        await WebImages({}, inner=wire, resolve=resolving([PUBLIC, "10.0.0.1"])).fetch(
            "https://pictures.example/a.jpg", allowed_hosts=()
        )
    assert seen == []


@pytest.mark.parametrize(
    ("location", "addresses"),
    [
        ("https://inside.example/a.jpg", ["192.168.0.10"]),
        ("http://169.254.169.254/latest/", [PUBLIC]),
        ("https://pictures.example:6379/", [PUBLIC]),
        ("https://a:b@pictures.example/", [PUBLIC]),
        ("file:///etc/passwd", [PUBLIC]),
    ],
)
async def test_every_redirect_is_checked_again(location: str, addresses: list[str]) -> None:
    wire, seen = answering(httpx.Response(302, headers={"Location": location}))
    with pytest.raises(Reject) as refused:
        await WebImages({}, inner=wire, resolve=resolving([PUBLIC], addresses)).fetch(
            "https://pictures.example/a.jpg", allowed_hosts=()
        )
    assert refused.value.code == "image_address"
    assert len(seen) == 1


async def test_relative_redirects_are_followed_three_times_and_no_more() -> None:
    hops = [httpx.Response(302, headers={"Location": f"/{number}.jpg"}) for number in range(4)]
    wire, seen = answering(*hops[:3], found())
    guarded = WebImages({}, inner=wire, resolve=resolving(*[[PUBLIC]] * 4))
    await guarded.fetch("https://pictures.example/a.jpg", allowed_hosts=())
    assert [request.url.path for request in seen] == ["/a.jpg", "/0.jpg", "/1.jpg", "/2.jpg"]

    wire, _ = answering(*hops)
    with pytest.raises(Reject, match="redirects"):
        await WebImages({}, inner=wire, resolve=resolving(*[[PUBLIC]] * 4)).fetch(
            "https://pictures.example/a.jpg", allowed_hosts=()
        )


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://cdn.acme.example/a.jpg", True),
        ("https://acme.example/a.jpg", True),
        ("https://ACME.example./a.jpg", True),
        ("https://evil-acme.example/a.jpg", False),
        ("https://acme.example.evil.example/a.jpg", False),
    ],
)
async def test_hosts_the_merchant_chose_are_the_only_ones(url: str, allowed: bool) -> None:
    wire, seen = answering(found())
    guarded = WebImages({}, inner=wire, resolve=resolving([PUBLIC]))
    if allowed:
        await guarded.fetch(url, allowed_hosts=("acme.example",))
    else:
        with pytest.raises(Reject):
            await guarded.fetch(url, allowed_hosts=("acme.example",))
    assert bool(seen) == allowed


# --------------------------------------------------------------------------- how much


@dataclass
class Host:
    """A web server that answers each path with bytes, whole or in drips."""

    answers: dict[str, list[bytes]] = field(default_factory=dict)
    pause_s: float = 0.0
    sent: int = 0
    serving: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving.add(cast("asyncio.Task[None]", asyncio.current_task()))
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            for part in self.answers[request.split()[1].decode()]:
                writer.write(part)
                await writer.drain()
                self.sent += len(part)
                await asyncio.sleep(self.pause_s)
        except (ConnectionError, asyncio.CancelledError):
            pass  # the client has seen enough, or the test is over
        finally:
            writer.close()


@pytest.fixture
async def host() -> AsyncIterator[tuple[Host, WebImages]]:
    """A real server behind `https://pictures.example`, and a fetcher that may go there."""
    served = Host()
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield served, WebImages({"pictures.example": f"http://127.0.0.1:{port}/images"})
        for task in served.serving:
            task.cancel()
        await asyncio.gather(*served.serving, return_exceptions=True)
        gc.collect()  # httpx leaves the generators inside a half-read body to the collector, and that to the loop
        await asyncio.sleep(0.01)


def answer(body: bytes, status: str = "200 OK", **headers: str) -> list[bytes]:
    lines = [f"HTTP/1.1 {status}", "Connection: close", *(f"{name}: {value}" for name, value in headers.items())]
    return ["\r\n".join([*lines, "", ""]).encode(), body]


async def test_a_mapped_host_is_fetched_where_the_map_says(host: tuple[Host, WebImages]) -> None:
    served, guarded = host
    served.answers["/images/a/b.jpg?x=1"] = answer(jpeg())
    picture = await guarded.fetch("https://pictures.example/a/b.jpg?x=1", allowed_hosts=("other.example",))
    assert (picture.width, picture.height, picture.mime) == (40, 20, "image/jpeg")


async def test_a_body_without_end_is_cut_whatever_its_length_says(host: tuple[Host, WebImages]) -> None:
    served, guarded = host
    head = answer(b"", **{"Content-Type": "image/jpeg"})[0]
    served.answers["/images/a.jpg"] = [head, *[b"\xff" * 65_536] * 1000]
    with pytest.raises(Reject, match="larger than 10 MB"):
        await guarded.fetch("https://pictures.example/a.jpg", allowed_hosts=())
    assert served.sent < 30_000_000


async def test_a_length_that_lies_does_not_matter(host: tuple[Host, WebImages]) -> None:
    served, guarded = host
    served.answers["/images/short.jpg"] = answer(jpeg(), **{"Content-Length": "5368709120"})
    with pytest.raises(VendorUnavailable):
        await guarded.fetch("https://pictures.example/short.jpg", allowed_hosts=())


async def test_a_slow_drip_is_given_up(host: tuple[Host, WebImages], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "TOTAL_S", 0.3)
    served, guarded = host
    served.pause_s = 0.05
    served.answers["/images/a.jpg"] = [answer(b"")[0], *[b"\xff"] * 1000]
    with pytest.raises(VendorUnavailable, match="did not arrive"):
        await guarded.fetch("https://pictures.example/a.jpg", allowed_hosts=())


async def test_a_compressed_body_is_refused_unopened(host: tuple[Host, WebImages]) -> None:
    served, guarded = host
    bomb = gzip.compress(b"\0" * 50_000_000)
    served.answers["/images/a.jpg"] = answer(bomb, **{"Content-Encoding": "gzip"})
    with pytest.raises(Reject) as refused:
        await guarded.fetch("https://pictures.example/a.jpg", allowed_hosts=())
    assert refused.value.code == "image_compressed"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("404 Not Found", Reject),
        ("403 Forbidden", Reject),
        ("429 Too Many Requests", VendorUnavailable),
        ("503 Service Unavailable", VendorUnavailable),
    ],
)
async def test_a_missing_picture_is_final_and_an_ill_host_is_not(
    host: tuple[Host, WebImages], status: str, error: type[Exception]
) -> None:
    served, guarded = host
    served.answers["/images/a.jpg"] = answer(b"no", status)
    with pytest.raises(error):
        await guarded.fetch("https://pictures.example/a.jpg", allowed_hosts=())


async def test_an_unreachable_host_is_unavailable() -> None:
    async def nobody(_host: str, _port: int) -> Sequence[str]:
        raise OSError

    with pytest.raises(VendorUnavailable):
        await WebImages({}, resolve=nobody).fetch("https://gone.example/a.jpg", allowed_hosts=())
    with pytest.raises(VendorUnavailable):
        await WebImages({"gone.example": "http://127.0.0.1:1"}).fetch("https://gone.example/a.jpg", allowed_hosts=())


# --------------------------------------------------------------------------- what


async def test_a_picture_is_decoded_in_a_process_of_its_own() -> None:
    picture = await recode_apart(jpeg(5000, 2500))
    assert (picture.mime, picture.width, picture.height) == ("image/jpeg", 2048, 1024)
    assert picture.sha256 == (await recode_apart(jpeg(5000, 2500))).sha256


async def test_what_is_no_picture_comes_back_as_a_reason() -> None:
    with pytest.raises(Reject) as refused:
        await recode_apart(b"<!doctype html>")
    assert refused.value.code == "image_unreadable"


async def test_a_picture_that_takes_too_long_is_refused_and_its_process_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "DECODE_S", 0.01)
    with pytest.raises(Reject) as refused:
        await recode_apart(jpeg())
    assert refused.value.code == "image_too_costly"


async def test_cancelling_leaves_no_process() -> None:
    decoding = asyncio.create_task(recode_apart(jpeg()))
    await asyncio.sleep(0.05)
    decoding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await decoding
