"""Asks after every test that had a Redis or a database whether what it left there is in order.

The rules are those of `reconcile`: `pipeline.queue.invariants` and `pipeline.invariants`. A test that breaks
something on purpose says so, and why:

    @pytest.mark.breaks("stuck", reason="npm bull's limiter loses jobs: wire spec 3.3")
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import asyncpg
import pytest
import redis
from sqlalchemy import CompoundSelect, Select, literal, select, union_all
from sqlalchemy.dialects import postgresql

from app.db.invariants import RULES, query, violation
from app.db.tables import runs as runs_table
from pipeline.invariants import list_crossed, live_jobs
from pipeline.queue.invariants import Violation, find_violations
from pipeline.queue.snapshot import Snapshot, call, ids_in, parse
from pipeline.run_store import DueRun, NextJob

_BASE = re.compile(r"(?:bull|\{bull\}):(?!po:)[^:]+:")
"""What every key of a queue begins with. `po` is no queue: our own keys stand there."""


def _sql(statement: Select[Any] | CompoundSelect[Any]) -> str:
    return str(statement.compile(dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True}))


_EVERY_RULE = _sql(union_all(*(select(literal(rule), query(rule).subquery()) for rule in RULES)))
_OPEN_RUNS = _sql(
    select(runs_table.c.id, runs_table.c.due_stage, runs_table.c.entry, runs_table.c.job_id).where(
        runs_table.c.due_stage.is_not(None)
    )
)


def list_pages(raw: redis.Redis) -> list[Snapshot]:
    """The first page of every queue there is, whoever made it; more than a page of jobs is nothing a test leaves."""
    names = list(raw.scan_iter(count=1000))
    bases = sorted({match[0] for name in names if (match := _BASE.match(name))})
    with raw.pipeline(transaction=False) as sent:
        for base in bases:
            script, keys, arguments = call(base, 0, ids_in(base, names))
            sent.eval(script.source, len(keys), *keys, *arguments)
        return [parse(base.split(":")[-2], reply) for base, reply in zip(bases, sent.execute(), strict=True)]


def list_violations(pages: Iterable[Snapshot]) -> list[Violation]:
    """Every violation in every queue."""
    return [one for page in pages for one in find_violations(page)]


async def list_run_violations(database: asyncpg.Connection, pages: Iterable[Snapshot]) -> list[Violation]:
    """Every run that breaks a rule of the journal, or has two jobs that would run it.

    That a run has no job is no violation here: a test ends where it likes, and the reconciler had no minute.
    """
    rows = await database.fetch(_EVERY_RULE)
    found = [violation(*row) for row in rows]
    runs = {
        run_id: DueRun(NextJob(run_id, stage, entry, ""), job_id)
        for run_id, stage, entry, job_id in await database.fetch(_OPEN_RUNS)
    }
    live = [job for page in pages for job in live_jobs(page)]
    return found + [one for one in list_crossed(runs, live) if one.rule == "two_live_jobs"]


def fail_on(found: Iterable[Violation], request: pytest.FixtureRequest) -> None:
    """Fail the test that ends here, unless it said that it would leave this."""
    marks = list(request.node.iter_markers("breaks"))
    if any(not mark.kwargs.get("reason") for mark in marks):
        pytest.fail("a test that breaks something says why: @pytest.mark.breaks(rule, .., reason=..)", pytrace=False)
    allowed = {rule for mark in marks for rule in mark.args}
    left = [f"{one.queue} {one.subject} {one.says} [{one.rule}]" for one in found if one.rule not in allowed]
    if left:
        pytest.fail("not in order after this test:\n" + "\n".join(left), pytrace=False)
