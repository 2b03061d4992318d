"""A person says over HTTP that a shop is put right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import httpx

from app.admin.deps import AdminDeps
from app.db import tables
from pipeline import flow
from pipeline.hand_off import hand_off
from pipeline.queue.bull import Bull
from pipeline.run_store import NextJob
from tests.app.admin.conftest import asking
from tests.app.db.given import Given

UNPARK = "/api/merchants/m1/unpark"


async def test_a_shop_that_is_put_right_is_called_again_and_its_runs_go_on(
    client: httpx.AsyncClient, given: Given, bull: Bull
) -> None:
    await given.merchant()
    job = NextJob("r", flow.SYNC, 0, "wf-r")
    await given.run("r", due_stage=flow.SYNC, job_id=job.job_id)
    await given.insert(tables.shop_states, merchant_id="m1", parked_reason="connect it again")
    await bull.enqueue(flow.SYNC, replace(hand_off(job), delay_ms=3_600_000))
    assert await bull.state(flow.SYNC, job.job_id) == "delayed"
    answer = await client.post(UNPARK, json={"who": "ann"})
    assert (answer.status_code, answer.json()["success"]) == (200, True)
    assert await bull.state(flow.SYNC, job.job_id) == "waiting"
    [shop] = await given.rows(tables.shop_states)
    assert shop["parked_reason"] == ""
    [note] = await given.rows(tables.audit)
    assert (note["who"], note["action"], note["details"]) == ("ann", "unpark", {"merchant_id": "m1"})

    again = await client.post(UNPARK, json={"who": "ann"})
    assert (again.status_code, again.json()["message"]) == (409, "nothing holds the runs of m1 up")
    unknown = await client.post("/api/merchants/m9/unpark", json={})
    assert (unknown.status_code, unknown.json()["message"]) == (404, "there is no merchant m9")


async def test_no_stranger_and_no_other_page_frees_a_shop(make_deps: Callable[..., AdminDeps], given: Given) -> None:
    await given.merchant()
    await given.insert(tables.shop_states, merchant_id="m1", parked_reason="connect it again")
    known = {"authorization": "Bearer a-long-token"}
    async with asking(make_deps(token="a-long-token")) as client:
        for headers, status in (({}, 401), (known | {"origin": "https://evil.example"}, 403)):
            assert (await client.post(UNPARK, json={}, headers=headers)).status_code == status
        assert (await given.rows(tables.shop_states))[0]["parked_reason"] == "connect it again"
        assert (await client.post(UNPARK, json={}, headers=known)).status_code == 200
