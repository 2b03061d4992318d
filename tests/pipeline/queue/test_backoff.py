"""Delays as functions of the attempt."""

from __future__ import annotations

from pipeline.queue.backoff import exponential, full_jitter


def test_it_doubles_up_to_the_cap() -> None:
    assert [exponential(n, base_s=2, cap_s=10) for n in (1, 2, 3, 4, 10_000)] == [2, 4, 8, 10, 10]


def test_full_jitter_is_anywhere_below() -> None:
    assert full_jitter(3, base_s=2, cap_s=10, random=lambda: 0.0) == 0
    assert full_jitter(3, base_s=2, cap_s=10, random=lambda: 0.5) == 4
