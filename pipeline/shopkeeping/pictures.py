"""One picture on one product, once, although the shop has no key for that and tells late what it has.

Adding a picture to a product cannot be made idempotent, and the shop takes a while before it says where a picture came
from. So the intent remembers which pictures hung there before, an open intent is answered by looking for one that is
ours (`find_ours`), and a file is asked to be attached at most once: after an attempt that ended between upload and
attach we wait until a request of its own cannot arrive any more, and upload anew.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, count, repeat
from typing import Any

from pipeline.clock import Clock
from pipeline.contract import StageInput
from pipeline.domain.pictures import same_picture
from pipeline.effects import Answer, Ledger
from pipeline.errors import VendorRefused, VendorUnavailable
from pipeline.ports import DELETED, Effect, EncodedImage, SentFile, Shop, ShopGallery, ShopMedia, StoredImage

POLL_S = (0.25, 0.5, 1.0, 2.0)
"""Pauses between looks at a product's pictures; the last one repeats."""
POLL_S_MAX = 20.0
"""The shop takes seconds for a picture. After that the slot is for others, and we look again a little later."""
LOOK_AGAIN_S = 30.0

UNDER_WAY_S = 35.0
"""A request to attach that was sent may be carried out within this time, whatever became of its caller.

Not settled: how long the shop goes on with a request whose caller is gone. No caller waits longer than 30 s.
"""

MEDIA_MAX = 250
"""Pictures on one product, by third parties' word; the shop would refuse the next."""
ALT_MAX = 512

SEEN = "the product has, or had, this picture"
GONE = "the product was deleted in the shop"
_NO_DRAFT = {"ARCHIVED": "the product is archived", "ACTIVE": "the product is live: its pictures are the merchant's"}

_EXTENSIONS = {"image/jpeg": "jpg", "image/png": "png"}
_ANY_MARK = re.compile(r"po-image-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""Ends where the id ends: a shop that renames files puts its own letters behind."""
_NO_FACTS: Mapping[str, Any] = {"sha256": "", "phash": "", "width": 0, "height": 0}


class UnfetchedError(Exception):
    """This picture cannot be had; the message says why."""


Fetch = Callable[[str], Awaitable[EncodedImage]]
"""The checked picture behind an address. Raises UnfetchedError."""


@dataclass(slots=True)
class Wall:
    """A product's pictures as one attempt knows them: what ours look like, and what the shop showed last."""

    phashes: list[str]
    gallery: ShopGallery | None = None


class Hanging:
    """Hangs the pictures of one attempt's run in one shop.

    Its answers are the ledger's: `media_id`, and where that is empty `state` and `reason`; what the picture is
    (`sha256`, `phash`, `width`, `height`), which `upload` it hangs by, and since when (`at`).
    """

    def __init__(self, given: StageInput, shop: Shop, ledger: Ledger, clock: Clock, fetch: Fetch) -> None:
        self._given = given
        self._shop = shop
        self._ledger = ledger
        self._clock = clock
        self._fetch = fetch

    async def hang(self, image: StoredImage, wall: Wall) -> Answer:
        """One picture on its product, or why not. The ledger closes either way: what was decided stays decided."""

        async def attach(first: Mapping[str, Any]) -> Answer:
            try:
                return await self._attach(image, wall, first["alt"])
            except (UnfetchedError, VendorRefused) as failed:
                return not_hung("failed", str(failed))

        async def ask(effect: Effect) -> Answer | None:
            found = await self._find_ours(image, wall, effect.parameters)
            return None if found is None else self._hung(found, _key(image.sent), image.sent)

        try:
            gallery = wall.gallery or await self._look(image, wall)
            parameters = {
                "product_id": image.product_id,
                "before": [one.id for one in gallery.media],
                "alt": image.alt[:ALT_MAX],
            }
            answer = await self._ledger.once(self._given, f"image:{image.id}", parameters, call=attach, ask=ask)
        except VendorRefused as refused:  # the shop does not even show the product
            return not_hung("failed", str(refused))
        if answer["media_id"]:
            wall.phashes.append(answer.get("phash", ""))
        return answer

    async def _look(self, image: StoredImage, wall: Wall) -> ShopGallery:
        wall.gallery = await self._shop.gallery(image.product_id)
        return wall.gallery

    async def _find_ours(self, image: StoredImage, wall: Wall, intent: Mapping[str, Any]) -> ShopMedia | None:
        """What an open intent became. While the shop works on it we wait: another order may have hung it."""
        deadline = self._clock.monotonic() + POLL_S_MAX
        for pause_s in chain(POLL_S, repeat(POLL_S[-1])):
            found = find_ours((await self._look(image, wall)).media, image.id, intent)
            if found is None or _marks(found) or not in_work(found):
                return found
            if self._clock.monotonic() >= deadline:
                break
            await self._clock.sleep(pause_s)
        raise VendorUnavailable("the shop is still working on a picture that may be ours", retry_after_s=LOOK_AGAIN_S)

    async def _attach(self, image: StoredImage, wall: Wall, alt: str) -> Answer:
        """Fetch, upload, attach; or what stands in the way. Raises UnfetchedError and VendorRefused for this picture.

        The gallery is looked at before the work and, as all that took its time, once more before the attach.
        """
        before = wall.gallery or await self._look(image, wall)
        known = find_named(before.media, image.id)
        if known is not None:  # a database restored from a backup has forgotten it
            return self._hung(known, _key(image.sent), image.sent or await self._again(image))
        if refusal := _no_place(before):
            return refusal
        self._let_arrive(image.sent)
        picture = await self._fetch(image.url)
        if any(same_picture(picture.phash, phash) for phash in wall.phashes):
            return not_hung("duplicate", SEEN, picture)
        sent, resource = await self._upload(image, picture)
        before = await self._look(image, wall)
        if refusal := _no_place(before):
            return refusal
        self._given.still_ours()
        wall.gallery = await self._shop.attach_image(image.product_id, resource, alt)
        found = find_named(wall.gallery.media, image.id) or _newest(wall.gallery.media, before.media, alt)
        if found is None:
            raise VendorRefused("the shop did not keep the picture", code="media")
        return self._hung(found, sent.key, sent)

    async def _again(self, image: StoredImage) -> EncodedImage | None:
        """The picture once more, to know what hangs there; nothing where it cannot be had any more."""
        with suppress(UnfetchedError):
            return await self._fetch(image.url)
        return None

    async def _upload(self, image: StoredImage, picture: EncodedImage) -> tuple[SentFile, str]:
        """A file in the shop's staging area that nobody asked to attach yet, and its address there.

        A key the ledger knows is an earlier attempt's: its file is spent. Only where its upload was confirmed an attach
        may have been asked for.
        """
        for number in count(1):
            key = f"upload:{image.id}:{number}"
            answer, resource = await self._upload_as(key, image, picture)
            if resource:
                return sent_file(key, answer), resource
            if "at" in answer:
                self._let_arrive(sent_file(key, answer))
        raise AssertionError  # the count has no end

    async def _upload_as(self, key: str, image: StoredImage, picture: EncodedImage) -> tuple[Answer, str]:
        """The ledger's answer under that key, and the file's address if the upload was made just now."""
        resource = ""

        async def send(_first: Mapping[str, Any]) -> Answer:
            nonlocal resource
            self._given.still_ours()
            name = f"{mark(image.id)}.{_EXTENSIONS.get(picture.mime, 'jpg')}"
            try:
                resource = await self._shop.upload_image(name, picture.mime, picture.content)
            except VendorRefused as refused:
                return {"refused": str(refused)}
            return {"at": self._clock.now().isoformat(), **_facts(picture)}

        parameters = {"image_id": image.id, "bytes": len(picture.content)}
        answer = await self._ledger.once(self._given, key, parameters, call=send, ask=_unheard)
        if "refused" in answer:
            raise VendorRefused(answer["refused"], code="upload_refused")
        return answer, resource

    def _let_arrive(self, sent: SentFile | None) -> None:
        """Come back later where an earlier attempt's request to attach may still be carried out."""
        if sent is None:
            return
        left_s = UNDER_WAY_S - (self._clock.now() - sent.at).total_seconds()
        if left_s > 0:
            raise VendorUnavailable("the shop may be attaching a picture we asked for", retry_after_s=left_s)

    def _hung(self, media: ShopMedia, upload: str, picture: EncodedImage | SentFile | None) -> Answer:
        """It hangs, as this medium; `at` is when we knew."""
        return {"media_id": media.id, "upload": upload, "at": self._clock.now().isoformat(), **_facts(picture)}


async def _unheard(_effect: Effect) -> Answer:
    """An upload whose end nobody saw: it may lie in the staging area, and expires there by itself."""
    return {"unheard": True}


def mark(image_id: str) -> str:
    """What a picture's file is called in the shop, so that it is known again."""
    return f"po-image-{image_id}"


def find_named(media: Sequence[ShopMedia], image_id: str) -> ShopMedia | None:
    """The medium whose file bears our picture's name: certainly ours."""
    return next((one for one in media if mark(image_id) in _marks(one)), None)


def find_ours(media: Sequence[ShopMedia], image_id: str, intent: Mapping[str, Any]) -> ShopMedia | None:
    """The medium an intent became, if it became one.

    By the file's name where the shop shows it. While it works on a picture it shows none, and it may rename
    files; then ours is the one with our text that was not there before, unless its name says it is another's.
    """
    named = find_named(media, image_id)
    if named is not None:
        return named
    new = (one for one in media if one.id not in intent["before"] and not _marks(one))
    return next((one for one in new if one.alt == intent["alt"]), None)


def in_work(media: ShopMedia) -> bool:
    """Whether the shop has not yet said if it can use a picture."""
    return media.status in {"UPLOADED", "PROCESSING"}


def sent_file(key: str, answer: Answer) -> SentFile:
    """What the ledger says of an upload that arrived."""
    return SentFile(key=key, at=datetime.fromisoformat(answer["at"]), **facts_of(answer))


def _key(sent: SentFile | None) -> str:
    return "" if sent is None else sent.key


def facts_of(answer: Answer) -> dict[str, Any]:
    """What an answer says the picture is; one of an older release says less."""
    return {name: answer.get(name, none) for name, none in _NO_FACTS.items()}


def not_hung(state: str, reason: str, picture: EncodedImage | None = None) -> Answer:
    """An answer without a medium: duplicate, skipped or failed, and why."""
    return {"media_id": "", "state": state, "reason": reason, **_facts(picture)}


def _facts(picture: EncodedImage | SentFile | None) -> dict[str, Any]:
    return {name: none if picture is None else getattr(picture, name) for name, none in _NO_FACTS.items()}


def _no_place(gallery: ShopGallery) -> Answer | None:
    """Why no picture of ours is added to that product. Nothing goes live unasked: only drafts are ours to add to."""
    if gallery.status == DELETED:
        return not_hung("failed", GONE)
    if gallery.status != "DRAFT":
        return not_hung("skipped", _NO_DRAFT.get(gallery.status, "the product is no draft any more"))
    if len(gallery.media) >= MEDIA_MAX:
        return not_hung("failed", f"the product has {MEDIA_MAX} pictures, and the shop takes no more")
    return None


def _newest(media: Sequence[ShopMedia], before: Sequence[ShopMedia], alt: str) -> ShopMedia | None:
    """What was just added with that text, while no name says whose it is."""
    known = {one.id for one in before}
    return next((one for one in reversed(media) if one.id not in known and one.alt == alt), None)


def _marks(media: ShopMedia) -> set[str]:
    """Which of our pictures a medium says it is."""
    return {found for source in media.sources for found in _ANY_MARK.findall(source)}
