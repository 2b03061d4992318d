"""A warm fork server and a shop for the tests that kill; every one of them is marked `chaos`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.embedded import Home
from app.embedded.sandbox import start_sandbox
from tests.chaos import doomed
from tests.conformance.conftest import node, node_process, node_program
from tests.shop import DOMAIN, TOKEN

__all__ = ["node", "node_process", "node_program"]


@pytest.hookimpl(tryfirst=True)  # before `-m` is obeyed
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.chaos)


@pytest.fixture(scope="session")
def fork_server(expect_children: Callable[[], None]) -> None:
    doomed.start_server()
    expect_children()


@pytest.fixture
def sandbox(servers_home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    state = tmp_path_factory.mktemp("shop") / "shop.json"
    with start_sandbox(servers_home, {DOMAIN: TOKEN}, state=state) as url:
        yield url
