"""A missing requirement skips, and fails where nothing may be skipped."""

from __future__ import annotations

import pytest

from tests.support import require


def test_what_is_there_is_no_reason_to_skip() -> None:
    require(condition=True, reason="never said")


def test_what_is_missing_skips_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUIRE_ALL", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no node here"):
        require(condition=False, reason="no node here")


def test_with_require_all_what_is_missing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUIRE_ALL", "1")
    with pytest.raises(pytest.fail.Exception, match="no node here"):
        require(condition=False, reason="no node here")
