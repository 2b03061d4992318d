"""Looks at a merchant's shop the way a worker will use it, and says what an order would meet there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import httpx

from app.adapters.shopify.alone import AloneLimits
from app.adapters.shopify.client import ShopBounds, ShopClient, ShopCredentials
from app.adapters.shopify.price import Prices
from app.adapters.shopify.tokens import ShopTokens
from app.adapters.shops import Shops
from app.doctor import Check
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from app.core import Core
    from app.db.grants import GrantState
    from pipeline.clock import Clock
    from pipeline.domain.merchant import Merchant
    from pipeline.ports import ShopFacts

SHOP_NAME = "query ShopName { shop { name myshopifyDomain } }"

WANTED_SCOPES = (
    "write_products",
    "write_inventory",
    "write_files",
    "read_locations",
    "write_publications",
)
"""What the operations of `app.adapters.shopify.operations` need; a write scope includes reading."""


async def examine_shop(core: Core, merchant: Merchant) -> list[Check]:
    """Every check of one shop, in the order in which one rests on the other; the first that fails is the last."""
    served: list[str] = []

    async def note_version(response: httpx.Response) -> None:
        served.append(response.headers.get("X-Shopify-API-Version", ""))

    async with httpx.AsyncClient(timeout=30, trust_env=False, event_hooks={"response": [note_version]}) as http:
        tokens = ShopTokens(
            core.grants, http, core.clock, api_version=core.settings.shopify_api_version, name=core.name
        )
        try:
            credentials = await tokens.credentials(merchant)
            if credentials is None:
                return [Check("warn", "token", "none is stored: orders wait until the shop is connected")]
            checks = [_token((await core.grants.states())[merchant.id])]
            checks.append(await _domain(http, credentials, merchant, core.clock))
            if checks[-1].level == "fail":
                return checks
            shops = Shops(http, tokens.credentials, core.clock, renew=tokens.credentials)
            facts = await (await shops.of(merchant)).facts()
        except PipelineError as error:
            return [Check("fail", "shop", str(error))]
        finally:
            await tokens.aclose()
    return [*checks, _version(credentials, served), *_facts(merchant, facts)]


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


async def _domain(http: httpx.AsyncClient, credentials: ShopCredentials, merchant: Merchant, clock: Clock) -> Check:
    """The token must open the shop whose domain we were told: webhooks and documents name it by that."""
    bounds = ShopBounds(merchant.id, merchant.shop_domain, AloneLimits(clock), clock, Prices())
    shop = (await ShopClient(http, credentials, clock, bounds).call(SHOP_NAME))["shop"]
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
    checks = [Check("ok", "currency", f"{facts.currency}, {taxes}"), _scopes(facts)]
    if not facts.location_id:
        checks.append(Check("warn", "location", f"none: {facts.location_note or 'orders wait for a person'}"))
    else:
        name = facts.location_names.get(facts.location_id, facts.location_id)
        checks.append(Check("ok", "location", f"stock goes to {name}"))
    checks.append(Check("ok", "products", "are found again by our custom id, which is defined"))
    if merchant.settings.currency != facts.currency:
        rate = "there is a rate" if merchant.settings.currency in merchant.settings.exchange_rates else "set a rate"
        checks.append(Check("warn", "currency", f"orders are taken for {merchant.settings.currency}: {rate}"))
    return checks


def _scopes(facts: ShopFacts) -> Check:
    granted = facts.scopes | {scope.replace("write_", "read_") for scope in facts.scopes}
    missing = [scope for scope in WANTED_SCOPES if scope not in granted]
    if missing:
        return Check("warn", "scopes", f"the app lacks {', '.join(missing)}")
    return Check("ok", "scopes", "the app has all that are used")
