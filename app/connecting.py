"""Looks at a merchant's shop the way a worker will use it, and says what an order would meet there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import httpx

from app.adapters.shopify import operations
from app.adapters.shopify.alone import AloneLimits
from app.adapters.shopify.client import ShopBounds, ShopClient, ShopCredentials
from app.adapters.shopify.price import Prices
from app.adapters.shopify.scopes import WRITE_PRODUCTS, missing
from app.adapters.shopify.subscriptions import find_subscriptions, subscribe
from app.adapters.shopify.tokens import ShopTokens
from app.adapters.shopify.webhooks import MANDATORY, RECEIVE_ITEMS, SCOPES_UPDATE, UNINSTALLED
from app.adapters.shops import Shops
from app.admin.webhooks import PATH
from app.finding import Check
from app.tls import tls
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from app.core import Core
    from app.db.grants import GrantState
    from app.settings import Settings
    from pipeline.clock import Clock
    from pipeline.domain.merchant import Merchant
    from pipeline.ports import ShopFacts

SHOPS_MAX = 20
"""Shops asked for their subscriptions in one look."""

COSTS = {
    UNINSTALLED: "an uninstalled app is noticed only when its next order fails",
    SCOPES_UPDATE: "newly granted scopes are noticed a quarter of an hour later",
    RECEIVE_ITEMS: "units received in the shop's admin stay open here",
}
"""What not being told of a topic means."""


async def examine_shop(core: Core, merchant: Merchant) -> list[Check]:
    """Every check of one shop, in the order in which one rests on the other; where the token opens another, no more.

    What the shop needs of us is made sure of on the way: our custom id's definition, and the webhooks.
    """
    served: list[str] = []

    async def note_version(response: httpx.Response) -> None:
        served.append(response.headers.get("X-Shopify-API-Version", ""))

    hooks = {"response": [note_version]}
    async with httpx.AsyncClient(timeout=30, trust_env=False, verify=tls(), event_hooks=hooks) as http:
        tokens = ShopTokens(
            core.grants, http, core.clock, api_version=core.settings.shopify_api_version, name=core.name
        )
        try:
            credentials = await tokens.credentials(merchant)
            if credentials is None:
                return [Check("warn", "token", "none is stored: orders wait until the shop is connected")]
            client = _client(http, credentials, merchant, core.clock)
            checks = [_token((await core.grants.states())[merchant.id]), await _domain(client, merchant)]
            if checks[-1].level == "fail":
                return checks
            shops = Shops(http, tokens.credentials, core.clock, renew=tokens.credentials)
            facts = await (await shops.of(merchant)).facts()
            checks += [_version(credentials, served), *_facts(merchant, facts)]
            checks += await _webhooks(core, client)
        except PipelineError as error:
            return [Check("fail", "shop", str(error))]
        finally:
            await tokens.aclose()
    return checks


async def examine_subscriptions(core: Core, merchants: Sequence[Merchant]) -> list[Check]:
    """What connected shops do not tell us of; empty where PUBLIC_URL is not set, for then nothing is expected."""
    uri = webhook_uri(core.settings)
    if not uri:
        return []
    checks = []
    async with httpx.AsyncClient(timeout=30, trust_env=False, verify=tls()) as http:
        tokens = ShopTokens(
            core.grants, http, core.clock, api_version=core.settings.shopify_api_version, name=core.name
        )
        for merchant in merchants[:SHOPS_MAX]:
            try:
                credentials = await tokens.credentials(merchant)
                if credentials is None:
                    continue
                found = await find_subscriptions(_client(http, credentials, merchant, core.clock), uri)
            except PipelineError as error:
                checks.append(Check("warn", "webhooks", f"{merchant.shop_domain} could not be asked: {error}"))
                continue
            if found.missing:
                text = f"{merchant.shop_domain} tells nothing of {', '.join(found.missing)}"
                checks.append(Check("warn", "webhooks", f"{text}: `merchants check {merchant.id}` asks it to"))
        await tokens.aclose()
    return checks or [Check("ok", "webhooks", "every connected shop tells us what we asked for")]


def webhook_uri(settings: Settings) -> str:
    """Where shops are to send webhooks; empty if they cannot reach us."""
    return f"{settings.public_url.rstrip('/')}{PATH}" if settings.public_url.rstrip("/") else ""


async def _webhooks(core: Core, client: ShopClient) -> list[Check]:
    uri = webhook_uri(core.settings)
    if not uri:
        text = "none: set PUBLIC_URL to the address by which Shopify reaches this page's service"
        return [Check("warn", "webhooks", f"{text}; until then {'; '.join(COSTS.values())}")]
    found = await subscribe(client, uri)
    checks = [
        Check("warn", "webhooks", f"not told of {topic} ({why}): {COSTS[topic]}")
        for topic, why in found.refused.items()
    ]
    if found.there:
        checks.insert(0, Check("ok", "webhooks", f"told of {', '.join(found.there)} at {uri}"))
    by_hand = f"{', '.join(MANDATORY)} cannot be asked for: enter {uri} for them in the app's configuration"
    return [*checks, Check("ok", "privacy", by_hand)]


def _client(http: httpx.AsyncClient, credentials: ShopCredentials, merchant: Merchant, clock: Clock) -> ShopClient:
    """A client that asks whatever the fleet thinks of the shop: a person wants to know."""
    bounds = ShopBounds(merchant.id, merchant.shop_domain, AloneLimits(clock), clock, Prices())
    return ShopClient(http, credentials, clock, bounds)


def connected_how(state: GrantState) -> str:
    """How a shop's token is got, in words."""
    return {
        "static": "a token that does not expire",
        "client_credentials": "an app of the merchant's own",
        "offline": "the public app",
    }[state.kind]


def _token(state: GrantState) -> Check:
    until = "" if state.expires_at is None else f", the present token until {state.expires_at:%Y-%m-%d %H:%M} UTC"
    return Check("ok", "token", f"by {connected_how(state)}{until}")


async def _domain(client: ShopClient, merchant: Merchant) -> Check:
    """The token must open the shop whose domain we were told: webhooks and documents name it by that."""
    shop = (await client.call(operations.SHOP_NAME))["shop"]
    if shop["myshopifyDomain"] != merchant.shop_domain:
        return Check("fail", "domain", f"the token opens {shop['myshopifyDomain']}, not {merchant.shop_domain}")
    return Check("ok", "domain", f"{merchant.shop_domain} is {shop['name']}")


def _version(credentials: ShopCredentials, served: Sequence[str]) -> Check:
    asked = credentials.endpoint.rstrip("/").rpartition("/api/")[2].partition("/")[0]
    fell = next((one for one in served if one and one != asked), None)
    if fell is not None:
        return Check("warn", "version", f"{asked} has expired, {fell} answered: set SHOPIFY_API_VERSION={fell}")
    return Check("ok", "version", asked)


def _facts(merchant: Merchant, facts: ShopFacts) -> list[Check]:
    taxes = "prices include taxes" if facts.taxes_included else "prices are without taxes"
    checks = [Check("ok", "currency", f"{facts.currency}, {taxes}"), *_scopes(facts)]
    if not facts.location_id:
        checks.append(Check("warn", "location", f"none: {facts.location_note or 'orders wait for a person'}"))
    else:
        name = facts.location_names.get(facts.location_id, facts.location_id)
        checks.append(Check("ok", "location", f"stock goes to {name}"))
    if WRITE_PRODUCTS in facts.scopes:
        checks.append(Check("ok", "products", "are found again by our custom id, which is defined"))
    if merchant.settings.currency != facts.currency:
        rate = "there is a rate" if merchant.settings.currency in merchant.settings.exchange_rates else "set a rate"
        checks.append(Check("warn", "currency", f"orders are taken for {merchant.settings.currency}: {rate}"))
    return checks


def _scopes(facts: ShopFacts) -> list[Check]:
    lacks = [Check(one.level, "scopes", f"lacks {one}") for one in missing(facts.scopes)]
    return lacks or [Check("ok", "scopes", "the app has all that are used")]
