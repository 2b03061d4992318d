"""Stage 11, background-image-processing: fetch, check, upload and attach pictures. Failures mark pictures, not the run.

A picture's own host may be down or hostile: that is this picture's fate and nobody else's. Only the *shop*
being away, or closed to us, ends the attempt. How a picture hangs once is told in `pipeline.shopkeeping.pictures`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, repeat
from urllib.parse import urlsplit

from pipeline.clock import Clock
from pipeline.contract import Done, Reject, StageInput, StageResult
from pipeline.domain.results import AttachedImage, AttachedImages
from pipeline.effects import Answer, Ledger
from pipeline.errors import VendorUnavailable
from pipeline.ports import DELETED, EncodedImage, Images, ImageStore, Shop, ShopGallery, Shops
from pipeline.shopkeeping.pictures import (
    GONE,
    LOOK_AGAIN_S,
    POLL_S,
    POLL_S_MAX,
    SEEN,
    Hanging,
    UnfetchedError,
    Wall,
    facts_of,
    in_work,
    not_hung,
)

FETCH_TRIES = 3
FETCH_PAUSE_S = 2.0
HOST_FAILURES_MAX = 2
"""Pictures a host may fail to deliver before the others of that host are given up unasked."""
FETCH_S_MAX = 600.0
"""What fetching may take in one attempt, all pictures together: one order's hosts do not hold up everybody else."""
IN_WORK_S_MAX = 900.0
"""A picture the shop works on for longer is left hanging as it is, and said so."""


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
        products = {one.id: one.product_id for one in candidates}
        hung = await self._store.hung(given.run.merchant.id, sorted(set(products.values())))
        walls = {name: Wall(list(hung.get(name, ()))) for name in products.values()}
        fetcher = _Fetcher(self._images, self._clock, given.run.merchant.settings.image_hosts)
        hanging = Hanging(given, shop, self._ledger, self._clock, fetcher.fetch)
        answers: dict[str, Answer] = {}
        for image in candidates:
            answers[image.id] = (
                await hanging.hang(image, walls[image.product_id])
                if image.product_id
                else not_hung("failed", "its product is not in the shop")
            )
            await given.progress(len(answers) / (len(candidates) + 1), f"{len(answers)} of {len(candidates)} pictures")
        # All hang before the first is waited for: the shop works on them side by side.
        attached = {name: answer for name, answer in answers.items() if answer["media_id"]}
        verdicts = await self._verdicts(given, shop, products, attached)
        return Done(AttachedImages(images=tuple(_fate(name, answers[name], verdicts) for name in answers)))

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


@dataclass(slots=True)
class _Fetcher:
    """Fetches one attempt's pictures. Who keeps us waiting is waited for briefly, and not for every picture anew."""

    images: Images
    clock: Clock
    allowed_hosts: Sequence[str]
    failures: dict[str, int] = field(default_factory=dict)
    spent_s: float = 0.0

    async def fetch(self, url: str) -> EncodedImage:
        """The checked picture. Raises UnfetchedError with the reason."""
        host = _host(url)
        if self.failures.get(host, 0) >= HOST_FAILURES_MAX:
            raise UnfetchedError(f"{host} did not deliver other pictures of this order and was not asked for this one")
        if self.spent_s >= FETCH_S_MAX:
            raise UnfetchedError("the hosts of this order's pictures took too long with the others")
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
                raise UnfetchedError(str(rejected)) from rejected
            except VendorUnavailable as away:
                if tries == FETCH_TRIES:
                    self.failures[host] = self.failures.get(host, 0) + 1
                    raise UnfetchedError(f"the picture could not be fetched: {away}") from away
            await self.clock.sleep(FETCH_PAUSE_S * tries)
        raise AssertionError  # the last try returns or raises


def _fate(image_id: str, answer: Answer, verdicts: Mapping[str, tuple[str, str]]) -> AttachedImage:
    """What is recorded of a picture. An answer of an older release says no state: without a medium, a duplicate."""
    state, reason = verdicts.get(image_id, (answer.get("state", "duplicate"), answer.get("reason", SEEN)))
    media_id = answer["media_id"]
    return AttachedImage(image_id=image_id, state=state, media_id=media_id, reason=reason, **facts_of(answer))


def _verdict(gallery: ShopGallery, media_id: str) -> tuple[str, str] | None:
    """A picture's final state and the reason, None while the shop works on it."""
    if gallery.status == DELETED:
        return "failed", GONE
    found = next((one for one in gallery.media if one.id == media_id), None)
    if found is None:
        return "failed", "the picture was deleted in the shop"
    if found.status == "FAILED":
        return "failed", f"the shop could not use the picture: {found.error or 'no reason given'}"
    return None if in_work(found) else ("attached", "")


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
