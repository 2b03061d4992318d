"""The shops' HTTP surface: Admin GraphQL, tokens, staged uploads, files; and for tests the state and the faults."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from html import escape
from random import Random
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import httpx
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from starlette.datastructures import UploadFile
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from app.sandbox import oauth, webhooks
from app.sandbox.call import Call, UserErrors, user_error
from app.sandbox.faults import AFTER_SUCCESS, STATUSES, Fault, Faults, half_told, refusal
from app.sandbox.gateway import Charged, Gateway, GraphqlRequest, idempotency_keys, operation_names
from app.sandbox.media import UPLOAD_MAX, receive_upload
from app.sandbox.merchant import Edit
from app.sandbox.page import render, seconds
from app.sandbox.state import ALL_SCOPES, Settings, Shop, new_shop, now
from app.sandbox.view import shop_view

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from app.sandbox.store import Store

API_VERSION = "2026-10"
"""The only version spoken; another asked for falls forward to it, as an expired one does at Shopify."""

UPLOAD = "stagedUpload"
"""What a fault calls an upload; it is no GraphQL operation."""

_FAULTS: TypeAdapter[Fault | list[Fault]] = TypeAdapter(Fault | list[Fault])

_EDITS: TypeAdapter[Edit | list[Edit]] = TypeAdapter(Edit | list[Edit])


class ShopRequest(BaseModel):
    """The body of `POST /shops`."""

    domain: str
    token: str
    name: str | None = None
    currency: str = "USD"
    taxes_included: bool = False
    locations: list[str] = Field(default=["Warehouse"], min_length=1)
    scopes: list[str] = list(ALL_SCOPES)
    settings: Settings = Settings()
    client_id: str = ""
    client_secrets: list[str] = []


class NoAnswer(Response):
    """Breaks the connection instead of answering.

    ASGI has no word for that, so the transport is taken from uvicorn's own `receive`; waiting for the
    disconnect keeps uvicorn from answering 500 in our place.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  ASGI's signature
        """Abort the transport below this request."""
        cycle = cast("Any", receive).__self__
        cycle.transport.abort()
        while (await receive())["type"] != "http.disconnect":
            pass


@dataclass
class ShopServer:
    """Answers for every shop in the store."""

    store: Store
    faults: Faults = field(default_factory=Faults)
    random: Random = field(default_factory=Random)

    def __post_init__(self) -> None:
        self.gateway = Gateway(self.store)

    def routes(self) -> list[Route]:
        """The addresses, most specific first."""
        return [
            Route("/", self.page),
            Route("/shops", self.add_shop, methods=["POST"]),
            Route("/shops/{shop}/admin/api/{version}/graphql.json", self.graphql, methods=["POST"]),
            Route("/shops/{shop}/admin/oauth/access_token", self.access_token, methods=["POST"]),
            Route("/shops/{shop}/install", self.install, methods=["POST"]),
            Route("/shops/{shop}/uninstall", self.uninstall, methods=["POST"]),
            Route("/shops/{shop}/webhooks/send", self.send_webhook, methods=["POST"]),
            Route("/shops/{shop}/state", self.state),
            Route("/shops/{shop}/meter", self.meter),
            Route("/shops/{shop}/faults", self.order_faults, methods=["POST"]),
            Route("/shops/{shop}/edits", self.edit, methods=["POST"]),
            Route("/uploads/{shop}/", self.post_upload, methods=["POST"]),
            Route("/uploads/{shop}/{key:path}", self.put_upload, methods=["PUT"]),
            Route("/files/{sha256}", self.file),
            Route("/files/{sha256}/{name}", self.file),
        ]

    async def graphql(self, request: Request) -> Response:
        """One Admin API request: who asks, what is ordered to go wrong, then the answer."""
        shop = self.store.shops.get(request.path_params["shop"])
        if shop is None:
            return JSONResponse({"errors": "Not Found"}, 404)
        if not oauth.opens(shop, request.headers.get("X-Shopify-Access-Token"), now()):
            return JSONResponse({"errors": STATUSES["unauthorized"][1]}, 401)
        try:
            body = GraphqlRequest.model_validate_json(await request.body())
        except ValidationError:
            return JSONResponse({"errors": "Bad Request"}, 400)
        operations = operation_names(body.query)
        address = _address(request)
        with self.gateway.running.holding(shop.domain, idempotency_keys(body), request):
            return await self._perform(shop, operations, lambda: self._answer(shop, address, body, request))

    async def _answer(self, shop: Shop, address: str, body: GraphqlRequest, request: object) -> Response:
        """Charged at once, executed and refunded when it is answered."""
        begun = self.gateway.begin(shop, body)
        await asyncio.sleep(shop.settings.latency_s + self.random.random() * shop.settings.latency_jitter_s)
        envelope = self.gateway.finish(shop, address, begun, request) if isinstance(begun, Charged) else begun
        headers = {"X-Shopify-API-Version": API_VERSION, "X-Request-Id": str(uuid4())}
        return JSONResponse(envelope, headers=headers)

    async def access_token(self, request: Request) -> Response:
        """One request for a token. Faults may come before it, or hide an answer that was given."""
        shop = self.store.shops.get(request.path_params["shop"])
        if shop is None:
            return PlainTextResponse("Not Found", 404)
        async with request.form() as form:
            given = {name: value for name, value in form.items() if isinstance(value, str)}
        return await self._perform(shop, [oauth.OPERATION], lambda: self._grant(shop, given))

    async def _grant(self, shop: Shop, form: dict[str, str]) -> Response:
        try:
            answer = oauth.grant(shop, form, now())
        except oauth.RefusedGrant as refusal:
            return JSONResponse({"error": refusal.code, "error_description": "The request was refused."}, 400)
        self.store.save(shop)
        return JSONResponse(answer)

    async def install(self, request: Request) -> Response:
        """What the app is answered when a merchant installs it: an offline token that expires."""
        shop = self.store.shops.get(request.path_params["shop"])
        if shop is None:
            return JSONResponse({"errors": "Not Found"}, 404)
        shop.oauth.installed = True
        answer = oauth.pair(shop, now())
        self.store.save(shop)
        return JSONResponse(answer, 201)

    async def uninstall(self, request: Request) -> Response:
        """The merchant removes the app: its tokens end, it is told, and its subscriptions end."""
        shop = self.store.shops.get(request.path_params["shop"])
        if shop is None:
            return JSONResponse({"errors": "Not Found"}, 404)
        shop.oauth.installed, shop.token = False, ""
        shop.oauth.access_tokens.clear()
        shop.oauth.refresh_tokens.clear()
        payload = {"id": 1, "domain": shop.domain, "myshopify_domain": shop.domain, "name": shop.name}
        told = await self._tell(shop, webhooks.Occasion(topic="app/uninstalled", payload=payload))
        shop.subscriptions.clear()
        self.store.save(shop)
        return JSONResponse(webhooks.told_as_json(told))

    async def send_webhook(self, request: Request) -> Response:
        """Something happened in the shop: tell who wants to know, and say what they answered."""
        shop = self.store.shops.get(request.path_params["shop"])
        if shop is None:
            return JSONResponse({"errors": "Not Found"}, 404)
        try:
            occasion = webhooks.Occasion.model_validate_json(await request.body())
        except ValidationError as error:
            return JSONResponse({"errors": json.loads(error.json(include_url=False))}, 422)
        return JSONResponse(webhooks.told_as_json(await self._tell(shop, occasion)))

    async def _tell(self, shop: Shop, occasion: webhooks.Occasion) -> list[webhooks.Told]:
        async with httpx.AsyncClient(trust_env=False) as http:
            told = await webhooks.tell(http, shop, occasion)
        self.store.save(shop)
        return told

    async def _perform(self, shop: Shop, operations: list[str], perform: Callable[[], Awaitable[Response]]) -> Response:
        """Perform, unless an ordered fault comes first; one that comes after hides the answer, or a part of it."""
        fault = self.faults.take(shop.domain, operations)
        if fault is None:
            return await perform()
        if fault.kind == "refused":
            no = {"userErrors": [user_error(["input"], "Refused on order", fault.code)]}
            return JSONResponse({"data": dict.fromkeys(operations, no)})
        if fault.kind not in AFTER_SUCCESS:
            return await self._refuse(shop, fault, operations) or await perform()
        answer = await perform()
        await asyncio.sleep(fault.seconds)
        if fault.kind == "partial_error":
            return JSONResponse(half_told(json.loads(bytes(answer.body)), operations))
        return NoAnswer() if fault.kind == "timeout_after_success" else PlainTextResponse("Bad Gateway", 502)

    async def _refuse(self, shop: Shop, fault: Fault, operations: list[str]) -> Response | None:
        """What a fault before the effect answers; None when it only delays."""
        if fault.kind in STATUSES:
            status, words = STATUSES[fault.kind]
            named = fault.kind == "http_429" or (fault.kind == "http_503" and fault.seconds)
            headers = {"Retry-After": f"{fault.seconds:.1f}"} if named else {}
            return JSONResponse({"errors": words}, status, headers=headers)
        if fault.kind == "throttled":
            self.gateway.bucket(shop).drain()
            return None
        if fault.kind == "html":
            return HTMLResponse("<html>Back soon</html>")
        if (envelope := refusal(fault.kind, operations)) is not None:
            return JSONResponse(envelope)
        await asyncio.sleep(fault.seconds)
        return NoAnswer() if fault.kind == "hang" else None

    async def add_shop(self, request: Request) -> Response:
        """Open a shop, or set an existing one's token, scopes and settings; its goods stay."""
        try:
            wanted = ShopRequest.model_validate_json(await request.body())
        except ValidationError as error:
            return JSONResponse({"errors": json.loads(error.json(include_url=False))}, 422)
        shop = self.store.shops.get(wanted.domain)
        if shop is None:
            shop = new_shop(
                wanted.domain,
                wanted.token,
                name=wanted.name,
                currency=wanted.currency,
                taxes_included=wanted.taxes_included,
                locations=tuple(wanted.locations),
            )
        shop.token, shop.scopes, shop.settings = wanted.token, wanted.scopes, wanted.settings
        shop.oauth.client_id, shop.oauth.client_secrets = wanted.client_id, wanted.client_secrets
        self.gateway.buckets.pop(shop.domain, None)
        self.store.save(shop)
        return JSONResponse(shop_view(shop, now()), 201)

    async def state(self, request: Request) -> Response:
        """Everything a shop holds; no token, so that a test can look past the API."""
        shop = self.store.shops.get(request.path_params["shop"])
        return JSONResponse({"errors": "Not Found"}, 404) if shop is None else JSONResponse(shop_view(shop, now()))

    async def meter(self, request: Request) -> Response:
        """What this process counted for a shop since it started: points spent, calls throttled, faults met."""
        shop = self.store.shops.get(request.path_params["shop"])
        if shop is None:
            return JSONResponse({"errors": "Not Found"}, 404)
        bucket, met = self.gateway.bucket(shop), self.faults.met[shop.domain]
        return JSONResponse({"points_used": bucket.used, "throttled": bucket.refusals, "faults_met": met})

    async def order_faults(self, request: Request) -> Response:
        """Order failures: one object, or a list of them; an empty list clears all."""
        try:
            given = _FAULTS.validate_json(await request.body())
        except ValidationError as error:
            return JSONResponse({"errors": json.loads(error.json(include_url=False))}, 422)
        orders = given if isinstance(given, list) else [given]
        self.faults.order(request.path_params["shop"], orders)
        return JSONResponse({"ordered": len(orders)}, 201)

    async def edit(self, request: Request) -> Response:
        """What the merchant does in the admin meanwhile: one edit or a list of them; answers the ids touched."""
        shop = self.store.shops.get(request.path_params["shop"])
        if shop is None:
            return JSONResponse({"errors": "Not Found"}, 404)
        try:
            given = _EDITS.validate_json(await request.body())
            call = Call(shop, self.store, _address(request), now(), self.gateway.running, request)
            ids = [edit.apply(call) for edit in (given if isinstance(given, list) else [given])]
        except ValidationError as error:
            return JSONResponse({"errors": json.loads(error.json(include_url=False))}, 422)
        except UserErrors as refused:
            return JSONResponse({"errors": refused.errors}, 422)
        self.store.save(shop)
        return JSONResponse({"ids": ids}, 201)

    async def post_upload(self, request: Request) -> Response:
        """A POST target: multipart, all parameters first, `file` last, answered with 201."""
        async with request.form(max_part_size=UPLOAD_MAX) as form:
            fields = form.multi_items()
            last = fields[-1] if fields else ("", "")
            if last[0] != "file" or not isinstance(last[1], UploadFile):
                return _storage_error("InvalidArgument", "The last field must be the file.", 400)
            content = await last[1].read()
            key = str(form.get("key"))
            missing = {"policy", "x-goog-signature"} - form.keys()
        if missing:
            return _storage_error("AccessDenied", f"Missing parameters: {', '.join(sorted(missing))}", 403)
        return await self._receive(request, key, content, 201)

    async def put_upload(self, request: Request) -> Response:
        """A PUT target: the raw bytes, answered with 200."""
        return await self._receive(request, request.path_params["key"], await request.body(), 200)

    async def _receive(self, request: Request, key: str, content: bytes, status: int) -> Response:
        shop = self.store.shops.get(request.path_params["shop"])
        if shop is None:
            return _storage_error("NoSuchBucket", "The shop does not exist.", 404)
        return await self._perform(shop, [UPLOAD], lambda: self._keep_upload(shop, key, content, status))

    async def _keep_upload(self, shop: Shop, key: str, content: bytes, status: int) -> Response:
        if not 1 <= len(content) <= UPLOAD_MAX:
            code = "EntityTooLarge" if content else "EntityTooSmall"
            return _storage_error(code, f"The size must lie between 1 and {UPLOAD_MAX} bytes.", 400)
        if receive_upload(shop, self.store, key, content) is None:
            return _storage_error("AccessDenied", "Nobody asked for this target.", 403)
        self.store.save(shop)
        return _xml(f"<PostResponse><Key>{escape(key)}</Key></PostResponse>", status)

    async def file(self, request: Request) -> Response:
        """An image's bytes, as the shop's own address serves them."""
        content = self.store.find_file(request.path_params["sha256"])
        if content is None:
            return PlainTextResponse("Not Found", 404)
        media = [one for shop in self.store.shops.values() for one in shop.media.values()]
        kinds = {one.sha256: one.mime_type for one in media if one.mime_type}
        kind = kinds.get(request.path_params["sha256"], "application/octet-stream")
        return Response(content, media_type=kind)

    async def page(self, request: Request) -> Response:
        """What a person looks at; `?every=5` loads it anew every five seconds."""
        shops = [shop_view(shop, now()) for shop in self.store.shops.values()]
        return HTMLResponse(render(shops, every_s=seconds(request.query_params.get("every", ""))))


def _address(request: Request) -> str:
    """This server's address as the client spelled it, so that what is handed out works for that client."""
    return f"{request.url.scheme}://{request.url.netloc}"


def _storage_error(code: str, message: str, status: int) -> Response:
    return _xml(f"<Error><Code>{code}</Code><Message>{message}</Message></Error>", status)


def _xml(body: str, status: int) -> Response:
    return Response(f"<?xml version='1.0' encoding='UTF-8'?>{body}", status, media_type="application/xml")
