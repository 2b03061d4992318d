"""The queue endpoints answer in upstream's shapes, and never show a document."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from app.admin.queues import UPSTREAM_ORDER
from app.db import tables
from pipeline import flow
from pipeline.queue.bull import Bull
from pipeline.queue.job import ClaimedJob, Failure, NewJob, Retention
from tests.app.db.given import Given

SECRET = "sk-very-secret"


async def dead_letter(bull: Bull, queue: str = "ai-parsing", data: dict[str, Any] | None = None) -> str:
    """A failed job; its id."""
    await bull.enqueue(queue, NewJob(None, json.dumps(data or {})))
    job = await bull.claim(queue, token="t", lease_ms=10_000)
    assert isinstance(job, ClaimedJob)
    await bull.fail(job, failure=Failure("no", ["Error: no"]), attempts_made=1, retention=Retention())
    return job.id


def test_upstreams_order_holds_each_of_our_queues_once() -> None:
    assert sorted(UPSTREAM_ORDER) == sorted(flow.NAMES)


async def test_status_has_upstreams_fields_in_upstreams_order(client: httpx.AsyncClient, bull: Bull) -> None:
    await bull.enqueue("database-save", NewJob(None, "{}"))
    await bull.pause("shopify-sync")
    body = (await client.get("/api/queue-admin/status")).json()
    assert body["success"] is True
    assert [queue["queue"] for queue in body["queues"]] == list(UPSTREAM_ORDER)
    by_name = {queue["queue"]: queue for queue in body["queues"]}
    expected = {"queue", "paused", "waiting", "active", "completed", "failed", "delayed"}
    assert expected <= set(by_name["ai-parsing"])
    assert by_name["database-save"]["waiting"] == 1
    assert (by_name["shopify-sync"]["paused"], by_name["ai-parsing"]["paused"]) == (True, False)


@pytest.mark.breaks("wrong_kind", reason="that is the claim")
async def test_a_broken_queue_has_an_error_and_the_others_are_shown(
    client: httpx.AsyncClient, redis_admin: Any
) -> None:
    redis_admin.set("bull:ai-parsing:wait", "not a list")
    body = (await client.get("/api/queue-admin/status")).json()
    by_name = {queue["queue"]: queue for queue in body["queues"]}
    assert set(by_name["ai-parsing"]) == {"queue", "error"}
    assert by_name["database-save"]["waiting"] == 0


async def test_failed_jobs_have_upstreams_fields_and_ids_only(client: httpx.AsyncClient, bull: Bull) -> None:
    data = {
        "workflowId": "wf_1",
        "stage": "ai_parsing",
        "data": {
            "uploadId": "u1",
            "merchantId": "m1",
            "fileUrl": f"https://x.example/?token={SECRET}",
            "fileName": "secret plans.pdf",
            "fileBuffer": {"type": "Buffer", "data": [1, 2, 3]},
            "supplierId": {"nested": SECRET},
        },
    }
    job_id = await dead_letter(bull, data=data)
    answer = await client.get("/api/queue-admin/failed-jobs")
    body = answer.json()
    assert (body["success"], body["totalFailed"]) == (True, 1)
    [job] = body["failedJobs"]
    fields = {"queue", "jobId", "data", "failedReason", "stacktrace"}
    assert set(job) == fields | {"attemptsMade", "timestamp", "processedOn", "finishedOn"}
    assert (job["queue"], job["jobId"], job["failedReason"], job["attemptsMade"]) == ("ai-parsing", job_id, "no", 1)
    assert job["data"] == {
        "workflowId": "wf_1",
        "stage": "ai_parsing",
        "data": {"uploadId": "u1", "merchantId": "m1", "supplierId": None},
    }
    assert SECRET not in answer.text
    assert "Buffer" not in answer.text


async def test_cleaning_counts_per_queue(client: httpx.AsyncClient, bull: Bull) -> None:
    await dead_letter(bull)
    await dead_letter(bull)
    await dead_letter(bull, "shopify-sync")
    body = (await client.post("/api/queue-admin/clean-failed", json={})).json()
    assert set(body) == {"success", "message", "totalCleaned", "details"}
    assert body["totalCleaned"] == 3
    assert {"queue": "ai-parsing", "cleaned": 2} in body["details"]
    assert (await bull.counts("ai-parsing")).failed == 0


async def test_reading_changes_nothing(client: httpx.AsyncClient) -> None:
    """Upstream cleans by GET; a prefetching browser would empty the queues."""
    assert (await client.get("/api/queue-admin/clean-failed")).status_code == 405


async def test_a_dead_letter_is_retried_by_queue_and_job(client: httpx.AsyncClient, bull: Bull) -> None:
    job_id = await dead_letter(bull)
    answer = await client.post("/api/queue-admin/retry", json={"queue": "ai-parsing", "jobId": job_id})
    assert answer.json()["success"] is True
    assert await bull.state("ai-parsing", job_id) == "waiting"
    again = await client.post("/api/queue-admin/retry", json={"queue": "ai-parsing", "jobId": job_id})
    assert (again.status_code, again.json()["message"]) == (
        409,
        f"job {job_id} is waiting; only failed jobs are retried",
    )


async def test_all_dead_letters_of_a_queue_are_retried_at_once(client: httpx.AsyncClient, bull: Bull) -> None:
    jobs = [await dead_letter(bull) for _ in range(3)]
    other = await dead_letter(bull, "shopify-sync")
    answer = await client.post("/api/queue-admin/retry-failed", json={"queue": "ai-parsing"})
    assert answer.json() == {"success": True, "message": "3 jobs wait in ai-parsing again", "retried": 3}
    assert {await bull.state("ai-parsing", job) for job in jobs} == {"waiting"}
    assert await bull.state("shopify-sync", other) == "failed"
    assert (await client.post("/api/queue-admin/retry-failed", json={"queue": "mail"})).status_code == 404


async def test_a_failed_run_is_retried_by_its_id(client: httpx.AsyncClient, bull: Bull, given: Given) -> None:
    await given.run("r", state="failed", failed_stage="shopify-sync", failure="no shop")
    job_id = (await client.post("/api/queue-admin/retry", json={"runId": "r"})).json()["jobId"]
    assert await bull.state("shopify-sync", job_id) == "waiting"
    assert (await given.run_row("r"))["job_id"] == job_id


async def test_what_to_retry_must_be_said(client: httpx.AsyncClient) -> None:
    assert (await client.post("/api/queue-admin/retry", json={"queue": "ai-parsing"})).status_code == 422
    unknown = await client.post("/api/queue-admin/retry", json={"queue": "ai-parsing", "jobId": "x1"})
    assert unknown.status_code == 404


async def test_a_pause_is_in_redis_and_in_postgres(client: httpx.AsyncClient, bull: Bull, given: Given) -> None:
    await client.post("/api/queue-admin/pause", json={"queue": "ai-parsing"})
    assert await bull.is_paused("ai-parsing")
    assert [row["queue"] for row in await given.rows(tables.queue_pauses)] == ["ai-parsing"]
    await client.post("/api/queue-admin/resume", json={"queue": "ai-parsing"})
    assert not await bull.is_paused("ai-parsing")
    assert await given.rows(tables.queue_pauses) == []


async def test_an_unknown_queue_is_not_found(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/queue-admin/pause", json={"queue": "mail"})
    assert (answer.status_code, answer.json()["error"]) == (404, "not_found")
