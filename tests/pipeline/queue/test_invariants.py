"""Each rule notices the one thing it is for, and nothing that the verbs leave behind."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from app.connections import Connections
from pipeline.queue import snapshot
from pipeline.queue.bull import Bull
from pipeline.queue.invariants import RULES, Violation, find_violations
from pipeline.queue.job import Failure, NewJob, RateLimit, Retention
from pipeline.queue.snapshot import named_ids, read_pages
from tests.pipeline.queue.support import BASE, QUEUE, Claimer, Enqueuer

BY_HAND: dict[str, list[tuple[str | int, ...]]] = {
    "wrong_kind": [("SET", "stalled", "x")],
    "stray_key": [("SET", "someone", "x"), ("LPUSH", "active", "someone")],
    "flag_and_copy": [("HSET", "meta", "paused", 1)],
    "endless_window": [("SET", "limiter", 1)],
    "one_place": [("LPUSH", "wait", "runs")],
    "entry_without_job": [("LPUSH", "wait", "nobody")],
    "stuck": [("LREM", "wait", 0, "waits")],
    "paused_place": [("RENAME", "wait", "paused")],
    "priority_waits": [("ZADD", "priority", 1, "runs")],
    "lock_without_run": [("SET", "waits:lock", "t", "PX", 60_000), ("HSET", "waits", "processedOn", 1_700_000_000_000)],
    "endless_lock": [("PERSIST", "runs:lock")],
    "log_without_job": [("RPUSH", "nobody:logs", "row")],
    "never_due": [("ZADD", "delayed", "inf", "later")],
    "end_and_score": [("ZADD", "completed", 1, "done")],
    "counter_behind": [("SET", "id", 1)],
    "missing_field": [("HDEL", "waits", "opts")],
    "early_end": [("HSET", "waits", "finishedOn", 1_700_000_000_000)],
    "unreadable_field": [("HSET", "waits", "data", "{")],
}
"""What a stranger's hand does to the queue below, and which rule says so."""

UNREADABLE = {
    "data": ["", "{", '{"a":NaN}', "[" * 60_000],
    "opts": ["[]", "null", '{"removeOnComplete":null}', '{"removeOnFail":null}'],
    "stacktrace": ["{}", "trace"],
    "progress": ["half"],
    "timestamp": ["1e12", "170000000000", "1700000000000.5"],
    "attemptsMade": ["-1", "x", ""],
    "id": ["another"],
}

broken = pytest.mark.breaks(*BY_HAND, reason="that is the claim")


@pytest.fixture
async def queue(bull: Bull, claim: Claimer, enqueue: Enqueuer) -> Bull:
    """A job in every state, the last of them numbered by Bull."""
    await enqueue("done", "dead", "runs")
    await bull.finish(await claim(), returnvalue="1", retention=Retention())
    await bull.fail(await claim(), failure=Failure("x", ["trace"]), attempts_made=1, retention=Retention())
    await claim(limit=RateLimit(5, 60_000))
    await enqueue("waits")
    await bull.enqueue(QUEUE, NewJob(id=None, data="{}", opts={"priority": 3}))
    await bull.enqueue(QUEUE, NewJob(id="later", data="{}", delay_ms=60_000))
    return bull


async def violations(bull: Bull, connections: Connections) -> list[Violation]:
    named = await named_ids(connections.commands, bull.keys, [QUEUE])
    pages = [page async for page in read_pages(connections.commands, bull.keys, QUEUE, named[QUEUE])]
    return [one for page in pages for one in find_violations(page)]


async def test_a_job_in_every_state_breaks_no_rule(queue: Bull, connections: Connections) -> None:
    assert await violations(queue, connections) == []
    await queue.pause(QUEUE)
    assert await violations(queue, connections) == []


async def test_a_holder_that_died_breaks_no_rule(queue: Bull, connections: Connections, raw: redis.Redis) -> None:
    raw.delete(BASE + "runs:lock")
    assert await violations(queue, connections) == []


@broken
@pytest.mark.parametrize("rule", BY_HAND)
async def test_what_a_strangers_hand_does_is_noticed_by_the_rule_for_it(
    queue: Bull, connections: Connections, raw: redis.Redis, rule: str
) -> None:
    for command, suffix, *args in BY_HAND[rule]:
        given: list[Any] = [BASE + str(args[0]), *args[1:]] if command == "RENAME" else args
        raw.execute_command(str(command), f"{BASE}{suffix}", *given)
    assert {one.rule for one in await violations(queue, connections)} == {rule}


def test_every_rule_has_been_seen_to_notice_something() -> None:
    assert {rule.__name__ for rule in RULES} == set(BY_HAND)


@broken
@pytest.mark.parametrize(("field", "value"), [(field, value) for field, all_ in UNREADABLE.items() for value in all_])
async def test_a_field_that_bull_cannot_read_is_named(
    queue: Bull, connections: Connections, raw: redis.Redis, field: str, value: str
) -> None:
    raw.hset(BASE + "waits", field, value)
    (found,) = await violations(queue, connections)
    assert (found.rule, found.subject) == ("unreadable_field", "waits")
    assert field in found.says


@broken
async def test_a_big_queue_is_read_in_pages_and_nothing_is_taken_for_lost(
    bull: Bull, connections: Connections, enqueue: Enqueuer, raw: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "PAGE_MAX", 5)
    await enqueue(*(f"j{number}" for number in range(23)))
    pages = [page async for page in read_pages(connections.commands, bull.keys, QUEUE)]
    assert [len(page.entries["wait"]) for page in pages] == [5, 5, 5, 5, 3]
    assert {page.size for page in pages} == {23}
    assert await violations(bull, connections) == []
    raw.lrem(BASE + "wait", 0, "j7")
    assert [one.subject for one in await violations(bull, connections)] == ["j7"]


async def test_a_long_value_stays_behind_and_is_not_missed(bull: Bull, connections: Connections) -> None:
    await bull.enqueue(QUEUE, NewJob(id="long", data='"' + "x" * snapshot.VALUE_MAX + '"'))
    (page,) = [page async for page in read_pages(connections.commands, bull.keys, QUEUE)]
    assert page.jobs["long"].long_fields == {"data"}
    assert find_violations(page) == []


@broken
async def test_an_entry_dropped_for_want_of_a_job_keeps_no_place_by_priority(
    bull: Bull, connections: Connections, raw: redis.Redis, claim: Claimer
) -> None:
    """Left there it would move where later jobs are put: the third of these would overtake the second."""
    for job_id, priority in (("gone", 1), ("first", 2), ("second", 2)):
        await bull.enqueue(QUEUE, NewJob(id=job_id, data="{}", opts={"priority": priority}))
    raw.delete(BASE + "gone")
    assert (await claim()).id == "first"
    assert await violations(bull, connections) == []
    await bull.enqueue(QUEUE, NewJob(id="third", data="{}", opts={"priority": 2}))
    assert [(await claim()).id for _ in range(2)] == ["second", "third"]
