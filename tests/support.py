"""Small things that many tests use."""

from __future__ import annotations

import os

import pytest


def require(condition: object, reason: str) -> None:
    """Skip the test unless `condition` holds; fail it instead when REQUIRE_ALL=1, as CI sets it.

    A skip that CI forgives is a test nobody runs.
    """
    if condition:
        return
    if os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(f"REQUIRE_ALL=1, but: {reason}", pytrace=False)
    pytest.skip(reason)
