"""Orders over HTTP: sent, listed, shown, and moved by people."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest

from app.admin.deps import AdminDeps
from app.db import tables
from app.db.runs import PostgresRuns
from app.db.session import Database
from pipeline.clock import SystemClock
from pipeline.domain import intake
from pipeline.domain.intake import Intake
from pipeline.errors import RedisUnavailable
from pipeline.queue.bull import Bull
from pipeline.queue.job import ClaimedJob
from pipeline.reconciler import Reconciler
from pipeline.run_store import Ready, Ticket
from tests.app.admin.conftest import Progress, asking
from tests.app.db.given import DOUBTS, Given


async def test_an_upload_becomes_a_job_exactly_as_upstream_sends_them(
    client: httpx.AsyncClient, given: Given, bull: Bull
) -> None:
    await given.merchant()
    answer = await client.post(
        "/api/orders", data={"merchant": "m1"}, files={"file": ("po.csv", b"sku,qty\nA,1\n", "text/csv")}
    )
    assert answer.status_code == 202
    sent = answer.json()
    job = await bull.job("ai-parsing", sent["jobId"])
    assert job is not None
    envelope = json.loads(job.data)
    assert (envelope["stage"], envelope["workflowId"]) == ("ai_parsing", sent["workflowId"])
    assert set(envelope["data"]) == {
        *("uploadId", "merchantId", "fileUrl", "fileName", "fileSize", "mimeType", "fileType"),
        *("supplierId", "purchaseOrderId", "source", "queuedAt"),
    }
    assert (envelope["data"]["fileType"], envelope["data"]["fileSize"]) == ("csv", 12)
    assert job.opts["attempts"] == 3
    assert job.opts["backoff"] == {"type": "exponential", "delay": 2000}
    read = intake.parse(job.data)
    assert isinstance(read, Intake)
    [document] = await given.rows(tables.documents, tables.documents.c.upload_id == read.upload_id)
    assert (document["content"], document["merchant_id"]) == (b"sku,qty\nA,1\n", "m1")


async def test_an_upload_that_was_answered_is_not_lost_when_redis_is_away(
    make_deps: Callable[..., AdminDeps], given: Given, bull: Bull, database: Database
) -> None:
    class Away:
        async def call(self, *_args: object) -> object:
            raise RedisUnavailable("not connected")

        async def run(self, *_args: object) -> object:
            raise RedisUnavailable("not connected")

    await given.merchant()
    async with asking(make_deps(bull=Bull(Away()))) as client:
        answer = await client.post("/api/orders", data={"merchant": "m1"}, files={"file": ("po.csv", b"sku\nA\n")})
    assert (answer.status_code, answer.json()["enqueued"]) == (202, False)
    assert (await given.run_row(answer.json()["runId"]))["due_stage"] == "ai-parsing"
    reconciler = Reconciler(bull, PostgresRuns(database, max_stalls=3), SystemClock(), every_s=60, quiet_s=0)
    assert (await reconciler.run_once()).added == 1
    assert (await bull.counts("ai-parsing")).waiting == 1


async def test_an_uploads_own_job_is_the_one_its_run_waits_for(
    client: httpx.AsyncClient, given: Given, bull: Bull, database: Database
) -> None:
    """The reconciler adds no second one, however long the first has to wait."""
    await given.merchant()
    await client.post("/api/orders", data={"merchant": "m1"}, files={"file": ("po.csv", b"sku\nA\n")})
    store = PostgresRuns(database, max_stalls=3)
    assert (await Reconciler(bull, store, SystemClock(), every_s=60, quiet_s=0).run_once()).added == 0
    job = await bull.claim("ai-parsing", token="t:1", lease_ms=1000)
    assert isinstance(job, ClaimedJob)
    request = intake.parse(str(job.data))
    ticket = Ticket("ai-parsing", job.id, job.timestamp_ms, 0, 0, "t", request)
    assert isinstance(await store.load(ticket), Ready)
    assert len(await given.rows(tables.runs)) == 1


async def test_a_hostile_file_name_is_stored_as_text(client: httpx.AsyncClient, given: Given) -> None:
    await given.merchant()
    name = "../../<script>\x00" + "x" * 500
    answer = await client.post("/api/orders", data={"merchant": "m1"}, files={"file": (name, b"x", "text/csv")})
    assert answer.status_code == 202
    [document] = await given.rows(tables.documents)
    assert len(document["name"]) <= 255
    assert "\x00" not in document["name"]


async def test_an_upload_that_cannot_be_meant_is_refused_in_words(client: httpx.AsyncClient, given: Given) -> None:
    await given.merchant()
    unknown = await client.post("/api/orders", data={"merchant": "m9"}, files={"file": ("a", b"x")})
    assert (unknown.status_code, unknown.json()["message"]) == (404, "there is no merchant m9")
    empty = await client.post("/api/orders", data={"merchant": "m1"}, files={"file": ("a", b"")})
    assert (empty.status_code, empty.json()["message"]) == (422, "the file is empty")
    missing = await client.post("/api/orders", files={"file": ("a", b"x")})
    assert (missing.status_code, missing.json()["success"]) == (422, False)


async def test_orders_are_listed_with_a_way_to_the_next_page(client: httpx.AsyncClient, given: Given) -> None:
    for number in range(3):
        await given.run(f"r{number}")
    first = (await client.get("/api/orders?limit=2")).json()
    rest = (await client.get(f"/api/orders?limit=2&before={first['next']}")).json()
    assert len(first["orders"]) == 2
    assert (len(rest["orders"]), rest["next"]) == (1, None)
    assert (await client.get("/api/orders?limit=100000")).status_code == 422


async def test_one_order_goes_by_run_or_order_id(client: httpx.AsyncClient, given: Given) -> None:
    await given.order()
    by_run = (await client.get("/api/orders/run-1")).json()
    by_order = (await client.get("/api/orders/order-1")).json()
    assert by_run == by_order
    assert by_run["order"]["run"]["supplier"] == "Acme Ltd"
    assert (await client.get("/api/orders/nothing")).json()["error"] == "not_found"


async def test_approving_over_http_enqueues_the_next_job(client: httpx.AsyncClient, given: Given, bull: Bull) -> None:
    await given.run_in_review("r", at="image-attachment")
    shown = (await client.get("/api/orders/r")).json()["order"]["run"]
    assert shown["review"][0]["message"] == DOUBTS[0].message
    answer = (await client.post("/api/orders/r/approve", json={"who": "ann", "without_plan": True})).json()
    assert (answer["stage"], answer["jobId"]) == ("shopify-sync", "po-r-shopify-sync-1")
    job = await bull.job("shopify-sync", answer["jobId"])
    assert job is not None
    assert json.loads(job.data)["data"] == {"runId": "r", "entry": 1, "flowVersion": 1}
    again = await client.post("/api/orders/r/approve", json={"without_plan": True})
    assert (again.status_code, again.json()["error"]) == (409, "conflict")


async def test_cancelling_tells_upstreams_page(client: httpx.AsyncClient, given: Given, deps: AdminDeps) -> None:
    await given.run("r", due_stage="database-save")
    assert (await client.post("/api/orders/r/cancel", json={})).status_code == 200
    assert isinstance(deps.progress, Progress)
    assert deps.progress.told == [("r", "database-save", "failed", {"message": "cancelled by api"})]
    assert (await given.run_row("r"))["state"] == "cancelled"


async def test_goods_are_received_by_line_and_more_than_announced_must_be_confirmed(
    client: httpx.AsyncClient, given: Given, bull: Bull
) -> None:
    await given.order()
    body = {"lines": [{"sku": "MUG-R", "accepted": 11}]}
    over = await client.post("/api/orders/order-1/receipts", json=body)
    assert over.status_code == 409
    answer = (await client.post("/api/orders/order-1/receipts", json={**body, "confirm_over": True})).json()
    assert await bull.state("shopify-sync", answer["jobId"]) == "waiting"
    [line] = await given.rows(tables.receipt_lines)
    assert (line["receipt_id"], line["accepted"]) == (answer["receiptId"], 11)


@pytest.mark.parametrize(("path", "action"), [("close", "close"), ("cancel-announcement", "cancel")])
async def test_an_order_of_which_nothing_more_comes_is_ended(
    client: httpx.AsyncClient, given: Given, bull: Bull, path: str, action: str
) -> None:
    await given.order()
    answer = await client.post(f"/api/orders/order-1/{path}", json={"who": "ann"})
    assert answer.status_code == 201
    assert await bull.state("shopify-sync", answer.json()["jobId"]) == "waiting"
    [receipt] = await given.rows(tables.receipts)
    assert (receipt["id"], receipt["action"], receipt["entered_by"]) == (answer.json()["receiptId"], action, "ann")
    assert (await client.post(f"/api/orders/order-1/{path}", json={})).status_code == 409
    assert (await client.post(f"/api/orders/nowhere/{path}", json={})).status_code == 404


async def test_a_receipt_that_contradicts_itself_is_refused(client: httpx.AsyncClient, given: Given) -> None:
    await given.order()
    line = {"sku": "MUG-R", "accepted": 1}
    for body in (
        {"all": True, "lines": [line]},
        {"lines": [line, line]},
        {"lines": [{"sku": "MUG-R", "accepted": -1}]},
    ):
        assert (await client.post("/api/orders/order-1/receipts", json=body)).status_code == 422
    assert await given.rows(tables.receipts) == []
