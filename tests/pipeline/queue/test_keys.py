"""Names that Bull cannot carry are refused before they reach Redis."""

from __future__ import annotations

import pytest

from pipeline.queue.keys import Keys, require_queue_name, suffix_of


def test_our_own_keys_share_the_prefix_and_so_the_slot() -> None:
    keys = Keys("{bull}")
    assert (keys.epoch, keys.guard) == ("{bull}:po:epoch", "{bull}:po:guard")
    assert keys.restoring == "{bull}:po:restoring"
    assert keys.job("q", "a") == "{bull}:q:a"


@pytest.mark.parametrize("name", ["", "a@b", "a*"])
def test_queue_names_that_break_channels_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="queue's name"):
        require_queue_name(name)


def test_only_bulls_states_can_be_listed() -> None:
    assert suffix_of("waiting") == "wait"
    with pytest.raises(ValueError, match="no state"):
        suffix_of("id")
