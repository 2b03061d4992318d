"""Stage 11, background-image-processing: fetch, check, upload and attach pictures. Failures mark pictures, not the run.

A picture's own host may be down or hostile: that is this picture's fate and nobody else's. Only the *shop*
being away, or closed to us, ends the attempt.

Adding a picture to a product cannot be made idempotent by a key, and the shop takes a while before it says
where a picture came from. So the intent remembers which pictures hung there before, and an open intent is
answered by looking for one that is ours (`find_ours`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import chain, groupby, repeat
from typing import Any

from pipeline.clock import Clock
from pipeline.contract import Done, Reject, StageInput, StageResult
from pipeline.domain.results import AttachedImage, AttachedImages
from pipeline.effects import Answer, Ledger
from pipeline.errors import VendorRefused, VendorUnavailable
from pipeline.ports import Effect, EncodedImage, Images, ImageStore, Shop, ShopMedia, Shops, StoredImage

FETCH_TRIES = 3
FETCH_PAUSE_S = 2.0
POLL_S = (0.25, 0.5, 1.0, 2.0)
"""Pauses between looks at a product's pictures; the last one repeats."""
POLL_S_MAX = 60.0
"""The shop takes seconds for a picture, rarely longer; after a minute it is attached and still in work."""

HUNG = "hung"
"""Attached, and the shop has not yet said whether it can use it. Never leaves this stage."""

ALT_MAX = 512
_EXTENSIONS = {"image/jpeg": "jpg", "image/png": "png"}
_ANY_MARK = re.compile(r"po-image-[0-9a-z-]+")


class BackgroundImageProcessing:
    """Brings a run's candidate pictures to their final state, one after the other."""

    def __init__(self, shops: Shops, store: ImageStore, images: Images, ledger: Ledger, clock: Clock) -> None:
        self._shops = shops
        self._store = store
        self._images = images
        self._ledger = ledger
        self._clock = clock

    async def run(self, given: StageInput) -> StageResult:
        """Every candidate ends attached, duplicate or failed with the reason."""
        candidates = await self._store.of_run(given.run.id)
        if not candidates:
            return Done(AttachedImages())
        shop = await self._shops.of(given.run.merchant, given.waits)
        fates: dict[str, AttachedImage] = {}
        for product_id, group in groupby(candidates, key=lambda one: one.product_id):
            seen: dict[str, str] = {}  # sha256 -> the picture that has it; within one product
            for image in group:
                fates[image.id] = await self._hang(given, shop, image, seen) if product_id else _homeless(image)
                done = len(fates) / (len(candidates) + 1)
                await given.progress(done, f"{len(fates)} of {len(candidates)} pictures")
        # All hang before the first is waited for: the shop works on them side by side.
        for image in candidates:
            if fates[image.id].state == HUNG:
                fates[image.id] = await self._await_ready(shop, image, fates[image.id])
        return Done(AttachedImages(images=tuple(fates.values())))

    async def _hang(self, given: StageInput, shop: Shop, image: StoredImage, seen: dict[str, str]) -> AttachedImage:
        """One picture on its product, or why not. What only concerns this picture becomes its reason."""
        try:
            answer = await self._attach(given, shop, image, seen)
        except (_Unfetched, VendorRefused) as failed:
            return AttachedImage(image_id=image.id, state="failed", reason=str(failed))
        facts: dict[str, Any] = {name: answer[name] for name in ("sha256", "width", "height")}
        if not answer["media_id"]:
            return AttachedImage(image_id=image.id, state="duplicate", reason="the product has this picture", **facts)
        if answer["sha256"]:
            seen.setdefault(answer["sha256"], image.id)
        return AttachedImage(image_id=image.id, state=HUNG, media_id=answer["media_id"], **facts)

    async def _attach(self, given: StageInput, shop: Shop, image: StoredImage, seen: Mapping[str, str]) -> Answer:
        """Fetch, upload and attach through the ledger; the answer says which medium it became, or none."""

        async def attach(first: Mapping[str, Any]) -> Answer:
            picture = await self._fetch(given, image)
            if seen.get(picture.sha256, image.id) != image.id:
                return _answer("", picture)
            given.still_ours()
            name = f"{mark(image.id)}.{_EXTENSIONS.get(picture.mime, 'jpg')}"
            resource = await shop.upload_image(name, picture.mime, picture.content)
            given.still_ours()  # the upload took its time, and only the next call is seen by customers
            media = await shop.attach_image(image.product_id, resource, first["alt"])
            found = find_ours(media, image.id, first)
            if found is None:
                raise VendorRefused("the shop did not keep the picture", code="media")
            return _answer(found.id, picture)

        async def ask(effect: Effect) -> Answer | None:
            found = find_ours(await shop.media(image.product_id), image.id, effect.parameters)
            return None if found is None else _answer(found.id, None)

        before = [one.id for one in await shop.media(image.product_id)]
        parameters = {"product_id": image.product_id, "before": before, "alt": image.alt[:ALT_MAX]}
        return await self._ledger.once(given, f"image:{image.id}", parameters, call=attach, ask=ask)

    async def _fetch(self, given: StageInput, image: StoredImage) -> EncodedImage:
        """The checked picture. Its host's outage is waited out briefly: a picture is not worth a run's patience."""
        allowed = given.run.merchant.settings.image_hosts
        for tries in range(1, FETCH_TRIES + 1):
            try:
                return await self._images.fetch(image.url, allowed_hosts=allowed)
            except Reject as rejected:
                raise _Unfetched(str(rejected)) from rejected
            except VendorUnavailable as away:
                if tries == FETCH_TRIES:
                    raise _Unfetched(f"the picture could not be fetched: {away}") from away
            await self._clock.sleep(FETCH_PAUSE_S * tries)
        raise AssertionError  # the last try returns or raises

    async def _await_ready(self, shop: Shop, image: StoredImage, hung: AttachedImage) -> AttachedImage:
        """The picture's fate once the shop is done with it, or when our patience ends."""
        deadline = self._clock.monotonic() + POLL_S_MAX
        for pause_s in chain(POLL_S, repeat(POLL_S[-1])):
            media = next((one for one in await shop.media(image.product_id) if one.id == hung.media_id), None)
            if media is None or media.status in {"READY", "FAILED"} or self._clock.monotonic() >= deadline:
                break
            await self._clock.sleep(pause_s)
        state, reason = _verdict(media)
        return hung.model_copy(update={"state": state, "reason": reason})


class _Unfetched(Exception):
    """This picture cannot be had; the message says why."""


def mark(image_id: str) -> str:
    """What a picture's file is called in the shop, so that it is known again. Ends where the id ends."""
    return f"po-image-{image_id}"


def find_ours(media: Sequence[ShopMedia], image_id: str, intent: Mapping[str, Any]) -> ShopMedia | None:
    """The medium an intent became, if it became one.

    By the file's name where the shop shows it. While it works on a picture it shows none, and it may rename
    files; then ours is the one with our text that was not there before, unless its name says it is another's.
    """
    names = {one.id: _marks(one) for one in media}
    by_name = next((one for one in media if mark(image_id) in names[one.id]), None)
    if by_name is not None:
        return by_name
    new = (one for one in media if one.id not in intent["before"] and not names[one.id])
    return next((one for one in new if one.alt == intent["alt"]), None)


def _marks(media: ShopMedia) -> set[str]:
    """Which of our pictures a medium says it is."""
    return {found for source in media.sources for found in _ANY_MARK.findall(source)}


def _answer(media_id: str, picture: EncodedImage | None) -> Answer:
    if picture is None:
        return {"media_id": media_id, "sha256": "", "width": 0, "height": 0}
    return {"media_id": media_id, "sha256": picture.sha256, "width": picture.width, "height": picture.height}


def _verdict(media: ShopMedia | None) -> tuple[str, str]:
    if media is None:
        return "failed", "the picture was deleted in the shop"
    if media.status == "FAILED":
        return "failed", f"the shop could not use the picture: {media.error or 'no reason given'}"
    return "attached", "" if media.status == "READY" else "the shop is still working on the picture"


def _homeless(image: StoredImage) -> AttachedImage:
    return AttachedImage(image_id=image.id, state="failed", reason="its product is not in the shop")
