"""The only list of stages: order, branches, concurrency, limits. Everything else derives from it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

FLOW_VERSION = 1
"""Raised when stages change meaning; a worker leaves jobs of a newer version to newer workers."""


@dataclass(frozen=True, slots=True)
class StageSpec:
    """How one stage is run.

    `time_limit` counts from the last progress; `attempts` are for our own faults; `patience` is how long
    a vendor's outage is waited out, uncounted, before the run says so; `vendor` marks stages that call one
    and are therefore rate-limited; `output` names the result type it records.
    """

    name: str
    concurrency: int
    time_limit: timedelta
    attempts: int = 3
    patience: timedelta = timedelta(hours=1)
    vendor: bool = False
    backoff: timedelta = timedelta(seconds=2)


def _seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


STAGES: tuple[StageSpec, ...] = (
    StageSpec("ai-parsing", 2, _seconds(180), vendor=True),
    StageSpec("database-save", 5, _seconds(60)),
    StageSpec("data-normalization", 3, _seconds(60)),
    StageSpec("merchant-config", 2, _seconds(60)),
    StageSpec("ai-enrichment", 2, _seconds(180), vendor=True),
    StageSpec("shopify-payload", 3, _seconds(60)),
    StageSpec("product-draft-creation", 3, _seconds(60)),
    StageSpec("image-attachment", 2, _seconds(120)),
    StageSpec("shopify-sync", 4, _seconds(300), vendor=True),
    StageSpec("status-update", 10, _seconds(60)),
    StageSpec("background-image-processing", 1, _seconds(600), vendor=True),
)

NAMES: tuple[str, ...] = tuple(spec.name for spec in STAGES)
BY_NAME: dict[str, StageSpec] = {spec.name: spec for spec in STAGES}

FIRST = NAMES[0]
SYNC = "shopify-sync"
STATUS = "status-update"
IMAGES = "background-image-processing"
LAST_REVIEWABLE = "image-attachment"
BEFORE_THE_SHOP = (LAST_REVIEWABLE, SYNC)
"""Where a run that waits for a person goes on with the shop: everything is known that a plan needs."""

SHOP_SHARE = 2 * min(spec.concurrency for spec in STAGES[: NAMES.index(STATUS)]) - 1
"""Orders of one shop under way at once, where one process works: one less than two rounds of the narrowest stage.

With no more than that before it, another shop's order waits at each stage for one attempt at most, and so ends within
twice the time it takes alone. shopify-sync has one slot more than that: a shop that hangs holds a slot for each of its
orders until the circuit opens, and another's orders pass beside them. Pictures (one slot) come after completion.
"""

ENTRY_OF_KIND: dict[str, str] = {"order": FIRST, "receipt": SYNC}
"""Where a run of each kind begins."""


def successor(stage: str, *, kind: str, review: bool) -> str | None:
    """The stage due after `stage` is recorded; None when the run is over.

    Linear, with one branch: a run that needs review goes straight to status-update and is handed to
    nobody from there. A receipt ends at status-update: it has no new products to find pictures for.
    """
    if stage == STATUS:
        return None if review or kind == "receipt" else IMAGES
    if review:
        return STATUS
    following = NAMES.index(stage) + 1
    return NAMES[following] if following < len(NAMES) else None


def resume_stage(reviewed_at: str) -> str:
    """Where an approved run goes on: past image-attachment everything is ready, earlier the stage runs again."""
    return SYNC if reviewed_at == LAST_REVIEWABLE else reviewed_at


def upstream_name(stage: str) -> str:
    """The stage as upstream spells it in envelopes and progress: with underscores."""
    return stage.replace("-", "_")
