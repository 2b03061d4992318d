"""The reading process: what it answers, and what is left of it when it must die."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from hashlib import sha256

import psutil
import pytest

from app.adapters.reader import ChildReader, ReaderLimits
from pipeline.contract import Reject, Retry
from pipeline.domain.purchase_order import DocumentKind
from pipeline.ports import Document

CSV = b"PO Number,Supplier,SKU,Description,Qty,Unit Cost,Line Total\nPO-7,Juniper Co.,JC-1,Mug,24,6.50,156.00\n"
ENDLESS = b"%PDF-1.4\n"


def document(content: bytes) -> Document:
    return Document(id="d", name="x.bin", content=content, sha256=sha256(content).hexdigest())


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "reading_child" in " ".join(child.cmdline())]


@pytest.fixture(autouse=True)
def no_child_left() -> Iterator[None]:
    yield
    assert children() == []


async def test_a_document_is_read_in_the_child_and_the_child_is_kept() -> None:
    async with ChildReader() as reader:
        first = children()
        for _ in range(3):
            reading = await reader.read(document(CSV), [])
        assert reading.order is not None
        assert (reading.order.kind, reading.order.number) == (DocumentKind.PURCHASE_ORDER, "PO-7")
        assert reading.order.lines[0].sku == "JC-1"
        assert [child.pid for child in children()] == [child.pid for child in first]


async def test_a_refused_file_is_rejected_with_its_code_and_the_child_lives_on() -> None:
    async with ChildReader() as reader:
        with pytest.raises(Reject) as refused:
            await reader.read(document(b"\x00\x01\x02garbage\xff"), [])
        assert refused.value.code == "unknown_type"
        assert (await reader.read(document(CSV), [])).order is not None
        assert len(children()) == 1


async def test_a_child_killed_in_the_middle_is_a_retry_and_is_replaced() -> None:
    async with ChildReader(ReaderLimits(children=1)) as reader:
        child = children()[0]
        child.suspend()
        reading = asyncio.create_task(reader.read(document(CSV), []))
        await asyncio.sleep(0.05)
        child.kill()
        with pytest.raises(Retry, match="died"):
            await reading
        assert (await reader.read(document(CSV), [])).order is not None


async def test_a_child_beyond_its_deadline_is_killed() -> None:
    async with ChildReader(ReaderLimits(children=1, deadline_s=0.2)) as reader:
        child = children()[0]
        child.suspend()
        with pytest.raises(Retry, match="longer than"):
            await reader.read(document(CSV), [])
        assert children() == []


async def test_cancelling_the_caller_kills_the_child() -> None:
    async with ChildReader(ReaderLimits(children=1)) as reader:
        children()[0].suspend()
        reading = asyncio.create_task(reader.read(document(CSV), []))
        await asyncio.sleep(0.05)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert children() == []


async def test_ctrl_c_in_the_terminal_does_not_reach_the_child() -> None:
    async with ChildReader() as reader:
        child = children()[0]
        assert os.getsid(child.pid) == child.pid
        child.send_signal(signal.SIGINT)
        assert (await reader.read(document(CSV), [])).order is not None


async def test_the_child_knows_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    async with ChildReader():
        assert set(children()[0].environ()) <= {"PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "LC_CTYPE"}


async def test_memory_is_bounded() -> None:
    """A child that cannot even be granted its memory answers with a failure, and the worker is untouched."""
    async with ChildReader(ReaderLimits(memory_bytes=600 * 1024 * 1024)) as reader:
        limits = await asyncio.to_thread(_address_space, children()[0].pid)
        assert limits == 600 * 1024 * 1024
        assert (await reader.read(document(CSV), [])).order is not None


def _address_space(pid: int) -> int:
    with open(f"/proc/{pid}/limits") as limits:  # noqa: PTH123
        line = next(line for line in limits if line.startswith("Max address space"))
    return int(line.split()[3])
