"""Orders as people see them, and what they may do: approve, retry, cancel; receive, close; or send a new one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, File, Form, Query, UploadFile
from pydantic import BaseModel, ConfigDict, Field

from app.approving import plan_json
from app.db import order_view, views
from app.db.errors import InvalidError, NotFoundError
from app.db.receiving import UNITS_MAX, UndoneBefore, Units
from app.db.uploads import create_upload
from app.enqueue import try_enqueue_next, try_enqueue_upload, try_promote
from pipeline.domain.intake import MAX_DOCUMENT_BYTES

if TYPE_CHECKING:
    from app.admin.deps import AdminDeps
    from app.db.receiving import Delivered, Ending
    from pipeline.run_store import NextJob

_Limit = Annotated[int, Query(ge=1, le=views.PAGE_MAX)]
_Who = Annotated[str, Query(min_length=1, max_length=100)]
_State = Literal["running", "needs_review", "completed", "failed", "cancelled"]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class By(_Body):
    """Who does it; shown in the audit."""

    who: str = Field(default="api", min_length=1, max_length=100)


class Matched(By):
    """What one of the order's products is: `draft` by its id, a SKU or its title; `product` by its id, or "new"."""

    draft: str = Field(min_length=1, max_length=300)
    product: str = Field(min_length=1, max_length=300)


class Approval(By):
    """`plan`: the digest of the plan the person saw, refused if it is another by now. Without it: as the shop is now.

    `without_plan`: read nothing; the order does in the shop what it finds to do.
    """

    plan: str = Field(default="", max_length=64)
    without_plan: bool = False


class CountedLine(_Body):
    """One line as counted. `sku` may also be a GTIN, a variant's id or the line's position."""

    sku: str = Field(min_length=1, max_length=200)
    accepted: int = Field(ge=0, le=UNITS_MAX)
    rejected: int = Field(default=0, ge=0, le=UNITS_MAX)


class Counted(By):
    """What came: these lines, or all that is still open."""

    lines: list[CountedLine] = Field(default=[], max_length=views.ROWS_MAX)
    all: bool = False
    confirm_over: bool = False


def orders_router(deps: AdminDeps) -> APIRouter:
    """/api/orders and /api/merchants."""
    router = APIRouter(prefix="/api", tags=["orders"])
    orders = _Orders(deps)
    router.add_api_route("/merchants", orders.merchants, methods=["GET"])
    router.add_api_route("/orders", orders.list, methods=["GET"])
    router.add_api_route("/orders", orders.upload, methods=["POST"], status_code=202)
    router.add_api_route("/orders/{name}", orders.show, methods=["GET"])
    router.add_api_route("/orders/{name}/plan", orders.plan, methods=["GET"])
    router.add_api_route("/orders/{name}/approve", orders.approve, methods=["POST"])
    router.add_api_route("/orders/{name}/match", orders.match, methods=["POST"])
    router.add_api_route("/orders/{name}/retry", orders.retry, methods=["POST"])
    router.add_api_route("/orders/{name}/cancel", orders.cancel, methods=["POST"])
    router.add_api_route("/orders/{name}/receipts", orders.receive, methods=["POST"], status_code=201)
    router.add_api_route("/orders/{name}/undo", orders.undo, methods=["POST"])
    router.add_api_route("/orders/{name}/close", orders.close, methods=["POST"], status_code=201)
    router.add_api_route("/orders/{name}/cancel-announcement", orders.cancel_order, methods=["POST"], status_code=201)
    return router


class _Orders:
    """The endpoints. `name` is a run's id, or its order's, upload's or workflow's."""

    def __init__(self, deps: AdminDeps) -> None:
        self._deps = deps

    async def merchants(self) -> dict[str, Any]:
        """Who may be sent orders for."""
        rows = await views.list_merchants(self._deps.database)
        return {"success": True, "merchants": [row.model_dump(mode="json") for row in rows]}

    async def list(
        self,
        merchant: str | None = None,
        state: _State | None = None,
        limit: _Limit = 50,
        before: str | None = None,
    ) -> dict[str, Any]:
        """A page of runs, newest first; `next` is the `before` of the following page."""
        rows = await views.list_runs(self._deps.database, merchant_id=merchant, state=state, limit=limit, before=before)
        following = rows[-1].run_id if len(rows) == limit else None
        return {"success": True, "orders": [row.model_dump(mode="json") for row in rows], "next": following}

    async def upload(
        self, file: Annotated[UploadFile, File()], merchant: Annotated[str, Form(min_length=1, max_length=200)]
    ) -> dict[str, Any]:
        """Send a document. It is accepted when this answers; not `enqueued`, it starts as soon as Redis is back."""
        upload = await create_upload(
            self._deps.database,
            merchant_id=merchant,
            name=file.filename or "",
            mime=file.content_type or "",
            # One byte more than allowed tells that it is too long without reading the rest.
            content=await file.read(MAX_DOCUMENT_BYTES + 1),
            at=self._deps.clock.now(),
        )
        at_once = await try_enqueue_upload(self._deps.bull, upload)
        return {
            "success": True,
            "uploadId": upload.upload_id,
            "workflowId": upload.workflow_id,
            "runId": upload.first.run_id,
            "jobId": upload.first.job_id,
            "enqueued": at_once,
        }

    async def show(self, name: str) -> dict[str, Any]:
        """One run with its stages, lines, products, units, pictures, receipts and who did what."""
        found = await order_view.find_run(self._deps.database, await self._run_id(name))
        if found is None:
            raise NotFoundError(f"there is no run {name}")
        return {"success": True, "order": found.model_dump(mode="json")}

    async def plan(self, name: str, who: _Who = "api") -> dict[str, Any]:
        """What would happen in the shop if `who` approved now; the shop is read for it, and not changed."""
        return {"success": True, "plan": plan_json(await self._deps.approvals.read(await self._run_id(name), who))}

    async def approve(self, name: str, by: Approval) -> dict[str, Any]:
        """Let a run that needs review go on, with the plan as the shop is now."""
        approved = await self._deps.approvals.approve(
            await self._run_id(name), by.who, seen=by.plan, without_plan=by.without_plan
        )
        plan = None if approved.read is None else plan_json(approved.read)
        return {**await self._go_on(approved.next), "plan": plan}

    async def match(self, name: str, said: Matched) -> dict[str, Any]:
        """Say what one of the order's products is in the shop: "new", or the product's id. Then approve."""
        run_id = await self._run_id(name)
        chosen = await self._deps.people.match(run_id, said.who, said.draft, said.product)
        return {"success": True, "runId": run_id, **chosen}

    async def retry(self, name: str, by: By) -> dict[str, Any]:
        """Run the stage that failed again."""
        return await self._go_on(await self._deps.people.retry(await self._run_id(name), by.who))

    async def cancel(self, name: str, by: By) -> dict[str, Any]:
        """End a run for good."""
        run_id = await self._run_id(name)
        cancelled = await self._deps.people.cancel(run_id, by.who)
        await try_promote(self._deps.bull, cancelled.turns)
        await self._deps.progress.tell(run_id, cancelled.stage, "failed", {"message": f"cancelled by {by.who}"})
        return {"success": True, "runId": run_id, "message": "cancelled"}

    async def receive(self, name: str, counted: Counted) -> dict[str, Any]:
        """Goods have come. More than was announced needs `confirm_over`."""
        receipt_id, job = await self._deps.people.receive(
            await self._order_id(name), counted.who, _delivered(counted), allow_over=counted.confirm_over
        )
        return {**await self._go_on(job), "receiptId": receipt_id}

    async def close(self, name: str, by: By) -> dict[str, Any]:
        """What is still open never comes: its announcement is taken back and the order closed."""
        return await self._end(name, by, "close")

    async def cancel_order(self, name: str, by: By) -> dict[str, Any]:
        """The order is off: what was announced and has not come is taken back."""
        return await self._end(name, by, "cancel")

    async def undo(self, name: str, by: By) -> dict[str, Any]:
        """Archive the products the order created and nobody touched, and take back what it announced.

        What was received stays. A second time nothing happens, and `message` says who undid it.
        """
        undone = await self._deps.people.undo(await self._order_id(name), by.who)
        if isinstance(undone, UndoneBefore):
            return {"success": True, "message": f"{undone.who} has undone order {undone.number} already"}
        return await self._go_on(undone)

    async def _end(self, name: str, by: By, action: Ending) -> dict[str, Any]:
        receipt_id, job = await self._deps.people.end_order(await self._order_id(name), by.who, action)
        return {**await self._go_on(job), "receiptId": receipt_id}

    async def _order_id(self, name: str) -> str:
        order_id = await views.find_order_id(self._deps.database, name)
        if order_id is None:
            raise NotFoundError(f"there is no order {name}")
        return order_id

    async def _run_id(self, name: str) -> str:
        run_id = await views.find_run_id(self._deps.database, name)
        if run_id is None:
            raise NotFoundError(f"there is no run or order {name}")
        return run_id

    async def _go_on(self, job: NextJob) -> dict[str, Any]:
        at_once = await try_enqueue_next(self._deps.bull, job)
        return {
            "success": True,
            "runId": job.run_id,
            "stage": job.stage,
            "jobId": job.job_id,
            "enqueued": at_once,
        }


def _delivered(counted: Counted) -> Delivered:
    if counted.all and counted.lines:
        raise InvalidError("say either all or lines, not both")
    if counted.all:
        return "all"
    names = [line.sku for line in counted.lines]
    if len(set(names)) < len(names):
        raise InvalidError("a line is named twice; add its units up")
    return {line.sku: Units(line.accepted, line.rejected) for line in counted.lines}
