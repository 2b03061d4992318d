"""Small things that many tests use."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import httpx
import hypothesis
import pytest

CHAOS_IN_FULL = os.environ.get("CHAOS") == "full"
"""Tests that kill or load run a short form by default: `CHAOS=full python3 run.py test tests/chaos` is the long one."""


def steps_of_a_model(*, examples: int, steps: int) -> hypothesis.settings:
    """How long a model is played: the same games every time; with CHAOS=full ten times as many new and longer ones.

    A game that was lost is printed step by step, with the `@reproduce_failure` that plays it again.
    """
    return hypothesis.settings(
        max_examples=examples * 10 if CHAOS_IN_FULL else examples,
        stateful_step_count=steps * 2 if CHAOS_IN_FULL else steps,
        derandomize=not CHAOS_IN_FULL,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )


def require(condition: object, reason: str) -> None:
    """Skip the test unless `condition` holds; fail it instead when REQUIRE_ALL=1, as CI sets it.

    A skip that CI forgives is a test nobody runs.
    """
    if condition:
        return
    if os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(f"REQUIRE_ALL=1, but: {reason}", pytrace=False)
    pytest.skip(reason)


async def eventually(condition: Callable[[], Awaitable[object]], *, within_s: float = 20.0) -> None:
    """Wait until `condition` holds. For what other processes and tasks do; the deadline is only for the broken case."""
    with anyio.fail_after(within_s):
        while not await condition():
            await anyio.sleep(0.01)


def loopback(**given: Any) -> httpx.AsyncClient:
    """A client for servers on loopback: no proxy, and no certificates, whose reading takes 13 ms each time."""
    return httpx.AsyncClient(verify=False, trust_env=False, **given)
