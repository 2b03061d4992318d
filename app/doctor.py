"""Looks at an installation as a worker would find it, and says of each thing what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from sqlalchemy import text

from app.adapters.shopify.scopes import missing
from app.connecting import examine_subscriptions
from app.consumers import foreign_consumers
from app.db import migrate
from app.db.shop_views import KnownShop, list_known
from app.db.unused_uploads import count_unused
from app.db.webhooks import count_left
from app.finding import Check
from app.server_checks import check_server, read_info
from pipeline import flow
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from app.core import Core

OLDEST_REDIS = (6, 2)
"""Older ones may work; nobody here tries."""


async def examine(core: Core) -> list[Check]:
    """Every check. A server that does not answer is one failure, not many."""
    checks = [_settings(core)]
    postgres = (_postgres, _schema, _merchants, _webhooks, _shops, _uploads)
    for server, looks in (("redis", (_redis, _queues, _consumers)), ("postgres", postgres)):
        try:
            for look in looks:
                checks += await look(core)
        except PipelineError as error:
            checks.append(Check("fail", server, f"{error}; check the address, the password and the network"))
    return checks


def _settings(core: Core) -> Check:
    if core.settings.secret_key is None:
        return Check("warn", "settings", "SECRET_KEY is not set: no shop's token can be stored or used")
    return Check("ok", "settings", "readable and coherent")


async def _redis(core: Core) -> list[Check]:
    before = core.clock.monotonic()
    fields = await read_info(core.connections.commands, "server")
    took_ms = (core.clock.monotonic() - before) * 1000
    if not fields:
        return [Check("ok", "redis", f"answers in {took_ms:.1f} ms, and does not say which it is")]
    name, version = (
        ("Valkey", fields["valkey_version"])
        if "valkey_version" in fields
        else ("Redis", fields.get("redis_version", "0"))
    )
    if _numbers(version) < OLDEST_REDIS:
        return [Check("warn", "redis", f"{name} {version} is older than any we test with: upgrade to 6.2 or later")]
    return [Check("ok", "redis", f"{name} {version}, answers in {took_ms:.1f} ms")]


async def _queues(core: Core) -> list[Check]:
    findings = await check_server(
        core.connections.commands, core.bull.keys, flow.NAMES, allow_eviction=core.settings.allow_eviction
    )
    levels: dict[str, Literal["warn", "fail"]] = {"refuse": "fail", "warn": "warn"}
    found = [Check(levels[finding.level], finding.what, finding.text) for finding in findings]
    return found or [Check("ok", "queues", "nothing we need is denied, nothing is evicted, no queue is BullMQ's")]


async def _consumers(core: Core) -> list[Check]:
    found = await foreign_consumers(core.connections.commands, core.settings.queue_prefix, flow.NAMES)
    advice = "its jobs would be run by other rules: stop that process from consuming (README, upstream)"
    return [Check("fail", "consumers", f"{who}; {advice}") for who in found] or [
        Check("ok", "consumers", "nobody else is seen to take our jobs")
    ]


async def _postgres(core: Core) -> list[Check]:
    async with core.database.transaction() as connection:
        version = await connection.scalar(text("SHOW server_version"))
    return [Check("ok", "postgres", f"PostgreSQL {version}")]


async def _schema(core: Core) -> list[Check]:
    revision, head = await migrate.current(core.database), migrate.head()
    if revision is None:
        return [Check("fail", "schema", "there are no tables yet: run `python -m app migrate`")]
    if revision < migrate.OLDEST_ACCEPTED:
        return [Check("fail", "schema", f"at revision {revision}: run `python -m app migrate`")]
    if revision < head:
        return [Check("warn", "schema", f"at revision {revision}, newest is {head}: run `python -m app migrate`")]
    return [Check("ok", "schema", f"at revision {revision}")]


async def _merchants(core: Core) -> list[Check]:
    if await migrate.current(core.database) is None:
        return []
    known = await core.merchants.list_all()
    if not known:
        return [Check("warn", "merchants", "there are none: every order would fail; `python -m app merchants add`")]
    return [Check("ok", "merchants", f"{len(known)} known"), *await examine_subscriptions(core, known)]


async def _webhooks(core: Core) -> list[Check]:
    """What Shopify told us and nobody has done."""
    if (await migrate.current(core.database) or "") < migrate.OLDEST_ACCEPTED:
        return []
    async with core.database.transaction() as connection:
        left = await count_left(connection)
    return [Check("warn", "webhooks", f"{count} of {why}") for why, count in left.items()]


async def _shops(core: Core) -> list[Check]:
    """Each connected shop, as it last described itself to a worker."""
    if (await migrate.current(core.database) or "") < migrate.OLDEST_ACCEPTED:
        return []
    return [check for shop in await list_known(core.database) for check in shop_checks(shop)]


def shop_checks(shop: KnownShop) -> list[Check]:
    """What is wrong with one shop: held up, another version than was asked for, scopes that are missing."""
    name, checks = shop.shop_domain, []
    if shop.parked_reason:
        advice = f"put it right, then `python -m app merchants unpark {shop.merchant_id}`"
        checks.append(Check("fail", "shop", f"{name} is parked: {shop.parked_reason}; {advice}"))
    elif shop.tripped_reason:
        checks.append(Check("warn", "shop", f"{name} fails and is left alone for a while: {shop.tripped_reason}"))
    if shop.version_served != shop.version_asked:
        asked = f"was asked for version {shop.version_asked} and served {shop.version_served}"
        advice = "that one has expired, or is not out yet: set SHOPIFY_API_VERSION"
        checks.append(Check("warn", "shop", f"{name} {asked}; {advice}"))
    lacks = missing(shop.scopes) if shop.scopes_at else []
    checks += [Check(one.level, "shop", f"{name} lacks scope {one}") for one in lacks]
    if not shop.scopes_at:
        checks.append(
            Check("ok", "shop", f"{name} has not been asked for its scopes yet; a worker does when it starts")
        )
    return checks or [Check("ok", "shop", f"{name} answers, grants every scope we use")]


async def _uploads(core: Core) -> list[Check]:
    if await migrate.current(core.database) is None:
        return []
    unused = await count_unused(core.database)
    if unused == 0:
        return [Check("ok", "pictures", "no uploaded file lies unused in a shop")]
    words = f"{unused} uploaded in the last day and never attached: the shops delete them by themselves"
    return [Check("ok", "pictures", words)]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
