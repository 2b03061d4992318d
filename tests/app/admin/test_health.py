"""Green means consuming; red says why."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import anyio
import httpx
import pytest

from app.admin.deps import AdminDeps, Health
from app.admin.health import ANSWER_WITHIN_S
from app.admin.server import health_of
from app.cli import HEALTH_WITHIN_S
from app.connections import Connections, open_connections
from app.consumers import LOOK_AGAIN_S, ConsumerWatch, foreign_consumers
from app.db.session import Database
from app.settings import Settings
from pipeline import flow
from pipeline.clock import SystemClock
from pipeline.queue.job import QueueSweep, SweepReport
from pipeline.settling import Outcome
from pipeline.worker import ANSWER_S, Worker, WorkerConfig
from tests.app.admin.conftest import asking
from tests.app.changes import Changes
from tests.app.db.given import Given
from tests.app.redis_proxy import proxy_to
from tests.pipeline.line import open_line
from tests.pipeline.queue.support import MovedClock
from tests.support import eventually


async def test_ready_shows_three_connections_the_schema_and_what_is_consumed(client: httpx.AsyncClient) -> None:
    answer = await client.get("/ready")
    body = answer.json()
    assert (answer.status_code, body["status"], body["reasons"]) == (200, "ready", [])
    assert [(one["name"], one["state"]) for one in body["redis"]] == [
        ("commands", "ready"),
        ("leases", "ready"),
        ("events", "ready"),
    ]
    assert body["database"]["revision"] == body["database"]["expected"]
    assert (body["consuming"], body["queues"]) == (True, ["ai-parsing"])


async def test_a_worker_in_trouble_is_not_ready_but_alive(make_deps: Callable[..., AdminDeps]) -> None:
    trouble = Health(queues=("ai-parsing",), trouble="worker: no sweep for 99 s")
    async with asking(make_deps(health=lambda: trouble)) as client:
        answer = await client.get("/ready")
        assert (answer.status_code, answer.json()["reasons"]) == (503, ["worker: no sweep for 99 s"])
        assert answer.json()["consuming"] is False
        assert (await client.get("/live")).status_code == 200


async def test_a_process_that_only_serves_the_page_is_ready_without_consuming(
    make_deps: Callable[..., AdminDeps],
) -> None:
    async with asking(make_deps(health=Health)) as client:
        answer = await client.get("/ready")
        assert (answer.status_code, answer.json()["consuming"]) == (200, False)


async def test_each_lost_connection_is_a_reason(make_deps: Callable[..., AdminDeps], connections: Connections) -> None:
    def states() -> list[object]:
        return [replace(state, state="reconnecting") for state in connections.states()]

    async with asking(make_deps(connections=states)) as client:
        answer = await client.get("/ready")
    assert answer.status_code == 503
    assert answer.json()["reasons"] == [f"redis {name}: reconnecting" for name in ("commands", "leases", "events")]


async def test_a_connection_is_shown_with_its_state_since_when_its_last_error_and_the_delay_and_its_changes_counted(
    make_deps: Callable[..., AdminDeps], redis_url: str
) -> None:
    changes = Changes()
    async with (
        proxy_to(redis_url) as proxy,
        open_connections(proxy.url(), SystemClock(), on_change=changes.note, random=lambda: 0.5) as opened,
        asking(make_deps(connections=opened.states)) as client,
    ):
        await changes.until("ready")
        since = {one["name"]: one["since"] for one in (await client.get("/ready")).json()["redis"]}
        await proxy.close_door()
        proxy.reset()
        await changes.until("reconnecting")
        body = (await client.get("/ready")).json()
        assert body["reasons"] == [f"redis {name}: reconnecting" for name in since]
        for one in body["redis"]:
            assert one["state"] == "reconnecting"
            assert one["since"] > since[one["name"]]
            assert one["last_error"]
            assert 0 < one["retry_in_s"] <= 2.5
        metrics = (await client.get("/metrics")).text.splitlines()
        assert {"po_redis_connections_ready 0.0", "po_redis_connection_changes 6.0", "po_redis_reconnects 3.0"} <= set(
            metrics
        )


async def test_a_database_that_is_away_is_a_reason_and_metrics_go_on(make_deps: Callable[..., AdminDeps]) -> None:
    away = Database("postgresql://nobody@127.0.0.1:1/none")
    async with asking(make_deps(database=away)) as client:
        answer = await client.get("/ready")
        assert answer.status_code == 503
        assert answer.json()["reasons"][0].startswith("database: ")
        assert "po_database_up 0.0" in (await client.get("/metrics")).text
        assert (await client.get("/api/orders")).json()["error"] == "unavailable"
    await away.close()


async def test_a_database_that_fell_silent_is_a_reason_before_a_probe_gives_up(
    make_deps: Callable[..., AdminDeps], database_url: str
) -> None:
    async with proxy_to(database_url) as proxy:
        silent = Database(proxy.url("postgresql"))
        async with asking(make_deps(database=silent)) as client:
            assert (await client.get("/ready")).status_code == 200
            proxy.frozen = True
            with anyio.fail_after(HEALTH_WITHIN_S):
                answer = await client.get("/ready")
        proxy.cut()
        await silent.close()
    assert answer.json()["reasons"] == [f"database: no answer within {ANSWER_WITHIN_S} s"]


async def test_metrics_have_our_prefix_and_no_label_but_queue_and_outcome(
    make_deps: Callable[..., AdminDeps], given: Given
) -> None:
    await given.run("r", state="running", due_stage="shopify-sync")
    swept = QueueSweep(waiting=7, active=2, delayed=1, paused=True)
    report = SweepReport(ran=True, epoch_present=True, now_ms=0, queues={"ai-parsing": swept})
    deps = make_deps(swept=lambda: report)
    deps.metrics.attempt_settled("ai-parsing", Outcome.FINISHED, 0.2)
    deps.metrics.loop_was_late(0.2)
    async with asking(deps) as client:
        text = (await client.get("/metrics")).text
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(line.startswith("po_") for line in lines)
    assert {label for line in lines for label in re.findall(r'(\w+)="', line)} <= {"queue", "outcome", "le"}
    for expected in (
        'po_attempts_total{outcome="finished",queue="ai-parsing"} 1.0',
        'po_hop_seconds_count{queue="ai-parsing"} 1.0',
        'po_queue_waiting_jobs{queue="ai-parsing"} 7.0',
        'po_runs{outcome="running"} 1.0',
        'po_runs_due{queue="shopify-sync"} 1.0',
        "po_redis_connections_ready 3.0",
        "po_database_up 1.0",
        'po_event_loop_lag_seconds_bucket{le="0.5"} 1.0',
    ):
        assert expected in lines


async def test_a_bull_worker_on_our_queues_is_named(connections: Connections) -> None:
    assert await foreign_consumers(connections.commands, "bull", flow.NAMES) == []
    # What bull does with the connection it blocks on: base64 of "shopify-sync".
    await connections.commands.call("CLIENT", "SETNAME", "bull:c2hvcGlmeS1zeW5j")
    [found] = await foreign_consumers(connections.commands, "bull", flow.NAMES)
    assert found.startswith("shopify-sync is consumed by a bull worker at 127.0.0.1:")


async def test_a_name_with_a_suffix_is_a_worker_of_that_queue_alone(connections: Connections) -> None:
    for queue in flow.NAMES:
        await connections.commands.call("CLIENT", "SETNAME", f"{bull_name(queue)}:w:jo")
        [found] = await foreign_consumers(connections.commands, "bull", flow.NAMES)
        assert found.startswith(f"{queue} is")


async def test_a_worker_of_a_queue_whose_name_only_begins_like_ours_is_not_ours(connections: Connections) -> None:
    """Of names whose length is a multiple of three, bull's own getWorkers does not see the end."""
    for longer in [queue + more for queue in flow.NAMES for more in ("s", "-old")]:
        await connections.commands.call("CLIENT", "SETNAME", bull_name(longer))
        assert await foreign_consumers(connections.commands, "bull", flow.NAMES) == []


def bull_name(queue: str) -> str:
    """What bull calls the connection on which it blocks."""
    return f"bull:{base64.b64encode(queue.encode()).decode()}"


async def test_a_probe_asks_redis_for_its_clients_once_a_minute(connections: Connections) -> None:
    class Counting:
        asked = 0

        async def call(self, *arguments: Any) -> Any:
            self.asked += 1
            return await connections.commands.call(*arguments)

        async def run(self, *arguments: Any) -> Any:
            raise AssertionError(arguments)

    commands, clock = Counting(), Minutes()
    watch = ConsumerWatch(commands, "bull", flow.NAMES, clock)
    for _ in range(3):
        await watch.look()
    assert commands.asked == 1
    clock.seconds += LOOK_AGAIN_S + 1
    await watch.look()
    assert commands.asked == 2


# ------------------------------------------------------------------------------ a worker that no longer consumes


def test_by_default_a_worker_that_hangs_is_red_within_a_minute() -> None:
    settings, config = Settings(), WorkerConfig("w")
    for pause_s in (config.idle_s, settings.guard_seconds, settings.heartbeat_seconds):
        assert pause_s + ANSWER_S <= 60


@pytest.mark.parametrize("hung", ["sweep", "heartbeat"])
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
async def test_a_worker_whose_sweep_or_heartbeat_hangs_is_red_within_a_minute(
    redis_url: str, database_url: str, hung: str, *, busy: bool
) -> None:
    """The other role goes on; before anything is due it is green, and it is green again when it is answered."""
    clock = MovedClock()
    settings, defaults = Settings(), WorkerConfig("w")
    async with open_line(redis_url, database_url, clock=clock, beat_s=settings.heartbeat_seconds) as line:
        worker = line.worker(clock=clock, guard_s=settings.guard_seconds, idle_s=defaults.idle_s)
        assert health_of(worker).trouble == "worker: not started"
        if busy:
            await line.add_upload()
        roles = {"sweep": worker._sweeper.run_once, "heartbeat": line.heartbeat.run_once}
        for role in roles.values():
            await role()
        red_after_s = 0
        while not health_of(worker).trouble:
            clock.move(1)
            red_after_s += 1
            for name, role in roles.items():
                if name != hung:
                    await role()
        pause_s = settings.heartbeat_seconds
        if hung == "sweep":
            pause_s = settings.guard_seconds if busy else defaults.idle_s
        assert pause_s < red_after_s <= 60
        assert health_of(worker).trouble == f"worker: no {hung} for {red_after_s} s"
        await roles[hung]()
        assert health_of(worker).trouble == ""


async def test_a_loop_that_was_blocked_a_moment_ago_is_a_reason(redis_url: str, database_url: str) -> None:
    class Saw:
        trouble = "the event loop was blocked for 12.0 s, 3 s ago"

    async with open_line(redis_url, database_url) as line:
        worker = line.worker()
        await worker._sweeper.run_once()
        assert health_of(worker, Saw()).trouble == Saw.trouble  # type: ignore[arg-type]


async def test_rounds_go_on_while_redis_is_away_and_stand_still_only_where_one_hangs(
    redis_url: str, database_url: str
) -> None:
    """What the watchdog goes by: an outage ends no process, a call of ours that never returns does."""
    async with proxy_to(redis_url) as proxy, open_line(proxy.url(), database_url, beat_s=0.2) as line:
        worker = line.worker(idle_s=0.2)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.run)
            await eventually(lambda: _reached(worker, "sweep", 2))
            proxy.refusing = True
            proxy.cut()
            await eventually(lambda seen=worker.rounds["sweep"]: _reached(worker, "sweep", seen + 1))
            hangs = anyio.Event()

            async def hang(*_given: object, **_named: object) -> None:
                hangs.set()
                await anyio.sleep_forever()

            line.bull.sweep = hang  # type: ignore[method-assign,assignment]
            await hangs.wait()
            stood_at, others = worker.rounds["sweep"], worker.rounds["heartbeat"]
            await eventually(lambda: _reached(worker, "heartbeat", others + 5))
            assert worker.rounds["sweep"] - worker.rounds["reconciler"] <= stood_at
            proxy.refusing = False
            worker.stop()


async def _reached(worker: Worker, role: str, count: int) -> bool:
    return worker.rounds[role] >= count


class Minutes(SystemClock):
    """A clock that is moved by hand."""

    seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


async def test_every_endpoint_says_what_it_does(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/api/openapi.json")).json()["paths"]
    assert "/api/orders/{name}/receipts" in paths
    assert all(operation["description"] for methods in paths.values() for operation in methods.values())
