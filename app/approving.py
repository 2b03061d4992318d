"""Approving an order with the plan of what it will do in the shop; shared by the page and the command line.

Neither has a worker's slots: a plan is a read, a few queries under one deadline. The shop is read again at the moment
of approving (domain.md section 2: "Stale approval"); what was read then is what is approved.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

from app.bootstrap import open_shops
from app.db.drafts import PostgresDrafts
from app.db.errors import ConflictError
from app.db.orders import PostgresOrders
from app.db.plans import ReadPlan
from app.db.waiting import find_review_stage, get_waiting
from pipeline import flow
from pipeline.contract import Reject
from pipeline.domain.plan import items, summary
from pipeline.errors import VendorRefused, VendorUnavailable
from pipeline.shopkeeping.planning import read_plan

if TYPE_CHECKING:
    from app.core import Core
    from app.db.people import People
    from app.db.session import Database
    from pipeline.clock import Clock
    from pipeline.contract import StageInput
    from pipeline.domain.plan import Plan
    from pipeline.ports import Shops
    from pipeline.run_store import NextJob

READ_WITHIN_S = 20.0


class PlanChangedError(ConflictError):
    """What would happen in the shop is not what the person saw."""


@dataclass(frozen=True, slots=True)
class Approved:
    """The job that goes on, and the plan it goes on with; None where there is none."""

    next: NextJob
    read: ReadPlan | None


class Approvals:
    """Reads plans, and approves with them."""

    def __init__(self, shops: Shops, database: Database, people: People, clock: Clock) -> None:
        self._shops = shops
        self._database = database
        self._people = people
        self._clock = clock
        self._drafts = PostgresDrafts(database)
        self._orders = PostgresOrders(database)

    async def read(self, run_id: str, who: str) -> ReadPlan:
        """What would happen in the shop if `who` approved now.

        Raises ConflictError when the run has no plan or a person must put something right first, VendorUnavailable
        when the shop cannot be reached in time.
        """
        waiting = await get_waiting(self._database, run_id, who)
        try:
            with anyio.fail_after(READ_WITHIN_S):
                plan = await self._read(waiting.given)
        except TimeoutError:
            raise VendorUnavailable(f"the shop was not read within {READ_WITHIN_S:g} s") from None
        except (Reject, VendorRefused) as error:
            raise ConflictError(f"the shop cannot be read: {error}") from None
        return ReadPlan(run_id, waiting.entry, plan, self._clock.now())

    async def approve(self, run_id: str, who: str, *, seen: str = "", without_plan: bool = False) -> Approved:
        """Let a run that needs review go on, with the plan as the shop is now.

        `seen` is the digest of the plan the person looked at: raises PlanChangedError when it is another by now.
        `without_plan` asks no shop; the order then does what it finds to do.
        """
        if without_plan or await find_review_stage(self._database, run_id) not in flow.BEFORE_THE_SHOP:
            return Approved(await self._people.approve(run_id, who), None)
        read = await self.read(run_id, who)
        if read.plan.stops:
            raise ConflictError(summary(read.plan))
        if seen and seen != read.plan.digest:
            raise PlanChangedError("the shop has changed since you looked: read the plan again")
        return Approved(await self._people.approve(run_id, who, read), read)

    async def _read(self, given: StageInput) -> Plan:
        shop = await self._shops.of(given.run.merchant)
        stored = await self._drafts.of_run(given.run.id)
        plan, _ = await read_plan(given, shop, await shop.facts(), stored, self._orders)
        return plan


def plan_json(read: ReadPlan) -> dict[str, Any]:
    """A plan for a page or a program: in words, and as exact content."""
    return {
        "runId": read.run_id,
        "entry": read.entry,
        "digest": read.plan.digest,
        "readAt": read.read_at.isoformat(),
        "summary": summary(read.plan),
        "stops": [stop.model_dump() for stop in read.plan.stops],
        "items": [item.model_dump() for item in items(read.plan)],
        "content": read.plan.model_dump(mode="json"),
    }


@asynccontextmanager
async def open_approvals(core: Core) -> AsyncIterator[Approvals]:
    """Approvals with a client for the shops, for as long as the block runs."""
    async with open_shops(core) as shops:
        yield Approvals(shops, core.database, core.people, core.clock)
