"""A document comes from where it may come from, once, whole, and within its limits."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, update

from app.adapters.documents import DocumentSources, FetchedDocuments
from app.adapters.downloads import Limits
from app.db.documents import DocumentStore, StoredDocument
from app.db.session import Database
from app.db.tables import documents
from pipeline.clock import SystemClock
from pipeline.contract import Reject
from pipeline.errors import VendorUnavailable
from tests.app.adapters.file_server import FileServer, endless, file_server, reply

PAPER = b"%PDF-1.7 a purchase order"
KEY = "service-role-secret"
LIMIT = 256 * 1024

Upload = Callable[..., Awaitable[str]]
Open = Callable[..., FetchedDocuments]


@pytest.fixture(scope="module")
def module_database_url(make_database: Callable[[], str]) -> str:
    """One database for all tests here: each begins with an empty table."""
    return make_database()


@pytest.fixture
async def database(module_database_url: str) -> AsyncIterator[Database]:
    database = Database(module_database_url)
    async with database.transaction() as connection:
        await connection.execute(delete(documents))
    yield database
    await database.close()


@pytest.fixture
async def files() -> AsyncIterator[FileServer]:
    async with file_server() as server:
        yield server


@pytest.fixture
def upload(database: Database) -> Upload:
    """Adds a document's row as intake does."""

    async def add(location: str = "", *, content: bytes | None = None, merchant: str = "m1") -> str:
        values = {
            "id": "d1",
            "merchant_id": merchant,
            "upload_id": "u1",
            "name": "order.pdf",
            "mime": "application/pdf",
        }
        async with database.transaction() as connection:
            await connection.execute(insert(documents).values(**values, location=location, content=content))
        return "d1"

    return add


@pytest.fixture
async def opened(database: Database) -> AsyncIterator[Open]:
    """Documents over given sources, closed afterwards; small limits so that tests are quick."""
    async with AsyncExitStack() as stack:

        def make(total_s: float = 5.0, **sources: object) -> FetchedDocuments:
            limits = Limits(bytes_max=LIMIT, total_s=total_s)
            made = FetchedDocuments(DocumentStore(database), DocumentSources(**sources), SystemClock(), limits)  # type: ignore[arg-type]  # fields of DocumentSources by name
            stack.push_async_callback(made.aclose)
            return made

        yield make


async def _refusal(documents_: FetchedDocuments) -> Reject:
    with pytest.raises(Reject) as refusal:
        await documents_.load("d1")
    return refusal.value


# ------------------------------------------------------------------------------------------- the row


async def test_bytes_that_came_with_the_upload_are_named_by_their_hash(
    upload: Upload, opened: Open, database: Database
) -> None:
    """The hash is how the same document sent twice is found."""
    document = await opened().load(await upload(content=PAPER))
    assert (document.content, document.name, document.mime) == (PAPER, "order.pdf", "application/pdf")
    assert document.sha256 == hashlib.sha256(PAPER).hexdigest()
    stored = await DocumentStore(database).find("d1")
    assert stored is not None
    assert stored.sha256 == document.sha256


async def test_a_document_that_is_not_there_is_a_missing_file(upload: Upload, opened: Open) -> None:
    assert (await _refusal(opened())).code == "missing_file"
    await upload(location="")
    assert (await _refusal(opened())).code == "missing_file"


async def test_a_file_is_fetched_once_and_its_source_may_change_or_vanish_afterwards(
    upload: Upload, opened: Open, files: FileServer
) -> None:
    files.answers["/order.pdf"] = reply(PAPER)
    sources = {"trusted_bases": (files.base,)}
    await upload(f"{files.base}/order.pdf")
    first = await opened(**sources).load("d1")
    files.answers["/order.pdf"] = reply(b"something else")
    assert await opened(**sources).load("d1") == first
    assert len(files.requests) == 1


async def test_of_two_workers_that_fetch_at_once_the_first_to_store_decides_for_both(
    upload: Upload, database: Database
) -> None:
    table = DocumentStore(database)
    await upload("https://files.example/order.pdf")
    kept = await table.keep("d1", PAPER)
    assert kept == (PAPER, hashlib.sha256(PAPER).hexdigest())
    assert await table.keep("d1", b"fetched a moment later") == kept
    assert await table.find("d1") == StoredDocument(
        "d1", "m1", "order.pdf", "application/pdf", "https://files.example/order.pdf", kept[1], PAPER
    )


# ------------------------------------------------------------------------------------------- links


@pytest.mark.parametrize(
    "location",
    [
        "https://elsewhere.example/order.pdf?token=sig-secret",
        "http://files.example/order.pdf?token=sig-secret",
        "https://user:sig-secret@files.example/order.pdf",
        "https://files.example:8443/order.pdf?token=sig-secret",
        "https://localhost/order.pdf?token=sig-secret",
        "https://169.254.169.254/sig-secret",
        "ftp://files.example/sig-secret",
        "file:///etc/passwd?sig-secret",
        "https://[files.example/sig-secret",
    ],
)
async def test_a_link_that_may_not_be_followed_is_refused_without_showing_its_signature(
    location: str, upload: Upload, opened: Open
) -> None:
    await upload(location)
    refusal = await _refusal(opened(hosts=("files.example", "localhost", "169.254.169.254")))
    assert refusal.code == "file_refused"
    assert "sig-secret" not in str(refusal)


async def test_a_redirect_is_followed_three_times_and_every_hop_is_checked(
    upload: Upload, opened: Open, files: FileServer
) -> None:
    for hop in range(4):
        files.answers[f"/{hop}"] = reply(status=302, Location=f"/{hop + 1}")
    files.answers["/4"] = reply(PAPER)
    await upload(f"{files.base}/0")
    documents_ = opened(trusted_bases=(files.base,))
    assert (await _refusal(documents_)).code == "file_refused"
    files.answers["/3"] = reply(PAPER)
    assert (await documents_.load("d1")).content == PAPER


async def test_a_redirect_to_an_address_inside_sends_nothing_there(
    upload: Upload, opened: Open, files: FileServer
) -> None:
    async with file_server() as inside:
        inside.answers["/admin"] = reply(b"secrets")
        files.answers["/order.pdf"] = reply(status=307, Location=f"{inside.base}/admin")
        await upload(f"{files.base}/order.pdf")
        refusal = await _refusal(opened(trusted_bases=(files.base,), hosts=("127.0.0.1",)))
        assert refusal.code == "file_refused"
        assert inside.requests == []


@pytest.mark.parametrize(
    ("status", "code"),
    [(404, "missing_file"), (410, "missing_file"), (403, "file_refused"), (401, "file_refused"), (204, "file_refused")],
)
async def test_a_server_that_says_no_ends_the_order_in_words_a_merchant_understands(
    status: int, code: str, upload: Upload, opened: Open, files: FileServer
) -> None:
    files.answers["/order.pdf?token=sig-secret"] = reply(status=status)
    await upload(f"{files.base}/order.pdf?token=sig-secret")
    refusal = await _refusal(opened(trusted_bases=(files.base,)))
    assert refusal.code == code
    assert "sig-secret" not in str(refusal)


@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_a_server_that_is_down_or_busy_costs_the_order_nothing(
    status: int, upload: Upload, opened: Open, files: FileServer
) -> None:
    files.answers["/order.pdf"] = reply(status=status, Retry_After="7")
    await upload(f"{files.base}/order.pdf")
    with pytest.raises(VendorUnavailable) as outage:
        await opened(trusted_bases=(files.base,)).load("d1")
    assert outage.value.retry_after_s == 7


async def test_a_server_that_cannot_be_reached_is_an_outage(upload: Upload, opened: Open) -> None:
    async with file_server() as gone:
        base = gone.base
    await upload(f"{base}/order.pdf")
    with pytest.raises(VendorUnavailable):
        await opened(trusted_bases=(base,)).load("d1")


# ------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize(
    "answer",
    [endless(), reply(b"x", length=LIMIT + 1), reply(b"x" * (LIMIT + 1))],
    ids=["without an end", "by its own claim", "one byte over"],
)
async def test_a_file_over_the_limit_is_refused_whatever_its_length_says(
    answer: Callable[[asyncio.StreamWriter], Awaitable[None]], upload: Upload, opened: Open, files: FileServer
) -> None:
    files.answers["/order.pdf"] = answer
    await upload(f"{files.base}/order.pdf")
    assert (await _refusal(opened(trusted_bases=(files.base,)))).code == "file_too_large"


async def test_a_file_of_exactly_the_limit_is_taken(upload: Upload, opened: Open, files: FileServer) -> None:
    files.answers["/order.pdf"] = reply(b"x" * LIMIT)
    await upload(f"{files.base}/order.pdf")
    assert len((await opened(trusted_bases=(files.base,)).load("d1")).content) == LIMIT


async def test_a_truncated_file_is_an_outage_not_a_document(upload: Upload, opened: Open, files: FileServer) -> None:
    files.answers["/order.pdf"] = reply(PAPER, length=len(PAPER) + 10)
    await upload(f"{files.base}/order.pdf")
    with pytest.raises(VendorUnavailable):
        await opened(trusted_bases=(files.base,)).load("d1")


async def test_a_file_that_drips_is_cut_off_by_the_total_time(upload: Upload, opened: Open, files: FileServer) -> None:
    """Each byte arrives in time, so no timeout between bytes would ever fire."""
    files.answers["/order.pdf"] = endless(b"x", pause_s=0.01)
    await upload(f"{files.base}/order.pdf")
    started = time.monotonic()
    with pytest.raises(VendorUnavailable):
        await opened(total_s=0.3, trusted_bases=(files.base,)).load("d1")
    assert time.monotonic() - started < 3


async def test_a_compressed_answer_is_refused_because_its_size_is_unknown(
    upload: Upload, opened: Open, files: FileServer
) -> None:
    files.answers["/order.pdf"] = reply(b"\x1f\x8b", Content_Encoding="gzip")
    await upload(f"{files.base}/order.pdf")
    assert (await _refusal(opened(trusted_bases=(files.base,)))).code == "file_refused"
    assert files.requests[0].headers["accept-encoding"] == "identity"


# ------------------------------------------------------------------------------------------- upstream's bucket


async def test_a_path_is_asked_of_the_bucket_with_the_service_key(
    upload: Upload, opened: Open, files: FileServer
) -> None:
    files.answers["/storage/v1/object/purchase-orders/m1/po1/17_order%231.pdf"] = reply(PAPER)
    await upload("m1/po1/17_order#1.pdf")
    document = await opened(supabase_url=f"{files.base}/", supabase_key=KEY).load("d1")
    assert document.content == PAPER
    assert files.requests[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("path", ["m2/po1/order.pdf", "m1/../m2/order.pdf", "m1//order.pdf", "m1", "order.pdf"])
async def test_a_path_outside_the_merchants_own_part_of_the_bucket_is_never_asked_for(
    path: str, upload: Upload, opened: Open, files: FileServer
) -> None:
    await upload(path)
    assert (await _refusal(opened(supabase_url=files.base, supabase_key=KEY))).code == "file_refused"
    assert files.requests == []


async def test_the_service_key_follows_no_redirect(upload: Upload, opened: Open, files: FileServer) -> None:
    async with file_server() as elsewhere:
        files.answers["/storage/v1/object/purchase-orders/m1/a"] = reply(status=302, Location=f"{elsewhere.base}/a")
        await upload("m1/a")
        refusal = await _refusal(opened(supabase_url=files.base, supabase_key=KEY, trusted_bases=(elsewhere.base,)))
        assert refusal.code == "file_refused"
        assert elsewhere.requests == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"statusCode":"404","error":"not_found","message":"Object not found"}', "missing_file"),
        (b'{"statusCode":"403","error":"Unauthorized","message":"jws invalid"}', "file_refused"),
        (b"not json", "file_refused"),
    ],
)
async def test_the_bucket_says_in_its_body_what_its_status_400_means(
    body: bytes, code: str, upload: Upload, opened: Open, files: FileServer
) -> None:
    files.answers["/storage/v1/object/purchase-orders/m1/a"] = reply(body, status=400)
    await upload("m1/a")
    refusal = await _refusal(opened(supabase_url=files.base, supabase_key=KEY))
    assert refusal.code == code
    assert KEY not in str(refusal)


def test_the_service_key_is_not_shown() -> None:
    assert KEY not in repr(DocumentSources(supabase_key=KEY))


# ------------------------------------------------------------------------------------------- the folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "documents"
    (root / "m1").mkdir(parents=True)
    (root / "m1" / "order.pdf").write_bytes(PAPER)
    (root / "large.pdf").write_bytes(b"x" * (LIMIT + 1))
    (tmp_path / "outside.pdf").write_bytes(b"not yours")
    (root / "link.pdf").symlink_to(tmp_path / "outside.pdf")
    (root / "up").symlink_to(tmp_path)
    (root / "loop").symlink_to(root / "loop")
    return root


async def test_a_file_in_the_folder_is_found_by_relative_and_by_absolute_path(
    folder: Path, upload: Upload, opened: Open, database: Database
) -> None:
    await upload("m1/order.pdf")
    assert (await opened(folder=folder).load("d1")).content == PAPER
    async with database.transaction() as connection:
        await connection.execute(update(documents).values(content=None, location=str(folder / "m1" / "order.pdf")))
    assert (await opened(folder=folder, supabase_url="https://bucket.example").load("d1")).content == PAPER


@pytest.mark.parametrize(
    ("location", "code"),
    [
        ("../outside.pdf", "file_refused"),
        ("/etc/passwd", "file_refused"),
        ("link.pdf", "file_refused"),
        ("up/outside.pdf", "file_refused"),
        ("loop", "file_refused"),
        ("large.pdf", "file_too_large"),
        ("absent.pdf", "missing_file"),
        ("m1/order.pdf/x", "missing_file"),
        ("m1", "missing_file"),
    ],
)
async def test_a_path_that_leads_out_of_the_folder_or_to_no_file_is_refused(
    location: str, code: str, folder: Path, upload: Upload, opened: Open
) -> None:
    await upload(location)
    assert (await _refusal(opened(folder=folder))).code == code


async def test_without_a_bucket_or_a_folder_a_path_leads_nowhere(upload: Upload, opened: Open) -> None:
    await upload("/etc/hostname")
    assert (await _refusal(opened())).code == "missing_file"
