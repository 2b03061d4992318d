"""What upstream's page is told: keys and channels exactly, one completion per run, and never at the work's cost."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis

from app.adapters.progress import KEPT_AFTER_END_S, UpstreamProgress
from app.connections import Connections, open_connections
from app.db import tables
from app.db.session import Database, PoolSize
from app.redis_socket import Address
from pipeline import flow
from pipeline.clock import SystemClock
from pipeline.errors import RedisUnavailable
from tests.app.db.given import Given
from tests.app.held import held


@pytest.fixture
async def given(database_url: str) -> AsyncIterator[Given]:
    database = Database(database_url, PoolSize(2))
    yield Given(database)
    await database.close()


@pytest.fixture
async def connections(redis_url: str) -> AsyncIterator[Connections]:
    async with held(open_connections(redis_url, SystemClock())) as opened:
        yield opened


@pytest.fixture
def progress(given: Given, connections: Connections) -> UpstreamProgress:
    return UpstreamProgress(connections.commands, given.database)


class Heard:
    """Everything published to the merchant's channels, in order."""

    def __init__(self, client: redis.Redis) -> None:
        self._pubsub = client.pubsub(ignore_subscribe_messages=True)
        self._pubsub.psubscribe("merchant:*")
        self._pubsub.get_message(timeout=1)

    def take(self) -> list[tuple[str, dict[str, Any]]]:
        heard = []
        while (message := self._pubsub.get_message(timeout=0.2)) is not None:
            heard.append((message["channel"], json.loads(message["data"])))
        return heard

    def close(self) -> None:
        self._pubsub.close()


@pytest.fixture
def heard(redis_url: str, redis_admin: redis.Redis) -> Iterator[Heard]:
    listener = Heard(redis_admin)
    yield listener
    listener.close()


def key(redis_admin: redis.Redis, run_id: str = "r") -> dict[str, Any]:
    found = redis_admin.get(f"workflow:wf-{run_id}")
    assert isinstance(found, str)
    return dict(json.loads(found))


async def test_messages_have_upstreams_fields(given: Given, progress: UpstreamProgress, heard: Heard) -> None:
    await given.run("r", due_stage="database-save", upstream_order_id="po-9")
    await progress.tell("r", "database-save", "started", {})
    await progress.tell("r", "database-save", "progress", {"fraction": 0.5, "message": "half"})
    (stage_channel, stage), (progress_channel, half) = heard.take()
    assert (stage_channel, progress_channel) == ("merchant:m1:stage", "merchant:m1:progress")
    assert set(stage) == {"type", "stage", "poId", "workflowId", "status", "message", "timestamp"}
    assert (stage["type"], stage["stage"], stage["status"]) == ("stage", "database_save", "started")
    assert set(half) == {"type", "poId", "workflowId", "stage", "progress", "message", "timestamp"}
    assert (half["progress"], half["poId"], half["workflowId"]) == (50, "po-9", "wf-r")
    assert isinstance(half["timestamp"], int)


async def test_the_key_of_a_live_run_never_expires(
    given: Given, progress: UpstreamProgress, redis_admin: redis.Redis
) -> None:
    await given.run("r", due_stage="data-normalization")
    await progress.tell("r", "database-save", "finished", {})
    assert redis_admin.ttl("workflow:wf-r") == -1
    value = key(redis_admin)
    assert (value["status"], value["currentStage"], value["progress"]) == ("active", "data_normalization", 60)
    assert value["stages"]["database_save"]["status"] == "completed"
    assert value["stages"]["data_normalization"]["status"] == "processing"
    assert value["stages"]["shopify_sync"]["status"] == "pending"


async def test_a_finished_run_sets_every_stage_completed_and_the_key_lives_a_day(
    given: Given, progress: UpstreamProgress, redis_admin: redis.Redis
) -> None:
    """Upstream's poller reports completed only when every stage in the key says so."""
    await given.run("r", state="completed", due_stage=None, summary="done")
    await progress.tell("r", flow.IMAGES, "finished", {})
    value = key(redis_admin)
    assert {stage["status"] for stage in value["stages"].values()} == {"completed"}
    assert (value["status"], value["progress"]) == ("completed", 100)
    assert KEPT_AFTER_END_S - 60 < redis_admin.ttl("workflow:wf-r") <= KEPT_AFTER_END_S


@pytest.mark.breaks("due_fits_state", "end_has_its_moment", reason="only the state is changed, by hand")
async def test_one_completion_per_run_and_silence_about_it_afterwards(
    given: Given, progress: UpstreamProgress, heard: Heard
) -> None:
    """Upstream's page shows an order as finished at its first completion, and as unfinished at later progress."""
    await given.run("r")
    for stage in flow.NAMES:
        state = "completed" if stage in {flow.STATUS, flow.IMAGES} else "running"
        await given.change(tables.runs, tables.runs.c.id == "r", state=state)
        for event in ("started", "progress", "finished"):
            await progress.tell("r", stage, event, {"fraction": 0.5})
    told = heard.take()
    assert [message["stage"] for channel, message in told if channel.endswith(":completion")] == ["status_update"]
    assert told[-1][0] == "merchant:m1:completion"


async def test_a_run_that_needs_review_is_not_called_complete_and_its_key_stays(
    given: Given, progress: UpstreamProgress, heard: Heard, redis_admin: redis.Redis
) -> None:
    await given.run_in_review("r", at="database-save", summary="The totals do not add up.")
    await progress.tell("r", flow.STATUS, "finished", {})
    [(channel, message)] = heard.take()
    assert channel == "merchant:m1:progress"
    assert message["progress"] < 100
    assert "totals do not add up" in message["message"]
    assert key(redis_admin)["result"]["requiresReview"] is True
    assert redis_admin.ttl("workflow:wf-r") == -1


async def test_a_failed_run_names_the_stage_and_the_reason(
    given: Given, progress: UpstreamProgress, heard: Heard, redis_admin: redis.Redis
) -> None:
    await given.run("r", state="failed", failed_stage="shopify-sync", failure="no shop is connected")
    await progress.tell("r", "shopify-sync", "failed", {})
    [(channel, message)] = heard.take()
    assert (channel, message["error"]) == ("merchant:m1:error", "no shop is connected")
    value = key(redis_admin)
    assert value["status"] == "failed"
    assert value["stages"]["shopify_sync"]["status"] == "failed"
    assert value["stages"]["shopify_sync"]["error"] == "no shop is connected"
    assert value["stages"]["status_update"]["status"] == "pending"


async def test_equal_consecutive_values_are_said_once(given: Given, progress: UpstreamProgress, heard: Heard) -> None:
    await given.run("r", due_stage="ai-parsing")
    for fraction in (0.5, 0.5, 0.501, 0.75):
        await progress.tell("r", "ai-parsing", "progress", {"fraction": fraction, "message": "reading"})
    assert [message["progress"] for _, message in heard.take()] == [20, 30]


async def test_upstream_does_not_hear_of_receipts(given: Given, progress: UpstreamProgress, heard: Heard) -> None:
    await given.run("r", kind="receipt", state="completed")
    await progress.tell("r", flow.STATUS, "finished", {})
    assert heard.take() == []


async def test_a_key_that_redis_refuses_does_not_silence_the_channels(
    given: Given, heard: Heard, redis_url: str, redis_admin: redis.Redis
) -> None:
    """It lies on another node of the cluster, or outside of our access list; both are refusals."""
    await given.run("r", due_stage="database-save")
    redis_admin.execute_command("ACL", "SETUSER", "few", "on", ">x", "+@all", "~bull:*", "allchannels")
    address = Address.parse(redis_url)
    try:
        async with open_connections(f"redis://few:x@{address.host}:{address.port}", SystemClock()) as opened:
            await UpstreamProgress(opened.commands, given.database).tell("r", "database-save", "started", {})
        assert [channel for channel, _ in heard.take()] == ["merchant:m1:stage"]
        assert not redis_admin.exists("workflow:wf-r")
    finally:
        redis_admin.acl_deluser("few")


async def test_what_cannot_be_told_costs_the_work_nothing(given: Given) -> None:
    class Down:
        async def call(self, *_: Any) -> Any:
            raise RedisUnavailable("down")

        async def run(self, *_: Any) -> Any:
            raise RedisUnavailable("down")

    await given.run("r")
    await UpstreamProgress(Down(), given.database).tell("r", "ai-parsing", "started", {})
