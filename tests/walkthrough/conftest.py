"""One installation per test: our settings, a shop, upstream's Node app, and npm bull as the operator's tool."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.settings import Settings
from tests.chaos.conftest import sandbox
from tests.conformance.conftest import node, node_process, node_program
from tests.conformance.oracle import Node
from tests.shop import settings_for
from tests.walkthrough.upstream import Upstream

__all__ = ["node", "node_process", "node_program", "sandbox"]


@pytest.fixture
def upstream(node: Node, node_program: str, redis_url: str, tmp_path: Path) -> Upstream:
    storage = tmp_path / "storage"
    storage.mkdir()
    return Upstream(node_program, redis_url, storage)


@pytest.fixture
def settings(redis_url: str, database_url: str, sandbox: str, upstream: Upstream) -> Settings:
    return settings_for(redis_url, database_url, sandbox, document_folder=upstream.storage)
