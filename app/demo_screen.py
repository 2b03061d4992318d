"""What the demo shows: orders moving through the stages, then what became of them and what stands in the shop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from decimal import Decimal

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from app.db.views import RunRow
from pipeline import flow

PIPE_COLUMNS = 150
"""In a pipe nobody tells us how wide a line may be."""

_COLOURS = {"completed": "green", "needs_review": "yellow", "failed": "red", "cancelled": "dim"}


@dataclass(frozen=True, slots=True)
class Result:
    """One document's line in the final table; `products` and `units` as the shop counts them."""

    document: str
    run: RunRow
    products: int
    incoming: int
    problem: str = ""


class Screen:
    """Writes to the terminal; in a pipe it writes the same words without moving anything."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        if not self.console.is_terminal:
            self.console.width = PIPE_COLUMNS

    def say(self, text: str) -> None:
        """One line."""
        self.console.print(text)

    def live(self) -> AbstractContextManager[Live]:
        """A region that is drawn again and again while orders move."""
        return Live(console=self.console, refresh_per_second=8, transient=not self.console.is_terminal)

    def moving(self, rows: Sequence[RunRow], stages_done: Mapping[str, int]) -> Group:
        """The orders on their way: one dot a stage."""
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("document", "stages", "now"):
            table.add_column(column)
        for row in sorted(rows, key=lambda row: row.document):
            done = stages_done.get(row.run_id, 0)
            dots = Text("●" * done, style="green") + Text("○" * (len(flow.NAMES) - done), style="dim")
            table.add_row(escape(row.document), dots, self._state(row))
        return Group(table)

    def results(self, results: Sequence[Result]) -> None:
        """The table people came for."""
        table = Table(title="What became of them", title_justify="left", header_style="bold")
        table.add_column("document")
        table.add_column("supplier")
        table.add_column("lines", justify="right")
        table.add_column("total", justify="right")
        table.add_column("outcome and why", max_width=64)
        table.add_column("in the shop", justify="right")
        for result in results:
            run = result.run
            why = self._state(run)
            reasons = run.failure or "; ".join(doubt.message for doubt in run.review) or run.summary
            why.append(f"\n{reasons}" if reasons else "", style="dim")
            if result.problem:
                why.append(f"\nnot as expected: {result.problem}", style="bold red")
            shop = f"{result.products} products\n{result.incoming} incoming" if result.products else "-"
            table.add_row(escape(result.document), escape(run.supplier or "-"), str(run.lines), _money(run), why, shop)
        self.console.print(table)

    def _state(self, row: RunRow) -> Text:
        words = row.state.replace("_", " ")
        if row.stage is not None:
            words = row.stage if row.state == "running" else f"{words}, then {row.stage}"
        return Text(words, style=_COLOURS.get(row.state, "cyan"))


def _money(run: RunRow) -> str:
    if run.total is None:
        return "-"
    return f"{run.total.quantize(Decimal('0.01')):,} {run.currency}".strip()
