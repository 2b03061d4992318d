"""A Redis Cluster of our own on loopback: one node with all slots, or several that share them."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import redis

from app.embedded import Home
from app.embedded.home import write_private
from app.embedded.launch import HOST, Recipe, running
from app.embedded.programs import get_valkey
from app.embedded.valkey import configuration

SLOTS = 16384
FORMED_S = 30.0


@dataclass(frozen=True)
class Node:
    """One server of the cluster, and a connection of the test's own to it."""

    url: str
    raw: redis.Redis

    @property
    def port(self) -> int:
        return int(self.raw.connection_pool.connection_kwargs["port"])

    @property
    def id(self) -> str:
        return str(self.raw.execute_command("CLUSTER", "MYID"))


@contextmanager
def start_cluster(home: Home, nodes: int) -> Iterator[list[Node]]:
    """Start the nodes, give each its part of the slots in order, and wait until all of them agree."""
    with ExitStack() as stack:
        started = [stack.enter_context(_start_node(home, f"cluster-{nodes}-{number}")) for number in range(nodes)]
        for number, node in enumerate(started):
            first, after = (SLOTS * bound // nodes for bound in (number, number + 1))
            node.raw.execute_command("CLUSTER", "ADDSLOTSRANGE", first, after - 1)
            node.raw.execute_command("CLUSTER", "MEET", HOST, started[0].port, _bus_port(started[0]))
        _wait_until_formed(started)
        yield started


def owner_of(nodes: list[Node], slot: int) -> Node:
    """The node that has the slot, by its own word."""
    for node in nodes:
        for first, last, primary, *_ in node.raw.execute_command("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(one for one in nodes if one.port == primary[1])
    raise AssertionError(f"nobody has slot {slot}")


def give(slot: int, nodes: list[Node], to: Node) -> None:
    """Move a slot without keys to another node, as an operator's resharding ends."""
    for node in [to, *(one for one in nodes if one is not to)]:
        node.raw.execute_command("CLUSTER", "SETSLOT", slot, "NODE", to.id)


@contextmanager
def _start_node(home: Home, name: str) -> Iterator[Node]:
    password = home.get_password("cluster")
    data = home.path / name
    data.mkdir(mode=0o700)

    def command(port: int) -> list[str]:
        lines = ["cluster-enabled yes", "cluster-config-file nodes.conf", f"cluster-port {_free_port()}"]
        text = configuration(data, port, password, durable=False) + "\n".join(lines) + "\n"
        write_private(data / "valkey.conf", text)
        return [str(get_valkey()), str(data / "valkey.conf")]

    with (
        running(Recipe(name, command, lambda port, _pid: _answers(port, password)), home) as port,
        redis.Redis(host=HOST, port=port, password=password, decode_responses=True) as raw,
    ):
        yield Node(f"redis://:{password}@{HOST}:{port}/0", raw)


def _answers(port: int, password: str) -> bool:
    try:
        with redis.Redis(host=HOST, port=port, password=password) as raw:
            return bool(raw.ping())
    except redis.ConnectionError:
        return False


def _bus_port(node: Node) -> int:
    return int(node.raw.config_get("cluster-port")["cluster-port"])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _wait_until_formed(nodes: list[Node]) -> None:
    deadline = time.monotonic() + FORMED_S
    while any(_info(node) != ("ok", str(SLOTS), str(len(nodes))) for node in nodes):
        assert time.monotonic() < deadline, [_info(node) for node in nodes]
        time.sleep(0.02)


def _info(node: Node) -> tuple[str, ...]:
    info = node.raw.execute_command("CLUSTER INFO")
    return tuple(info[name] for name in ("cluster_state", "cluster_slots_ok", "cluster_known_nodes"))
