"""One attempt at a stage that dies in this process: real Postgres, real shop, and nothing kept in memory after it.

Dying is an exception no code of ours catches; each attempt has its own HTTP client, adapters, stores and ledger, as a
new process would. That makes hundreds of deaths cheap; what queues and leases add is tested with real kills elsewhere.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
from sqlalchemy import select

from app.adapters.shops import Shops
from app.bootstrap import tokens_of
from app.core import Core
from app.db.creations import PostgresCreations
from app.db.drafts import PostgresDrafts
from app.db.effects import PostgresEffects
from app.db.orders import PostgresOrders
from app.db.plans import PostgresPlans
from app.db.tables import runs
from pipeline import flow
from pipeline.clock import SystemClock
from pipeline.contract import StageInput, StageResult
from pipeline.domain.intake import HandOff
from pipeline.effects import Ledger
from pipeline.ports import Effect
from pipeline.run_store import Ready, Ticket
from pipeline.stages.shopify_sync import ShopifySync
from tests.support import loopback

DEFINES = b"metafieldDefinitionCreate"
"""Every process makes sure of it first; a repeat changes nothing."""

Reach = Callable[[str, str], None]
"""Called at each gap with the gap's name and the effect's key."""


BeforeIntent = Callable[[str], Awaitable[None]]
"""Awaited with an effect's key before its intent is written."""


class Died(BaseException):
    """The process is gone: nothing after this line runs."""


def nowhere(_gap: str, _key: str) -> None:
    """Lives."""


@dataclass
class DiesOncePerEffect:
    """Dies at one gap, at each effect the first time it gets there."""

    gap: str
    killed: list[str] = field(default_factory=list)

    def __call__(self, gap: str, key: str) -> None:
        if gap == self.gap and key not in self.killed:
            self.killed.append(key)
            raise Died(gap)


class _Effects(PostgresEffects):
    """The ledger's table, which also says whose gap it is, and what will be written next."""

    key = ""
    before_intent: BeforeIntent | None = None

    async def intend(self, run: str, fence: int, key: str, parameters: Mapping[str, Any]) -> Effect:
        if self.before_intent is not None:
            await self.before_intent(key)
        self.key = key
        return await super().intend(run, fence, key, parameters)


async def attempt(
    core: Core, run_id: str, reach: Reach = nowhere, *, on_send: Callable[[], None] | None = None
) -> StageResult:
    """Load the run as a worker would, and run stage 9 until it ends or dies. Nothing is recorded."""
    _, result = await attempted(core, run_id, reach, on_send=on_send)
    return result


async def attempted(
    core: Core,
    run_id: str,
    reach: Reach = nowhere,
    *,
    on_send: Callable[[], None] | None = None,
    before_intent: BeforeIntent | None = None,
) -> tuple[Ready, StageResult]:
    """The loaded run and what the stage found out."""
    ready = await _load(core, run_id)
    effects = _Effects(core.database)
    effects.before_intent = before_intent

    async def hook(request: httpx.Request) -> None:
        if (
            on_send is not None
            and b"mutation" in request.content
            and b"metafieldDefinitionCreate" not in request.content
        ):
            on_send()

    async with loopback(timeout=10, event_hooks={"request": [hook]}) as http:
        orders = PostgresOrders(core.database)
        stage = ShopifySync(
            Shops(http, tokens_of(core, http).credentials, SystemClock(), core.shop_limits),
            PostgresDrafts(core.database),
            orders,
            orders,
            Ledger(effects, lambda gap: reach(gap, effects.key)),
            SystemClock(),
            PostgresPlans(core.database),
            PostgresCreations(core.database),
        )
        given = StageInput(
            run=ready.run, stage=flow.SYNC, attempt=ready.attempt, earlier=ready.earlier, still_ours=lambda: None
        )
        return ready, await stage.run(given)


async def finish(core: Core, run_id: str) -> StageResult:
    """The attempt that lives: its result is recorded."""
    ready, result = await attempted(core, run_id)
    await core.runs.record(ready, result)
    return result


async def _load(core: Core, run_id: str) -> Ready:
    async with core.database.transaction() as connection:
        row = (await connection.execute(select(runs.c.job_id, runs.c.entry).where(runs.c.id == run_id))).one()
    loaded = await core.runs.load(
        Ticket(
            stage=flow.SYNC,
            job_id=row.job_id,
            timestamp_ms=1,
            attempts_made=0,
            stalled=0,
            worker="doomed",
            request=HandOff(runId=run_id, entry=row.entry, flowVersion=flow.FLOW_VERSION),
        ),
        alone=True,
    )
    assert isinstance(loaded, Ready), loaded
    return loaded
