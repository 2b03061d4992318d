"""Fails any test that leaves something behind: a task, its exception, a child process.

What a fixture of longer life starts is declared once with the fixture `expect_children`. The checks run after all
fixtures of the test are torn down, the event loop included, so cleaning up in a fixture is in time.
Keys in Redis are checked where they are cleared, by the fixture `redis_url`.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Generator, Iterator

import psutil
import pytest

# The interpreter's own helpers live until it ends: multiprocessing starts one of each, once.
INTERPRETER_HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")

TURNS = 5
"""Of the event loop, for what ends by itself."""

_expected_children: set[int] = set()


class _AsyncioErrors(logging.Handler):
    """Collects what asyncio can only log: an exception nobody retrieved, a pending task destroyed."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(self.format(record))

    def take(self) -> list[str]:
        taken, self.messages = self.messages, []
        return taken


_asyncio_errors = _AsyncioErrors()


def pytest_configure(config: pytest.Config) -> None:
    logging.getLogger("asyncio").addHandler(_asyncio_errors)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Before the first test, as after each."""
    _collect()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    yield
    if _is_async(item):
        # An exception nobody retrieved is reported when its task is freed, and a traceback is a cycle.
        _collect()
    left = [*_asyncio_errors.take(), *_list_leftover_children()]
    if left:
        pytest.fail("left behind by this test:\n" + "\n".join(left), pytrace=False)


@pytest.fixture(scope="session")
def expect_children() -> Callable[[], None]:
    """Call it after starting what outlives a test: the child processes there are now are wanted."""

    def expect() -> None:
        _expected_children.update(child.pid for child in psutil.Process().children())

    return expect


@pytest.fixture(autouse=True)
def _no_task_left(request: pytest.FixtureRequest) -> None:
    """First of an async test's fixtures, hence the last to end: nothing may run beyond the others."""
    if _is_async(request.node):
        request.getfixturevalue("_no_task_left_on_the_loop")


@pytest.fixture
async def _no_task_left_on_the_loop() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    for _ in range(TURNS):
        await asyncio.sleep(
            0
        )  # a task cancelled in the last line of the test, or one that closes a generator, ends now
        left = asyncio.all_tasks() - before - {asyncio.current_task()}
        if not left:
            break
    else:
        pytest.fail("tasks left running by this test:\n" + "\n".join(map(str, left)), pytrace=False)


def _collect() -> None:
    """Free what can be, and take what lives on (modules, caches) out of the collector's sight: the next is cheap."""
    gc.collect()
    gc.freeze()


def _is_async(item: pytest.Item) -> bool:
    return inspect.iscoroutinefunction(getattr(item, "function", None))


def _list_leftover_children() -> list[str]:
    return [f"child process {child}" for child in _leftover_children()]


def _leftover_children() -> Iterator[psutil.Process]:
    for child in psutil.Process().children():
        if child.pid not in _expected_children and not _is_interpreter_helper(child):
            _expected_children.add(child.pid)  # blame one test, not all that follow
            yield child


def _is_interpreter_helper(child: psutil.Process) -> bool:
    try:
        command = " ".join(child.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False
    return any(helper in command for helper in INTERPRETER_HELPERS)
