"""What people may do to a run, and what they are told when they may not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Literal

import pytest

from app.db import tables
from app.db.errors import ConflictError, InvalidError, NotFoundError, RefusedError
from app.db.journal import dump
from app.db.people import People
from app.db.receiving import Units
from app.db.session import Database, PoolSize
from pipeline.domain.results import FailedProduct, ShopSync
from tests.app.db.given import DOUBTS, Given


@pytest.fixture
async def given(database_url: str) -> AsyncIterator[Given]:
    database = Database(database_url, PoolSize(4))
    yield Given(database)
    await database.close()


@pytest.fixture
def people(given: Given) -> People:
    return People(given.database)


# ------------------------------------------------------------------------------------ match


async def in_review_at_the_shop(given: Given, *, product_id: str, failed: bool = True) -> None:
    """The order of `given`, its run waiting at stage 9 with the one product failed or not."""
    await given.order(run_id="r")
    await given.change(
        tables.runs, tables.runs.c.id == "r", state="needs_review", review_stage="shopify-sync", finished_at=None
    )
    await given.change(tables.product_drafts, tables.product_drafts.c.id == "p-1", product_id=product_id)
    failures = (FailedProduct(draft_id="p-1", code="product_deleted", message="gone"),) if failed else ()
    await given.insert(
        tables.stage_runs,
        run_id="r",
        stage="shopify-sync",
        entry=0,
        attempt=1,
        fence=1,
        state="finished",
        output_type="ShopSync",
        output=dump(ShopSync(failures=failures)),
    )


@pytest.mark.parametrize("name", ["p-1", "MUG-R", "Mug"])
@pytest.mark.parametrize(
    ("said", "choice"),
    [
        ("new", "new"),
        ("77", "gid://shopify/Product/77"),
        ("https://admin.shopify.com/store/x/products/77", "gid://shopify/Product/77"),
        ("gid://shopify/Product/77", "gid://shopify/Product/77"),
    ],
)
async def test_a_person_says_what_a_product_is_and_it_begins_anew(
    given: Given, people: People, name: str, said: str, choice: str
) -> None:
    await in_review_at_the_shop(given, product_id="gid://shopify/Product/11")
    await people.match("r", "ann", name, said)
    [draft] = await given.rows(tables.product_drafts)
    assert (draft["choice"], draft["choices"], draft["product_id"]) == (choice, 1, "")
    variants = await given.rows(tables.draft_variants)
    assert {(one["variant_id"], one["inventory_item_id"]) for one in variants} == {("", "")}
    [note] = await given.rows(tables.audit)
    assert (note["who"], note["action"]) == ("ann", "match")
    assert note["details"]["was"] == "gid://shopify/Product/11"


async def test_a_product_in_order_is_not_taken_from_its_place(given: Given, people: People) -> None:
    await in_review_at_the_shop(given, product_id="gid://shopify/Product/11", failed=False)
    with pytest.raises(ConflictError, match="nothing to choose"):
        await people.match("r", "ann", "p-1", "new")


async def test_who_means_nothing_is_told_what_to_say(given: Given, people: People) -> None:
    await in_review_at_the_shop(given, product_id="")
    with pytest.raises(InvalidError, match="is no product"):
        await people.match("r", "ann", "p-1", "the red one")
    with pytest.raises(NotFoundError, match="one of its SKUs"):
        await people.match("r", "ann", "p-9", "new")
    await given.change(tables.runs, tables.runs.c.id == "r", state="completed")
    with pytest.raises(ConflictError, match="it is completed"):
        await people.match("r", "ann", "p-1", "new")


# ---------------------------------------------------------------------------------- approve


@pytest.mark.parametrize(
    ("reviewed_at", "resumed_at"), [("image-attachment", "shopify-sync"), ("ai-parsing", "ai-parsing")]
)
async def test_an_approved_run_goes_on_where_it_left_the_line(
    given: Given, people: People, reviewed_at: str, resumed_at: str
) -> None:
    await given.run_in_review("r", at=reviewed_at)
    job = await people.approve("r", "ann")
    run = await given.run_row("r")
    assert (job.stage, job.entry, job.workflow_id) == (resumed_at, 1, "wf-r")
    assert (run["state"], run["due_stage"], run["job_id"], run["entry"]) == ("running", resumed_at, job.job_id, 1)
    assert (run["review"], run["review_stage"], run["approved_by"]) == ([], "", "ann")
    assert run["due_since"] is not None


async def test_each_re_entry_fences_off_who_worked_before_and_names_a_new_job(given: Given, people: People) -> None:
    await given.run_in_review("r", at="image-attachment", fence=7)
    first = await people.approve("r", "ann")
    await given.change(
        tables.runs, tables.runs.c.id == "r", state="failed", failed_stage="shopify-sync", due_stage=None
    )
    second = await people.retry("r", "ann")
    assert (await given.run_row("r"))["fence"] == 9
    assert first.stage == second.stage
    assert first.job_id != second.job_id


async def test_two_people_approving_at_once_start_one_entry(given: Given, people: People) -> None:
    await given.run_in_review("r", at="image-attachment")
    told = await asyncio.gather(people.approve("r", "ann"), people.approve("r", "bob"), return_exceptions=True)
    refused = [answer for answer in told if isinstance(answer, ConflictError)]
    assert len(refused) == 1
    assert "it is running" in str(refused[0])
    assert (await given.run_row("r"))["entry"] == 1


async def test_who_approved_which_doubts_is_on_record(given: Given, people: People) -> None:
    await given.run_in_review("r", at="image-attachment")
    await people.approve("r", "ann")
    [note] = await given.rows(tables.audit)
    assert (note["who"], note["action"], note["run_id"]) == ("ann", "approve", "r")
    assert note["details"]["doubts"][0]["message"] == DOUBTS[0].message


# ---------------------------------------------------------------------------------- retry


async def test_a_retried_run_starts_the_failed_stage_afresh(given: Given, people: People) -> None:
    await given.run(
        "r", state="failed", failed_stage="shopify-sync", failure_code="no_shop", failure="no shop", entry=2
    )
    job = await people.retry("r", "ann")
    run = await given.run_row("r")
    assert (job.stage, job.entry) == ("shopify-sync", 3)
    assert (run["state"], run["due_stage"], run["job_id"]) == ("running", "shopify-sync", job.job_id)
    assert (run["failed_stage"], run["failure_code"], run["failure"]) == ("", "", "")


async def test_a_job_that_named_no_order_cannot_be_retried(given: Given, people: People) -> None:
    await given.run("r", merchant_id="", state="failed", failed_stage="ai-parsing", failure="stage is missing")
    with pytest.raises(ConflictError, match=r"stage is missing.*send another"):
        await people.retry("r", "ann")


@pytest.mark.parametrize("state", ["running", "needs_review", "completed", "cancelled"])
async def test_a_refusal_says_the_state_and_what_can_be_done(given: Given, people: People, state: str) -> None:
    await given.run("r", state=state)
    with pytest.raises(ConflictError, match=rf"it is {state} \(.+\)"):
        await people.retry("r", "ann")


async def test_an_unknown_run_is_not_found(people: People) -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        await people.cancel("nowhere", "ann")


# ---------------------------------------------------------------------------------- cancel


@pytest.mark.parametrize("state", ["running", "needs_review", "failed"])
async def test_a_cancelled_run_is_due_nowhere_and_its_worker_is_fenced_off(
    given: Given, people: People, state: str
) -> None:
    await given.run("r", state=state, due_stage="database-save", fence=3)
    await given.insert(
        tables.stage_runs, run_id="r", stage="database-save", entry=0, attempt=1, fence=3, state="open", job_id="1"
    )
    await people.cancel("r", "ann")
    run = await given.run_row("r")
    assert (run["state"], run["due_stage"], run["fence"]) == ("cancelled", None, 4)
    assert run["finished_at"] is not None
    assert [row["state"] for row in await given.rows(tables.stage_runs)] == ["lost"]


async def test_cancelling_says_that_what_the_shop_was_sent_stays_there(given: Given, people: People) -> None:
    await given.run("r", due_stage="shopify-sync")
    await given.insert(tables.effects, key="product:1", run_id="r", fence=1, state="confirmed")
    await people.cancel("r", "ann")
    assert "sent by then (changes: 1) stays there" in (await given.run_row("r"))["summary"]


async def test_a_receipt_whose_units_the_shop_moved_cannot_be_forgotten(given: Given, people: People) -> None:
    """Cancelled, its units would be sellable and still open: received once more."""
    await given.order()
    _, job = await people.receive("order-1", "ann", "all")
    await given.insert(tables.effects, key="move:1", run_id=job.run_id, fence=1, state="confirmed")
    with pytest.raises(ConflictError, match="has moved units"):
        await people.cancel(job.run_id, "ann")


# ---------------------------------------------------------------------------------- receive


async def test_a_receipt_is_a_run_of_its_own_that_begins_at_the_shop(given: Given, people: People) -> None:
    await given.order()
    receipt_id, job = await people.receive("order-1", "ann", {"MUG-R": Units(8, 1)})
    run = await given.run_row(job.run_id)
    assert (run["kind"], run["state"], run["due_stage"], run["entry"]) == ("receipt", "running", "shopify-sync", 0)
    assert (run["order_id"], run["order_revision"], run["supplier_id"]) == ("order-1", 1, "s1")
    assert (run["receipt_id"], run["workflow_id"]) == (receipt_id, f"receipt_{receipt_id}")
    assert (run["merchant_id"], run["job_id"]) == ("m1", job.job_id)
    [line] = await given.rows(tables.receipt_lines)
    assert (line["draft_variant_id"], line["accepted"], line["rejected"]) == ("v-1", 8, 1)


@pytest.mark.parametrize("name", ["MUG-B", "4000000000002", "v-2", "2"])
async def test_a_line_goes_by_sku_gtin_variant_or_position(given: Given, people: People, name: str) -> None:
    await given.order()
    await people.receive("order-1", "ann", {name: Units(3)})
    [line] = await given.rows(tables.receipt_lines)
    assert (line["draft_variant_id"], line["accepted"]) == ("v-2", 3)


async def test_all_means_what_is_still_open(given: Given, people: People) -> None:
    await given.order()
    await given.change(tables.order_variants, tables.order_variants.c.draft_variant_id == "v-1", received=7, rejected=1)
    await people.receive("order-1", "ann", "all")
    counted = {row["draft_variant_id"]: row["accepted"] for row in await given.rows(tables.receipt_lines)}
    assert counted == {"v-1": 2, "v-2": 10}


async def test_more_than_was_announced_needs_a_confirmation(given: Given, people: People) -> None:
    await given.order()
    with pytest.raises(ConflictError, match="MUG-R: 12 counted, 10 open"):
        await people.receive("order-1", "ann", {"MUG-R": Units(11, 1)})
    await people.receive("order-1", "ann", {"MUG-R": Units(11, 1)}, allow_over=True)
    assert len(await given.rows(tables.receipts)) == 1


@pytest.mark.parametrize("state", ["running", "failed", "needs_review"])
async def test_one_receipt_of_an_order_is_settled_before_the_next_begins(
    given: Given, people: People, state: str
) -> None:
    await given.order()
    _, job = await people.receive("order-1", "ann", {"MUG-R": Units(1)})
    await given.change(tables.runs, tables.runs.c.id == job.run_id, state=state)
    with pytest.raises(ConflictError, match=f"another receipt of this order .* is {state}"):
        await people.receive("order-1", "bob", {"MUG-B": Units(1)})


async def test_two_people_receiving_the_same_boxes_count_them_once(given: Given, people: People) -> None:
    await given.order()
    told = await asyncio.gather(
        *(people.receive("order-1", who, "all") for who in ("ann", "bob", "cyd")), return_exceptions=True
    )
    assert sum(isinstance(answer, ConflictError) for answer in told) == 2
    assert len(await given.rows(tables.receipts)) == 1


@pytest.mark.parametrize(
    ("delivered", "words"),
    [
        ({"MUG-X": Units(1)}, "no line MUG-X; it has MUG-R, MUG-B"),
        ({"MUG-R": Units(-1)}, "whole numbers"),
        ({"MUG-R": Units(0)}, "nothing to receive"),
        ({}, "nothing to receive"),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    given: Given, people: People, delivered: dict[str, Units], words: str
) -> None:
    await given.order()
    with pytest.raises(RefusedError, match=words):
        await people.receive("order-1", "ann", delivered)
    assert await given.rows(tables.receipts) == []


async def test_a_sku_that_names_two_variants_must_be_told_apart(given: Given, people: People) -> None:
    await given.order()
    await given.change(tables.draft_variants, tables.draft_variants.c.id == "v-2", sku="MUG-R")
    with pytest.raises(InvalidError, match="use one of their ids: v-1, v-2"):
        await people.receive("order-1", "ann", {"MUG-R": Units(1)})


@pytest.mark.parametrize("state", ["closed", "cancelled"])
async def test_nothing_is_received_for_an_order_that_is_over(given: Given, people: People, state: str) -> None:
    await given.order()
    await given.change(tables.purchase_orders, tables.purchase_orders.c.id == "order-1", state=state)
    with pytest.raises(ConflictError, match=f"PO-1 is {state}"):
        await people.receive("order-1", "ann", "all")


# ---------------------------------------------------------------------------------- close, cancel an order


@pytest.mark.parametrize("action", ["close", "cancel"])
async def test_ending_an_order_is_a_receipt_without_lines_and_on_record(
    given: Given, people: People, action: Literal["close", "cancel"]
) -> None:
    await given.order()
    receipt_id, job = await people.end_order("order-1", "ann", action)
    run = await given.run_row(job.run_id)
    assert (run["kind"], run["due_stage"], run["receipt_id"]) == ("receipt", "shopify-sync", receipt_id)
    assert [row["action"] for row in await given.rows(tables.receipts)] == [action]
    assert await given.rows(tables.receipt_lines) == []
    [note] = await given.rows(tables.audit)
    assert (note["who"], note["action"], note["order_id"]) == ("ann", f"{action}-order", "order-1")


@pytest.mark.parametrize(
    ("state", "words"), [("closed", "is closed already"), ("cancelled", "is cancelled already"), ("draft", "its run")]
)
async def test_an_order_is_ended_once_and_only_after_it_was_announced(
    given: Given, people: People, state: str, words: str
) -> None:
    await given.order()
    await given.change(tables.purchase_orders, tables.purchase_orders.c.id == "order-1", state=state)
    with pytest.raises(ConflictError, match=words):
        await people.end_order("order-1", "ann", "close")


@pytest.mark.parametrize("state", ["cancelled", "failed"])
async def test_what_a_run_announced_and_did_not_record_can_be_taken_back(
    given: Given, people: People, state: str
) -> None:
    await given.order()
    await given.change(tables.purchase_orders, tables.purchase_orders.c.id == "order-1", state="draft")
    sent = {"parameters": {"units": []}, "external": {}, "state": "confirmed", "fence": 1}
    await given.insert(tables.effects, key="announce:order-1:0", run_id="run-1", **sent)
    await given.change(tables.runs, tables.runs.c.id == "run-1", state="running", due_stage="shopify-sync")
    with pytest.raises(ConflictError, match="is at work"):
        await people.end_order("order-1", "ann", "close")
    await given.change(tables.runs, tables.runs.c.id == "run-1", state=state, due_stage=None)
    _, job = await people.end_order("order-1", "ann", "close")
    assert (await given.run_row(job.run_id))["due_stage"] == "shopify-sync"


async def test_an_order_is_not_ended_while_goods_of_it_are_being_received(given: Given, people: People) -> None:
    await given.order()
    told = await asyncio.gather(
        people.receive("order-1", "ann", "all"), people.end_order("order-1", "bob", "close"), return_exceptions=True
    )
    assert sum(isinstance(answer, ConflictError) for answer in told) == 1


@pytest.mark.parametrize("state", ["failed", "needs_review"])
async def test_a_receipt_whose_change_may_have_reached_the_shop_cannot_be_forgotten(
    given: Given, people: People, state: str
) -> None:
    await given.order()
    _, job = await people.receive("order-1", "ann", "all")
    await given.change(tables.runs, tables.runs.c.id == job.run_id, state=state)
    await given.insert(tables.effects, key="move:1", run_id=job.run_id, fence=1, state="intent")
    with pytest.raises(ConflictError, match="or may have"):
        await people.cancel(job.run_id, "ann")


# ---------------------------------------------------------------------------------- pause


async def test_a_pause_is_a_fact_of_postgres_and_asking_twice_changes_nothing(given: Given, people: People) -> None:
    await people.pause_queue("ai-parsing", "ann")
    await people.pause_queue("ai-parsing", "bob")
    assert [(row["queue"], row["paused_by"]) for row in await given.rows(tables.queue_pauses)] == [
        ("ai-parsing", "ann")
    ]
    await people.resume_queue("ai-parsing", "bob")
    assert await given.rows(tables.queue_pauses) == []


async def test_a_queue_nobody_runs_cannot_be_paused(people: People) -> None:
    with pytest.raises(NotFoundError, match="there are ai-parsing"):
        await people.pause_queue("mail", "ann")
