"""Who is let in, and what is turned away at the door."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from app.admin.api import create_app
from app.admin.deps import AdminDeps
from app.admin.guard import SESSION_S, RefusesToServeError, Tokens
from tests.app.admin.conftest import asking

TOKEN = "a-long-token"


async def test_the_page_is_never_open_to_a_network_without_a_token(make_deps: Callable[..., AdminDeps]) -> None:
    with pytest.raises(RefusesToServeError, match="ADMIN_TOKEN"):
        create_app(make_deps(host="0.0.0.0"))
    create_app(make_deps(host="0.0.0.0", token=TOKEN))


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", ""])
async def test_a_foreign_name_that_leads_here_is_turned_away(client: httpx.AsyncClient, host: str) -> None:
    """DNS rebinding: the attacker's page talks to its own name, which now resolves to 127.0.0.1."""
    answer = await client.get("/api/orders", headers={"host": host})
    assert answer.status_code == 421


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1:9", "[::1]:8080"])
async def test_loopback_goes_by_its_names(client: httpx.AsyncClient, host: str) -> None:
    assert (await client.get("/live", headers={"host": host})).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:9999"])
async def test_another_page_cannot_change_anything_through_the_readers_browser(
    client: httpx.AsyncClient, origin: str
) -> None:
    answer = await client.post("/api/queue-admin/clean-failed", json={}, headers={"origin": origin})
    assert (answer.status_code, answer.json()["error"]) == (403, "foreign_origin")


async def test_a_form_that_needs_no_permission_to_be_sent_is_not_understood(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/queue-admin/clean-failed", data={"a": "b"})
    assert answer.status_code == 415
    assert set(answer.json()) == {"success", "error", "message"}


async def test_our_own_page_may_post(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/queue-admin/clean-failed", json={}, headers={"origin": "http://localhost:8080"})
    assert answer.status_code == 200


async def test_a_body_is_measured_before_it_is_read(client: httpx.AsyncClient) -> None:
    sized = await client.post(
        "/api/orders", content=b"x", headers={"content-type": "multipart/form-data", "content-length": "99999999"}
    )
    assert sized.status_code == 413


@pytest.mark.parametrize("path", ["/api/orders", "/api/events", "/api/openapi.json", "/api/queue-admin/status"])
async def test_with_a_token_set_nothing_is_shown_without_it(make_deps: Callable[..., AdminDeps], path: str) -> None:
    async with asking(make_deps(token=TOKEN)) as client:
        assert (await client.get(path)).status_code == 401
        assert (await client.get(path, headers={"authorization": "Bearer wrong"})).status_code == 401
        assert (await client.get(path, headers={"cookie": "po_session=9999999999.forged"})).status_code == 401


async def test_the_token_opens_the_api(make_deps: Callable[..., AdminDeps]) -> None:
    async with asking(make_deps(token=TOKEN)) as client:
        answer = await client.get("/api/orders", headers={"authorization": f"Bearer {TOKEN}"})
        assert answer.status_code == 200


@pytest.mark.parametrize("path", ["/live", "/ready", "/metrics"])
async def test_probes_carry_no_token(make_deps: Callable[..., AdminDeps], path: str) -> None:
    async with asking(make_deps(token=TOKEN)) as client:
        assert (await client.get(path)).status_code == 200


async def test_the_login_form_turns_the_token_into_a_session(make_deps: Callable[..., AdminDeps]) -> None:
    async with asking(make_deps(token=TOKEN)) as client:
        assert (await client.get("/")).headers["location"] == "/login"
        wrong = await client.post("/login", files={"token": (None, "guess")})
        assert "set-cookie" not in wrong.headers
        right = await client.post("/login", files={"token": (None, TOKEN)})
        cookie = right.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert TOKEN not in cookie
        assert (await client.get("/")).status_code == 200
        assert (await client.get("/api/orders")).status_code == 200


def test_a_session_ends_and_cannot_be_prolonged() -> None:
    now = 1000.0
    tokens = Tokens(TOKEN, lambda: now)
    session = tokens.session()
    ends, _, signature = session.partition(".")
    assert tokens.is_session(session)
    assert not tokens.is_session(f"{int(ends) + 1}.{signature}")
    now += SESSION_S + 1
    assert not tokens.is_session(session)


def test_a_session_ends_with_the_token_it_was_made_from() -> None:
    assert not Tokens("another").is_session(Tokens(TOKEN).session())


@pytest.mark.parametrize("path", ["/", "/login", "/api/docs", "/api/orders", "/static/page.js"])
async def test_every_answer_forbids_what_the_page_does_not_need(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"].startswith("default-src 'self';")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "unsafe" not in answer.headers["content-security-policy"]
