"""Gives tokens the way a shop's `/admin/oauth/access_token` does, and knows which of them still open it.

    client_credentials   the app's id and secret for a token of a day [D]
    refresh_token        the same and a refresh token for a token of an hour and the next refresh token [D]

Shopify: a used refresh token can be used again until its replacement is first used (2026-08-28; before that, for 60
minutes) [D]. Not settled: whether the old access token ends with a refresh, and whether asking twice gives the same
tokens; a test may choose the first, here each answer is a new one.
"""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from app.sandbox.state import RefreshToken

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from app.sandbox.state import Shop

OPERATION = "accessToken"
"""What a fault calls a request for a token; it is no GraphQL operation."""

GRANTS = ("client_credentials", "refresh_token")


class RefusedGrant(Exception):
    """The shop gives no token; `code` is OAuth's."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def opens(shop: Shop, token: str | None, at: datetime) -> bool:
    """Whether this access token opens the shop now."""
    if not token:
        return False
    ends = shop.oauth.access_tokens.get(token)
    return secrets.compare_digest(token.encode(), shop.token.encode()) or (ends is not None and ends > at)


def grant(shop: Shop, form: Mapping[str, str], at: datetime) -> dict[str, Any]:
    """The answer to one request. Raises RefusedGrant, having changed nothing."""
    kind = form.get("grant_type", "")
    if kind not in GRANTS:
        raise RefusedGrant("unsupported_grant_type")
    known = form.get("client_id") == shop.oauth.client_id and form.get("client_secret") in shop.oauth.client_secrets
    if not shop.oauth.client_id or not known:
        raise RefusedGrant("invalid_client")
    if not shop.oauth.installed:
        raise RefusedGrant("app_not_installed")
    if kind == "client_credentials":
        answer = _access(shop, at, shop.settings.client_token_s)
    else:
        _use(shop, form.get("refresh_token", ""), at)
        answer = pair(shop, at, replaces=form["refresh_token"])
    shop.oauth.granted[kind] = shop.oauth.granted.get(kind, 0) + 1
    return answer


def pair(shop: Shop, at: datetime, *, replaces: str = "") -> dict[str, Any]:
    """An offline token and its refresh token, as an installation answers too."""
    refresh = f"shprt_{secrets.token_hex(16)}"
    ends = at + timedelta(seconds=shop.settings.refresh_token_s)
    shop.oauth.refresh_tokens[refresh] = RefreshToken(expires_at=ends, replaces=replaces)
    return {
        **_access(shop, at, shop.settings.offline_token_s),
        "refresh_token": refresh,
        "refresh_token_expires_in": shop.settings.refresh_token_s,
    }


def _access(shop: Shop, at: datetime, life_s: float) -> dict[str, Any]:
    token = f"shpat_{secrets.token_hex(16)}"
    shop.oauth.access_tokens[token] = at + timedelta(seconds=life_s)
    return {"access_token": token, "expires_in": life_s, "scope": ",".join(shop.scopes)}


def _use(shop: Shop, name: str, at: datetime) -> None:
    """Take a refresh token; the one it replaced ends here, and so does a used one where only one use is allowed."""
    tokens = shop.oauth.refresh_tokens
    found = tokens.get(name)
    if found is None or found.expires_at <= at or (found.used and shop.settings.refresh_once):
        raise RefusedGrant("invalid_grant")
    found.used = True
    tokens.pop(found.replaces, None)
    if shop.settings.refresh_revokes:
        shop.oauth.access_tokens.clear()
