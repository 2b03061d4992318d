"""Tokens that expire are renewed in time, once for all replicas, and no accident locks a shop out."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select, text, update

from app import token_keeper
from app.adapters.secrets import Purpose, Seal
from app.adapters.shopify import operations, tokens
from app.adapters.shopify.alone import AloneLimits
from app.adapters.shopify.client import ShopBounds, ShopClient, ShopCredentials
from app.adapters.shopify.price import Prices
from app.adapters.shopify.tokens import ShopTokens
from app.db.grants import Access, AppClient, ClientCredentials, Grants, OfflineToken, StaticToken
from app.db.merchants import Merchants
from app.db.session import Database, PoolSize
from app.db.tables import merchants, shop_grants, shop_states
from app.sandbox.server import run_sandbox
from app.token_keeper import TokenKeeper
from pipeline.clock import SystemClock
from pipeline.domain.merchant import Merchant
from pipeline.errors import DatabaseUnavailable, VendorUnavailable
from tests.support import loopback

KEY = "a-key-that-was-drawn-and-not-thought-up"
DOMAIN = "acme.myshopify.com"
ACME = Merchant(id="m1", name="Acme", shop_domain=DOMAIN)
APP = AppClient("app-1", ("app-secret",))
OWN_APP = ClientCredentials("app-1", "app-secret")
HOUR = 3600


@dataclass
class Shop:
    """The sandbox's shop and the database's word on it, as a test speaks to both."""

    address: str
    http: httpx.AsyncClient
    database: Database

    @property
    def endpoint(self) -> str:
        return f"{self.address}/shops/{DOMAIN}/admin/api/2026-10/graphql.json"

    async def open(self, **settings: Any) -> None:
        wanted = {"domain": DOMAIN, "token": "unused", "client_id": "app-1", "client_secrets": ["app-secret"]}
        (await self.http.post(f"{self.address}/shops", json=wanted | {"settings": settings})).raise_for_status()

    async def fail(self, kind: str, count: int = 1, seconds: float = 0, operation: str = "accessToken") -> None:
        fault = {"operation": operation, "kind": kind, "count": count, "seconds": seconds}
        (await self.http.post(f"{self.address}/shops/{DOMAIN}/faults", json=fault)).raise_for_status()

    async def granted(self) -> int:
        state = (await self.http.get(f"{self.address}/shops/{DOMAIN}/state")).json()
        return sum(state["tokens_granted"].values())

    async def connect(self, access: Access) -> None:
        await Merchants(self.database, self.grants()).add(ACME, endpoint=self.endpoint, access=access)

    async def install(self, *, left_s: float = HOUR) -> None:
        """As a public app that was installed; `left_s` seconds of its first token are left."""
        answer = (await self.http.post(f"{self.address}/shops/{DOMAIN}/install")).json()
        await self.connect(OfflineToken(answer["refresh_token"], answer["access_token"], left_s))

    def grants(self) -> Grants:
        return Grants(self.database, Seal(KEY), APP)

    async def let_pass(self, seconds: float) -> None:
        """Time passes, as far as the database knows: everything it dates lies that much further back."""
        by = text(f"interval '{seconds} seconds'")
        async with self.database.transaction() as connection:
            await connection.execute(
                update(shop_grants).values(
                    expires_at=shop_grants.c.expires_at - by, renewing_until=shop_grants.c.renewing_until - by
                )
            )

    async def opened_by(self, credentials: ShopCredentials | None) -> bool:
        assert credentials is not None
        response = await self.http.post(
            credentials.endpoint,
            json={"query": "{ shop { name } }"},
            headers={"X-Shopify-Access-Token": credentials.token},
        )
        return response.status_code == 200

    async def parked(self) -> str:
        async with self.database.transaction() as connection:
            return str(await connection.scalar(select(shop_states.c.parked_reason)) or "")

    async def trouble(self) -> str:
        async with self.database.transaction() as connection:
            return str(await connection.scalar(select(shop_grants.c.trouble)))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, PoolSize(4))
    yield database
    await database.close()


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with loopback(timeout=10) as http:
        yield http


@pytest.fixture
async def shop(database: Database, http: httpx.AsyncClient) -> AsyncIterator[Shop]:
    async with run_sandbox() as address:
        shop = Shop(address, http, database)
        await shop.open()
        yield shop


@pytest.fixture
async def replica(database_url: str, http: httpx.AsyncClient) -> AsyncIterator[Callable[..., ShopTokens]]:
    """Makes one process's tokens, with a pool of its own."""
    pools: list[Database] = []
    made: list[ShopTokens] = []

    def make(kind: type[Grants] = Grants) -> ShopTokens:
        pool = Database(database_url, PoolSize(4))
        name = f"replica-{len(made)}"
        pools.append(pool)
        made.append(ShopTokens(kind(pool, Seal(KEY), APP), http, SystemClock(), api_version="2026-10", name=name))
        return made[-1]

    yield make
    for one in made:
        await one.aclose()
    for pool in pools:
        await pool.close()


Replica = Callable[..., ShopTokens]


async def test_the_first_need_asks_for_a_token_and_the_next_ones_use_it(shop: Shop, replica: Replica) -> None:
    await shop.connect(OWN_APP)
    one, two = replica(), replica()
    first = await one.credentials(ACME)
    assert await shop.opened_by(first)
    assert await two.credentials(ACME) == await one.credentials(ACME) == first
    assert await shop.granted() == 1


async def test_a_token_near_its_end_is_handed_out_while_one_replica_gets_the_next(shop: Shop, replica: Replica) -> None:
    await shop.connect(OWN_APP)
    replicas = [replica() for _ in range(4)]
    before = await replicas[0].credentials(ACME)
    for one in replicas:
        await one.credentials(ACME)
    await shop.let_pass(86399 - tokens.RENEW_BEFORE_S + 1)
    await shop.fail("slow", seconds=1.5)
    asked = asyncio.get_running_loop().time()
    found = await asyncio.gather(*(one.credentials(ACME) for one in replicas for _ in range(5)))
    assert asyncio.get_running_loop().time() - asked < 1.5, "nobody waits for a token while there is a good one"
    assert set(found) == {before}
    for one in replicas:
        await one.aclose()
    after = [await one.credentials(ACME) for one in replicas]
    assert after[0] != before
    assert len(set(after)) == 1
    assert await shop.opened_by(after[0])
    assert await shop.granted() == 2


async def test_a_spent_token_is_renewed_once_and_everybody_waits_for_it(shop: Shop, replica: Replica) -> None:
    await shop.connect(OWN_APP)
    await shop.fail("slow", seconds=0.3)
    found = await asyncio.gather(*(one.credentials(ACME) for one in (replica(), replica()) for _ in range(10)))
    assert len(set(found)) == 1
    assert await shop.opened_by(found[0])
    assert await shop.granted() == 1


PROCESS = """
import asyncio, json, os, sys
import httpx
from app import token_keeper
from app.adapters.secrets import Seal
from app.adapters.shopify.tokens import ShopTokens
from app.db.grants import AppClient, Grants
from app.db.session import Database, PoolSize
from pipeline.clock import SystemClock
from pipeline.domain.merchant import Merchant

class Dying(Grants):
    async def store(self, *given, **named):
        os._exit(9)

async def main(url, key, kind):
    database = Database(url, PoolSize(4))
    grants = {"Dying": Dying, "Grants": Grants}[kind](database, Seal(key), AppClient("app-1", ("app-secret",)))
    merchant = Merchant(id="m1", name="Acme", shop_domain="acme.myshopify.com")
    async with httpx.AsyncClient(trust_env=False) as http:
        tokens = ShopTokens(grants, http, SystemClock(), api_version="2026-10", name=str(os.getpid()))
        print("ready", flush=True)
        sys.stdin.readline()
        found = await asyncio.gather(*(tokens.credentials(merchant) for _ in range(20)))
        print(json.dumps(sorted({one.token for one in found})), flush=True)
        await tokens.aclose()
    await database.close()

asyncio.run(main(*sys.argv[1:]))
"""


async def process(database_url: str, kind: str = "Grants") -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROCESS, database_url, KEY, kind, stdin=pipe, stdout=pipe
    )
    assert child.stdout is not None
    assert await child.stdout.readline() == b"ready\n"
    return child


async def test_real_processes_that_need_a_token_at_once_ask_for_one(shop: Shop, database_url: str) -> None:
    await shop.connect(OWN_APP)
    await shop.fail("slow", seconds=0.3)
    children = [await process(database_url) for _ in range(2)]
    answers = await asyncio.gather(*(child.communicate(b"\n") for child in children))
    found = [json.loads(answer.splitlines()[-1]) for answer, _ in answers]
    assert found[0] == found[1]
    assert len(found[0]) == 1
    assert await shop.granted() == 1


@pytest.mark.parametrize("settings", [{}, {"refresh_once": True, "refresh_revokes": True}], ids=["lenient", "strict"])
async def test_a_public_apps_token_lives_from_refresh_token_to_refresh_token(
    settings: dict[str, Any], shop: Shop, replica: Replica
) -> None:
    await shop.open(**settings)
    await shop.install()
    one = replica()
    seen = {await one.credentials(ACME)}
    for _ in range(3):
        await shop.let_pass(HOUR)
        found = await one.credentials(ACME)
        assert await shop.opened_by(found)
        seen.add(found)
    assert len(seen) == 4
    assert await shop.granted() == 3


async def test_a_lost_answer_leaves_the_old_token_in_use_and_the_old_refresh_token_is_tried_again(
    shop: Shop, replica: Replica
) -> None:
    await shop.install(left_s=tokens.RENEW_BEFORE_S - 1)
    await shop.fail("timeout_after_success")
    one = replica()
    before = await one.credentials(ACME)
    await one.aclose()
    assert await one.credentials(ACME) == before
    await one.aclose()
    assert await shop.granted() == 1, "after a question without an answer nobody asks for a while"
    await shop.let_pass(tokens.QUIET.total_seconds())
    await one.credentials(ACME)
    await one.aclose()
    after = await one.credentials(ACME)
    assert after != before
    assert await shop.opened_by(after)
    assert (await shop.granted(), await shop.trouble()) == (2, "")


async def test_a_spent_token_whose_renewal_gets_no_answer_is_an_outage(shop: Shop, replica: Replica) -> None:
    await shop.connect(OWN_APP)
    await shop.fail("http_500")
    with pytest.raises(VendorUnavailable):
        await replica().credentials(ACME)
    assert await shop.trouble() == ""


async def test_where_a_refresh_token_works_once_a_lost_answer_ends_in_a_reason_and_not_in_a_loop(
    shop: Shop, replica: Replica
) -> None:
    await shop.open(refresh_once=True)
    await shop.install(left_s=0)
    await shop.fail("error_502_after_success")
    one = replica()
    with pytest.raises(VendorUnavailable):
        await one.credentials(ACME)
    await shop.let_pass(tokens.QUIET.total_seconds())
    for _ in range(3):
        with pytest.raises(VendorUnavailable, match=r"refresh token \(invalid_grant\): connect the shop again"):
            await one.credentials(ACME)
    await shop.install()
    assert await shop.opened_by(await one.credentials(ACME)), "connecting it again is all it takes"


async def test_a_process_that_dies_with_the_answer_in_its_hand_locks_nobody_out(
    shop: Shop, replica: Replica, database_url: str
) -> None:
    await shop.install(left_s=0)
    child = await process(database_url, "Dying")
    await child.communicate(b"\n")
    assert child.returncode == 9
    assert await shop.granted() == 1
    await shop.let_pass(60)
    assert await shop.opened_by(await replica().credentials(ACME))
    assert await shop.granted() == 2


async def test_a_refused_app_is_not_asked_for_again(shop: Shop, replica: Replica) -> None:
    await shop.connect(ClientCredentials("app-1", "a wrong secret"))
    for _ in range(2):
        with pytest.raises(VendorUnavailable, match=r"client id and secret \(invalid_client\): connect the shop again"):
            await replica().credentials(ACME)
    assert await shop.parked() == await shop.trouble() != ""
    await shop.connect(OWN_APP)
    assert await shop.opened_by(await replica().credentials(ACME))
    assert await shop.parked() == ""


async def test_the_answer_of_a_replica_that_was_too_slow_is_dropped_and_the_chain_goes_on(
    shop: Shop, replica: Replica, http: httpx.AsyncClient
) -> None:
    """It asked after the one whose answer is stored, so the shop knows its answer for the newest."""
    await shop.open(refresh_once=False)
    await shop.install(left_s=0)
    grants = shop.grants()
    url = f"{shop.address}/shops/{DOMAIN}/admin/oauth/access_token"
    slow = await grants.claim("m1", 0, "slow")
    assert slow is not None
    assert await grants.claim("m1", 0, "second") is None, "one at a time"
    await shop.let_pass(60)
    quick = await grants.claim("m1", 0, "quick")
    assert quick is not None
    answers = {}
    for claim in (quick, slow):
        form = {"grant_type": "refresh_token", "client_id": "app-1", "client_secret": "app-secret"}
        answers[claim.by] = await tokens.ask_for_token(http, url, form | {"refresh_token": claim.refresh_tokens[0]})
    for claim, stored in ((quick, True), (quick, False), (slow, False)):
        answer, used = answers[claim.by], claim.refresh_tokens[0]
        kept = await grants.store(
            claim, answer.token, expires_in_s=answer.expires_in_s, refreshed=(answer.refresh_token, used)
        )
        assert kept is stored
    assert not await grants.give_up(slow, "refused"), "what the slow one is told now is old news"
    held = await grants.held("m1")
    assert held is not None
    assert held.token == answers["quick"].token


async def test_a_refresh_token_that_is_refused_gives_way_to_the_one_before_it(shop: Shop, replica: Replica) -> None:
    await shop.install(left_s=0)
    one = replica()
    await one.credentials(ACME)
    async with shop.database.transaction() as connection:
        sealed = Seal(KEY).seal("shprt_nobody_knows", owner="m1", purpose=Purpose.REFRESH)
        await connection.execute(update(shop_grants).values(refresh_token_sealed=sealed))
    await shop.let_pass(HOUR)
    assert await shop.opened_by(await one.credentials(ACME))


async def test_who_is_cancelled_while_it_waits_does_not_throw_the_answer_away(shop: Shop, replica: Replica) -> None:
    await shop.open(refresh_once=True)
    await shop.install(left_s=0)
    await shop.fail("slow", seconds=0.3)
    one = replica()
    waiting = asyncio.create_task(one.credentials(ACME))
    await asyncio.sleep(0.1)
    waiting.cancel()
    await one.aclose()
    assert await shop.opened_by(await one.credentials(ACME))
    assert await shop.granted() == 1


async def test_an_answer_survives_a_database_that_blinks(
    shop: Shop, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "STORE_PAUSE_S", 0.01)
    blinks = iter(range(2))

    class Blinking(Grants):
        async def store(self, *given: Any, **named: Any) -> bool:
            if next(blinks, None) is not None:
                raise DatabaseUnavailable("Postgres: gone")
            return await super().store(*given, **named)

    await shop.open(refresh_once=True)
    await shop.install(left_s=0)
    assert await shop.opened_by(await replica(Blinking).credentials(ACME))


def client_of(replica: ShopTokens, credentials: ShopCredentials, http: httpx.AsyncClient) -> ShopClient:
    """A client as `Shops` makes it."""
    clock = SystemClock()
    bounds = ShopBounds(ACME.id, DOMAIN, AloneLimits(clock), clock, Prices())
    return ShopClient(http, credentials, clock, bounds, renew=lambda refused: replica.credentials(ACME, refused))


async def test_a_refused_token_is_replaced_and_the_call_is_made_once_more(
    shop: Shop, replica: Replica, http: httpx.AsyncClient
) -> None:
    """Revoked before its end: only the shop knows."""
    await shop.open(refresh_revokes=True)
    await shop.install()
    one = replica()
    before = await one.credentials(ACME)
    assert before is not None
    await shop.fail("unauthorized", operation="shop")
    client = client_of(one, before, http)
    data = await client.call(operations.SHOP_FACTS)
    assert data["shop"]["currencyCode"] == "USD"
    assert await shop.granted() == 1
    assert await one.credentials(ACME) != before


async def test_a_token_that_nothing_replaces_is_refused_for_good(
    shop: Shop, replica: Replica, http: httpx.AsyncClient
) -> None:
    await shop.connect(StaticToken("shpat_revoked"))
    one = replica()
    credentials = await one.credentials(ACME)
    assert credentials is not None
    with pytest.raises(VendorUnavailable, match="refused the access token: connect the shop again") as refusal:
        await client_of(one, credentials, http).call(operations.SHOP_FACTS)
    assert refusal.value.patient


async def test_a_shop_that_is_quiet_for_a_month_is_kept_connected(shop: Shop, replica: Replica) -> None:
    """Its refresh token would end after three."""
    await shop.install()
    merchants_of = Merchants(shop.database, shop.grants())
    keepers = [TokenKeeper(shop.grants(), merchants_of, replica(), SystemClock()) for _ in range(2)]
    assert [await keeper.run_once() for keeper in keepers] == [0, 0]
    async with shop.database.transaction() as connection:
        await connection.execute(
            update(shop_grants).values(connected_at=func.now() - token_keeper.QUIET_FOR, expires_at=func.now())
        )
    assert sorted([await keeper.run_once() for keeper in keepers]) == [0, 1]
    assert await shop.granted() == 1
    await shop.fail("http_500")
    async with shop.database.transaction() as connection:
        await connection.execute(update(shop_grants).values(renewed_at=func.now() - token_keeper.QUIET_FOR))
    assert await keepers[0].run_once() == 1, "an outage is said in the log and keeps no other shop from being looked at"


async def test_a_secret_is_not_sent_to_an_address_it_was_not_given_for(shop: Shop, replica: Replica) -> None:
    await shop.connect(OWN_APP)
    moved = ACME.model_copy(update={"shop_domain": "other.myshopify.com"})
    await Merchants(shop.database, shop.grants()).add(moved, endpoint=shop.endpoint)
    assert await replica().credentials(moved) is None
    async with shop.database.transaction() as connection:
        assert await connection.scalar(select(func.count()).select_from(shop_grants)) == 0


async def test_every_secret_is_sealed_and_is_sealed_anew_when_the_key_changes(
    shop: Shop, replica: Replica, database: Database
) -> None:
    await shop.install(left_s=0)
    own = OfflineToken("shprt_canary", "shpat_canary", 0, client_id="app-1", client_secret="shpss_canary")
    await shop.connect(own)
    new = "another-key-" * 3
    assert await Grants(database, Seal(f"{new},{KEY}")).reseal() == 3
    async with database.transaction() as connection:
        rows = [
            *(await connection.execute(select(merchants))).one(),
            *(await connection.execute(select(shop_grants))).one(),
        ]
    assert b"canary" not in b"".join(value for value in rows if isinstance(value, bytes))
    grants = Grants(database, Seal(new))
    held = await grants.held("m1")
    claim = await grants.claim("m1", held.generation if held else 0, "test")
    assert held is not None
    assert claim is not None
    assert (held.token, claim.refresh_tokens, claim.client_secret) == (
        "shpat_canary",
        ("shprt_canary",),
        "shpss_canary",
    )
    assert "canary" not in f"{held!r} {claim!r} {own!r} {StaticToken('canary')!r} {APP!r}"
