"""POST /webhooks/shopify: Shopify's word, believed for its signature alone, stored, and answered at once.

Open to everybody, so nothing is done for who cannot sign: an address and a signature are looked at, and one short
query asks whose secret should fit. Shopify gives up after 5 s and repeats; what is answered 200 is never lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from app.adapters.shopify.webhooks import BODY_MAX, UnreadableWebhookError, delivery_of, is_signed, payload_of
from app.admin.answers import failure

if TYPE_CHECKING:
    from app.db.grants import Grants
    from app.webhook_inbox import WebhookInbox

PATH = "/webhooks/shopify"

_log = structlog.get_logger()


def webhooks_router(grants: Grants, inbox: WebhookInbox) -> APIRouter:
    """The one endpoint."""
    router = APIRouter(tags=["webhooks"])

    @router.post(PATH)
    async def receive(request: Request) -> JSONResponse:
        """Keep what Shopify says. 401 to whatever is not signed by it."""
        try:
            delivery = delivery_of(request.headers)
        except UnreadableWebhookError as error:
            return failure(400, "not_a_webhook", str(error))
        if int(request.headers["content-length"]) > BODY_MAX:  # the guard asks for it, and the server holds it true
            return failure(413, "too_large", f"at most {BODY_MAX:,} bytes")
        body = await request.body()
        merchant_id, secrets = await grants.webhook_secrets(delivery.shop_domain)
        if not is_signed(body, request.headers.get("x-shopify-hmac-sha256", ""), secrets):
            _log.warning("webhook refused", topic=delivery.topic, known_shop=merchant_id is not None)
            return failure(401, "bad_signature", "the signature does not fit")
        try:
            payload = payload_of(body, delivery)
        except UnreadableWebhookError as error:
            return failure(401, "not_its_word", str(error))
        if merchant_id is None:
            _log.info("webhook of an unknown shop", topic=delivery.topic)
            return _answer("nothing is known of this shop")
        new = await inbox.keep(delivery, merchant_id, payload)
        return _answer("kept" if new else "known")

    return router


def _answer(message: str) -> JSONResponse:
    answer: dict[str, Any] = {"success": True, "message": message}
    return JSONResponse(answer)
