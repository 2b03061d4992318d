"""Stage 11 against the real adapters and the sandbox: each picture once, and only pictures fail."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

import pytest
from PIL import Image

from app.adapters.images import WebImages, recode_apart
from app.adapters.shops import Shops
from pipeline.clock import SystemClock
from pipeline.contract import Done
from pipeline.domain.pictures import is_phash
from pipeline.domain.results import AttachedImage, AttachedImages
from pipeline.effects import Ledger
from pipeline.errors import VendorUnavailable
from pipeline.ports import EncodedImage, Images, ShopMedia, StoredImage
from pipeline.shopkeeping.pictures import LOOK_AGAIN_S, MEDIA_MAX, UNDER_WAY_S, find_ours, mark
from pipeline.stages import background_image_processing
from pipeline.stages.background_image_processing import (
    FETCH_TRIES,
    HOST_FAILURES_MAX,
    IN_WORK_S_MAX,
    BackgroundImageProcessing,
)
from tests.sandbox_shop import (
    Books,
    Effects,
    ImagesOf,
    Killed,
    Killer,
    SandboxShop,
    http,
    make_draft,
    make_given,
    sandbox,
    shops,
)

__all__ = ["http", "sandbox", "shops"]


class QuickClock(SystemClock):
    """The machine's clock, except that waiting takes a tenth of its time, and that it can be put forward."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.ahead_s)

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / 10)


FIRST, SECOND, THIRD = (f"00000000-0000-5000-8000-00000000000{number}" for number in (1, 2, 3))


class Counting:
    """The real fetcher, and what it was asked for."""

    def __init__(self, images: WebImages) -> None:
        self._images = images
        self.asked: list[str] = []

    async def fetch(self, url: str, *, allowed_hosts: Sequence[str]) -> EncodedImage:
        self.asked.append(url)
        return await self._images.fetch(url, allowed_hosts=allowed_hosts)


@dataclass
class World:
    """One product in the shop and candidates for its pictures; workers come and go."""

    shops: Shops
    images: Images
    product_id: str
    effects: Effects = field(default_factory=Effects)
    books: Books = field(default_factory=Books)
    clock: QuickClock = field(default_factory=QuickClock)

    def candidates(self, *names: str) -> None:
        self.books.images = [
            StoredImage(
                id=f"00000000-0000-5000-8000-{position:012}",
                draft_id="draft-1",
                product_id=self.product_id,
                url=name if "//" in name else f"https://images.example/{name}",
                position=position,
                alt="A red mug",
                state="candidate",
            )
            for position, name in enumerate(names, start=1)
        ]

    async def process(self, killer: Killer | None = None) -> list[AttachedImage]:
        """One attempt by a new worker."""
        store = ImagesOf(self.books, self.effects)
        ledger = Ledger(self.effects, killer or Killer())
        stage = BackgroundImageProcessing(self.shops, store, self.images, ledger, self.clock)
        result = await stage.run(make_given("background-image-processing"))
        assert isinstance(result, Done)
        assert isinstance(result.output, AttachedImages)
        return list(result.output.images)


@pytest.fixture
async def world(shops: Shops, sandbox: SandboxShop) -> World:
    shop = await shops.of(make_given("shopify-sync").run.merchant)
    product = await shop.create_product(make_draft("mug", {"S": 1}))
    images = WebImages({"images.example": f"{sandbox.address}/images"}, SystemClock())
    return World(shops, images, product.id)


async def media(sandbox: SandboxShop) -> list[dict[str, str]]:
    (product,) = (await sandbox.state())["products"]
    return list(product["media"])


async def test_pictures_are_attached_and_ready_in_their_order(world: World, sandbox: SandboxShop) -> None:
    world.candidates("front.jpg", "back.jpg")
    fates = await world.process()

    hung = await media(sandbox)
    assert [one["filename"] for one in hung] == [f"{mark(FIRST)}.jpg", f"{mark(SECOND)}.jpg"]
    assert {(one["status"], one["alt"]) for one in hung} == {("READY", "A red mug")}
    assert [one.media_id for one in fates] == [one["id"] for one in hung]
    assert [(one.state, one.width, one.height, one.reason) for one in fates] == [("attached", 640, 640, "")] * 2


GAPS = ("intent", "upload intent", "upload done", "upload confirmed", "attached", "confirmed")


@pytest.mark.parametrize("gap", range(1, len(GAPS) + 1), ids=GAPS)
async def test_a_worker_killed_in_every_gap_hangs_each_picture_once(
    world: World, sandbox: SandboxShop, gap: int
) -> None:
    world.candidates("front.jpg", "back.jpg")
    with pytest.raises(Killed):
        await world.process(Killer(gap))
    world.clock.ahead_s = UNDER_WAY_S
    fates = await world.process()

    assert len(await media(sandbox)) == 2
    assert [one.state for one in fates] == ["attached", "attached"]
    assert all(is_phash(one.phash) and one.width == 640 for one in fates)


async def test_a_worker_killed_again_and_again_hangs_each_picture_once(world: World, sandbox: SandboxShop) -> None:
    world.candidates("front.jpg", "back.jpg")
    for turn, gap in enumerate((1, 2, 3, 4, 5, 2, 3, 4, 5, 6, 7), start=1):
        world.clock.ahead_s = turn * UNDER_WAY_S
        with pytest.raises(Killed):
            await world.process(Killer(gap))
    world.clock.ahead_s += UNDER_WAY_S
    assert [one.state for one in await world.process()] == ["attached", "attached"]
    assert len(await media(sandbox)) == 2


async def test_a_file_that_may_have_been_attached_is_never_attached_again(world: World, sandbox: SandboxShop) -> None:
    world.candidates("front.jpg")
    with pytest.raises(Killed):
        await world.process(Killer(4))  # uploaded, not attached
    world.clock.ahead_s = UNDER_WAY_S
    await world.process()
    assert [key.rpartition(":")[2] for key in world.effects.rows if key.startswith("upload:")] == ["1", "2"]
    assert world.effects.rows[f"image:{FIRST}"].external["upload"] == f"upload:{FIRST}:2"


async def test_a_restored_database_hangs_nothing_again(world: World, sandbox: SandboxShop) -> None:
    """The ledger has forgotten what hangs; the file's name in the shop has not."""
    world.candidates("front.jpg", "front.jpg?size=large")
    before = await world.process()
    world.effects.rows.clear()
    assert await world.process() == before
    assert [one.state for one in before] == ["attached", "duplicate"]
    assert len(await media(sandbox)) == 1


async def test_a_restored_database_hangs_nothing_again_though_the_host_is_gone(
    world: World, sandbox: SandboxShop
) -> None:
    world.candidates("front.jpg")
    await world.process()
    world.effects.rows.clear()
    world.images = WebImages({"images.example": "http://127.0.0.1:1"}, SystemClock())
    assert [one.state for one in await world.process()] == ["attached"]
    assert len(await media(sandbox)) == 1


@pytest.mark.parametrize("operation", ["stagedUploadsCreate", "productUpdate"])
@pytest.mark.parametrize("processing_s", [0.05, 1.0])
async def test_an_answer_lost_after_the_effect_hangs_the_picture_once(
    world: World, sandbox: SandboxShop, operation: str, processing_s: float
) -> None:
    await sandbox.change(settings={"processing_s": processing_s})
    world.candidates("front.jpg")
    await sandbox.fail(operation, "error_502_after_success")
    with pytest.raises(VendorUnavailable):
        await world.process()
    (fate,) = await world.process()

    assert fate.state == "attached"
    assert [one["status"] for one in await media(sandbox)] == ["READY"]


async def test_the_same_picture_twice_hangs_once(world: World, sandbox: SandboxShop) -> None:
    world.candidates("front.jpg", "front.jpg?size=large")
    fates = await world.process()
    assert [one.state for one in fates] == ["attached", "duplicate"]
    assert len(await media(sandbox)) == 1
    assert [one.state for one in await world.process()] == ["attached", "duplicate"]


async def test_a_picture_an_earlier_order_hung_is_not_hung_again(world: World, sandbox: SandboxShop) -> None:
    """Also where the merchant has taken it down since: it is not brought back."""
    world.candidates("front.jpg")
    (first,) = await world.process()
    later = World(world.shops, world.images, world.product_id)
    later.candidates("front.jpg?size=large", "back.jpg")
    later.books.images = [replace(one, id=f"1{one.id[1:]}") for one in later.books.images]
    later.books.hung = {world.product_id: [first.phash]}
    assert [one.state for one in await later.process()] == ["duplicate", "attached"]
    assert len(await media(sandbox)) == 2


@pytest.mark.parametrize(
    ("status", "reason"),
    [("ACTIVE", "the product is live: its pictures are the merchant's"), ("ARCHIVED", "the product is archived")],
)
async def test_a_product_that_is_no_draft_keeps_the_pictures_its_merchant_chose(
    world: World, sandbox: SandboxShop, status: str, reason: str
) -> None:
    await sandbox.do(
        """mutation($id: ID!, $status: ProductStatus!) {
          productUpdate(product: {id: $id, status: $status}) { userErrors { message } }
        }""",
        id=world.product_id,
        status=status,
    )
    world.candidates("front.jpg")
    (fate,) = await world.process()
    assert (fate.state, fate.reason) == ("skipped", reason)
    assert await media(sandbox) == []


class Meanwhile:
    """The real fetcher, and what its merchant does in the shop while it works."""

    def __init__(self, images: Images, act: Callable[[], Awaitable[object]]) -> None:
        self._images = images
        self._act = act

    async def fetch(self, url: str, *, allowed_hosts: Sequence[str]) -> EncodedImage:
        picture = await self._images.fetch(url, allowed_hosts=allowed_hosts)
        await self._act()
        return picture


@pytest.mark.parametrize(
    ("mutation", "state", "reason"),
    [
        ("productDelete(input: {id: $id})", "failed", "the product was deleted in the shop"),
        ("productUpdate(product: {id: $id, status: ACTIVE})", "skipped", "the product is live"),
    ],
)
async def test_what_a_merchant_does_while_we_fetch_is_seen_before_the_attach(
    world: World, sandbox: SandboxShop, mutation: str, state: str, reason: str
) -> None:
    """The file is uploaded for nothing then, and the ledger says so."""
    document = f"mutation($id: ID!) {{ {mutation} {{ userErrors {{ message }} }} }}"
    world.images = Meanwhile(world.images, partial(sandbox.do, document, id=world.product_id))
    world.candidates("front.jpg")
    (fate,) = await world.process()
    assert (fate.state, fate.reason.startswith(reason)) == (state, True)
    assert (await sandbox.state())["media"] == []
    assert world.effects.rows[f"upload:{FIRST}:1"].state == "confirmed"
    assert "upload" not in world.effects.rows[f"image:{FIRST}"].external


async def test_a_product_with_as_many_pictures_as_the_shop_takes_gets_no_more(
    world: World, sandbox: SandboxShop
) -> None:
    one = {"originalSource": f"{sandbox.address}/images/old.jpg", "mediaContentType": "IMAGE", "alt": "old"}
    await sandbox.do(
        """mutation($id: ID!, $media: [CreateMediaInput!]!) {
          productUpdate(product: {id: $id}, media: $media) { userErrors { message } }
        }""",
        id=world.product_id,
        media=[one] * MEDIA_MAX,
    )
    world.candidates("front.jpg")
    (fate,) = await world.process()
    assert (fate.state, fate.reason) == ("failed", "the product has 250 pictures, and the shop takes no more")


async def test_a_bad_picture_is_marked_with_its_reason_and_the_others_go_on(world: World, sandbox: SandboxShop) -> None:
    world.candidates("not-an-image.jpg", "missing.jpg", "bomb.jpg", "inward.jpg", "good.jpg")
    fates = await world.process()
    assert [one.state for one in fates] == ["failed"] * 4 + ["attached"]
    assert all(one.reason for one in fates[:4])
    assert len(await media(sandbox)) == 1


async def test_a_host_that_is_down_costs_its_pictures_and_no_more(world: World) -> None:
    world.candidates("front.jpg")
    world.images = WebImages({"images.example": "http://127.0.0.1:1"}, SystemClock())
    (fate,) = await world.process()
    assert fate.state == "failed"
    assert "could not be fetched" in fate.reason


async def test_a_host_that_lets_two_pictures_down_is_not_asked_for_the_others(
    world: World, sandbox: SandboxShop
) -> None:
    counting = Counting(
        WebImages({"gone.example": "http://127.0.0.1:1", "images.example": f"{sandbox.address}/images"}, SystemClock())
    )
    world.images = counting
    gone = [f"https://gone.example/{number}.jpg" for number in range(5)]
    world.candidates(*gone, "front.jpg")
    fates = await world.process()
    assert [one.state for one in fates] == ["failed"] * 5 + ["attached"]
    assert "was not asked for this one" in fates[4].reason
    assert len(counting.asked) == HOST_FAILURES_MAX * FETCH_TRIES + 1


async def test_fetching_ends_when_it_took_too_long_in_all(
    world: World, sandbox: SandboxShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_image_processing, "FETCH_S_MAX", 0.0)
    world.candidates("front.jpg", "back.jpg")
    fates = await world.process()
    assert [one.state for one in fates] == ["failed", "failed"]
    assert "took too long" in fates[0].reason


async def test_an_attached_picture_stays_attached_when_its_host_is_gone_at_the_replay(
    world: World, sandbox: SandboxShop
) -> None:
    world.candidates("front.jpg")
    with pytest.raises(Killed):
        await world.process(Killer(5))  # attached, not confirmed
    world.images = WebImages({"images.example": "http://127.0.0.1:1"}, SystemClock())
    (fate,) = await world.process()
    assert fate.state == "attached"
    assert len(await media(sandbox)) == 1


async def test_a_shop_that_is_down_ends_the_attempt_and_marks_nothing(world: World, sandbox: SandboxShop) -> None:
    world.candidates("front.jpg")
    await sandbox.fail("*", "http_500")
    with pytest.raises(VendorUnavailable):
        await world.process()
    assert [one.state for one in await world.process()] == ["attached"]


async def test_a_deleted_product_fails_its_pictures_only(world: World, sandbox: SandboxShop) -> None:
    await sandbox.do(
        "mutation($id: ID!) { productDelete(input: {id: $id}) { userErrors { message } } }",
        id=world.product_id,
    )
    world.candidates("front.jpg")
    (fate,) = await world.process()
    assert (fate.state, fate.reason) == ("failed", "the product was deleted in the shop")


async def test_a_product_deleted_while_the_shop_works_on_its_pictures_fails_them(
    world: World, sandbox: SandboxShop
) -> None:
    await sandbox.change(settings={"processing_s": 60})
    world.candidates("front.jpg")
    with pytest.raises(Killed):
        await world.process(Killer(6))
    await sandbox.do(
        "mutation($id: ID!) { productDelete(input: {id: $id}) { userErrors { message } } }", id=world.product_id
    )
    (fate,) = await world.process()
    assert (fate.state, fate.reason) == ("failed", "the product was deleted in the shop")


async def test_a_picture_the_shop_works_on_for_long_is_looked_at_again_and_in_the_end_left_hanging(
    world: World, sandbox: SandboxShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_image_processing, "POLL_S_MAX", 0.1)
    await sandbox.change(settings={"processing_s": 600})
    world.candidates("front.jpg")
    with pytest.raises(VendorUnavailable, match="still working") as wait:
        await world.process()
    assert wait.value.retry_after_s == LOOK_AGAIN_S
    world.clock.ahead_s = IN_WORK_S_MAX
    (fate,) = await world.process()
    assert (fate.state, fate.reason) == ("attached", "the shop is still working on the picture")
    assert len(await media(sandbox)) == 1


class Narrow:
    """A picture that we take and the shop does not."""

    async def fetch(self, _url: str, *, allowed_hosts: Sequence[str]) -> EncodedImage:  # noqa: ARG002  the port's
        out = io.BytesIO()
        Image.new("RGB", (1500, 3)).save(out, "PNG")
        return await recode_apart(out.getvalue())


async def test_a_picture_the_shop_cannot_use_says_why(world: World) -> None:
    world.candidates("front.jpg")
    world.images = Narrow()
    (fate,) = await world.process()
    assert fate.state == "failed"
    assert fate.reason.startswith("the shop could not use the picture: INVALID_IMAGE_ASPECT_RATIO")


async def test_a_draft_that_never_reached_the_shop_has_no_place_for_pictures(world: World) -> None:
    world.candidates("front.jpg")
    world.books.images = [replace(one, product_id="") for one in world.books.images]
    (fate,) = await world.process()
    assert fate.state == "failed"


def hung(identifier: str, *sources: str, alt: str = "A mug", status: str = "READY") -> ShopMedia:
    return ShopMedia(identifier, status, alt, sources)


def test_ours_is_known_by_its_file_name_or_by_being_new_with_our_text() -> None:
    intent = {"before": ["old"], "alt": "A mug"}
    named = hung("named", f"https://cdn.example/files/{mark(FIRST)}_3f2a.jpg?v=1", alt="edited by the merchant")
    others = hung("others", f"https://cdn.example/files/{mark(SECOND)}-3f2a.jpg")
    merchants = hung("merchants", alt="My own picture")
    renamed = hung("renamed", "https://cdn.example/files/3f2a.jpg")
    assert find_ours([hung("old"), others, merchants, named], FIRST, intent) == named
    assert find_ours([hung("old"), others, merchants, renamed], FIRST, intent) == renamed
    assert find_ours([hung("old"), others, merchants], FIRST, intent) is None
    assert find_ours([hung("old"), hung("failed", status="FAILED")], FIRST, intent) == hung("failed", status="FAILED")


async def test_a_picture_without_a_name_yet_is_waited_for(
    world: World, sandbox: SandboxShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another order may have hung it at that moment, with the same product's title for a text."""
    await sandbox.change(settings={"processing_s": 0.5})
    world.candidates("front.jpg")
    other = World(world.shops, world.images, world.product_id)
    other.candidates("back.jpg")
    other.books.images = [replace(one, id=SECOND) for one in other.books.images]
    with pytest.raises(Killed):
        await world.process(Killer(1))
    with pytest.raises(Killed):
        await other.process(Killer(5))
    assert [one.state for one in await world.process()] == ["attached"]
    assert [one.state for one in await other.process()] == ["attached"]
    assert [one["filename"] for one in await media(sandbox)] == [f"{mark(SECOND)}.jpg", f"{mark(FIRST)}.jpg"]
