"""What an operator is told about the shops: at start, by the doctor, and in `status`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.adapters.shopify.scopes import USES, missing
from app.bootstrap import open_shops
from app.cli_tables import Screen
from app.core import Core, open_core
from app.db import views
from app.db.shop_views import KnownShop, list_known, list_waiting
from app.db.tables import audit
from app.doctor import shop_checks
from app.sandbox.server import run_sandbox
from app.sandbox.state import new_shop
from app.shop_check import check_shops
from tests.app.db.given import Given
from tests.app.held import held
from tests.shop import DOMAIN, MERCHANT, TOKEN, connect_merchant, settings_for
from tests.support import loopback

SHOP = KnownShop(
    merchant_id="m1",
    shop_domain="acme.example",
    parked_reason="",
    tripped_reason="",
    version_asked="2026-10",
    version_served="2026-10",
    scopes=tuple(one.scope for one in USES),
    scopes_at=datetime.now(UTC),
)


@pytest.fixture
async def sandbox() -> AsyncIterator[str]:
    async with run_sandbox(shops=[new_shop(DOMAIN, TOKEN)]) as address:
        yield address


@pytest.fixture
async def core(redis_url: str, database_url: str, sandbox: str) -> AsyncIterator[Core]:
    async with held(open_core(settings_for(redis_url, database_url, sandbox))) as core:
        await connect_merchant(core, sandbox)
        yield core


async def change(sandbox: str, **choices: Any) -> None:
    async with loopback() as http:
        (await http.post(f"{sandbox}/shops", json={"domain": DOMAIN, "token": TOKEN, **choices})).raise_for_status()


async def checked(core: Core) -> list[dict[str, Any]]:
    with capture_logs() as logs:
        async with open_shops(core) as shops:
            await check_shops(core, shops)
    return [one for one in logs if one["event"].startswith(("shop lacks", "shop not", "shop parked"))]


# ------------------------------------------------------------------------------------------------ scopes


def test_every_scope_says_what_it_costs_to_lack_it() -> None:
    assert missing([one.scope for one in USES]) == []
    lacks = missing([])
    assert [one.scope for one in lacks[:2]] == ["write_products", "write_inventory"]
    assert all(one.costs for one in lacks)
    assert "no order reaches the shop" in str(lacks[0])


def test_who_may_write_a_thing_may_read_it_and_inventory_shows_locations() -> None:
    assert "read_locations" not in [one.scope for one in missing(["write_inventory"])]
    assert "read_locations" in [one.scope for one in missing(["write_products"])]
    assert "write_products" in [one.scope for one in missing(["read_products"])]


async def test_a_worker_that_starts_says_what_each_shop_lacks(core: Core, sandbox: str) -> None:
    await change(sandbox, scopes=["write_products", "read_locations"])
    [event] = await checked(core)
    assert (event["shop"], event["log_level"]) == (DOMAIN, "warning")
    assert "write_inventory: nothing is announced" in " ".join(event["missing"])
    [shop] = await list_known(core.database)
    assert set(shop.scopes) == {"write_products", "read_locations"}
    assert (shop.version_asked, shop.version_served) == ("2026-10", "2026-10")


async def test_replicas_that_start_together_ask_once_and_all_say_it(core: Core, sandbox: str) -> None:
    await change(sandbox, scopes=["write_products"])
    first = await checked(core)
    await change(sandbox, token="changed meanwhile")
    assert await checked(core) == first


async def test_a_shop_that_cannot_be_asked_holds_up_nobody(core: Core, sandbox: str) -> None:
    await change(sandbox, token="another")
    events = [one["event"] for one in await checked(core)]
    assert events == ["shop parked", "shop not checked"]


# ------------------------------------------------------------------------------------------------ doctor


def test_the_doctor_finds_nothing_wrong_with_a_shop_that_is_well() -> None:
    [check] = shop_checks(SHOP)
    assert check.level == "ok"


@pytest.mark.parametrize(
    ("changed", "level", "words"),
    [
        ({"parked_reason": "the shop refused the access token"}, "fail", "merchants unpark m1"),
        ({"tripped_reason": "HTTP 502"}, "warn", "HTTP 502"),
        ({"version_served": "2027-01"}, "warn", "asked for version 2026-10 and served 2027-01"),
        ({"scopes": ("write_inventory",)}, "fail", "lacks scope write_products: no product can be created"),
        ({"scopes": ("write_products",)}, "warn", "lacks scope write_inventory: nothing is announced"),
        ({"scopes": (), "scopes_at": None}, "ok", "a worker does when it starts"),
    ],
)
def test_the_doctor_says_what_is_wrong_with_a_shop(changed: dict[str, Any], level: str, words: str) -> None:
    found = shop_checks(SHOP.model_copy(update=changed))
    assert any(check.level == level and words in check.text for check in found), found


# ------------------------------------------------------------------------------------------------ status


async def test_status_names_the_shops_that_hold_runs_up(core: Core, capsys: pytest.CaptureFixture[str]) -> None:
    given = Given(core.database)
    await given.run("r", merchant_id=MERCHANT, due_stage="shopify-sync")
    await core.shop_limits.trip(MERCHANT, "HTTP 502")
    [shop] = (await views.totals(core.database)).shops
    assert (shop.parked, shop.reason, shop.waiting) == (False, "HTTP 502", 1)
    await core.shop_limits.park(MERCHANT, "connect the shop again")
    totals = await views.totals(core.database)
    [shop] = totals.shops
    assert (shop.shop_domain, shop.parked, shop.reason, shop.waiting) == (DOMAIN, True, "connect the shop again", 1)
    Screen().totals(totals)
    printed = capsys.readouterr().out.replace("\n", " ")
    assert "is parked since" in printed
    assert f"merchants unpark {MERCHANT}" in printed


async def test_unparking_is_in_the_audit_and_names_the_runs_to_let_go(core: Core) -> None:
    given = Given(core.database)
    await given.run("waits", merchant_id=MERCHANT, due_stage="shopify-sync")
    await given.run("elsewhere", merchant_id=MERCHANT, due_stage="merchant-config")
    await core.shop_limits.park(MERCHANT, "connect the shop again")
    assert await core.shop_limits.unpark(MERCHANT, "ann")
    [note] = await given.rows(audit)
    assert (note["who"], note["action"], note["details"]) == ("ann", "unpark", {"merchant_id": MERCHANT})
    assert [one.next.run_id for one in await list_waiting(core.database, MERCHANT)] == ["waits"]
    assert (await views.totals(core.database)).shops == ()
