"""Files uploaded for nothing are found: counted for the installation, shown with their picture."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.db import order_view, tables
from app.db.session import Database, PoolSize
from app.db.unused_uploads import KEPT_FOR, count_unused
from tests.app.db.given import Given


@pytest.fixture
async def given(database_url: str) -> AsyncIterator[Given]:
    database = Database(database_url, PoolSize(2))
    given = Given(database)
    await given.order()
    yield given
    await database.close()


async def picture(given: Given, state: str, **answer: Any) -> None:
    """One picture whose fate is known, or not yet; the answer is the ledger's."""
    url = "https://images.example/a.jpg"
    await given.insert(tables.images, id="a", draft_id="p-1", run_id="run-1", url=url, position=1, state=state)
    if answer:
        await given.insert(tables.effects, key="image:a", run_id="run-1", fence=1, state="confirmed", external=answer)


async def upload(given: Given, number: int, *, state: str = "confirmed", **more: Any) -> None:
    row = {"external": {"at": "2026-01-01T00:00:00+00:00"} if state == "confirmed" else {}} | more
    parameters = {"image_id": "a"}
    key = f"upload:a:{number}"
    await given.insert(tables.effects, key=key, run_id="run-1", fence=1, state=state, parameters=parameters, **row)


async def unused(given: Given) -> tuple[int, int]:
    """In the installation, and as the order's page shows it."""
    view = await order_view.find_run(given.database, "run-1")
    assert view is not None
    (image,) = view.images
    return await count_unused(given.database), image.unused_uploads


async def test_the_file_a_picture_hangs_by_is_used_and_others_are_not(given: Given) -> None:
    """A worker died between upload and attach: the next uploaded again."""
    await picture(given, "attached", media_id="m", upload="upload:a:2")
    await upload(given, 1)
    await upload(given, 2)
    assert await unused(given) == (1, 1)


async def test_what_was_uploaded_for_a_product_that_was_deleted_meanwhile_is_unused(given: Given) -> None:
    await picture(given, "failed", media_id="", reason="the product was deleted in the shop")
    await upload(given, 1)
    assert await unused(given) == (1, 1)


async def test_an_upload_nobody_heard_of_may_have_arrived(given: Given) -> None:
    await picture(given, "failed", media_id="")
    await upload(given, 1, state="intent")
    await upload(given, 2, external={"unheard": True})
    assert await unused(given) == (2, 2)


async def test_what_was_refused_or_is_still_on_its_way_is_not_counted(given: Given) -> None:
    await picture(given, "candidate")
    await upload(given, 1)
    assert await unused(given) == (0, 0)
    await given.change(tables.images, tables.images.c.id == "a", state="failed")
    await given.change(tables.effects, tables.effects.c.key == "upload:a:1", external={"refused": "HTTP 403"})
    assert await unused(given) == (0, 0)


async def test_what_the_shop_has_thrown_away_is_counted_no_more(given: Given) -> None:
    await picture(given, "failed", media_id="")
    await upload(given, 1, intended_at=datetime.now(UTC) - KEPT_FOR - timedelta(minutes=1))
    assert await unused(given) == (0, 1)
