"""What opens a shop at this moment. Tokens are renewed ahead of their end, by one replica for all.

A token that is still good is handed out at once, even while its successor is being asked for; only one that is
spent is waited for. The question runs as a task of its own: a stage that is cancelled while it waits must not
throw away an answer that Shopify gives once.

What can go wrong, and what then holds:

    no answer, or the process dies before it is stored   the claim ends by itself, and the old refresh token is tried
                                                         again: Shopify keeps it until its replacement is first used
                                                         (since 2026-08-28; for 60 minutes before that)
    two replicas asked, for one was too slow             the first to store wins; the loser's answer is dropped, and
                                                         the refresh token before the stored one is kept as a spare
    invalid_grant, invalid_client                        nobody asks again; the shop waits for a person, with the reason
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import httpx
import structlog

from app.adapters.shopify.circuit import parked
from app.adapters.shopify.client import ShopCredentials
from app.adapters.shopify.limits import PARKED_S
from app.adapters.shopify.oauth import Granted, GrantRefusedError, ask_for_token, token_url
from app.db.grants import Claim, Grants, Held
from pipeline.clock import Clock
from pipeline.domain.merchant import Merchant
from pipeline.errors import DatabaseUnavailable, PipelineError, VendorUnavailable

RENEW_BEFORE_S = 600.0
"""Ahead of the end: a renewal that fails is tried again some twenty times before anybody notices."""

SPENT_S = 15.0
"""A token with less left is not used: a call is on its way for a moment, and clocks differ."""

QUIET = timedelta(seconds=30)
QUIET_IF_SPENT = timedelta(seconds=3)
"""After a question without an answer nobody asks for that long: while the token is good, and when orders wait."""

WAIT_S = 10.0
POLL_S = 0.25
STORE_TRIES = 5
STORE_PAUSE_S = 1.0

_log = structlog.get_logger(__name__)


class ShopTokens:
    """Hands out credentials. One per process; `aclose` waits for the questions that are under way."""

    def __init__(self, grants: Grants, http: httpx.AsyncClient, clock: Clock, *, api_version: str, name: str) -> None:
        self._grants = grants
        self._http = http
        self._clock = clock
        self._api_version = api_version
        self._name = name
        self._asking: dict[str, asyncio.Task[bool]] = {}

    async def credentials(self, merchant: Merchant, refused: str = "") -> ShopCredentials | None:
        """Where the merchant's shop is and what opens it now; None when none is connected.

        `refused` is a token the shop has just answered 401 to: it is handed out again only if nothing can replace it.
        Raises VendorUnavailable while a spent token cannot be replaced and until a person has connected a shop
        again that refused to give one, and Reject("shop_token_locked") when the stored token cannot be opened.
        """
        waited = 0.0
        asked = False
        while True:
            held = await self._grants.held(merchant.id)
            if held is None:
                return None
            if held.trouble:
                raise VendorUnavailable(parked(held.trouble), retry_after_s=PARKED_S, patient=True)
            if held.kind == "static" or _is_good(held, refused) or (asked and _is_good(held, "", spent_s=0)):
                if held.left_s is not None and held.left_s < RENEW_BEFORE_S and not held.being_renewed:
                    self._ask(merchant, held)
                return self._credentials(held)
            if not asked and await asyncio.shield(self._ask(merchant, held)):
                asked = True  # Whatever was answered is used, even if it is the same token or a short-lived one.
                continue
            if waited >= WAIT_S:
                message = f"the access token of {merchant.shop_domain} is spent, and its renewal takes long"
                raise VendorUnavailable(message, retry_after_s=WAIT_S)
            await self._clock.sleep(POLL_S)
            waited += POLL_S

    async def aclose(self) -> None:
        """Wait until every answer is stored; each question has its deadline."""
        while self._asking:
            await asyncio.wait(list(self._asking.values()))

    def _credentials(self, held: Held) -> ShopCredentials:
        endpoint = held.endpoint or f"https://{held.domain}/admin/api/{self._api_version}/graphql.json"
        return ShopCredentials(endpoint=endpoint, token=held.token or "")

    def _ask(self, merchant: Merchant, held: Held) -> asyncio.Task[bool]:
        """The one question of this process about this shop."""
        asking = self._asking.get(merchant.id)
        if asking is None:
            asking = asyncio.create_task(self._renew(merchant, held), name=f"token of {merchant.id}")
            self._asking[merchant.id] = asking
            asking.add_done_callback(lambda done: self._done(merchant, done))
        return asking

    def _done(self, merchant: Merchant, asking: asyncio.Task[bool]) -> None:
        self._asking.pop(merchant.id, None)
        if asking.cancelled() or (error := asking.exception()) is None:
            return
        # Said here for the renewals nobody waits for; who waits raises it as well.
        message = str(error) if isinstance(error, PipelineError) else type(error).__name__
        _log.warning("shop.token_not_renewed", merchant_id=merchant.id, reason=message)

    async def _renew(self, merchant: Merchant, held: Held) -> bool:
        """Whether things have changed by us; False if another replica is at it."""
        claim = await self._grants.claim(merchant.id, held.generation, self._name)
        if claim is None:
            return False
        try:
            granted, used = await self._exchange(claim, token_url(held.domain, held.endpoint))
        except GrantRefusedError as refusal:
            reason = _reason(claim, refusal.code)
            if await self._grants.give_up(claim, reason):
                _log.error("shop.disconnected", merchant_id=merchant.id, reason=reason)
            return True
        except VendorUnavailable as error:
            quiet = QUIET if _is_good(held, "") else QUIET_IF_SPENT
            await self._grants.give_back(claim, quiet=quiet)
            raise VendorUnavailable(str(error), retry_after_s=quiet.total_seconds()) from None
        refreshed = (granted.refresh_token or used, used) if used else None
        await self._store(claim, granted, refreshed)
        return True

    async def _exchange(self, claim: Claim, url: str) -> tuple[Granted, str]:
        """A token, and the refresh token it was got with; an older one is tried if the newest is refused."""
        form = {"client_id": claim.client_id, "client_secret": claim.client_secret}
        if claim.kind == "client_credentials":
            return await ask_for_token(self._http, url, {"grant_type": "client_credentials", **form}), ""
        refusal = GrantRefusedError("invalid_grant")
        for refresh_token in claim.refresh_tokens:
            with_it = {"grant_type": "refresh_token", **form, "refresh_token": refresh_token}
            try:
                return await ask_for_token(self._http, url, with_it), refresh_token
            except GrantRefusedError as error:
                refusal = error
        raise refusal

    async def _store(self, claim: Claim, granted: Granted, refreshed: tuple[str, str] | None) -> None:
        """Keep the answer; Shopify may not give it again, so a database that blinks is asked several times."""
        for tries_left in reversed(range(STORE_TRIES)):
            try:
                stored = await self._grants.store(
                    claim, granted.token, expires_in_s=granted.expires_in_s, refreshed=refreshed
                )
            except DatabaseUnavailable:
                if not tries_left:
                    raise
                await self._clock.sleep(STORE_PAUSE_S)
            else:
                event = "shop.token_renewed" if stored else "shop.token_came_late"
                _log.info(event, merchant_id=claim.merchant_id, generation=claim.generation + 1)
                return


def _is_good(held: Held, refused: str, spent_s: float = SPENT_S) -> bool:
    if held.token is None or held.token == refused:
        return False
    return held.left_s is None or held.left_s > spent_s


def _reason(claim: Claim, code: str) -> str:
    if claim.kind == "client_credentials":
        return f"the shop refused the app's client id and secret ({code}): connect the shop again"
    return f"the shop refused the refresh token ({code}): connect the shop again"
