"""Finds who else takes jobs from our queues: a Node process of upstream that was not told to stop."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from pipeline.errors import CommandRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.queue.bull import Commands


async def foreign_consumers(commands: Commands, prefix: str, queues: Sequence[str]) -> list[str]:
    """Each queue that a bull worker listens to, with the address it does so from.

    bull names the connection it blocks on `<prefix>:<base64 of the queue's name>`; ours are named otherwise and
    never block. Empty also where the server hides its clients.
    """
    names = {f"{prefix}:{base64.b64encode(queue.encode()).decode()}": queue for queue in queues}
    try:
        listed = str(await commands.call("CLIENT", "LIST"))
    except CommandRefused:
        return []
    found = []
    for line in listed.splitlines():
        fields = dict(part.partition("=")[::2] for part in line.split())
        queue = names.get(fields.get("name", ""))
        if queue is not None:
            found.append(f"{queue} is consumed by a bull worker at {fields.get('addr', 'an unknown address')}")
    return sorted(found)
