"""Tokens as the sandbox gives them: each rule is a fact of Shopify's, or chosen where none is known."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.app.sandbox.conftest import TOKEN, ShopClient

APP = {"client_id": "app-1", "client_secret": "shpss_new"}


@pytest.fixture
async def app(shop: ShopClient) -> ShopClient:
    """A shop that knows an app with two secrets, one of them about to be revoked."""
    await shop.open(client_id="app-1", client_secrets=["shpss_old", "shpss_new"], settings={})
    return shop


async def ask(shop: ShopClient, **form: str) -> httpx.Response:
    return await shop.http.post(f"{shop.address}/shops/{shop.domain}/admin/oauth/access_token", data=APP | form)


async def install(shop: ShopClient) -> dict[str, Any]:
    return (await shop.http.post(f"{shop.address}/shops/{shop.domain}/install")).json()


async def opens(shop: ShopClient, token: str) -> bool:
    return (await ShopClient(shop.http, shop.address, shop.domain, token).post("{ shop { name } }")).status_code == 200


async def refresh(shop: ShopClient, token: str) -> httpx.Response:
    return await ask(shop, grant_type="refresh_token", refresh_token=token)


@pytest.mark.parametrize("secret", ["shpss_old", "shpss_new"])
async def test_an_app_gets_a_token_of_a_day_for_its_id_and_either_secret(secret: str, app: ShopClient) -> None:
    answer = (await ask(app, grant_type="client_credentials", client_secret=secret)).json()
    assert answer["expires_in"] == 86399
    assert "write_products" in answer["scope"]
    assert await opens(app, answer["access_token"])
    assert await opens(app, TOKEN), "the token it had before is not touched"
    assert (await app.state())["tokens_granted"] == {"client_credentials": 1}


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"grant_type": "client_credentials", "client_secret": "guessed"}, "invalid_client"),
        ({"grant_type": "client_credentials", "client_id": "another"}, "invalid_client"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": "refresh_token", "refresh_token": "shprt_guessed"}, "invalid_grant"),
        ({"grant_type": "refresh_token"}, "invalid_grant"),
    ],
)
async def test_a_refusal_has_a_code_and_gives_nothing(form: dict[str, str], error: str, app: ShopClient) -> None:
    answer = await ask(app, **form)
    assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert (await app.state())["tokens_granted"] == {}


async def test_a_used_refresh_token_works_until_its_replacement_is_used(app: ShopClient) -> None:
    """Shopify since 2026-08-28."""
    first = (await install(app))["refresh_token"]
    lost = (await refresh(app, first)).json()
    second = (await refresh(app, first)).json()
    assert await opens(app, lost["access_token"])
    assert (await refresh(app, second["refresh_token"])).status_code == 200
    assert (await refresh(app, first)).status_code == 400


async def test_where_a_test_wants_it_stricter_one_use_is_all(app: ShopClient) -> None:
    await app.open(**APP_SECRETS, settings={"refresh_once": True, "refresh_revokes": True})
    installed = await install(app)
    renewed = (await refresh(app, installed["refresh_token"])).json()
    assert not await opens(app, installed["access_token"])
    assert await opens(app, renewed["access_token"])
    assert (await refresh(app, installed["refresh_token"])).status_code == 400


APP_SECRETS: dict[str, Any] = {"client_id": "app-1", "client_secrets": ["shpss_new"]}


async def test_tokens_end_by_themselves(app: ShopClient) -> None:
    short = {"client_token_s": 0.0, "offline_token_s": 0.0, "refresh_token_s": 0.0}
    await app.open(**APP_SECRETS, settings=short)
    token = (await ask(app, grant_type="client_credentials")).json()["access_token"]
    installed = await install(app)
    assert not await opens(app, token)
    assert not await opens(app, installed["access_token"])
    assert (await refresh(app, installed["refresh_token"])).status_code == 400


async def test_an_answer_can_be_lost_after_the_token_was_given(app: ShopClient) -> None:
    await app.order("timeout_after_success", "accessToken")
    with pytest.raises(httpx.TransportError):
        await ask(app, grant_type="client_credentials")
    assert (await app.state())["tokens_granted"] == {"client_credentials": 1}


async def test_an_uninstalled_app_has_no_token_and_gets_none(app: ShopClient) -> None:
    token = (await ask(app, grant_type="client_credentials")).json()["access_token"]
    await app.http.post(f"{app.address}/shops/{app.domain}/uninstall")
    assert not await opens(app, token)
    assert not await opens(app, TOKEN)
    assert (await ask(app, grant_type="client_credentials")).json()["error"] == "app_not_installed"
