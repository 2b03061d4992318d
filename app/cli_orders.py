"""What a person may do to an order or a run: plan, approve, receive, undo, and so on. Commands of `python -m app`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli_running import AsJson, who, with_core
from app.cli_tables import Screen
from app.db.errors import InvalidError, NotFoundError

if TYPE_CHECKING:
    from app.core import Core
    from app.db.receiving import Ending, Units
    from pipeline.run_store import NextJob

app = typer.Typer()

RunName = Annotated[str, typer.Argument(metavar="RUN", help="The run's id, or its order's, upload's or workflow's.")]
OrderName = Annotated[str, typer.Argument(metavar="ORDER", help="The order's id or number, or a run of it.")]


@app.command()
def plan(run: RunName, as_json: AsJson = False) -> None:
    """Read the shop and show what approving this run would do there."""
    from app.approving import open_approvals, plan_json

    async def work(core: Core) -> None:
        async with open_approvals(core) as approvals:
            read = await approvals.read(await find_run(core, run), who())
        if as_json:
            Screen().json(plan_json(read))
        else:
            Screen().plan(read)

    with_core(work)


@app.command()
def approve(
    run: RunName,
    seen: Annotated[str, typer.Option("--plan", metavar="DIGEST", help="Only if this is still the plan.")] = "",
    without_plan: Annotated[
        bool, typer.Option("--without-plan", help="Ask no shop; the order does there what it finds to do.")
    ] = False,
) -> None:
    """Let a run that needs review go on; what it does in the shop is what the shop says now, or it stops."""
    from app.approving import open_approvals

    async def work(core: Core) -> None:
        async with open_approvals(core) as approvals:
            run_id = await find_run(core, run)
            approved = await approvals.approve(run_id, who(), seen=seen, without_plan=without_plan)
        if approved.read is not None:
            Screen().plan(approved.read)
        await _go_on(core, approved.next)

    with_core(work)


@app.command()
def match(
    run: RunName,
    draft: Annotated[str, typer.Argument(help="The draft: its id, one of its SKUs or its title.")],
    product: Annotated[str, typer.Argument(help="The shop's product (its number or admin address), or `new`.")],
) -> None:
    """Say what one of an order's products is in the shop; approve takes it up."""

    async def work(core: Core) -> None:
        chosen = await core.people.match(await find_run(core, run), who(), draft, product)
        Screen().say(f"“{chosen['title']}” is {chosen['choice']}; approve the run to go on")

    with_core(work)


@app.command()
def retry(run: RunName) -> None:
    """Run the stage that failed again."""

    async def work(core: Core) -> None:
        await _go_on(core, await core.people.retry(await find_run(core, run), who()))

    with_core(work)


@app.command()
def cancel(run: RunName) -> None:
    """End a run for good. What the shop was told stays there."""
    from app.adapters.progress import UpstreamProgress
    from app.enqueue import try_promote

    async def work(core: Core) -> None:
        run_id = await find_run(core, run)
        cancelled = await core.people.cancel(run_id, who())
        await try_promote(core.bull, cancelled.turns)
        progress = UpstreamProgress(core.connections.commands, core.database, core.clock)
        await progress.tell(run_id, cancelled.stage, "failed", {"message": f"cancelled by {who()}"})
        Screen().say(f"run {run_id} is cancelled")

    with_core(work)


@app.command()
def receive(
    order: OrderName,
    everything: Annotated[bool, typer.Option("--all", help="All that is still open came, and came well.")] = False,
    line: Annotated[
        list[str] | None,
        typer.Option(metavar="L=ACCEPTED[/REJECTED]", help="L: a SKU, a GTIN, a variant's id or a line's position."),
    ] = None,
    over: Annotated[bool, typer.Option("--over", help="Yes, more came than was announced.")] = False,
) -> None:
    """Goods have come: make what was accepted sellable."""

    async def work(core: Core) -> None:
        if everything == bool(line):
            raise InvalidError("say either --all or one --line for each line that came")
        order_id = await _order_id(core, order)
        delivered = parse_lines(line or [])
        receipt, job = await core.people.receive(order_id, who(), "all" if everything else delivered, allow_over=over)
        Screen().say(f"receipt {receipt}")
        await _go_on(core, job)

    with_core(work)


@app.command()
def close(order: OrderName) -> None:
    """What is still open never comes: take its announcement back and close the order."""
    _end_order(order, "close")


@app.command("cancel-order")
def cancel_order(order: OrderName) -> None:
    """The order is off: take back what was announced and has not come."""
    _end_order(order, "cancel")


@app.command()
def undo(order: OrderName) -> None:
    """Archive the products the order created and nobody touched, and take its announcement back.

    What was edited or received stays, and is named.
    """
    from app.db.receiving import UndoneBefore

    async def work(core: Core) -> None:
        undone = await core.people.undo(await _order_id(core, order), who())
        if isinstance(undone, UndoneBefore):
            Screen().say(f"{undone.who} has undone order {undone.number} already; nothing is left to do")
        else:
            await _go_on(core, undone)

    with_core(work)


def _end_order(order: str, action: Ending) -> None:
    async def work(core: Core) -> None:
        _, job = await core.people.end_order(await _order_id(core, order), who(), action)
        await _go_on(core, job)

    with_core(work)


def parse_lines(lines: list[str]) -> dict[str, Units]:
    """`L=8` or `L=8/2`, as counted. The last `=` divides: a SKU may have one."""
    from app.db.receiving import Units

    counted: dict[str, Units] = {}
    for line in lines:
        name, equals, units = line.rpartition("=")
        accepted, _, rejected = units.partition("/")
        if not (equals and name and accepted.isdecimal() and (rejected or "0").isdecimal()):
            raise InvalidError(f"{line!r} is not a line: write SKU=ACCEPTED or SKU=ACCEPTED/REJECTED")
        if name in counted:
            raise InvalidError(f"{name} is named twice: add its units up")
        counted[name] = Units(int(accepted), int(rejected or 0))
    return counted


async def find_run(core: Core, name: str) -> str:
    """The id of the run somebody names. Raises NotFoundError."""
    from app.db import views

    run_id = await views.find_run_id(core.database, name)
    if run_id is None:
        raise NotFoundError(f"there is no run or order {name}")
    return run_id


async def _order_id(core: Core, name: str) -> str:
    from app.db import views

    order_id = await views.find_order_id(core.database, name)
    if order_id is None:
        raise NotFoundError(f"there is no order {name}")
    return order_id


async def _go_on(core: Core, job: NextJob) -> None:
    from app.enqueue import try_enqueue_next

    at_once = await try_enqueue_next(core.bull, job)
    Screen().say(f"run {job.run_id} goes on at {job.stage}{'' if at_once else ' as soon as Redis is back'}")
