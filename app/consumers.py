"""Finds who else takes jobs from our queues: a Node process of upstream that was not told to stop."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING

from pipeline.errors import CommandRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.clock import Clock
    from pipeline.queue.bull import Commands

LOOK_AGAIN_S = 60.0
"""Probes ask every few seconds, and hosted Redis bills each command."""


class ConsumerWatch:
    """Remembers who else takes our jobs, and looks again after a minute."""

    def __init__(self, commands: Commands, prefix: str, queues: Sequence[str], clock: Clock) -> None:
        self._commands = commands
        self._prefix = prefix
        self._queues = queues
        self._clock = clock
        self._found: list[str] = []
        self._looked_at: float | None = None

    async def look(self) -> list[str]:
        """What `foreign_consumers` found, at most a minute ago."""
        now = self._clock.monotonic()
        if self._looked_at is None or now - self._looked_at > LOOK_AGAIN_S:
            self._found = await foreign_consumers(self._commands, self._prefix, self._queues)
            self._looked_at = now
        return self._found


async def foreign_consumers(commands: Commands, prefix: str, queues: Sequence[str]) -> list[str]:
    """Each queue that a bull worker listens to, with the address it does so from.

    bull names the connection it blocks on, as `_worker_names` says; ours are named otherwise and never block.
    Empty also where the server hides its clients.
    """
    names = _worker_names(prefix, queues)
    try:
        listed = str(await commands.call("CLIENT", "LIST"))
    except CommandRefused:
        return []
    found = []
    for line in listed.splitlines():
        fields = dict(part.partition("=")[::2] for part in line.split())
        worker = names.fullmatch(fields.get("name", ""))
        if worker is not None:
            queue = base64.b64decode(worker["queue"]).decode()
            found.append(f"{queue} is consumed by a bull worker at {fields.get('addr', 'an unknown address')}")
    return sorted(found)


def _worker_names(prefix: str, queues: Sequence[str]) -> re.Pattern[str]:
    """`<prefix>:<base64 of the queue's name>`, and behind it whatever is no base64 (wire spec 5.1).

    Bull itself asks only how a name begins. It so takes a worker of `shopify-sync-old` for one of `shopify-sync`:
    three characters make four of base64, so that one encoded name may begin with another.
    """
    encoded = "|".join(re.escape(base64.b64encode(queue.encode()).decode()) for queue in queues)
    return re.compile(rf"{re.escape(prefix)}:(?P<queue>{encoded})([^A-Za-z0-9+/=].*)?")
