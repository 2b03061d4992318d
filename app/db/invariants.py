"""What must hold in the journal whenever no transaction is under way: one query per rule, each bounded.

That a stage has one result per entry is not asked: a unique index refuses the second (`uq_stage_runs_result`).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, and_, func, or_, select

from app.db.session import Database
from app.db.tables import runs, stage_runs
from pipeline import flow
from pipeline.queue.invariants import Violation

FOUND_MAX = 50
"""Rows told per rule."""

_open_attempt = and_(stage_runs.c.run_id == runs.c.id, stage_runs.c.state == "open")

RULES: dict[str, tuple[Any, str]] = {
    "due_fits_state": (
        or_(
            and_(runs.c.state == "running", runs.c.due_stage.is_(None)),
            and_(runs.c.state.in_(("failed", "needs_review", "cancelled")), runs.c.due_stage.is_not(None)),
            and_(runs.c.state == "completed", runs.c.due_stage != flow.IMAGES),
        ),
        "is due where its state does not let it be",
    ),
    "due_since_when": (
        and_(runs.c.due_stage.is_not(None), runs.c.due_since.is_(None)),
        "is due and does not say since when: the reconciler does not see it",
    ),
    "failed_says_why": (
        and_(
            runs.c.state == "failed",
            or_(runs.c.failed_stage == "", runs.c.failure_code == "", runs.c.failure == ""),
        ),
        "failed and does not say where or why",
    ),
    "review_says_where": (
        and_(runs.c.state == "needs_review", runs.c.review_stage == ""),
        "needs review and does not say of which stage: it cannot be approved",
    ),
    "end_has_its_moment": (
        (runs.c.state == "running") != runs.c.finished_at.is_(None),
        "ended without a moment, or has one and has not ended",
    ),
    "one_open_attempt": (
        select(func.count()).where(_open_attempt).correlate(runs).scalar_subquery() > 1,
        "has more than one attempt open",
    ),
    "open_attempt_is_the_last": (
        select(stage_runs.c.run_id)
        .where(
            _open_attempt,
            or_(
                stage_runs.c.fence != runs.c.fence,
                stage_runs.c.entry != runs.c.entry,
                stage_runs.c.stage.is_distinct_from(runs.c.due_stage),
            ),
        )
        .correlate(runs)
        .exists(),
        "has an open attempt that its fence, entry or due stage have overtaken",
    ),
}
"""Of each rule: the runs that break it, and what is then said of them."""


def query(rule: str) -> Select[Any]:
    """The runs that break a rule, the first of them."""
    broken, _ = RULES[rule]
    return select(runs.c.id, runs.c.state, runs.c.due_stage).where(broken).order_by(runs.c.id).limit(FOUND_MAX)


async def list_journal_violations(database: Database) -> list[Violation]:
    """Every run that breaks a rule, at most `FOUND_MAX` of each; nobody but a person mends those."""
    found = []
    async with database.transaction() as connection:
        for rule in RULES:
            rows = await connection.execute(query(rule))
            found += [violation(rule, *row) for row in rows]
    return found


def violation(rule: str, run_id: str, state: str, due_stage: str | None) -> Violation:
    """One run that breaks a rule."""
    return Violation(rule, "", run_id, f"{RULES[rule][1]} ({state}, due: {due_stage or 'nowhere'})")
