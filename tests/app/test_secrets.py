"""A sealed token opens for its owner with its key, and for nobody else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.adapters.secrets import BrokenSealError, Seal, UnknownKeyError, WeakKeyError

OLD, NEW = "old-key-" * 5, "new-key-" * 5
TOKEN = "shpat_0123456789abcdef"


def test_a_sealed_token_opens_for_its_owner() -> None:
    seal = Seal(OLD)
    assert seal.open(seal.seal(TOKEN, owner="m1"), owner="m1") == TOKEN


def test_a_token_moved_to_another_merchant_does_not_open() -> None:
    seal = Seal(OLD)
    with pytest.raises(BrokenSealError):
        seal.open(seal.seal(TOKEN, owner="m1"), owner="m2")


def test_the_same_token_is_sealed_differently_each_time_and_shows_nothing() -> None:
    """Equal bytes would tell that two shops share a token."""
    seal = Seal(OLD)
    first, second = seal.seal(TOKEN, owner="m1"), seal.seal(TOKEN, owner="m1")
    assert first != second
    assert TOKEN.encode() not in first


def test_a_new_key_in_front_seals_while_the_old_one_still_opens() -> None:
    sealed_before = Seal(OLD).seal(TOKEN, owner="m1")
    rotated = Seal(f"{NEW}, {OLD}")
    assert rotated.open(sealed_before, owner="m1") == TOKEN
    sealed_after = rotated.seal(TOKEN, owner="m1")
    assert Seal(NEW).open(sealed_after, owner="m1") == TOKEN
    with pytest.raises(UnknownKeyError):
        Seal(OLD).open(sealed_after, owner="m1")


@given(position=st.integers(min_value=0), mask=st.integers(min_value=1, max_value=255))
def test_no_altered_byte_goes_unnoticed(position: int, mask: int) -> None:
    seal = Seal(OLD)
    sealed = bytearray(seal.seal(TOKEN, owner="m1"))
    sealed[position % len(sealed)] ^= mask
    with pytest.raises((BrokenSealError, UnknownKeyError)):
        seal.open(bytes(sealed), owner="m1")


@pytest.mark.parametrize("sealed", [b"", b"\x01", TOKEN.encode()])
def test_what_was_never_sealed_does_not_open(sealed: bytes) -> None:
    with pytest.raises(BrokenSealError):
        Seal(OLD).open(sealed, owner="m1")


@pytest.mark.parametrize("key", ["", " , ", "short", f"{OLD},short"])
def test_a_key_that_could_be_guessed_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(WeakKeyError) as refusal:
        Seal(key)
    assert "short" not in str(refusal.value)


def test_a_seal_does_not_show_its_key() -> None:
    assert OLD not in repr(Seal(OLD))
    assert OLD not in repr(vars(Seal(OLD)))
