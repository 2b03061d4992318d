"""`merchants ...`: a shop is connected, looked at, and listed; no secret is shown."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.adapters.shopify.scopes import USES
from app.db import tables
from app.sandbox.state import ALL_SCOPES
from tests.app.conftest import Cli

pytestmark = pytest.mark.usefixtures("silent_logs")
DOMAIN = "acme.myshopify.com"
TOKEN = "shpat_canary"
SECRET = "shpss_canary"
SCOPES = sorted({*ALL_SCOPES, *(use.scope for use in USES)})
KEY = "a-key-that-was-drawn-and-not-thought-up"


@pytest.fixture(scope="module")
def sandbox(expect_children: Callable[[], None]) -> Iterator[str]:
    """A sandbox of these tests' own, as a process: the commands run an event loop themselves."""
    command = [sys.executable, "-m", "app.sandbox"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        expect_children()
        assert process.stdout is not None
        yield process.stdout.readline().removeprefix("listening on ").strip()
        process.terminate()


@pytest.fixture
def open_shop(sandbox: str) -> Callable[..., dict[str, Any]]:
    def call(**changed: Any) -> dict[str, Any]:
        wanted = {
            "domain": DOMAIN,
            "token": TOKEN,
            "client_id": "app-1",
            "client_secrets": [SECRET],
            "scopes": SCOPES,
            **changed,
        }
        return post(f"{sandbox}/shops", wanted)

    call()
    return call


def state(sandbox: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{sandbox}/shops/{DOMAIN}/state", timeout=5) as answer:
        return dict(json.load(answer))


def post(url: str, body: Any) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


@pytest.fixture
def add(cli: Cli, sandbox: str, open_shop: Any) -> Callable[..., Any]:
    """`merchants add m1` for a shop of the sandbox; `at` is the shop the address leads to, if another."""

    def call(*options: str, given: str = "", shop: str = DOMAIN, at: str = "", **settings: str) -> Any:
        endpoint = f"{sandbox}/shops/{at or shop}/admin/api/2026-10/graphql.json"
        arguments = ("merchants", "add", "m1", "--shop", shop, "--endpoint", endpoint, *options)
        return cli(*arguments, SECRET_KEY=KEY, given=given, **settings)

    return call


def test_a_merchant_is_added_and_listed(cli: Cli, tmp_path: Path) -> None:
    rules = tmp_path / "rules.json"
    rules.write_text('{"markup": "2.5"}')
    added = cli("merchants", "add", "m1", "--shop", DOMAIN, "--name", "Acme", "--rules", str(rules))
    assert added.exit_code == 0, added.output
    assert "none is stored" in added.output
    [merchant] = json.loads(cli("merchants", "list", "--json").output)
    assert (merchant["id"], merchant["settings"]["markup"], merchant["connection"]) == ("m1", "2.5", None)
    assert "not connected" in cli("merchants", "list").output
    rules.write_text('{"markupp": "2.5"}')
    wrong = cli("merchants", "add", "m1", "--shop", DOMAIN, "--rules", str(rules))
    assert wrong.exit_code == 1
    assert "markupp" in wrong.stderr


def test_connecting_a_shop_says_what_an_order_would_meet_there(add: Any) -> None:
    added = add("--token-stdin", given=f"{TOKEN}\n", PUBLIC_URL="https://po.example")
    assert added.exit_code == 0, added.output
    for words in (
        "by a token that does not expire",
        f"{DOMAIN} is acme",
        "2026-10",
        "USD, prices are without taxes",
        "the app has all that are used",
        "stock goes to Warehouse",
        "told of app/uninstalled, app/scopes_update, inventory_shipments/receive_items",
        "customers/data_request, customers/redact, shop/redact cannot be asked for",
        "the shop is ready for orders",
    ):
        assert words in added.output, added.output
    assert TOKEN not in added.output


def test_an_app_of_the_merchants_own_is_connected_by_its_id_and_secret(add: Any, cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "credentials.json"
    file.write_text(json.dumps({"client_id": "app-1", "client_secret": SECRET}))
    added = add("--credentials", str(file))
    assert added.exit_code == 0, added.output
    assert "by an app of the merchant's own, the present token until" in added.output
    listed = cli("merchants", "list")
    assert "its own app" in listed.output
    assert SECRET not in added.output + listed.output + cli("merchants", "list", "--json").output


def test_what_shopify_answered_to_an_installation_connects_the_public_app(add: Any, sandbox: str, cli: Cli) -> None:
    answer = post(f"{sandbox}/shops/{DOMAIN}/install", {})
    without_app = add("--credentials", "-", given=json.dumps(answer))
    assert (without_app.exit_code, "set SHOPIFY_CLIENT_ID" in without_app.stderr) == (1, True)
    added = add("--credentials", "-", given=json.dumps(answer | {"client_id": "app-1", "client_secret": SECRET}))
    assert added.exit_code == 0, added.output
    assert "by the public app, the present token until" in added.output


@pytest.mark.parametrize(
    ("shop", "options", "given", "words"),
    [
        (DOMAIN, ("--token-stdin",), "shpat_wrong\n", "the shop refused the access token"),
        ("other.myshopify.com", ("--token-stdin",), f"{TOKEN}\n", f"the token opens {DOMAIN}, not other"),
        (DOMAIN, ("--credentials", "-"), '{"client_id": "app-1", "client_secret": "wrong"}', "(invalid_client)"),
    ],
)
def test_a_shop_that_cannot_be_used_fails_with_the_reason(
    shop: str, options: tuple[str, ...], given: str, words: str, add: Any
) -> None:
    added = add(*options, given=given, shop=shop, at=DOMAIN)
    assert added.exit_code == 1
    assert words in added.output
    assert "orders cannot get into this shop yet" in added.output
    assert "wrong" not in added.output


def test_asking_again_asks_for_no_webhook_twice_and_the_doctor_misses_one_that_is_gone(
    add: Any, cli: Cli, sandbox: str
) -> None:
    public = {"PUBLIC_URL": "https://po.example"}
    for _ in range(2):
        add("--token-stdin", given=f"{TOKEN}\n", **public)
    assert len(state(sandbox)["subscriptions"]) == 3
    assert "every connected shop tells us" in cli("doctor", SECRET_KEY=KEY, **public).output
    told = post(f"{sandbox}/shops/{DOMAIN}/webhooks/send", {"topic": "app/scopes_update", "payload": {"current": []}})
    assert told[0]["statuses"] == [0] * 9, "nobody is there, so Shopify gives up"
    gone = cli("doctor", SECRET_KEY=KEY, **public).output
    assert f"{DOMAIN} tells nothing of app/scopes_update: `merchants check m1` asks it to" in gone
    cli("merchants", "check", "m1", SECRET_KEY=KEY, **public)
    assert len(state(sandbox)["subscriptions"]) == 3


def test_a_parked_shop_is_listed_with_its_reason_until_a_look_at_it_goes_well(add: Any, cli: Cli, having: Any) -> None:
    add("--token-stdin", given=f"{TOKEN}\n")
    having(lambda given: given.insert(tables.shop_states, merchant_id="m1", parked_reason="why"))
    assert "why" in cli("merchants", "list").output
    assert json.loads(cli("merchants", "list", "--json").output)[0]["trouble"] == "why"
    assert "is no more: its orders go on" in cli("merchants", "check", "m1", SECRET_KEY=KEY).output
    assert "why" not in cli("merchants", "list").output


def test_missing_scopes_and_an_open_choice_of_location_are_warnings(add: Any, open_shop: Any) -> None:
    wide = "wide.myshopify.com"
    open_shop(domain=wide, locations=["North", "South"], scopes=["write_products", "read_locations"], currency="EUR")
    added = add("--token-stdin", given=f"{TOKEN}\n", shop=wide)
    assert added.exit_code == 0, added.output
    for words in ("lacks write_inventory: nothing is announced", "location", "orders are taken for USD", "within what"):
        assert words in added.output, added.output


def test_a_shop_that_lets_nobody_write_products_fails_with_what_that_costs(add: Any, open_shop: Any) -> None:
    narrow = "narrow.myshopify.com"
    open_shop(domain=narrow, scopes=[one for one in SCOPES if one != "write_products"])
    added = add("--token-stdin", given=f"{TOKEN}\n", shop=narrow)
    assert added.exit_code == 1
    assert "lacks write_products: no product can be created" in added.output
    assert "Access denied" not in added.output


@pytest.mark.parametrize(
    ("options", "given", "words"),
    [
        (("--token-stdin", "--ask"), "", "in one way"),
        (("--credentials", "nowhere.json"), "", "nowhere.json: No such file"),
        (("--credentials", "-"), '{"access_token": 5', "not JSON with the credentials"),
        (("--credentials", "-"), f'{{"client_secret": "{SECRET}"}}', "nothing given opens a shop"),
        (("--token-stdin",), "\n", "nothing given opens a shop"),
    ],
)
def test_what_cannot_be_understood_is_refused_without_repeating_it(
    options: tuple[str, ...], given: str, words: str, add: Any
) -> None:
    added = add(*options, given=given)
    assert added.exit_code == 1
    assert words in added.stderr
    assert SECRET not in added.output + added.stderr


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("SHOPIFY_CLIENT_ID", "app-1", "SHOPIFY_CLIENT_ID needs SHOPIFY_CLIENT_SECRET"),
        ("PUBLIC_URL", "po.example", "PUBLIC_URL"),
        ("PUBLIC_URL", "https://po.example/path", "PUBLIC_URL"),
    ],
)
def test_settings_that_would_not_work_are_refused(name: str, value: str, words: str, cli: Cli) -> None:
    refused = cli("config", **{name: value})
    assert (refused.exit_code, words in refused.stderr) == (1, True)


def test_without_a_key_nothing_secret_is_stored(cli: Cli) -> None:
    added = cli("merchants", "add", "m1", "--shop", DOMAIN, "--token-stdin", given=f"{TOKEN}\n")
    assert (added.exit_code, added.stderr) == (
        1,
        "error: a shop's access token is stored sealed only: set SECRET_KEY\n",
    )
    assert cli("merchants", "check", "m1").stderr == "error: there is no merchant 'm1'\n"


def test_after_sealing_anew_the_old_key_may_go(add: Any, cli: Cli) -> None:
    add("--token-stdin", given=f"{TOKEN}\n")
    new = "another-key-" * 3
    resealed = cli("merchants", "reseal", SECRET_KEY=f"{new},{KEY}")
    assert "secrets sealed anew: 1" in resealed.output
    assert cli("merchants", "check", "m1", SECRET_KEY=new).exit_code == 0
    locked = cli("merchants", "check", "m1", SECRET_KEY=KEY)
    assert (locked.exit_code, "sealed with a key that is not in SECRET_KEY" in locked.output) == (1, True)


def test_a_merchant_is_erased_only_by_who_says_yes(add: Any, cli: Cli, having: Any) -> None:
    add("--token-stdin", given=f"{TOKEN}\n")
    having(lambda given: given.run("r", due_stage="ai-parsing"))
    refused = cli("merchants", "erase", "m1")
    assert (refused.exit_code, "add --yes" in refused.stderr) == (1, True)
    erased = cli("merchants", "erase", "m1", "--yes")
    assert erased.output == "erased: 1 merchants, 1 runs, 1 shop_grants, 1 shop_states\n"
    assert json.loads(cli("merchants", "list", "--json").output) == []
    [note] = having(lambda given: given.rows(tables.audit))
    assert (note["action"], note["details"]["cause"]) == ("erase a shop", "merchants erase")
    assert "m1" not in str(note["details"])
