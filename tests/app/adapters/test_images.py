"""Pictures from hostile addresses: where requests may go, how much is read, how long it takes, and what comes out."""

from __future__ import annotations

import asyncio
import gc
import gzip
import io
import signal
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from PIL import Image

from app.adapters import images
from app.adapters.downloads import Limits
from app.adapters.images import WebImages, recode_apart
from pipeline.clock import SystemClock
from pipeline.contract import Reject
from pipeline.errors import VendorUnavailable

PUBLIC = "93.184.216.34"
URL = "https://pictures.example/a.jpg"


def jpeg(width: int = 40, height: int = 20, **options: object) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), (200, 30, 30)).save(out, "JPEG", **options)
    return out.getvalue()


def fetcher(**given: Any) -> WebImages:
    """The fetcher as it runs in production: no host is mapped past the guard."""
    return WebImages({}, SystemClock(), **given)


# --------------------------------------------------------------------------- where

INSIDE = "is not a public address"
NO_LINK = "the link cannot be understood"
USER = "carries a user name or password"
PORT = "names a port other than 80 and 443"

REFUSED = [
    # loopback, in every spelling a resolver or a browser has ever taken
    ("https://127.0.0.1/a.jpg", INSIDE),
    ("https://127.1/a.jpg", INSIDE),
    ("https://127.0.1/a.jpg", INSIDE),
    ("https://2130706433/a.jpg", INSIDE),
    ("https://0x7f000001/a.jpg", INSIDE),
    ("https://0x7f.0.0.1/a.jpg", INSIDE),
    ("https://0x7f.1/a.jpg", INSIDE),
    ("https://0177.0.0.1/a.jpg", NO_LINK),
    ("https://0177.0.01/a.jpg", INSIDE),
    ("https://017700000001/a.jpg", INSIDE),
    ("https://0/a.jpg", INSIDE),
    ("https://127。0。0。1/a.jpg", INSIDE),
    ("https://①②⑦.⓪.⓪.①/a.jpg", NO_LINK),
    ("https://localhost/a.jpg", INSIDE),
    ("https://localhost./a.jpg", f"{INSIDE}|cannot be reached"),
    ("https://LOCALHOST/a.jpg", INSIDE),
    ("https://\N{SMALL ROMAN NUMERAL FIFTY}ocalhost/a.jpg", NO_LINK),
    ("https://[::1]/a.jpg", INSIDE),
    ("https://[0:0:0:0:0:0:0:1]/a.jpg", INSIDE),
    # IPv4 inside IPv6
    ("https://[::ffff:127.0.0.1]/a.jpg", INSIDE),
    ("https://[::ffff:7f00:1]/a.jpg", INSIDE),
    ("https://[::127.0.0.1]/a.jpg", INSIDE),
    ("https://[64:ff9b::7f00:1]/a.jpg", INSIDE),
    ("https://[64:ff9b::10.0.0.1]/a.jpg", INSIDE),
    ("https://[2002:7f00:1::]/a.jpg", INSIDE),
    ("https://[2001:0:4136:e378:8000:63bf:80ff:fffe]/a.jpg", INSIDE),
    # the other networks of a house, and the cloud's own
    ("https://10.1.2.3/a.jpg", INSIDE),
    ("https://172.16.0.1/a.jpg", INSIDE),
    ("https://192.168.1.1/a.jpg", INSIDE),
    ("https://100.64.0.1/a.jpg", INSIDE),
    ("https://169.254.169.254/latest/meta-data/", INSIDE),
    ("https://[fd00:ec2::254]/latest/meta-data/", INSIDE),
    ("https://0.0.0.0/a.jpg", INSIDE),
    ("https://255.255.255.255/a.jpg", INSIDE),
    ("https://224.0.0.1/a.jpg", INSIDE),
    ("https://[::]/a.jpg", INSIDE),
    ("https://[fe80::1]/a.jpg", INSIDE),
    ("https://[fe80::1%25lo]/a.jpg", f"{INSIDE}|cannot be reached"),
    ("https://[fc00::1]/a.jpg", INSIDE),
    ("https://[ff02::1]/a.jpg", INSIDE),
    # who is meant is not who it seems
    ("https://user:hunter2@pictures.example/a.jpg", USER),
    ("https://pictures.example@127.0.0.1/a.jpg", USER),
    ("https://pictures.example\\@127.0.0.1/a.jpg", USER),
    ("https://a@b@pictures.example/a.jpg", USER),
    ("https:\\\\127.0.0.1/a.jpg", "the link names no host"),
    ("https://pictures.example\n.evil.example/a.jpg", NO_LINK),
    ("https://pictures.example\x00/a.jpg", NO_LINK),
    ("https://[::1/a.jpg", NO_LINK),
    ("https://xn--/a.jpg", NO_LINK),
    ("https:///a.jpg", "the link names no host"),
    # ports and schemes
    ("https://pictures.example:0/a.jpg", PORT),
    ("https://pictures.example:22/a.jpg", PORT),
    ("https://pictures.example:6379/a.jpg", PORT),
    ("https://pictures.example:8443/a.jpg", PORT),
    ("https://pictures.example:\N{FULLWIDTH DIGIT EIGHT}443/a.jpg", PORT),
    ("https://pictures.example:99999/a.jpg", PORT),
    ("http://pictures.example/a.jpg", "only https addresses are fetched"),
    ("ftp://pictures.example/a.jpg", "only http and https links are followed, not ftp"),
    ("file:///etc/passwd", "only http and https links are followed, not file"),
    ("data:image/png;base64,AAAA", "only http and https links are followed, not data"),
    ("gopher://pictures.example/", "only http and https links are followed, not gopher"),
    ("//pictures.example/a.jpg", "only http and https links are followed, not a bare path"),
    ("", "only http and https links are followed, not a bare path"),
    ("https://pictures.example/" + "a" * 2100, "the address is longer than 2048 characters"),
    ("https://" + "a" * 300 + ".example/a.jpg", "is not a host's name|cannot be reached"),
]


@pytest.mark.parametrize(("url", "reason"), REFUSED, ids=[ascii(url)[:60] for url, _ in REFUSED])
async def test_an_address_that_leads_inside_is_refused_with_a_reason(url: str, reason: str) -> None:
    """With the system's own resolver, and a wire on which nothing may be seen."""
    wire, seen = answering()
    with pytest.raises((Reject, VendorUnavailable), match=reason) as refused:
        await fetcher(inner=wire).fetch(url, allowed_hosts=())
    assert seen == []
    assert "hunter2" not in str(refused.value)
    if isinstance(refused.value, Reject):
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
    guarded = fetcher(inner=wire, resolve=resolving([PUBLIC], ["127.0.0.1"]))
    await guarded.fetch(f"{URL}?size=2", allowed_hosts=())

    assert str(seen[0].url) == f"https://{PUBLIC}/a.jpg?size=2"
    assert seen[0].headers["Host"] == "pictures.example"
    assert seen[0].extensions["sni_hostname"] == "pictures.example"


async def test_a_redirect_to_a_name_that_now_leads_inside_is_refused() -> None:
    """Rebinding with a second question: the same name, asked again for the next hop, is checked again."""
    wire, seen = answering(httpx.Response(302, headers={"Location": URL}))
    guarded = fetcher(inner=wire, resolve=resolving([PUBLIC], ["127.0.0.1"]))
    with pytest.raises(Reject, match=INSIDE):
        await guarded.fetch(URL, allowed_hosts=())
    assert len(seen) == 1


@pytest.mark.parametrize("inside", ["10.0.0.1", "::1", "fe80::1%eth0", "2606:4700::1%eth0", "not an address"])
@pytest.mark.parametrize("first", [True, False])
async def test_one_inside_address_among_public_ones_is_enough_to_refuse(inside: str, first: bool) -> None:
    wire, seen = answering()
    addresses = [inside, PUBLIC] if first else [PUBLIC, inside]
    with pytest.raises(Reject, match=INSIDE):
        await fetcher(inner=wire, resolve=resolving(addresses)).fetch(URL, allowed_hosts=())
    assert seen == []


@pytest.mark.parametrize(
    ("location", "addresses", "reason"),
    [
        ("https://inside.example/a.jpg", ["192.168.0.10"], INSIDE),
        ("//169.254.169.254/latest/", ["169.254.169.254"], INSIDE),
        ("http://169.254.169.254/latest/", [PUBLIC], "only https addresses"),
        ("https://pictures.example:6379/", [PUBLIC], PORT),
        ("https://a:b@pictures.example/", [PUBLIC], USER),
        ("file:///etc/passwd", [PUBLIC], "not file"),
        ("https://xn--/", [PUBLIC], NO_LINK),
        ("/" + "a" * 3000, [PUBLIC], "longer than 2048"),
    ],
)
async def test_every_redirect_is_checked_again(location: str, addresses: list[str], reason: str) -> None:
    wire, seen = answering(httpx.Response(302, headers={"Location": location}))
    with pytest.raises(Reject, match=reason) as refused:
        await fetcher(inner=wire, resolve=resolving([PUBLIC], addresses)).fetch(URL, allowed_hosts=())
    assert refused.value.code == "image_address"
    assert len(seen) == 1


async def test_relative_redirects_are_followed_three_times_and_no_more() -> None:
    hops = [httpx.Response(302, headers={"Location": f"/{number}.jpg"}) for number in range(4)]
    wire, seen = answering(*hops[:3], found())
    await fetcher(inner=wire, resolve=resolving(*[[PUBLIC]] * 4)).fetch(URL, allowed_hosts=())
    assert [request.url.path for request in seen] == ["/a.jpg", "/0.jpg", "/1.jpg", "/2.jpg"]

    wire, _ = answering(*hops)
    with pytest.raises(Reject, match="redirected too often"):
        await fetcher(inner=wire, resolve=resolving(*[[PUBLIC]] * 4)).fetch(URL, allowed_hosts=())


async def test_no_cookie_is_kept() -> None:
    """Hosts that set one with every picture would fill our memory, and know one merchant's visits from another's."""
    tagged = httpx.Response(200, stream=Streamed(), headers={"Set-Cookie": "id=1; Max-Age=99999"})
    wire, seen = answering(tagged, found())
    guarded = fetcher(inner=wire, resolve=resolving([PUBLIC], [PUBLIC]))
    for _ in range(2):
        await guarded.fetch(URL, allowed_hosts=())
    assert "cookie" not in seen[1].headers


async def test_only_what_we_read_is_asked_for() -> None:
    wire, seen = answering(found())
    await fetcher(inner=wire, resolve=resolving([PUBLIC])).fetch(URL, allowed_hosts=())
    assert seen[0].headers["Accept"] == "image/jpeg, image/png, image/webp, image/gif"
    assert seen[0].headers["Accept-Encoding"] == "identity"


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
    guarded = fetcher(inner=wire, resolve=resolving([PUBLIC]))
    if allowed:
        await guarded.fetch(url, allowed_hosts=("acme.example",))
    else:
        with pytest.raises(Reject, match="not among the hosts"):
            await guarded.fetch(url, allowed_hosts=("acme.example",))
    assert bool(seen) == allowed


# --------------------------------------------------------------------------- how much, and how long

MEGABYTE = 1024 * 1024
SHORT = Limits(bytes_max=MEGABYTE, total_s=1.0)


@dataclass
class Host:
    """A web server that answers each path with bytes: whole, in drips, or for ever."""

    answers: dict[str, list[bytes]] = field(default_factory=dict)
    for_ever: bytes = b""
    pause_s: float = 0.0
    sent: int = 0
    asked: int = 0
    serving: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving.add(cast("asyncio.Task[None]", asyncio.current_task()))
        self.asked += 1
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            for part in self.answers[request.split()[1].decode()]:
                await self._send(writer, part)
            while self.for_ever:
                await self._send(writer, self.for_ever)
        except (ConnectionError, asyncio.CancelledError):
            pass  # the client has seen enough, or the test is over
        finally:
            writer.close()

    async def _send(self, writer: asyncio.StreamWriter, part: bytes) -> None:
        writer.write(part)
        await writer.drain()
        self.sent += len(part)
        await asyncio.sleep(self.pause_s)


@pytest.fixture
async def host() -> AsyncIterator[tuple[Host, WebImages]]:
    """A real server behind `https://pictures.example`, and a fetcher that may go there."""
    served = Host()
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield (
            served,
            WebImages({"pictures.example": f"http://127.0.0.1:{port}/images"}, SystemClock(), limits=SHORT),
        )
        for task in served.serving:
            task.cancel()
        await asyncio.gather(*served.serving, return_exceptions=True)
        gc.collect()  # httpx leaves the generators inside a half-read body to the collector, and that to the loop
        await asyncio.sleep(0.01)


def head(status: str = "200 OK", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", "Connection: close", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def answer(body: bytes, status: str = "200 OK", **headers: str) -> list[bytes]:
    return [head(status, **headers), body]


async def test_a_mapped_host_is_fetched_where_the_map_says(host: tuple[Host, WebImages]) -> None:
    served, guarded = host
    served.answers["/images/a/b.jpg?x=1"] = answer(jpeg())
    picture = await guarded.fetch("https://pictures.example/a/b.jpg?x=1", allowed_hosts=("other.example",))
    assert (picture.width, picture.height, picture.mime) == (40, 20, "image/jpeg")


async def test_a_mapped_host_cannot_send_us_past_the_guard(host: tuple[Host, WebImages]) -> None:
    served, guarded = host
    for location in ("http://127.0.0.1:1/", "http://169.254.169.254/", "https://localhost/"):
        served.answers["/images/a.jpg"] = answer(b"", "302 Found", Location=location)
        with pytest.raises(Reject) as refused:
            await guarded.fetch(URL, allowed_hosts=())
        assert refused.value.code == "image_address"


@dataclass(frozen=True)
class Hostile:
    """What a host sends, and what a merchant then reads."""

    reason: str
    parts: tuple[bytes, ...] = ()
    for_ever: bytes = b""
    pause_s: float = 0.0


CHUNKED = {"Transfer-Encoding": "chunked"}
HOSTS: dict[str, Hostile] = {
    "a body without end": Hostile("larger than 1 MB", (head(),), b"\xff" * 65_536),
    "a chunked body without end": Hostile(
        "larger than 1 MB", (head(**CHUNKED),), b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    ),
    "a chunk that claims terabytes": Hostile("larger than 1 MB", (head(**CHUNKED), b"fffffffffff\r\n"), b"x" * 65_536),
    "a length beyond the limit": Hostile("larger than 1 MB", (head(**{"Content-Length": "5368709120"}),)),
    "a length that is too long": Hostile("cannot be reached", (head(**{"Content-Length": "9999"}), jpeg())),
    "a length that is too short": Hostile("no readable", (head(**{"Content-Length": "99"}), jpeg())),
    "a length that is no number": Hostile("cannot be reached", (head(**{"Content-Length": "-1"}), jpeg())),
    "two lengths": Hostile("cannot be reached", (head()[:-2] + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",)),
    "a drip of the body": Hostile("did not arrive within 1 s", (head(),), b"\xff", 0.05),
    "a drip of the head": Hostile("did not arrive within 1 s", (b"HTTP/1.1 200 OK\r\n",), b"X-A: b\r\n", 0.05),
    "silence": Hostile("did not arrive within 1 s", (), b"", 0.0),
    "a flood of head": Hostile("cannot be reached", (b"HTTP/1.1 200 OK\r\n",), b"X-Flood: " + b"x" * 8_000 + b"\r\n"),
    "one line of head without end": Hostile("cannot be reached", (b"HTTP/1.1 200 OK\r\nX-Long: ",), b"x" * 65_536),
    "continues without end": Hostile("did not arrive|cannot be reached", (), b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "hints without end": Hostile(
        "did not arrive|cannot be reached", (), b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 100
    ),
    "trailers without end": Hostile(
        "cannot be reached", (head(**CHUNKED), b"1\r\nx\r\n0\r\n"), b"X-Trailer: " + b"x" * 8_000 + b"\r\n"
    ),
    "no head at all": Hostile("cannot be reached", (jpeg(),)),
    "the answer of another protocol": Hostile("cannot be reached", (b"220 mail.example ESMTP\r\n",)),
    "a gzip bomb": Hostile(
        "compressed although asked not to", (head(**{"Content-Encoding": "gzip"}), gzip.compress(bytes(20_000_000)))
    ),
    "an unknown encoding": Hostile("compressed although asked not to", (head(**{"Content-Encoding": "br"}), b"x")),
    "the same redirect for ever": Hostile(
        "redirected too often", (head("302 Found", Location="https://pictures.example/a.jpg"),)
    ),
    "a redirect to nowhere": Hostile("HTTP 302", (head("302 Found"),)),
    "an empty body": Hostile("no readable", (head(),)),
    "a page": Hostile(
        "no readable", (head(**{"Content-Type": "image/jpeg"}), b"<!doctype html><title>Sign in</title>")
    ),
    "part of the file": Hostile("HTTP 206", (head("206 Partial Content"), jpeg())),
}


@pytest.mark.parametrize("name", HOSTS)
async def test_a_hostile_host_costs_little_memory_and_little_time(host: tuple[Host, WebImages], name: str) -> None:
    """And the merchant reads what it was."""
    served, guarded = host
    hostile = HOSTS[name]
    served.answers["/images/a.jpg"] = [*hostile.parts]
    served.for_ever, served.pause_s = hostile.for_ever, hostile.pause_s
    if name == "silence":
        served.answers["/images/a.jpg"], served.pause_s = [b""], 60
    cpu = time.process_time()
    tracemalloc.start()
    try:
        async with asyncio.timeout(30):  # the fetcher's own limit is a second
            with pytest.raises((Reject, VendorUnavailable), match=hostile.reason):
                await guarded.fetch(URL, allowed_hosts=())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * MEGABYTE
    assert served.sent < 30 * MEGABYTE  # more than we read, because of the system's buffers
    assert served.asked <= 4
    assert time.process_time() - cpu < 5


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
    with pytest.raises(error, match=f"answered HTTP {status[:3]}"):
        await guarded.fetch(URL, allowed_hosts=())


async def test_an_unreachable_host_is_unavailable() -> None:
    async def nobody(_host: str, _port: int) -> Sequence[str]:
        raise OSError

    with pytest.raises(VendorUnavailable):
        await fetcher(resolve=nobody).fetch(URL, allowed_hosts=())
    with pytest.raises(VendorUnavailable):
        await WebImages({"pictures.example": "http://127.0.0.1:1"}, SystemClock()).fetch(URL, allowed_hosts=())


async def test_a_name_server_that_never_answers_is_given_up() -> None:
    async def silent(_host: str, _port: int) -> Sequence[str]:
        await asyncio.sleep(60)
        raise AssertionError

    with pytest.raises(VendorUnavailable, match="did not arrive within"):
        await fetcher(resolve=silent, limits=Limits(MEGABYTE, 0.1)).fetch(URL, allowed_hosts=())


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


CAPTURED = {
    "it answers without end": "import sys\nwhile True: sys.stdout.buffer.write(b'x' * 65536)",
    "it answers before it has read": "import sys; sys.stdout.buffer.write(b'x' * 30000000)",
    "it answers nonsense": "print('{}')",
    "it answers a list": "print('[1]')",
    "its picture is of another kind": 'print(\'{"format": "SVG", "width": 1, "height": 1, "phash": ""}\')',
    "its fingerprint is none": 'print(\'{"format": "PNG", "width": 1, "height": 1, "phash": "<b>"}\')',
    "it answers nothing": "pass",
    "it dies": f"import os; os.kill(os.getpid(), {signal.SIGKILL})",
    "it sleeps": "import time; time.sleep(60)",
}


@pytest.mark.parametrize("what", CAPTURED)
async def test_a_decoder_that_was_taken_over_gets_nothing_from_us(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, what: str
) -> None:
    """Whoever wrote the picture may be who answers: neither our memory nor our time is theirs."""
    (tmp_path / "captured.py").write_text(CAPTURED[what])
    monkeypatch.setattr(images.recoding, "__name__", "captured")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(images, "DECODE_S", 5.0 if what != "it sleeps" else 0.5)
    monkeypatch.setattr(images, "REPLY_MAX", MEGABYTE)
    tracemalloc.start()
    try:
        with pytest.raises(Reject) as refused:
            await recode_apart(jpeg())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refused.value.code == "image_too_costly"
    assert peak < 8 * MEGABYTE


BOUNDED = {
    "memory": ("MEMORY_BYTES = 300 * 1024 * 1024", "image_too_large"),
    "processor": ("CPU_S = 1; recoding.recode = lambda content: [0 for _ in iter(int, 1)]", "image_too_costly"),
    "files": ("recode = lambda content: open('FOLDER/written', 'w').write('x' * 9)", "image_too_costly"),
}


@pytest.mark.parametrize("what", BOUNDED)
async def test_a_decoder_runs_out_of_its_own_and_not_of_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, what: str
) -> None:
    """The same child, with less of it: pixels that need more memory, a loop, a file."""
    less, code = BOUNDED[what]
    less = less.replace("FOLDER", str(tmp_path))
    (tmp_path / "bounded.py").write_text(f"from app.adapters import recoding; recoding.{less}; recoding.main()")
    monkeypatch.setattr(images.recoding, "__name__", "bounded")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    out = io.BytesIO()
    Image.new("RGBA", (7000, 7000)).save(out, "PNG", compress_level=1)
    with pytest.raises(Reject) as refused:
        await recode_apart(out.getvalue())
    assert refused.value.code == code
    assert written_below(tmp_path) == 0


def written_below(folder: Path) -> int:
    """Bytes a decoder got into its file."""
    return sum(one.stat().st_size for one in folder.glob("written"))


async def test_cancelling_leaves_no_process() -> None:
    decoding = asyncio.create_task(recode_apart(jpeg(5000, 5000)))
    await asyncio.sleep(0.02)
    decoding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await decoding
