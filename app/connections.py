"""The process's three connections to Redis: opened once, in one place, and closed together.

commands   the work: calls of all tasks, pipelined
leases     renewing and sweeping, so that neither ever queues behind work; fails at once while it is down,
           because Bull then uses `commands`
events     what the queues publish
"""

from __future__ import annotations

import random as chance
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import anyio

from app.redis_link import CommandLink, ConnectionState, EventLink, LinkConfig
from app.redis_socket import Address
from pipeline.errors import BrokenQueue, CommandRefused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from pipeline.clock import Clock
    from pipeline.queue.backoff import Random
    from pipeline.queue.bull import Commands
    from pipeline.queue.keys import Keys
    from pipeline.queue.notifier import Events


OLDEST_SERVER = (6, 2)


@dataclass(frozen=True, slots=True)
class Connections:
    """What the rest of the process gets."""

    commands: Commands
    leases: Commands
    events: Events
    states: Callable[[], list[ConnectionState]]


@asynccontextmanager
async def open_connections(
    url: str,
    clock: Clock,
    *,
    connect_timeout_s: float = 5,
    call_timeout_s: float = 5,
    name: str = "po",
    ping_s: float = 240,
    random: Random = chance.random,
    on_change: Callable[[ConnectionState], None] = lambda _: None,
) -> AsyncIterator[Connections]:
    """Keep the three connections open inside the block.

    Returns at once: a Redis that is not there yet is a state, shown and retried, not a crash. `on_change` hears
    of every change of state.
    """
    config = LinkConfig(
        address=Address.parse(url),
        client_name=name,
        connect_timeout_s=connect_timeout_s,
        call_timeout_s=call_timeout_s,
        ping_s=ping_s,
        random=random,
        on_change=on_change,
    )
    commands = CommandLink("commands", clock, config, fail_fast=False)
    leases = CommandLink("leases", clock, config, fail_fast=True)
    events = EventLink("events", clock, config)
    links = (commands, leases, events)
    failure: Exception | None = None
    async with anyio.create_task_group() as owners:
        for link in links:
            owners.start_soon(link.own)
        try:
            yield Connections(commands, leases, events, lambda: [link.state for link in links])
        except Exception as error:  # noqa: BLE001  -- carried past the task group, which would wrap it
            failure = error
        finally:
            owners.cancel_scope.cancel()
    if failure is not None:
        raise failure


@dataclass(frozen=True, slots=True)
class Finding:
    """Something the server is not set up for. "refuse": do not start; "warn": start and say so."""

    level: Literal["refuse", "warn"]
    what: str
    text: str


async def check_server(
    commands: Commands, keys: Keys, queues: Sequence[str], *, allow_eviction: bool = False
) -> list[Finding]:
    """List what speaks against working on this server with these queues."""
    findings = [await _check_version(commands), await _check_eviction(commands, allow_eviction=allow_eviction)]
    for queue in queues:
        findings += await _check_queue(commands, keys, queue)
    return [finding for finding in findings if finding is not None]


async def _check_version(commands: Commands) -> Finding | None:
    return judge_version((await _info(commands, "server")).get("redis_version"))


def judge_version(version: str | None) -> Finding | None:
    """The scripts use LPOS (6.0.6); 6.2 is the oldest server they are meant for. None: it does not say."""
    if version is None or tuple(map(int, version.split(".")[:2])) >= OLDEST_SERVER:
        return None
    oldest = ".".join(map(str, OLDEST_SERVER))
    return Finding("refuse", "version", f"Redis {version} is too old; it must be {oldest} or newer")


async def _info(commands: Commands, section: str) -> dict[str, str]:
    """Read a section of INFO; empty where that is denied."""
    try:
        info = str(await commands.call("INFO", section))
    except CommandRefused:
        return {}
    return dict(line.split(":", 1) for line in info.splitlines() if ":" in line)


async def _check_eviction(commands: Commands, *, allow_eviction: bool) -> Finding | None:
    """Anything but noeviction may delete a job, or half of one, when memory is short."""
    policy = await _eviction_policy(commands)
    if policy is None:
        return Finding("warn", "eviction", "maxmemory-policy cannot be read; it must be noeviction")
    if policy == "noeviction":
        return None
    level: Literal["refuse", "warn"] = "warn" if allow_eviction else "refuse"
    return Finding(level, "eviction", f"maxmemory-policy is {policy}: Redis may delete jobs; set noeviction")


async def _eviction_policy(commands: Commands) -> str | None:
    """Ask CONFIG, then INFO: hosted servers deny the one or the other."""
    try:
        answer: Any = await commands.call("CONFIG", "GET", "maxmemory-policy")
        if answer:
            return str(answer[1])
    except CommandRefused:
        pass  # as good as no answer
    return (await _info(commands, "memory")).get("maxmemory_policy")


async def _check_queue(commands: Commands, keys: Keys, queue: str) -> list[Finding | None]:
    """What is wrong with one queue keeps no other from running, so a broken one is a warning."""
    try:
        return [await _check_owner(commands, keys, queue), await _check_schedules(commands, keys, queue)]
    except BrokenQueue:
        text = f"{keys.meta(queue)} or {keys.repeat(queue)} is not what Bull keeps there: look at it and delete it"
        return [Finding("warn", "broken queue", text)]


async def _check_schedules(commands: Commands, keys: Keys, queue: str) -> Finding | None:
    """A repeatable job's next run is scheduled by whoever takes it; we run the job and end the schedule."""
    schedules = await commands.call("ZCARD", keys.repeat(queue))
    if not schedules:
        return None
    advice = "schedule them outside of Bull (cron) and removeRepeatable them"
    return Finding(
        "warn", "repeatable jobs", f"{queue} has {schedules}: each runs once more and is not scheduled again; {advice}"
    )


async def _check_owner(commands: Commands, keys: Keys, queue: str) -> Finding | None:
    """BullMQ stores queues of the same names differently; it leaves its version, Bull does not."""
    version = await commands.call("HGET", keys.meta(queue), "version")
    if version is None:
        return None
    return Finding("refuse", "foreign queue", f"{queue} belongs to {version}, not to Bull 4")
