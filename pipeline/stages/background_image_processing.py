"""Stage 11, background-image-processing: fetch, check, upload and attach pictures. Failures mark pictures, not the run.

A picture's own host may be down or hostile: that is this picture's fate and nobody else's. Only the *shop*
being away, or closed to us, ends the attempt.

Adding a picture to a product cannot be made idempotent by a key, and the shop takes a while before it says
where a picture came from. So the intent remembers which pictures hung there before, an open intent is answered by
looking for one that is ours (`find_ours`), and a file is asked to be attached at most once: after an attempt that
ended between upload and attach we wait until a request of its own cannot arrive any more, and upload anew.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, count, repeat
from typing import Any
from urllib.parse import urlsplit

from pipeline.clock import Clock
from pipeline.contract import Done, Reject, StageInput, StageResult
from pipeline.domain.pictures import same_picture
from pipeline.domain.results import AttachedImage, AttachedImages
from pipeline.effects import Answer, Ledger
from pipeline.errors import VendorRefused, VendorUnavailable
from pipeline.ports import (
    DELETED,
    Effect,
    EncodedImage,
    Images,
    ImageStore,
    SentFile,
    Shop,
    ShopGallery,
    ShopMedia,
    Shops,
    StoredImage,
)

FETCH_TRIES = 3
FETCH_PAUSE_S = 2.0
HOST_FAILURES_MAX = 2
"""Pictures a host may fail to deliver before the others of that host are given up unasked."""
FETCH_S_MAX = 600.0
"""What fetching may take in one attempt, all pictures together: one order's hosts do not hold up everybody else."""

POLL_S = (0.25, 0.5, 1.0, 2.0)
"""Pauses between looks at a product's pictures; the last one repeats."""
POLL_S_MAX = 20.0
"""The shop takes seconds for a picture. After that the slot is for others, and we look again a little later."""
LOOK_AGAIN_S = 30.0
IN_WORK_S_MAX = 900.0
"""A picture the shop works on for longer is left hanging as it is, and said so."""

UNDER_WAY_S = 35.0
"""A request to attach that was sent may be carried out within this time, whatever became of its caller.

Not settled: how long the shop goes on with a request whose caller is gone. No caller waits longer than 30 s.
"""

MEDIA_MAX = 250
"""Pictures on one product, by third parties' word; the shop would refuse the next."""
ALT_MAX = 512
_EXTENSIONS = {"image/jpeg": "jpg", "image/png": "png"}
_ANY_MARK = re.compile(r"po-image-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""Ends where the id ends: a shop that renames files puts its own letters behind."""

_SEEN = "the product has this picture"
_GONE = "the product was deleted in the shop"
_NO_DRAFT = {"ARCHIVED": "the product is archived", "ACTIVE": "the product is live: its pictures are the merchant's"}


class BackgroundImageProcessing:
    """Brings a run's candidate pictures to their final state, one after the other."""

    def __init__(self, shops: Shops, store: ImageStore, images: Images, ledger: Ledger, clock: Clock) -> None:
        self._shops = shops
        self._store = store
        self._images = images
        self._ledger = ledger
        self._clock = clock

    async def run(self, given: StageInput) -> StageResult:
        """Every candidate ends attached, duplicate, skipped or failed with the reason."""
        candidates = await self._store.of_run(given.run.id)
        if not candidates:
            return Done(AttachedImages())
        shop = await self._shops.of(given.run.merchant, given.waits)
        products = sorted({one.product_id for one in candidates if one.product_id})
        hung = await self._store.hung(given.run.merchant.id, products)
        walls = {name: _Wall(list(hung.get(name, ()))) for name in {one.product_id for one in candidates}}
        fetcher = _Fetcher(self._images, self._clock, given.run.merchant.settings.image_hosts)
        answers: dict[str, Answer] = {}
        for image in candidates:
            answers[image.id] = await self._hang(given, shop, image, walls[image.product_id], fetcher)
            await given.progress(len(answers) / (len(candidates) + 1), f"{len(answers)} of {len(candidates)} pictures")
        # All hang before the first is waited for: the shop works on them side by side.
        hanging = {one.id: answers[one.id] for one in candidates if answers[one.id]["media_id"]}
        verdicts = await self._verdicts(given, shop, {one.id: one.product_id for one in candidates}, hanging)
        return Done(AttachedImages(images=tuple(_fate(one.id, answers[one.id], verdicts) for one in candidates)))

    async def _hang(self, given: StageInput, shop: Shop, image: StoredImage, wall: _Wall, fetcher: _Fetcher) -> Answer:
        """One picture on its product, or why not. The ledger closes either way: what was decided stays decided."""

        async def attach(first: Mapping[str, Any]) -> Answer:
            try:
                return await self._attach(given, shop, image, wall, fetcher, first["alt"])
            except (_Unfetched, VendorRefused) as failed:
                return _not_hung("failed", str(failed))

        async def ask(effect: Effect) -> Answer | None:
            found = await self._find_ours(shop, image, wall, effect.parameters)
            return None if found is None else self._hung(found, image.sent)

        if not image.product_id:
            return _not_hung("failed", "its product is not in the shop")
        try:
            if wall.gallery is None:
                wall.gallery = await shop.gallery(image.product_id)
            before = [one.id for one in wall.gallery.media]
            parameters = {"product_id": image.product_id, "before": before, "alt": image.alt[:ALT_MAX]}
            answer = await self._ledger.once(given, f"image:{image.id}", parameters, call=attach, ask=ask)
        except VendorRefused as refused:  # the shop does not even show the product
            return _not_hung("failed", str(refused))
        if answer["media_id"]:
            wall.phashes.append(answer.get("phash", ""))
        return answer

    async def _find_ours(
        self, shop: Shop, image: StoredImage, wall: _Wall, intent: Mapping[str, Any]
    ) -> ShopMedia | None:
        """What an open intent became. While the shop works on it we wait: another order may have hung it."""
        deadline = self._clock.monotonic() + POLL_S_MAX
        for pause_s in chain(POLL_S, repeat(POLL_S[-1])):
            wall.gallery = await shop.gallery(image.product_id)
            found = find_ours(wall.gallery.media, image.id, intent)
            if found is None or _marks(found) or not _in_work(found):
                return found
            if self._clock.monotonic() >= deadline:
                break
            await self._clock.sleep(pause_s)
        raise VendorUnavailable("the shop is still working on a picture that may be ours", retry_after_s=LOOK_AGAIN_S)

    async def _attach(
        self, given: StageInput, shop: Shop, image: StoredImage, wall: _Wall, fetcher: _Fetcher, alt: str
    ) -> Answer:
        """Fetch, upload, attach; or what stands in the way. Raises _Unfetched and VendorRefused for this picture."""
        gallery = wall.gallery or await shop.gallery(image.product_id)
        known = find_named(gallery.media, image.id)
        if known is not None:  # a database restored from a backup has forgotten it
            return self._hung(known, image.sent)
        if refusal := _no_place(gallery):
            return refusal
        self._let_arrive(image.sent)
        picture = await fetcher.fetch(image.url)
        if any(same_picture(picture.phash, phash) for phash in wall.phashes):
            return _not_hung("duplicate", _SEEN, picture)
        sent, resource = await self._upload(given, shop, image, picture)
        given.still_ours()  # the upload took its time, and only the next call is seen by customers
        wall.gallery = await shop.attach_image(image.product_id, resource, alt)
        found = find_named(wall.gallery.media, image.id) or _newest(wall.gallery.media, gallery.media, alt)
        if found is None:
            raise VendorRefused("the shop did not keep the picture", code="media")
        return self._hung(found, sent)

    async def _upload(
        self, given: StageInput, shop: Shop, image: StoredImage, picture: EncodedImage
    ) -> tuple[SentFile, str]:
        """A file in the shop's staging area that nobody asked to attach yet, and its address there.

        A key the ledger knows is an earlier attempt's: its file is spent. Only where its upload was confirmed an attach
        may have been asked for.
        """
        for number in count(1):
            key = f"upload:{image.id}:{number}"
            answer, resource = await self._upload_as(key, given, shop, image, picture)
            if resource:
                return sent_file(key, answer), resource
            if "at" in answer:
                self._let_arrive(sent_file(key, answer))
        raise AssertionError  # the count has no end

    async def _upload_as(
        self, key: str, given: StageInput, shop: Shop, image: StoredImage, picture: EncodedImage
    ) -> tuple[Answer, str]:
        """The ledger's answer under that key, and the file's address if the upload was made just now."""
        resource = ""

        async def send(_first: Mapping[str, Any]) -> Answer:
            nonlocal resource
            given.still_ours()
            name = f"{mark(image.id)}.{_EXTENSIONS.get(picture.mime, 'jpg')}"
            try:
                resource = await shop.upload_image(name, picture.mime, picture.content)
            except VendorRefused as refused:
                return {"refused": str(refused)}
            return {"at": self._clock.now().isoformat(), **_facts(picture)}

        parameters = {"image_id": image.id, "bytes": len(picture.content)}
        answer = await self._ledger.once(given, key, parameters, call=send, ask=_unheard)
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

    def _hung(self, media: ShopMedia, sent: SentFile | None) -> Answer:
        """It hangs, as this medium; `at` is when we knew."""
        upload = "" if sent is None else sent.key
        return {"media_id": media.id, "upload": upload, "at": self._clock.now().isoformat(), **_facts(sent)}

    async def _verdicts(
        self, given: StageInput, shop: Shop, products: Mapping[str, str], hanging: Mapping[str, Answer]
    ) -> dict[str, tuple[str, str]]:
        """By picture the state and the reason, once the shop is done with all that hang, or has had its time."""
        verdicts: dict[str, tuple[str, str]] = {}
        deadline = self._clock.monotonic() + POLL_S_MAX
        for pause_s in chain(POLL_S, repeat(POLL_S[-1])):
            open_ones = [name for name in hanging if name not in verdicts]
            for product_id in sorted({products[name] for name in open_ones}):
                gallery = await shop.gallery(product_id)
                for name in (one for one in open_ones if products[one] == product_id):
                    if verdict := _verdict(gallery, hanging[name]["media_id"]):
                        verdicts[name] = verdict
            if len(verdicts) == len(hanging):
                return verdicts
            if self._clock.monotonic() >= deadline:
                break
            in_work = len(hanging) - len(verdicts)
            await given.progress(0.99, f"the shop is working on {in_work} of {len(products)} pictures")
            await self._clock.sleep(pause_s)
        for name in (one for one in hanging if one not in verdicts):
            if self._age_s(hanging[name]) < IN_WORK_S_MAX:
                raise VendorUnavailable("the shop is still working on pictures", retry_after_s=LOOK_AGAIN_S)
            verdicts[name] = "attached", "the shop is still working on the picture"
        return verdicts

    def _age_s(self, answer: Answer) -> float:
        """How long ago a picture was hung; one of an older release does not say."""
        if "at" not in answer:
            return IN_WORK_S_MAX
        return (self._clock.now() - datetime.fromisoformat(answer["at"])).total_seconds()


class _Unfetched(Exception):
    """This picture cannot be had; the message says why."""


@dataclass(slots=True)
class _Wall:
    """A product's pictures as this attempt knows them: what ours look like, and what the shop showed last."""

    phashes: list[str]
    gallery: ShopGallery | None = None


@dataclass(slots=True)
class _Fetcher:
    """Fetches one attempt's pictures. Who keeps us waiting is waited for briefly, and not for every picture anew."""

    images: Images
    clock: Clock
    allowed_hosts: Sequence[str]
    failures: dict[str, int] = field(default_factory=dict)
    spent_s: float = 0.0

    async def fetch(self, url: str) -> EncodedImage:
        """The checked picture. Raises _Unfetched with the reason."""
        host = _host(url)
        if self.failures.get(host, 0) >= HOST_FAILURES_MAX:
            raise _Unfetched(f"{host} did not deliver other pictures of this order and was not asked for this one")
        if self.spent_s >= FETCH_S_MAX:
            raise _Unfetched("the hosts of this order's pictures took too long with the others")
        began = self.clock.monotonic()
        try:
            return await self._fetch(url, host)
        finally:
            self.spent_s += self.clock.monotonic() - began

    async def _fetch(self, url: str, host: str) -> EncodedImage:
        for tries in range(1, FETCH_TRIES + 1):
            try:
                return await self.images.fetch(url, allowed_hosts=self.allowed_hosts)
            except Reject as rejected:
                raise _Unfetched(str(rejected)) from rejected
            except VendorUnavailable as away:
                if tries == FETCH_TRIES:
                    self.failures[host] = self.failures.get(host, 0) + 1
                    raise _Unfetched(f"the picture could not be fetched: {away}") from away
            await self.clock.sleep(FETCH_PAUSE_S * tries)
        raise AssertionError  # the last try returns or raises


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


def sent_file(key: str, answer: Answer) -> SentFile:
    """What the ledger says of an upload that arrived."""
    return SentFile(key=key, at=datetime.fromisoformat(answer["at"]), **{name: answer[name] for name in _NO_FACTS})


_NO_FACTS: Mapping[str, Any] = {"sha256": "", "phash": "", "width": 0, "height": 0}


def _facts(picture: EncodedImage | SentFile | None) -> dict[str, Any]:
    return {name: none if picture is None else getattr(picture, name) for name, none in _NO_FACTS.items()}


def _not_hung(state: str, reason: str, picture: EncodedImage | None = None) -> Answer:
    return {"media_id": "", "state": state, "reason": reason, **_facts(picture)}


def _no_place(gallery: ShopGallery) -> Answer | None:
    """Why no picture of ours is added to that product. Nothing goes live unasked: only drafts are ours to add to."""
    if gallery.status == DELETED:
        return _not_hung("failed", _GONE)
    if gallery.status != "DRAFT":
        return _not_hung("skipped", _NO_DRAFT.get(gallery.status, "the product is no draft any more"))
    if len(gallery.media) >= MEDIA_MAX:
        return _not_hung("failed", f"the product has {MEDIA_MAX} pictures, and the shop takes no more")
    return None


def _newest(media: Sequence[ShopMedia], before: Sequence[ShopMedia], alt: str) -> ShopMedia | None:
    """What was just added with that text, while no name says whose it is."""
    known = {one.id for one in before}
    return next((one for one in reversed(media) if one.id not in known and one.alt == alt), None)


def _fate(image_id: str, answer: Answer, verdicts: Mapping[str, tuple[str, str]]) -> AttachedImage:
    """What is recorded of a picture. An answer of an older release says no state: without a medium, a duplicate."""
    facts = {name: answer.get(name, none) for name, none in _NO_FACTS.items()}
    state, reason = verdicts.get(image_id, (answer.get("state", "duplicate"), answer.get("reason", _SEEN)))
    return AttachedImage(image_id=image_id, state=state, media_id=answer["media_id"], reason=reason, **facts)


async def _unheard(_effect: Effect) -> Answer:
    """An upload whose end nobody saw: it may lie in the staging area, and expires there by itself."""
    return {"unheard": True}


def _verdict(gallery: ShopGallery, media_id: str) -> tuple[str, str] | None:
    """A picture's final state and the reason, None while the shop works on it."""
    if gallery.status == DELETED:
        return "failed", _GONE
    found = next((one for one in gallery.media if one.id == media_id), None)
    if found is None:
        return "failed", "the picture was deleted in the shop"
    if found.status == "FAILED":
        return "failed", f"the shop could not use the picture: {found.error or 'no reason given'}"
    return None if _in_work(found) else ("attached", "")


def _in_work(media: ShopMedia) -> bool:
    return media.status in {"UPLOADED", "PROCESSING"}


def _marks(media: ShopMedia) -> set[str]:
    """Which of our pictures a medium says it is."""
    return {found for source in media.sources for found in _ANY_MARK.findall(source)}


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
