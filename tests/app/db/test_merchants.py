"""Merchants are stored with their rules, and their tokens so that only the service can use them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal

import pytest
from sqlalchemy import select, update

from app.adapters.secrets import Seal, UnknownKeyError
from app.adapters.shopify.client import ShopCredentials
from app.adapters.shopify.tokens import ShopTokens
from app.db.grants import GrantError, Grants, StaticToken
from app.db.merchants import MerchantError, Merchants, UnknownMerchantError
from app.db.session import Database
from app.db.tables import merchants
from pipeline.clock import SystemClock
from pipeline.contract import Reject
from pipeline.domain.merchant import Merchant, MerchantSettings
from tests.support import loopback

Credentials = Callable[[Merchant], Awaitable[ShopCredentials | None]]
KEY = "a-key-that-was-drawn-and-not-thought-up"
TOKEN = "shpat_0123456789abcdef"
ACME = Merchant(id="m1", name="Acme", shop_domain="acme.myshopify.com")
LIVE = "https://acme.myshopify.com/admin/api/2026-10/graphql.json"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


@pytest.fixture
def stored(database: Database) -> Merchants:
    return Merchants(database, Grants(database, Seal(KEY)))


async def credentials_of(merchant: Merchant, database: Database, seal: Seal | None) -> ShopCredentials | None:
    """What a worker with that key would open the shop with."""
    async with loopback() as http:
        tokens = ShopTokens(Grants(database, seal), http, SystemClock(), api_version="2026-10", name="test")
        return await tokens.credentials(merchant)


@pytest.fixture
def credentials(database: Database) -> Credentials:
    return lambda merchant: credentials_of(merchant, database, Seal(KEY))


async def test_a_merchant_is_read_as_it_was_stored(stored: Merchants) -> None:
    settings = MerchantSettings(markup=Decimal("2.35"), auto_approve=True, names=("Acme Ltd",))
    merchant = ACME.model_copy(update={"settings": settings})
    assert await stored.add(merchant) == merchant
    assert await stored.get("m1") == merchant


async def test_the_settings_version_grows_only_when_a_setting_changed(stored: Merchants) -> None:
    """A run names the version of the rules it was priced by."""
    await stored.add(ACME)
    renamed = await stored.add(ACME.model_copy(update={"name": "Acme Limited"}))
    assert (renamed.name, renamed.settings_version) == ("Acme Limited", 1)
    changed = await stored.add(ACME.model_copy(update={"settings": MerchantSettings(markup=Decimal(3))}))
    assert changed.settings_version == 2


async def test_merchants_are_listed_by_name(stored: Merchants) -> None:
    await stored.add(ACME)
    await stored.add(Merchant(id="m0", name="Zoo", shop_domain="zoo.myshopify.com"))
    assert [merchant.id for merchant in await stored.list_all()] == ["m1", "m0"]


async def test_an_unknown_merchant_is_an_error_of_its_own(stored: Merchants) -> None:
    with pytest.raises(UnknownMerchantError):
        await stored.get("nobody")


async def test_two_merchants_cannot_share_a_shop(stored: Merchants) -> None:
    await stored.add(ACME)
    with pytest.raises(MerchantError, match="belongs to another merchant"):
        await stored.add(ACME.model_copy(update={"id": "m2"}))


@pytest.mark.parametrize(
    "domain", ["", "acme", "https://acme.myshopify.com", "acme.myshopify.com/x", "a@b.com", "A.com"]
)
async def test_a_shop_is_named_by_its_domain_alone(domain: str, stored: Merchants) -> None:
    """The token is sent there: nothing may be smuggled into the address."""
    with pytest.raises(MerchantError):
        await stored.add(ACME.model_copy(update={"shop_domain": domain}))


async def test_a_token_comes_back_for_a_shop_call_and_stands_nowhere_in_the_clear(
    stored: Merchants, credentials: Credentials, database: Database
) -> None:
    await stored.add(ACME, access=StaticToken(f" {TOKEN}\n"))
    found = await credentials(ACME)
    assert found == ShopCredentials(LIVE, TOKEN)
    assert TOKEN not in repr(found)
    async with database.transaction() as connection:
        row = (await connection.execute(select(merchants))).one()
    assert TOKEN.encode() not in row.shop_token_sealed


async def test_without_a_token_there_are_no_credentials(stored: Merchants, credentials: Credentials) -> None:
    assert await credentials(ACME) is None
    await stored.add(ACME)
    assert await credentials(ACME) is None


async def test_a_change_without_a_token_keeps_the_stored_one(stored: Merchants, credentials: Credentials) -> None:
    await stored.add(ACME, access=StaticToken(TOKEN))
    await stored.add(ACME.model_copy(update={"name": "Acme Limited"}))
    assert await credentials(ACME) == ShopCredentials(LIVE, TOKEN)


@pytest.mark.parametrize(
    ("changes", "endpoint"),
    [({"shop_domain": "other.myshopify.com"}, ""), ({}, "https://elsewhere.example/graphql.json")],
)
async def test_a_token_is_not_sent_to_an_address_it_was_not_given_for(
    changes: dict[str, str], endpoint: str, stored: Merchants, credentials: Credentials
) -> None:
    await stored.add(ACME, access=StaticToken(TOKEN))
    moved = await stored.add(ACME.model_copy(update=changes), endpoint=endpoint)
    assert await credentials(moved) is None


async def test_a_given_endpoint_is_used_as_it_is(stored: Merchants, credentials: Credentials) -> None:
    endpoint = "http://127.0.0.1:8099/admin/api/2026-10/graphql.json"
    await stored.add(ACME, endpoint=endpoint, access=StaticToken(TOKEN))
    assert await credentials(ACME) == ShopCredentials(endpoint, TOKEN)


@pytest.mark.parametrize("seal", [None, Seal("another-key-" * 3)], ids=["no key", "another key"])
async def test_a_token_that_cannot_be_opened_waits_for_a_person_with_a_clear_reason(
    seal: Seal | None, stored: Merchants, database: Database
) -> None:
    await stored.add(ACME, access=StaticToken(TOKEN))
    with pytest.raises(Reject, match="SECRET_KEY") as refusal:
        await credentials_of(ACME, database, seal)
    assert refusal.value.code == "shop_token_locked"


async def test_a_token_copied_into_another_merchants_row_does_not_open(
    stored: Merchants, credentials: Credentials, database: Database
) -> None:
    other = Merchant(id="m2", name="Other", shop_domain="other.myshopify.com")
    await stored.add(ACME, access=StaticToken(TOKEN))
    await stored.add(other)
    async with database.transaction() as connection:
        sealed = (
            await connection.execute(select(merchants.c.shop_token_sealed).where(merchants.c.id == "m1"))
        ).scalar_one()
        await connection.execute(update(merchants).where(merchants.c.id == "m2").values(shop_token_sealed=sealed))
    with pytest.raises(Reject, match="another owner"):
        await credentials(other)


async def test_after_sealing_anew_the_old_key_may_go(stored: Merchants, database: Database) -> None:
    new = "another-key-" * 3
    await stored.add(ACME, access=StaticToken(TOKEN))
    await stored.add(Merchant(id="m2", name="No token", shop_domain="other.myshopify.com"))
    assert await Grants(database, Seal(f"{new},{KEY}")).reseal() == 1
    assert await credentials_of(ACME, database, Seal(new)) == ShopCredentials(LIVE, TOKEN)


async def test_sealing_anew_changes_nothing_unless_every_token_opens(
    stored: Merchants, credentials: Credentials, database: Database
) -> None:
    await stored.add(ACME, access=StaticToken(TOKEN))
    other = Merchant(id="m2", name="Other", shop_domain="other.myshopify.com")
    await Merchants(database, Grants(database, Seal("lost-key-" * 4))).add(other, access=StaticToken(TOKEN))
    with pytest.raises(UnknownKeyError):
        await Grants(database, Seal(f"{'another-key-' * 3},{KEY}")).reseal()
    assert await credentials(ACME) == ShopCredentials(LIVE, TOKEN)


async def test_without_a_key_no_token_is_stored(database: Database) -> None:
    unsealed = Merchants(database, Grants(database, None))
    with pytest.raises(GrantError, match="SECRET_KEY"):
        await unsealed.add(ACME, access=StaticToken(TOKEN))
    with pytest.raises(UnknownMerchantError):
        await unsealed.get("m1")


async def test_settings_nobody_understands_are_named_not_guessed(stored: Merchants, database: Database) -> None:
    await stored.add(ACME)
    async with database.transaction() as connection:
        await connection.execute(update(merchants).values(settings={"markup": "much", "colour": "red"}))
    with pytest.raises(MerchantError, match="markup, colour"):
        await stored.get("m1")
