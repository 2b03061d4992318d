"""Is everything in order? Both stores looked at once, for people: `reconcile` prints it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from app.core import Core
from app.db.invariants import list_journal_violations
from pipeline import flow
from pipeline.invariants import QueueFound, examine
from pipeline.queue.invariants import Violation

ON_ITS_WAY = timedelta(seconds=5)
"""Between a commit in Postgres and the script that tells Redis a run may have no job for so long."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found: each queue, and the runs that break a rule of the journal."""

    queues: Sequence[QueueFound]
    journal: Sequence[Violation]

    @property
    def violations(self) -> list[Violation]:
        """Every rule that does not hold, those that need a person first."""
        found = [*self.journal, *(one for queue in self.queues for one in queue.violations)]
        return sorted(found, key=lambda one: bool(one.heals))

    @property
    def in_order(self) -> bool:
        """Whether nobody needs to look: all could be read, and what does not hold mends itself."""
        return all(one.heals for one in self.violations) and not any(queue.unread for queue in self.queues)

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "in_order": self.in_order,
            "queues": [asdict(queue) for queue in self.queues],
            "journal": [asdict(one) for one in self.journal],
        }


async def inspect(core: Core) -> Inspection:
    """Look at all queues and all runs; changes nothing."""
    queues = await examine(core.connections.commands, core.bull.keys, flow.NAMES, core.runs, quiet_for=ON_ITS_WAY)
    return Inspection(queues, await list_journal_violations(core.database))
