"""What a script touches, its caller has declared: each verb is run in all its branches while the server tells.

The other tests of the queue are watched too (`every_key_is_declared` in conftest.py); here it is also asked whether
a header declares what nothing touches.
"""

from __future__ import annotations

import pytest
import redis

from pipeline.queue import scripts
from pipeline.queue.bull import Bull
from tests.pipeline.queue.branches import BRANCHES, Given
from tests.pipeline.queue.touched import fits, key_reader, watched


@pytest.mark.parametrize("verb", [name for name in scripts.names() if scripts.load(name).keys])
async def test_a_verb_touches_all_it_declares_and_nothing_else(verb: str, bull: Bull, raw: redis.Redis) -> None:
    assert verb in BRANCHES, f"nothing runs {verb}.lua in all its branches: add a function `{verb}` to branches.py"
    keys_of = key_reader(raw)
    with watched(raw) as since_last_call:
        await BRANCHES[verb](Given(bull, raw))
        runs = [run for run in since_last_call() if run.script.name == verb]
    raw.flushall()  # some branches begin where no queue should be
    assert [problem for run in runs for problem in run.problems(keys_of)] == []
    touched = {key for run in runs for key in run.touched(keys_of)}
    unused = {key for run in runs for key in run.keys if not key.endswith(":")} - touched
    assert unused == set(), f"{verb}.lua declares what nothing touches"
    found = {key for run in runs for key in run.undeclared(keys_of)}
    never = {one for run in runs for one in run.found_patterns() if not any(fits(key, one) for key in found)}
    assert never == set(), f"{verb}.lua never finds what it says it does"


def test_a_job_s_id_is_no_fixed_name() -> None:
    assert fits("bull:q:po-1", "bull:q:*")
    assert fits("bull:q:17", "bull:q:*")
    assert fits("bull:q:po-1:lock", "bull:q:*:lock")
    assert not fits("bull:q:wait", "bull:q:*")
    assert not fits("bull:q:po-1:lock", "bull:q:*")
