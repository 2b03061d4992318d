"""What the page and the endpoints are given; they make nothing themselves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.admin.metrics import Metrics

if TYPE_CHECKING:
    from app.approving import Approvals
    from app.db.grants import Grants
    from app.db.people import People
    from app.db.session import Database
    from app.db.shop_limits import PostgresShopLimits
    from app.redis_link import ConnectionState
    from app.webhook_inbox import WebhookInbox
    from pipeline.clock import Clock
    from pipeline.ports import Progress
    from pipeline.queue.bull import Bull
    from pipeline.queue.job import SweepReport


@dataclass(frozen=True, slots=True)
class Health:
    """What the process says about itself.

    `queues` are those it is meant to consume, none for a process that only serves the page. `trouble` is why it
    does not, empty while it does.
    """

    queues: tuple[str, ...] = ()
    running: int = 0
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Webhooks:
    """Whose secrets sign Shopify's webhooks, where these go, and the name by which Shopify reaches us, if known."""

    grants: Grants
    inbox: WebhookInbox
    public_host: str = ""


@dataclass(frozen=True, slots=True)
class AdminDeps:
    """Everything the endpoints stand on. `token` None: nobody has to say who they are."""

    database: Database
    bull: Bull
    people: People
    shop_limits: PostgresShopLimits
    approvals: Approvals
    progress: Progress
    clock: Clock
    connections: Callable[[], Sequence[ConnectionState]]
    health: Callable[[], Health]
    swept: Callable[[], SweepReport | None]
    foreign: Callable[[], Awaitable[Sequence[str]]]
    version: str
    host: str = "127.0.0.1"
    token: str | None = None
    metrics: Metrics = field(default_factory=Metrics)
    webhooks: Webhooks | None = None
