"""`.env.example` says what can be set, all of it, and the truth about the defaults."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

from app.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / ".env.example"
FIELDS = {name.upper() for name in Settings.model_fields}


def _example() -> dict[str, tuple[str, str]]:
    """Value and comment by name."""
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    pairs = ((line.split("=", 1), above) for above, line in pairwise(lines) if "=" in line[:40])
    return {name: (value, above) for (name, value), above in pairs if not name.startswith("#")}


def _compose() -> dict[str, str]:
    """Defaults of docker compose's own variables, by name."""
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    return {name: default for name, _, default in re.findall(r"\$\{([A-Z_]+)(:-([^}]*))?", text)}


def test_every_setting_stands_in_the_example_and_nothing_else_does() -> None:
    assert _example().keys() == FIELDS | _compose().keys()


def test_every_setting_is_explained_in_one_line() -> None:
    unexplained = [name for name, (_, above) in _example().items() if not re.match(r"# \S.{5,}", above)]
    assert unexplained == []


def test_an_untouched_copy_of_the_example_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FIELDS:
        monkeypatch.delenv(name, raising=False)
    assert load_settings(_env_file=EXAMPLE) == load_settings(_env_file=None)


def test_the_composed_defaults_are_the_ones_shown() -> None:
    shown = {name: value for name, (value, _) in _example().items()}
    assert {name: shown[name] for name in _compose().keys() - FIELDS} == {
        name: default for name, default in _compose().items() if name not in FIELDS
    }
