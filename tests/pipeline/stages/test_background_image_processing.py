"""Stage 11 against the real adapters and the sandbox: each picture once, and only pictures fail."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from app.adapters.images import WebImages
from app.adapters.shops import Shops
from pipeline.clock import SystemClock
from pipeline.contract import Done
from pipeline.domain.results import AttachedImage, AttachedImages
from pipeline.effects import Ledger
from pipeline.errors import VendorUnavailable
from pipeline.ports import ShopMedia, StoredImage
from pipeline.stages.background_image_processing import BackgroundImageProcessing, find_ours, mark
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
    """The machine's clock, except that waiting takes a tenth of its time."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / 10)


@dataclass
class World:
    """One product in the shop and candidates for its pictures; workers come and go."""

    shops: Shops
    images: WebImages
    product_id: str
    effects: Effects = field(default_factory=Effects)
    books: Books = field(default_factory=Books)

    def candidates(self, *names: str) -> None:
        self.books.images = [
            StoredImage(
                id=f"0000-{position}",
                draft_id="draft-1",
                product_id=self.product_id,
                url=f"https://images.example/{name}",
                position=position,
                alt="A red mug",
                state="candidate",
            )
            for position, name in enumerate(names, start=1)
        ]

    async def process(self, killer: Killer | None = None) -> list[AttachedImage]:
        """One attempt by a new worker."""
        stage = BackgroundImageProcessing(
            self.shops, ImagesOf(self.books), self.images, Ledger(self.effects, killer or Killer()), QuickClock()
        )
        result = await stage.run(make_given("background-image-processing"))
        assert isinstance(result, Done)
        assert isinstance(result.output, AttachedImages)
        return list(result.output.images)


@pytest.fixture
async def world(shops: Shops, sandbox: SandboxShop) -> World:
    shop = await shops.of(make_given("shopify-sync").run.merchant)
    product = await shop.create_product(make_draft("mug", {"S": 1}))
    images = WebImages({"images.example": f"{sandbox.address}/images"})
    return World(shops, images, product.id)


async def media(sandbox: SandboxShop) -> list[dict[str, str]]:
    (product,) = (await sandbox.state())["products"]
    return list(product["media"])


async def test_pictures_are_attached_and_ready_in_their_order(world: World, sandbox: SandboxShop) -> None:
    world.candidates("front.jpg", "back.jpg")
    fates = await world.process()

    hung = await media(sandbox)
    assert [one["filename"] for one in hung] == [f"{mark('0000-1')}.jpg", f"{mark('0000-2')}.jpg"]
    assert {(one["status"], one["alt"]) for one in hung} == {("READY", "A red mug")}
    assert [one.media_id for one in fates] == [one["id"] for one in hung]
    assert [(one.state, one.width, one.height, one.reason) for one in fates] == [("attached", 640, 640, "")] * 2


async def test_a_worker_killed_in_every_gap_hangs_each_picture_once(world: World, sandbox: SandboxShop) -> None:
    world.candidates("front.jpg", "back.jpg")
    for at in (1, 2, 3, 2, 3, 4):
        with pytest.raises(Killed):
            await world.process(Killer(at))
    fates = await world.process()

    assert len(await media(sandbox)) == 2
    assert [one.state for one in fates] == ["attached", "attached"]


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


async def test_a_bad_picture_is_marked_with_its_reason_and_the_others_go_on(world: World, sandbox: SandboxShop) -> None:
    world.candidates("not-an-image.jpg", "missing.jpg", "bomb.jpg", "inward.jpg", "good.jpg")
    fates = await world.process()
    assert [one.state for one in fates] == ["failed"] * 4 + ["attached"]
    assert all(one.reason for one in fates[:4])
    assert len(await media(sandbox)) == 1


async def test_a_host_that_is_down_costs_its_pictures_and_no_more(world: World) -> None:
    world.candidates("front.jpg")
    world.images = WebImages({"images.example": "http://127.0.0.1:1"})
    (fate,) = await world.process()
    assert fate.state == "failed"
    assert "could not be fetched" in fate.reason


async def test_an_attached_picture_stays_attached_when_its_host_is_gone_at_the_replay(
    world: World, sandbox: SandboxShop
) -> None:
    world.candidates("front.jpg")
    with pytest.raises(Killed):
        await world.process(Killer(2))  # attached, not confirmed
    world.images = WebImages({"images.example": "http://127.0.0.1:1"})
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
        "mutation($id: ID!) { productDelete(input: {id: $id}) { userErrors { message } } }", id=world.product_id
    )
    world.candidates("front.jpg")
    (fate,) = await world.process()
    assert (fate.state, fate.reason) == ("failed", "the product was deleted in the shop")


async def test_a_draft_that_never_reached_the_shop_has_no_place_for_pictures(world: World) -> None:
    world.candidates("front.jpg")
    world.books.images = [replace(one, product_id="") for one in world.books.images]
    (fate,) = await world.process()
    assert fate.state == "failed"


def hung(identifier: str, *sources: str, alt: str = "A mug") -> ShopMedia:
    return ShopMedia(identifier, "PROCESSING", alt, sources)


def test_ours_is_known_by_its_file_name_or_by_being_new_with_our_text() -> None:
    intent = {"before": ["old"], "alt": "A mug"}
    named = hung("named", f"https://cdn.example/files/{mark('1')}_3f2a.jpg?v=1", alt="edited by the merchant")
    others = hung("others", f"https://cdn.example/files/{mark('2')}.jpg")
    merchants = hung("merchants", alt="My own picture")
    assert find_ours([hung("old"), others, merchants, named], "1", intent) == named
    assert find_ours([hung("old"), others, merchants, hung("new")], "1", intent) == hung("new")
    assert find_ours([hung("old"), others, merchants], "1", intent) is None
