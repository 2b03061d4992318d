"""Death in every gap of a picture's way into the shop: each picture hangs once, whatever the shop was asked before.

The worker dies in this process: an exception that nobody catches is raised in the gap, and everything it had in memory
is thrown away. The ledger is Postgres', the shop is the sandbox over HTTP, the clock is put forward between two lives.
In full (`CHAOS=full`) every gap is died in 200 times.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import delete, insert, select, update

from app.adapters.images import WebImages
from app.adapters.shopify.client import ShopCredentials
from app.adapters.shops import Shops
from app.db.drafts import PostgresImages
from app.db.effects import PostgresEffects
from app.db.journal import dump
from app.db.record import spread
from app.db.session import Database, PoolSize
from app.db.tables import effects, images, merchants, product_drafts, runs, stage_runs, suppliers
from app.db.unused_uploads import unused_of
from pipeline import flow
from pipeline.clock import SystemClock
from pipeline.contract import Done, Run, StageInput
from pipeline.domain.merchant import Merchant
from pipeline.domain.results import AttachedImages, Drafts
from pipeline.effects import Ledger
from pipeline.errors import VendorUnavailable
from pipeline.ports import EncodedImage
from pipeline.shopkeeping.pictures import UNDER_WAY_S, mark
from pipeline.stages.background_image_processing import BackgroundImageProcessing
from tests.sandbox_shop import Killed, make_draft
from tests.support import CHAOS_IN_FULL, loopback

KILLS = 200 if CHAOS_IN_FULL else 1
PICTURES = ("mug.jpg", "vase.jpg")
TOKEN = "token-of-the-doomed"

LEDGER_GAPS = {
    "intended": 1,
    "upload intended": 2,
    "upload answered": 3,
    "between upload and attach": 4,
    "attached, not confirmed": 5,
    "confirmed": 6,
}
"""Which of the ledger's gaps of one picture it is."""
ATTACH = b"mutation AttachMedia"
SENT_GAPS = {"upload sent": b"filename=", "attach sent": ATTACH, "attach under way": ATTACH}
"""What stands in the last request the worker sent: it never sees the answer."""
LOST_ANSWERS = {"attach answered 502": "error_502_after_success", "attach answered by silence": "timeout_after_success"}
"""The worker lives, and hears nothing of its success."""
NOT_RECORDED = "hanging, not recorded"

UNUSED = ("upload intended", "upload sent", "upload answered", "between upload and attach")
"""Where a file may be left in the staging area: it is reported, and another uploaded in its place."""

GAPS = (*LEDGER_GAPS, *SENT_GAPS, *LOST_ANSWERS, NOT_RECORDED)


class PutForward(SystemClock):
    """The machine's clock, put forward while nobody lives; short waits are shorter."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.ahead_s)

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / 20)


@dataclass
class Doom:
    """Where one life ends: in the ledger's n-th gap, or behind the n-th request in which some words stand."""

    gap: int = 0
    request: bytes = b""
    nth: int = 1
    lingers: bool = False
    arrives: asyncio.Event = field(default_factory=asyncio.Event)
    under_way: list[asyncio.Task[None]] = field(default_factory=list)

    def reach(self, _name: str) -> None:
        self.gap -= 1
        if self.gap == 0:
            raise Killed

    def is_last(self, request: httpx.Request) -> bool:
        if not self.request or self.request not in request.content:
            return False
        self.nth -= 1
        return self.nth == 0


class Wire(httpx.AsyncBaseTransport):
    """The way to the shop: the last request arrives, and its sender dies. One that lingers arrives after that."""

    def __init__(self, doom: Doom) -> None:
        self._doom = doom
        self._inner = httpx.AsyncHTTPTransport(trust_env=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        if not self._doom.is_last(request):
            return await self._inner.handle_async_request(request)
        sending = asyncio.create_task(_send_alone(request, self._doom.arrives))
        self._doom.under_way.append(sending)
        if not self._doom.lingers:
            self._doom.arrives.set()
            await sending
        raise Killed

    async def aclose(self) -> None:
        await self._inner.aclose()


async def _send_alone(request: httpx.Request, arrives: asyncio.Event) -> None:
    await arrives.wait()
    async with loopback(timeout=30) as http:
        await http.request(request.method, request.url, content=request.content, headers=request.headers)


class FetchedOnce:
    """The real fetcher, asked once for each address: how pictures are fetched and decoded is tested elsewhere."""

    def __init__(self, images: WebImages) -> None:
        self._images = images
        self._kept: dict[str, EncodedImage] = {}

    async def fetch(self, url: str, *, allowed_hosts: Sequence[str]) -> EncodedImage:
        if url not in self._kept:
            self._kept[url] = await self._images.fetch(url, allowed_hosts=allowed_hosts)
        return self._kept[url]


@dataclass
class Order:
    """One order at its last stage: a product in a shop of its own, two pictures to hang."""

    run_id: str
    domain: str
    image_ids: list[str]


class Installation:
    """What outlives the workers."""

    def __init__(self, database: Database, sandbox: str, http: httpx.AsyncClient) -> None:
        self.database = database
        self._sandbox = sandbox
        self._http = http
        self._images = FetchedOnce(WebImages({"images.example": f"{sandbox}/images"}, SystemClock()))
        self.clock = PutForward()

    async def order(self) -> Order:
        """A shop with the order's product, and in Postgres all that stages 1 to 10 would have left."""
        name = uuid4().hex
        order = Order(f"run-{name}", f"{name}.sandbox", [str(uuid4()) for _ in PICTURES])
        opened = {"domain": order.domain, "token": TOKEN, "settings": {"processing_s": 0}}
        (await self._http.post(f"{self._sandbox}/shops", json=opened)).raise_for_status()
        draft = make_draft(name, {"": 1})
        async with loopback() as http:
            product = await (await self._shops(http, order).of(_merchant(order))).create_product(draft)
        async with self.database.transaction() as connection:
            await connection.execute(insert(merchants).values(id=order.domain, name="Shop", shop_domain=order.domain))
            await connection.execute(
                insert(suppliers).values(id=name, merchant_id=order.domain, name="Acme", normalized_name="acme")
            )
            await connection.execute(
                insert(runs).values(
                    id=order.run_id,
                    merchant_id=order.domain,
                    kind="order",
                    upload_id=name,
                    workflow_id=name,
                    state="completed",
                    due_stage=flow.IMAGES,
                )
            )
            await connection.execute(
                insert(product_drafts).values(
                    id=draft.id,
                    merchant_id=order.domain,
                    supplier_id=name,
                    product_key=name,
                    title="Mug",
                    product_id=product.id,
                    first_run_id=order.run_id,
                )
            )
            await connection.execute(
                insert(stage_runs).values(
                    run_id=order.run_id,
                    stage="product-draft-creation",
                    entry=0,
                    attempt=1,
                    fence=1,
                    state="finished",
                    output_type="Drafts",
                    output=dump(Drafts(drafts=(draft,))),
                )
            )
            for position, (image_id, picture) in enumerate(zip(order.image_ids, PICTURES, strict=True)):
                await connection.execute(
                    insert(images).values(
                        id=image_id,
                        draft_id=draft.id,
                        run_id=order.run_id,
                        url=f"https://images.example/{picture}",
                        position=position,
                    )
                )
        return order

    async def live(self, order: Order, doom: Doom, *, records: bool = True) -> None:
        """One worker's attempt, to its end or until it dies."""
        async with self.database.transaction() as connection:
            raised = update(runs).where(runs.c.id == order.run_id).values(fence=runs.c.fence + 1)
            fence = int(await connection.scalar(raised.returning(runs.c.fence)) or 0)
        run = Run(
            id=order.run_id,
            kind="order",
            merchant=_merchant(order),
            entry=0,
            fence=fence,
            workflow_id="w",
            upload_id="u",
        )
        given = StageInput(run=run, stage=flow.IMAGES, attempt=1, earlier={}, still_ours=lambda: None)
        ledger = Ledger(PostgresEffects(self.database), doom.reach)
        async with httpx.AsyncClient(transport=Wire(doom), timeout=30) as http:
            shops = self._shops(http, order)
            stage = BackgroundImageProcessing(shops, PostgresImages(self.database), self._images, ledger, self.clock)
            result = await stage.run(given)
        if not records:
            raise Killed
        assert isinstance(result, Done)
        assert isinstance(result.output, AttachedImages)
        async with self.database.transaction() as connection:
            await spread(connection, run, result.output)

    async def forget(self, order: Order, *, ledger: bool) -> None:
        """The run stands before its last stage again, with or without what the ledger knew."""
        async with self.database.transaction() as connection:
            again = {"state": "candidate", "media_id": "", "phash": ""}
            await connection.execute(update(images).where(images.c.run_id == order.run_id).values(**again))
            if ledger:
                await connection.execute(delete(effects).where(effects.c.run_id == order.run_id))

    async def fail(self, order: Order, operation: str, kind: str) -> None:
        fault = {"operation": operation, "kind": kind}
        (await self._http.post(f"{self._sandbox}/shops/{order.domain}/faults", json=fault)).raise_for_status()

    async def check_once(self, order: Order, *, unused: int) -> None:
        """Each picture hangs once, is READY, and the database knows as which medium, and what was sent for nothing."""
        state = (await self._http.get(f"{self._sandbox}/shops/{order.domain}/state")).json()
        (product,) = state["products"]
        hung = [(one["filename"], one["status"]) for one in product["media"]]
        assert hung == [(f"{mark(image_id)}.jpg", "READY") for image_id in order.image_ids]
        async with self.database.transaction() as connection:
            found = await connection.execute(
                select(images.c.state, images.c.media_id)
                .where(images.c.run_id == order.run_id)
                .order_by(images.c.position)
            )
            assert [tuple(row) for row in found] == [("attached", one["id"]) for one in product["media"]]
            open_ones = select(effects.c.key).where(effects.c.run_id == order.run_id, effects.c.state != "confirmed")
            assert list(await connection.scalars(open_ones)) == []
            found = await connection.execute(unused_of(select(runs.c.id).where(runs.c.id == order.run_id)))
            assert sum(row.unused for row in found) == unused

    def _shops(self, http: httpx.AsyncClient, order: Order) -> Shops:
        endpoint = f"{self._sandbox}/shops/{order.domain}/admin/api/2026-10/graphql.json"

        async def credentials(_merchant: Merchant) -> ShopCredentials:
            return ShopCredentials(endpoint, TOKEN)

        return Shops(http, credentials, self.clock)


def _merchant(order: Order) -> Merchant:
    return Merchant(id=order.domain, name="Shop", shop_domain=order.domain)


def doom_of(gap: str, picture: int) -> Doom:
    """Die in that gap of the first picture's way (0) or the second's (1)."""
    if gap in LEDGER_GAPS:
        return Doom(gap=LEDGER_GAPS[gap] + picture * len(LEDGER_GAPS))
    if gap in SENT_GAPS:
        return Doom(request=SENT_GAPS[gap], nth=picture + 1, lingers=gap == "attach under way")
    return Doom()


@pytest.fixture
async def installation(database_url: str, sandbox: str) -> AsyncIterator[Installation]:
    database = Database(database_url, PoolSize(2))
    async with loopback(timeout=30) as http:
        yield Installation(database, sandbox, http)
    await database.close()


@pytest.mark.parametrize("gap", GAPS)
async def test_a_picture_hangs_once_wherever_its_worker_died(gap: str, installation: Installation) -> None:
    for number in range(KILLS):
        order = await installation.order()
        await _die(installation, order, gap, (number + GAPS.index(gap)) % len(PICTURES))
        installation.clock.ahead_s += UNDER_WAY_S
        await installation.live(order, Doom())
        await installation.check_once(order, unused=int(gap in UNUSED))


async def test_pictures_played_again_five_times_hang_once(installation: Installation) -> None:
    order = await installation.order()
    for _ in range(5):
        await installation.live(order, Doom())
        await installation.forget(order, ledger=False)
    await installation.live(order, Doom())
    await installation.check_once(order, unused=0)


async def test_a_database_restored_from_an_hour_ago_hangs_nothing_again(installation: Installation) -> None:
    """Neither the ledger nor the pictures know of that hour; the names of the files in the shop do."""
    order = await installation.order()
    for _ in range(2):
        await installation.live(order, Doom())
        await installation.forget(order, ledger=True)
    await installation.live(order, Doom())
    await installation.check_once(order, unused=0)


async def _die(installation: Installation, order: Order, gap: str, picture: int) -> None:
    """One life that ends in the gap, and where something of it is still under way, one that must not take its place."""
    if gap in LOST_ANSWERS:
        await _lose_the_answer(installation, order, LOST_ANSWERS[gap], picture)
        return
    doom = doom_of(gap, picture)
    with pytest.raises(Killed):
        await installation.live(order, doom, records=gap != NOT_RECORDED)
    if doom.lingers:
        with pytest.raises(VendorUnavailable, match="may be attaching") as wait:
            await installation.live(order, Doom())
        assert 0 < (wait.value.retry_after_s or 0) <= UNDER_WAY_S
        doom.arrives.set()
    await asyncio.gather(*doom.under_way)


async def _lose_the_answer(installation: Installation, order: Order, kind: str, picture: int) -> None:
    if picture:  # the first picture's attach is answered late, and so spends the fault that comes before
        await installation.fail(order, "productUpdate", "slow")
    await installation.fail(order, "productUpdate", kind)
    with pytest.raises(VendorUnavailable):
        await installation.live(order, Doom())
