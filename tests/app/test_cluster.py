"""Redis Cluster for real: everything we keep lies in one slot, and we are on the node that has it."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import redis

from app.connections import Connections, open_connections
from app.core import open_core
from app.embedded import Home
from app.server_checks import check_server
from app.worker_main import RefusedToStartError, check_start
from pipeline import flow
from pipeline.clock import SystemClock
from pipeline.errors import CommandRefused, RedisUnavailable
from pipeline.queue.bull import Bull
from pipeline.queue.job import ClaimedJob, NewJob, Retention
from pipeline.queue.keys import Keys
from tests.app.held import held
from tests.app.redis_cluster import Node, give, owner_of, start_cluster
from tests.chaos.conftest import sandbox
from tests.conformance.oracle import INTEROP, npm_bull
from tests.pipeline.queue.branches import BRANCHES, Given
from tests.pipeline.queue.support import QUEUE
from tests.shop import articles, check_once, connect_merchant, csv_of, settings_for, settled, submit, working
from tests.support import eventually, require

__all__ = ["sandbox"]

KEYS = Keys("{bull}")
SILENT = {"guard_seconds": 600, "reconcile_seconds": 600}
"""No sweep finds what was not heard of: an order that moves was woken by what is published."""


@pytest.fixture(scope="module")
def cluster(servers_home: Home, expect_children: Callable[[], None]) -> Iterator[list[Node]]:
    """Three nodes; the first is the one our settings name, and our slot is on another."""
    with start_cluster(servers_home, 3) as nodes:
        expect_children()
        yield nodes


@pytest.fixture(scope="module")
def lone_node(servers_home: Home, expect_children: Callable[[], None]) -> Iterator[Node]:
    """A cluster of one node, as hosted servers of the smallest size are."""
    with start_cluster(servers_home, 1) as [node]:
        expect_children()
        yield node


@pytest.fixture
def node(lone_node: Node) -> Node:
    lone_node.raw.flushall()
    return lone_node


@pytest.fixture
def nodes(cluster: list[Node]) -> list[Node]:
    for node in cluster:
        node.raw.flushall()
    assert KEYS.slot is not None
    give(KEYS.slot, cluster, cluster[1])
    return cluster


@pytest.fixture
async def connections(nodes: list[Node]) -> AsyncIterator[Connections]:
    async with held(open_connections(nodes[0].url, SystemClock(), slot=KEYS.slot)) as opened:
        yield opened


@pytest.mark.parametrize("prefix", ["{bull}", "shop{a}{b}", "{a{b}", "bull", "{}bull", "{bull", "bull}"])
def test_a_prefix_holds_all_keys_in_the_slot_the_server_says(prefix: str, node: Node) -> None:
    keys = Keys(prefix)
    names = [keys.epoch, keys.guard, *(keys.job(queue, "po-1") for queue in flow.NAMES)]
    slots = {node.raw.execute_command("CLUSTER", "KEYSLOT", name) for name in names}
    assert slots == {keys.slot} if keys.slot is not None else len(slots) > 1


async def test_a_prefix_without_a_hash_tag_is_refused_with_what_to_set_on_both_sides(
    node: Node, database_url: str
) -> None:
    settings = settings_for(node.url, database_url, "")
    async with open_core(settings) as core:
        with pytest.raises(RefusedToStartError) as told:
            await check_start(core)
    assert str(told.value) == (
        "this Redis is a cluster, and keys with the prefix bull lie in many of its slots: set QUEUE_PREFIX={bull} here"
        " and prefix: '{bull}' in the options of every Queue in the Node code, the same on both sides"
    )


@pytest.mark.parametrize("verb", BRANCHES)
async def test_every_verb_runs_in_all_its_branches(verb: str, node: Node) -> None:
    async with open_connections(node.url, SystemClock(), slot=KEYS.slot) as opened:
        await BRANCHES[verb](Given(Bull(opened.commands, prefix="{bull}", leases=opened.leases), node.raw))


async def test_one_node_takes_an_order_through_the_line(node: Node, database_url: str, sandbox: str) -> None:
    await check_an_order_passes([node], database_url, sandbox)
    async with open_connections(node.url, SystemClock()) as opened:
        assert await check_server(opened.commands, KEYS, flow.NAMES) == []


async def test_three_nodes_take_an_order_through_the_line_although_the_first_has_not_our_slot(
    nodes: list[Node], database_url: str, sandbox: str
) -> None:
    await check_an_order_passes(nodes, database_url, sandbox)
    assert [key for key in nodes[0].raw.scan_iter() if not key.startswith("workflow:")] == []


async def check_an_order_passes(nodes: list[Node], database_url: str, sandbox: str) -> None:
    settings = settings_for(nodes[0].url, database_url, sandbox, queue_prefix="{bull}", **SILENT)
    async with working(settings) as (core, _):
        await check_start(core)
        await connect_merchant(core, sandbox)
        lines = articles(1)
        await submit(core, "order.csv", csv_of("PO-1", lines))
        [row] = await settled(core, 1, within_s=30)
        assert row.state == "completed"
        await check_once(core, sandbox, [lines])
        sweep = await core.bull.sweep(flow.NAMES, guard_ms=1, stalled_interval_ms=1000)
        assert not any(queue.broken for queue in sweep.queues.values())


async def test_a_cluster_of_several_nodes_is_said_to_keep_upstreams_page_in_the_dark(
    connections: Connections,
) -> None:
    [finding] = await check_server(connections.commands, KEYS, flow.NAMES)
    assert (finding.level, finding.what) == ("warn", "cluster")
    assert "workflow:<id>" in finding.text


async def test_commands_and_leases_follow_the_slot_and_no_caller_hears_of_it(
    connections: Connections, nodes: list[Node]
) -> None:
    bull = Bull(connections.commands, prefix="{bull}", leases=connections.leases)
    assert KEYS.slot is not None
    for owner in (nodes[1], nodes[2], nodes[0]):
        owner_of(nodes, KEYS.slot).raw.flushall()
        give(KEYS.slot, nodes, owner)
        assert (await bull.enqueue(QUEUE, NewJob(id="po-1", data="{}"))).created
        assert owner.raw.exists(KEYS.job(QUEUE, "po-1"))
        job = await bull.claim(QUEUE, token=f"on {owner.port}", lease_ms=30_000)
        assert isinstance(job, ClaimedJob)
        assert (await bull.sweep([QUEUE], guard_ms=1, stalled_interval_ms=1)).queues[QUEUE].active == 1
        await eventually(lambda owner=owner: _are_on(owner, {"po:commands", "po:leases"}))
        await bull.finish(job, returnvalue="1", retention=Retention(count=0))


async def test_a_key_of_others_on_another_node_moves_nobody(connections: Connections, nodes: list[Node]) -> None:
    await connections.commands.call("EXISTS", KEYS.epoch)
    before = [state.reconnects for state in connections.states()]
    elsewhere = next(
        name for name in (f"workflow:{n}" for n in range(1000)) if owner_of(nodes, _slot(nodes, name)) is not nodes[1]
    )
    with pytest.raises(CommandRefused) as told:
        await connections.commands.call("SET", elsewhere, "{}")
    assert told.value.code == "MOVED"
    assert [state.reconnects for state in connections.states()] == before


async def test_sent_to_where_nobody_is_we_ask_the_first_node_again(nodes: list[Node]) -> None:
    """As when the node that has our slot died, and the others do not know it yet."""
    nodes[1].raw.config_set("cluster-announce-port", 1)
    try:
        await eventually(lambda: _says(nodes[0], "127.0.0.1:1"))
        async with open_connections(nodes[0].url, SystemClock(), slot=KEYS.slot, call_timeout_s=0.3) as opened:
            with pytest.raises(RedisUnavailable):
                await opened.commands.call("EXISTS", KEYS.epoch)
            nodes[1].raw.config_set("cluster-announce-port", 0)
            await eventually(lambda: _says(nodes[0], f"127.0.0.1:{nodes[1].port}"))

            async def answered() -> bool:
                try:
                    return await opened.commands.call("EXISTS", KEYS.epoch) == 0
                except RedisUnavailable:
                    return False

            await eventually(answered)
    finally:
        nodes[1].raw.config_set("cluster-announce-port", 0)


@pytest.mark.interop
async def test_npm_bull_with_the_same_hash_tag_shares_the_queues(node: Node) -> None:
    program = shutil.which("node")
    require(program, "no node on this machine: the tests against npm bull need it")
    require((INTEROP / "node_modules" / "bull").is_dir(), "npm bull is not installed: run `npm ci` in tests/interop")
    assert program is not None
    with npm_bull(program, node.url, prefix="{bull}") as theirs:
        await theirs.queue(QUEUE, "add", {"from": "node"}, {"jobId": "po-1"})
        async with open_connections(node.url, SystemClock(), slot=KEYS.slot) as opened:
            bull = Bull(opened.commands, prefix="{bull}")
            job = await bull.claim(QUEUE, token="w:1", lease_ms=30_000)
            assert isinstance(job, ClaimedJob)
            await bull.finish(job, returnvalue='{"by":"us"}', retention=Retention(age_s=60))
        [done] = await theirs.queue(QUEUE, "getJobs", ["completed"])
        assert (done["data"], done["returnvalue"]) == ({"from": "node"}, {"by": "us"})
        assert await theirs.forget() == []


def _slot(nodes: list[Node], key: str) -> int:
    return int(nodes[0].raw.execute_command("CLUSTER", "KEYSLOT", key))


async def _are_on(node: Node, names: set[str]) -> bool:
    return names <= {client["name"] for client in node.raw.client_list()}


async def _says(node: Node, address: str) -> bool:
    try:
        node.raw.get(KEYS.epoch)
    except redis.exceptions.MovedError as moved:
        return address == f"{moved.host}:{moved.port}"
    return False
