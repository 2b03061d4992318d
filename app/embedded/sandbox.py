"""The sandbox shop as a guarded process of its own, so that killing a worker does not kill the shop."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

from app.embedded.home import Home
from app.embedded.launch import HOST, Recipe, running

_ROOT = Path(__file__).resolve().parents[2]
# The guard starts servers in "/" with a bare environment, so the program says itself where it lives.
_PROGRAM = """\
import runpy, sys
sys.path.insert(0, sys.argv.pop(1))
runpy.run_module("app.sandbox", run_name="__main__")
"""


@contextmanager
def start_sandbox(home: Home, shops: Mapping[str, str], *, state: Path | None = None) -> Iterator[str]:
    """Run a sandbox with these shops (domain -> token); yields its base URL. `state` survives restarts."""
    arguments = [part for domain, token in shops.items() for part in ("--shop", f"{domain}:{token}")]
    if state is not None:
        arguments += ["--state", str(state)]

    def command(port: int) -> list[str]:
        return [sys.executable, "-c", _PROGRAM, str(_ROOT), "--port", str(port), *arguments]

    with running(Recipe("sandbox", command, _answers), home) as port:
        yield f"http://{HOST}:{port}"


def _answers(port: int, _process_id: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/", timeout=1) as reply:
            return bool(reply.status == HTTPStatus.OK)
    except (urllib.error.URLError, OSError):
        return False
