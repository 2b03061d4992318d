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
from typing import TYPE_CHECKING

import anyio

from app.redis_link import CommandLink, ConnectionState, EventLink, LinkConfig
from app.redis_socket import Address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pipeline.clock import Clock
    from pipeline.queue.backoff import Random
    from pipeline.queue.bull import Commands
    from pipeline.queue.notifier import Events


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
    slot: int | None = None,
    random: Random = chance.random,
    on_change: Callable[[ConnectionState], None] = lambda _: None,
) -> AsyncIterator[Connections]:
    """Keep the three connections open inside the block.

    Returns at once: a Redis that is not there yet is a state, shown and retried, not a crash. `on_change` hears
    of every change of state. In a cluster `commands` and `leases` move to the node that has `slot` (`Keys.slot`);
    what is published is heard on any of them.
    """

    def changed(state: ConnectionState) -> None:
        if state.state == "reconnecting":
            for link in links:
                link.doubt()
        on_change(state)

    config = LinkConfig(
        address=Address.parse(url),
        client_name=name,
        connect_timeout_s=connect_timeout_s,
        call_timeout_s=call_timeout_s,
        ping_s=ping_s,
        random=random,
        on_change=changed,
        slot=slot,
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
