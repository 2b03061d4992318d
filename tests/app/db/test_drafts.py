"""What stage 11 is told of a run's pictures: what is left to do, what was uploaded, what hangs already."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.db import tables
from app.db.drafts import PostgresImages
from app.db.record import spread
from app.db.session import Database, PoolSize
from pipeline.contract import Run
from pipeline.domain.merchant import Merchant
from pipeline.domain.results import AttachedImage, AttachedImages
from tests.app.db.given import Given

PRODUCT = "gid://shopify/Product/11"
PHASH = f"{'0' * 16}-{'8' * 96}"
RUN = Run(
    id="run-1",
    kind="order",
    merchant=Merchant(id="m1", name="Shop", shop_domain="m1.example"),
    entry=0,
    fence=1,
    workflow_id="w",
    upload_id="u",
)


@pytest.fixture
async def given(database_url: str) -> AsyncIterator[Given]:
    database = Database(database_url, PoolSize(2))
    given = Given(database)
    await given.order()
    yield given
    await database.close()


async def hang(given: Given, image_id: str, position: int = 1, **values: Any) -> None:
    url = f"https://images.example/{image_id}.jpg"
    row = {"id": image_id, "draft_id": "p-1", "run_id": "run-1", "url": url, "position": position} | values
    await given.insert(tables.images, **row)


async def test_candidates_come_in_their_order_with_what_was_last_uploaded_for_them(given: Given) -> None:
    await hang(given, "b", 2)
    await hang(given, "a", 1)
    await hang(given, "done", 3, state="attached")
    at = datetime(2026, 1, 1, tzinfo=UTC)
    facts = {"sha256": "f", "phash": PHASH, "width": 4, "height": 3}
    for number in (1, 2):
        later = at + timedelta(minutes=number)
        await given.insert(
            tables.effects,
            key=f"upload:a:{number}",
            run_id="run-1",
            fence=1,
            state="confirmed",
            parameters={"image_id": "a"},
            external={"at": later.isoformat(), **facts},
            confirmed_at=later,
        )
    for number, state, external in ((3, "intent", {}), (4, "confirmed", {"refused": "HTTP 403"})):
        await given.insert(
            tables.effects,
            key=f"upload:a:{number}",
            run_id="run-1",
            fence=1,
            state=state,
            parameters={"image_id": "a"},
            external=external,
        )
    first, second = await PostgresImages(given.database).of_run("run-1")
    assert (first.id, second.id, second.sent) == ("a", "b", None)
    assert (first.product_id, first.alt) == (PRODUCT, "Mug")
    assert first.sent is not None
    assert (first.sent.key, first.sent.at, first.sent.phash) == ("upload:a:2", at + timedelta(minutes=2), PHASH)


async def test_what_hangs_on_a_product_is_known_whichever_order_hung_it(given: Given) -> None:
    await hang(given, "a")
    await hang(given, "b", 2)
    async with given.database.transaction() as connection:
        fates = (
            AttachedImage(image_id="a", state="attached", media_id="m", phash=PHASH),
            AttachedImage(image_id="b", state="failed", phash=PHASH[::-1], reason="no"),
        )
        await spread(connection, RUN, AttachedImages(images=fates))
    store = PostgresImages(given.database)
    assert await store.hung("m1", [PRODUCT, "gid://shopify/Product/12"]) == {PRODUCT: [PHASH]}
    assert await store.hung("m1", []) == {}
    assert await store.hung("m2", [PRODUCT]) == {}
    assert await store.of_run("run-1") == []
