"""Puts what the commands found on a terminal, or into a pipe. Documents are hostile: no text of theirs is markup."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline import flow
from pipeline.domain.plan import items, summary

if TYPE_CHECKING:
    from decimal import Decimal

    from app.db.grants import GrantState
    from app.db.order_view import RunView
    from app.db.plans import ReadPlan
    from app.db.views import RunRow, Totals
    from app.finding import Check
    from app.inspection import Inspection
    from pipeline.domain.merchant import Merchant
    from pipeline.domain.purchase_order import ExtractedOrder
    from pipeline.queue.invariants import Violation

_PIPE_COLUMNS = 200
_ON_THE_WAY = frozenset({"jobs", "without lease", "left over"})
_STYLES = {"completed": "green", "needs_review": "yellow", "failed": "red", "cancelled": "red"}
_CONNECTED_BY = {"static": "a token", "client_credentials": "its own app", "offline": "the public app"}
_LEVELS = {"ok": "green", "warn": "yellow", "fail": "red"}


class Screen:
    """Where the commands print."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, markup=False)
        if not self._console.is_terminal:
            self._console.width = _PIPE_COLUMNS

    def say(self, words: str, style: str = "") -> None:
        """One line."""
        self._console.print(Text(_clean(words), style=style))

    def json(self, value: Any) -> None:
        """Exactly this, for programs."""
        self._console.out(json.dumps(value, ensure_ascii=False, indent=2, default=str), highlight=False)

    def runs(self, rows: Sequence[RunRow]) -> None:
        """A list of runs."""
        headings = ("run", "document", "supplier", "lines", "total", "stage", "outcome", "why")
        self._table(headings, (_run(row) for row in rows), numeric={"lines", "total"})

    def run_changed(self, row: RunRow) -> None:
        """One line about one run that has moved."""
        moved = (
            f"{row.updated_at:%H:%M:%S}  {row.document or row.number or row.run_id}  {row.stage or row.failed_stage}"
        )
        self.say(f"{moved}  {row.state}  {why(row)}".rstrip(), _STYLES.get(row.state, ""))

    def run(self, view: RunView) -> None:
        """One run in full."""
        self.runs([view.run])
        for doubt in view.run.review:
            self.say(
                f"look at: {doubt.message}" if doubt.line is None else f"look at line {doubt.line}: {doubt.message}"
            )
        attempts = ((one.stage, one.entry, one.attempt, one.state, one.error) for one in view.stages)
        self._table(("stage", "entry", "try", "state", "why"), attempts, numeric={"entry", "try"})
        variants = (
            (
                *(one.sku or one.draft_variant_id, one.title, one.product_id),
                *(one.expected, one.announced, one.received, one.rejected, one.open),
            )
            for one in view.variants
        )
        for approval in view.approvals:
            who = approval.approved_by or "a rule"
            self.say(f"approved by {who} at {approval.approved_at:%Y-%m-%d %H:%M:%S}: {approval.summary}")
        counts = ("ordered", "announced", "received", "rejected", "open")
        self._table(("sku", "product", "in the shop", *counts), variants, numeric=set(counts))
        pictures = ((one.url, one.state, one.reason, one.unused_uploads or "") for one in view.images)
        self._table(("picture", "state", "why", "uploads unused"), pictures, numeric={"uploads unused"})

    def plan(self, read: ReadPlan) -> None:
        """What approving would do in the shop."""
        self.say(summary(read.plan), "red" if read.plan.stops else "bold")
        for item in items(read.plan):
            self.say(f"{item.title}: {item.words}")
            for variant in item.variants:
                self.say(f"    {variant}")
        self.say(f"plan {read.plan.digest}, as the shop was at {read.read_at:%H:%M:%S} UTC")

    def totals(self, totals: Totals) -> None:
        """Every stage, and all runs."""
        rows = (
            (
                queue,
                max(0, totals.due.get(queue, 0) - totals.active.get(queue, 0)),
                totals.active.get(queue, 0),
                totals.failed.get(queue, 0),
                "paused" if queue in totals.paused else "",
            )
            for queue in flow.NAMES
        )
        self._table(("stage", "waiting", "active", "failed", ""), rows, numeric={"waiting", "active", "failed"})
        self.say(", ".join(f"{count} {state}" for state, count in sorted(totals.runs.items())) or "no runs yet")
        for shop in totals.shops:
            what = "is parked" if shop.parked else "fails and is left alone"
            since = f" since {shop.since:%Y-%m-%d %H:%M}" if shop.since else ""
            self.say(f"shop {shop.shop_domain} {what}{since}, runs waiting: {shop.waiting}: {shop.reason}", "red")
            if shop.parked:
                self.say(f"    when it is put right: `python -m app merchants unpark {shop.merchant_id}`")

    def order(self, order: ExtractedOrder) -> None:
        """A document as it was read."""
        self.say(
            f"{order.kind} {order.number}, from {order.supplier.name or 'an unnamed supplier'}, read as {order.reader}"
        )
        headings = ("#", "kind", "sku", "description", "quantity", "unit cost", "total", "where")
        rows = (
            (
                *(line.position, line.kind, line.sku, line.description),
                *(money(line.quantity), money(line.unit_cost), money(line.line_total), line.evidence.where),
            )
            for line in order.lines
        )
        self._table(headings, rows, numeric={"#", "quantity", "unit cost", "total"})
        self.say(f"total {money(order.total)} {order.currency}, confidence {order.confidence:.0%}")
        for doubt in order.doubts:
            self.say(f"look at: {doubt.message}", "yellow")

    def merchants(self, merchants: Sequence[Merchant], states: Mapping[str, GrantState]) -> None:
        """Who may be sent orders for, and how their shops are connected."""
        rows = ((one.id, one.name, one.shop_domain, *_connection(states.get(one.id))) for one in merchants)
        self._table(("id", "name", "shop", "connected by", "token until", "trouble"), rows)

    def checks(self, checks: Iterable[Check]) -> None:
        """What the doctor found."""
        for check in checks:
            self.say(f"{check.level:<5}{check.what:<12}{check.text}", _LEVELS[check.level])

    def inspection(self, found: Inspection) -> None:
        """Each queue, what is on its way there, and every rule that does not hold."""
        rows = (
            (queue.queue, queue.jobs, queue.leaseless, queue.leftovers, queue.unread or _order(queue.violations))
            for queue in found.queues
        )
        self._table(("queue", "jobs", "without lease", "left over", ""), rows, numeric=_ON_THE_WAY)
        if any(queue.leaseless or queue.leftovers for queue in found.queues):
            self.say("without lease: the next sweep returns it; left over: the next claim settles it unrun")
        for one in found.violations:
            self.say(f"{one.queue or 'journal'}  {one.subject}  {one.says}".replace("    ", "  "), "red")
            self.say(f"    mended by {one.heals}" if one.heals else "    a person must look at it")
        if found.in_order:
            self.say("everything is in order", "green")

    def _table(self, headings: Sequence[str], rows: Iterable[Sequence[Any]], numeric: Iterable[str] = ()) -> None:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in headings:
            table.add_column(heading, justify="right" if heading in numeric else "left", overflow="fold")
        filled = False
        for row in rows:
            table.add_row(*(cell if isinstance(cell, Text) else Text(_clean(str(cell))) for cell in row))
            filled = True
        if filled:
            self._console.print(table)


def _order(violations: Sequence[Violation]) -> Text:
    return Text(f"{len(violations)} not in order", "red") if violations else Text("in order", "green")


def why(run: RunRow) -> str:
    """The reason a run is where it is."""
    return run.failure or run.summary or " ".join(doubt.message for doubt in run.review)


def money(value: Decimal | None) -> str:
    """An exact number without the zeros its column adds."""
    if value is None:
        return ""
    plain = f"{value:f}"
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def _connection(state: GrantState | None) -> tuple[str, str, Text]:
    if state is None:
        return ("", "", Text("not connected", "yellow"))
    until = "" if state.expires_at is None else f"{state.expires_at:%Y-%m-%d %H:%M} UTC"
    return (_CONNECTED_BY[state.kind], until, Text(state.trouble, "red"))


def _run(row: RunRow) -> tuple[object, ...]:
    total = f"{money(row.total)} {row.currency}".strip()
    what = f"receipt for {row.number}" if row.kind == "receipt" else row.document
    stage = row.stage or row.failed_stage
    return (
        row.run_id,
        what,
        row.supplier,
        row.lines,
        total,
        stage,
        Text(row.state, _STYLES.get(row.state, "")),
        why(row),
    )


def _clean(text: str) -> str:
    """Without control characters: a document must not steer somebody's terminal."""
    return "".join(character if character.isprintable() else " " for character in text)
