"""How each shop's access token is got again: sealed, and asked for by one replica at a time.

    static              a custom app's token; it does not expire, and nothing can renew it
    client_credentials  the merchant's own app: its id and secret are exchanged for a token of 24 hours
    offline             a public app: a token of 60 minutes, and a refresh token that is replaced with every use

The right to ask is a claim with a deadline in the row, never a transaction held open while Shopify is asked. Each
stored token raises `generation`, and every write names the generation it began with: an answer that comes after
another replica's is not stored. All instants are Postgres' own, so a worker whose clock is wrong renews in time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Row, and_, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from app.adapters.secrets import Purpose, Seal, SealError
from app.db.errors import RefusedError
from app.db.session import Database
from app.db.shop_limits import park, unpark
from app.db.tables import merchants, shop_grants, shop_states
from pipeline.contract import Reject

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

CLAIM = timedelta(seconds=60)
"""How long one replica has to get a token and store it: longer than the call's deadline and every try to store."""


@dataclass(frozen=True, slots=True)
class StaticToken:
    """A custom app's access token; its client secret, if we know it, proves the shop's webhooks."""

    token: str = field(repr=False)
    client_secret: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """The merchant's own app from the Dev Dashboard: tokens are asked for when they are needed."""

    client_id: str
    client_secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class OfflineToken:
    """A public app's expiring token, as Shopify answered when the merchant installed it.

    Without a client id of its own the app is the one of SHOPIFY_CLIENT_ID. `token` may be empty: one is asked for.
    """

    refresh_token: str = field(repr=False)
    token: str = field(default="", repr=False)
    expires_in_s: float = 0.0
    client_id: str = ""
    client_secret: str = field(default="", repr=False)


Access = StaticToken | ClientCredentials | OfflineToken


@dataclass(frozen=True, slots=True)
class AppClient:
    """The public app's own id and secrets; several while a secret is being changed, the first for asking."""

    client_id: str = ""
    client_secrets: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Held:
    """What opens a shop now. `left_s`: seconds until the token expires, None if it does not."""

    domain: str
    endpoint: str
    kind: str
    token: str | None = field(repr=False)
    left_s: float | None
    generation: int
    being_renewed: bool
    trouble: str


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to ask for the next token, and what to ask with; the newest refresh token first."""

    merchant_id: str
    generation: int
    by: str
    at: datetime
    kind: str
    client_id: str
    client_secret: str = field(repr=False)
    refresh_tokens: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class GrantState:
    """What a list of merchants shows; nothing in it opens anything. `trouble`: why the shop is parked."""

    merchant_id: str
    kind: str
    expires_at: datetime | None
    connected_at: datetime | None
    trouble: str


class GrantError(RefusedError):
    """A shop's access cannot be stored as given; the message is for the operator."""


class Grants:
    """The table `shop_grants`, and the access token beside it in `merchants`."""

    def __init__(self, database: Database, seal: Seal | None, app: AppClient | None = None) -> None:
        self._database = database
        self._seal = seal
        self._app = app or AppClient()

    # ------------------------------------------------------------------------------------- connecting

    async def connect(self, connection: AsyncConnection, merchant_id: str, access: Access) -> None:
        """Replace what opens the shop, in the transaction that stores its merchant; the shop is unparked."""
        values = dict.fromkeys(
            ("client_secret_sealed", "refresh_token_sealed", "spare_refresh_token_sealed", "expires_at")
        )
        values |= {"client_id": "", "trouble": "", "renewing_by": "", "renewing_until": None, "renewed_at": None}
        values |= dict(self._columns(merchant_id, access))
        token = None if isinstance(access, ClientCredentials) else access.token
        row = insert(shop_grants).values(merchant_id=merchant_id, **values)
        await connection.execute(
            row.on_conflict_do_update(
                index_elements=[shop_grants.c.merchant_id],
                set_={**values, "generation": shop_grants.c.generation + 1, "connected_at": func.now()},
            )
        )
        sealed = self._sealed(token, merchant_id, Purpose.ACCESS) if token else None
        await connection.execute(
            update(merchants).where(merchants.c.id == merchant_id).values(shop_token_sealed=sealed)
        )
        await unpark(connection, merchant_id)

    def _columns(self, merchant_id: str, access: Access) -> Iterator[tuple[str, Any]]:
        match access:
            case StaticToken():
                if not access.token.strip():
                    raise GrantError("the shop's token is empty")
                yield "kind", "static"
            case ClientCredentials():
                if not (access.client_id and access.client_secret):
                    raise GrantError("an app of the merchant's own needs both its client id and its client secret")
                yield "kind", "client_credentials"
            case OfflineToken():
                if not access.refresh_token:
                    raise GrantError("a token that expires needs its refresh token")
                if not (access.client_id or self._app.client_id):
                    raise GrantError("the app that may refresh the token is not known: set SHOPIFY_CLIENT_ID")
                yield "kind", "offline"
                yield "refresh_token_sealed", self._sealed(access.refresh_token, merchant_id, Purpose.REFRESH)
                yield "expires_at", func.now() + timedelta(seconds=access.expires_in_s)
        yield "client_id", "" if isinstance(access, StaticToken) else access.client_id
        if access.client_secret:
            yield "client_secret_sealed", self._sealed(access.client_secret, merchant_id, Purpose.CLIENT)

    # ------------------------------------------------------------------------------------- renewing

    async def held(self, merchant_id: str) -> Held | None:
        """What opens the shop now; None when no shop is connected.

        Raises Reject("shop_token_locked") when the token cannot be opened: a person must set SECRET_KEY right, or
        connect the shop again.
        """
        statement = select(
            merchants.c.shop_domain,
            merchants.c.shop_endpoint,
            merchants.c.shop_token_sealed,
            func.coalesce(shop_grants.c.kind, "static").label("kind"),
            func.extract("epoch", shop_grants.c.expires_at - func.now()).label("left_s"),
            func.coalesce(shop_grants.c.generation, 0).label("generation"),
            func.coalesce(shop_grants.c.renewing_until > func.now(), False).label("being_renewed"),
            func.coalesce(shop_grants.c.trouble, "").label("trouble"),
        )
        statement = statement.outerjoin(shop_grants, shop_grants.c.merchant_id == merchants.c.id)
        async with self._database.transaction() as connection:
            found = await connection.execute(statement.where(merchants.c.id == merchant_id))
            row = found.one_or_none()
        if row is None or (row.shop_token_sealed is None and row.kind == "static" and not row.trouble):
            return None
        sealed = row.shop_token_sealed
        return Held(
            domain=row.shop_domain,
            endpoint=row.shop_endpoint,
            kind=row.kind,
            token=None if sealed is None else self._opened(sealed, merchant_id, Purpose.ACCESS, row.shop_domain),
            left_s=None if row.left_s is None else float(row.left_s),
            generation=row.generation,
            being_renewed=row.being_renewed,
            trouble=row.trouble,
        )

    async def claim(self, merchant_id: str, generation: int, by: str) -> Claim | None:
        """The right to ask for the token after this generation; None if somebody has it, or has stored one."""
        free = or_(shop_grants.c.renewing_until.is_(None), shop_grants.c.renewing_until <= func.now())
        statement = (
            update(shop_grants)
            .where(_is(merchant_id, generation), shop_grants.c.trouble == "", free)
            .values(renewing_by=by, renewing_until=func.now() + CLAIM)
            .returning(*shop_grants.c, func.now().label("claimed_at"))
        )
        async with self._database.transaction() as connection:
            row = (await connection.execute(statement)).one_or_none()
        return None if row is None else self._claim(row, by)

    def _claim(self, row: Row[Any], by: str) -> Claim:
        own_secret = row.client_secret_sealed
        sealed = [token for token in (row.refresh_token_sealed, row.spare_refresh_token_sealed) if token is not None]
        owner = row.merchant_id
        return Claim(
            merchant_id=owner,
            generation=row.generation,
            by=by,
            at=row.claimed_at,
            kind=row.kind,
            client_id=row.client_id or self._app.client_id,
            client_secret=self._opened(own_secret, owner, Purpose.CLIENT, owner)
            if own_secret is not None
            else next(iter(self._app.client_secrets), ""),
            refresh_tokens=tuple(self._opened(token, owner, Purpose.REFRESH, owner) for token in sealed),
        )

    async def store(self, claim: Claim, token: str, *, expires_in_s: float, refreshed: tuple[str, str] | None) -> bool:
        """Keep the new token, and the refresh tokens (new, the one it was got with); False if another was first.

        The token's life is counted from the claim, which was before the question. Repeating this after a commit
        whose outcome is unknown is harmless.
        """
        values: dict[str, Any] = {
            "generation": claim.generation + 1,
            "expires_at": claim.at + timedelta(seconds=expires_in_s),
            "renewing_by": "",
            "renewing_until": None,
            "renewed_at": func.now(),
        }
        if refreshed is not None:
            new, used = refreshed
            values["refresh_token_sealed"] = self._sealed(new, claim.merchant_id, Purpose.REFRESH)
            values["spare_refresh_token_sealed"] = self._sealed(used, claim.merchant_id, Purpose.REFRESH)
        sealed = self._sealed(token, claim.merchant_id, Purpose.ACCESS)
        async with self._database.transaction() as connection:
            await _lock(connection, claim.merchant_id)
            ours = await connection.execute(
                update(shop_grants).where(_is(claim.merchant_id, claim.generation)).values(**values)
            )
            if ours.rowcount:
                mine = merchants.c.id == claim.merchant_id
                await connection.execute(update(merchants).where(mine).values(shop_token_sealed=sealed))
        return bool(ours.rowcount)

    async def give_back(self, claim: Claim, *, quiet: timedelta) -> None:
        """No answer came: the refresh token stays what it was, and nobody asks again for that long."""
        mine = and_(_is(claim.merchant_id, claim.generation), shop_grants.c.renewing_by == claim.by)
        async with self._database.transaction() as connection:
            await connection.execute(
                update(shop_grants).where(mine).values(renewing_by="", renewing_until=func.now() + quiet)
            )

    async def give_up(self, claim: Claim, reason: str) -> bool:
        """Shopify refused: the shop is parked, and no token is asked for until a person connects it again.

        False if another replica has stored a token meanwhile, which is why ours was refused.
        """
        async with self._database.transaction() as connection:
            ours = await connection.execute(
                update(shop_grants)
                .where(_is(claim.merchant_id, claim.generation))
                .values(trouble=reason, renewing_by="", renewing_until=None)
            )
            if ours.rowcount:
                await park(connection, claim.merchant_id, reason)
        return bool(ours.rowcount)

    async def list_quiet(self, quiet_for: timedelta) -> list[str]:
        """Merchants whose refresh token was last used that long ago."""
        last = func.coalesce(shop_grants.c.renewed_at, shop_grants.c.connected_at)
        statement = select(shop_grants.c.merchant_id).where(
            shop_grants.c.kind == "offline", shop_grants.c.trouble == "", last < func.now() - quiet_for
        )
        async with self._database.transaction() as connection:
            return list((await connection.execute(statement.order_by(last))).scalars())

    # ------------------------------------------------------------------------------------- webhooks

    async def webhook_secrets(self, shop_domain: str) -> tuple[str | None, tuple[str, ...]]:
        """The merchant of that shop, None if there is none, and the secrets that may have signed its webhooks.

        The shop's own app's, or the public app's; of the latter all, for Shopify signs with the oldest that is not
        revoked, and a change may take an hour to show.
        """
        statement = select(merchants.c.id, shop_grants.c.client_secret_sealed)
        statement = statement.outerjoin(shop_grants, shop_grants.c.merchant_id == merchants.c.id)
        async with self._database.transaction() as connection:
            row = (await connection.execute(statement.where(merchants.c.shop_domain == shop_domain))).one_or_none()
        if row is None:
            return None, self._app.client_secrets
        if row.client_secret_sealed is None:
            return row.id, self._app.client_secrets
        return row.id, (self._opened(row.client_secret_sealed, row.id, Purpose.CLIENT, shop_domain),)

    # ------------------------------------------------------------------------------------- the operator's

    async def states(self) -> dict[str, GrantState]:
        """Every connected shop's state, by merchant."""
        statement = select(
            merchants.c.id,
            func.coalesce(shop_grants.c.kind, "static"),
            shop_grants.c.expires_at,
            shop_grants.c.connected_at,
            func.coalesce(func.nullif(shop_grants.c.trouble, ""), shop_states.c.parked_reason, ""),
        )
        statement = statement.outerjoin(shop_grants, shop_grants.c.merchant_id == merchants.c.id)
        statement = statement.outerjoin(shop_states, shop_states.c.merchant_id == merchants.c.id)
        connected = or_(merchants.c.shop_token_sealed.is_not(None), shop_grants.c.merchant_id.is_not(None))
        async with self._database.transaction() as connection:
            return {row[0]: GrantState(*row) for row in await connection.execute(statement.where(connected))}

    async def reseal(self) -> int:
        """Seal every secret anew with the first key, so that the older keys may leave SECRET_KEY; how many there are.

        Raises SealError, changing nothing, when one cannot be opened.
        """
        if self._seal is None:
            raise GrantError("there is no key to seal with: set SECRET_KEY")
        columns = {
            merchants.c.shop_token_sealed: Purpose.ACCESS,
            shop_grants.c.client_secret_sealed: Purpose.CLIENT,
            shop_grants.c.refresh_token_sealed: Purpose.REFRESH,
            shop_grants.c.spare_refresh_token_sealed: Purpose.REFRESH,
        }
        count = 0
        async with self._database.transaction() as connection:
            for column, purpose in columns.items():
                [key] = column.table.primary_key.columns
                # Locked: a secret given meanwhile must not be overwritten by the one it replaces.
                held = await connection.execute(select(key, column).where(column.is_not(None)).with_for_update())
                for owner, sealed in held.all():
                    secret = self._seal.open(sealed, owner=owner, purpose=purpose)
                    anew = self._seal.seal(secret, owner=owner, purpose=purpose)
                    await connection.execute(update(column.table).where(key == owner).values({column: anew}))
                    count += 1
        return count

    # ------------------------------------------------------------------------------------- the pieces

    def _sealed(self, secret: str, merchant_id: str, purpose: Purpose) -> bytes:
        if self._seal is None:
            raise GrantError(f"a shop's {_name(purpose)} is stored sealed only: set SECRET_KEY")
        return self._seal.seal(secret.strip(), owner=merchant_id, purpose=purpose)

    def _opened(self, sealed: bytes, merchant_id: str, purpose: Purpose, whose: str) -> str:
        why = "SECRET_KEY is not set"
        if self._seal is not None:
            try:
                return self._seal.open(sealed, owner=merchant_id, purpose=purpose)
            except SealError as error:
                why = str(error)
        raise Reject("shop_token_locked", f"The {_name(purpose)} of {whose} cannot be opened: {why}.")


async def forget(connection: AsyncConnection, merchant_id: str) -> None:
    """Drop all that opens a merchant's shop."""
    await connection.execute(delete(shop_grants).where(shop_grants.c.merchant_id == merchant_id))
    await connection.execute(update(merchants).where(merchants.c.id == merchant_id).values(shop_token_sealed=None))


async def disconnect(connection: AsyncConnection, merchant_id: str, reason: str) -> None:
    """Forget every token of the shop and park it until a person connects it again.

    An app's own client secret stays: it proves the webhook that asks for the shop's data to be erased.
    """
    gone = {
        "refresh_token_sealed": None,
        "spare_refresh_token_sealed": None,
        "expires_at": None,
        "renewing_by": "",
        "renewing_until": None,
        "trouble": reason,
    }
    await _lock(connection, merchant_id)
    row = insert(shop_grants).values(merchant_id=merchant_id, kind="static", **gone)
    await connection.execute(
        row.on_conflict_do_update(
            index_elements=[shop_grants.c.merchant_id],
            set_={**gone, "generation": shop_grants.c.generation + 1},
        )
    )
    await connection.execute(update(merchants).where(merchants.c.id == merchant_id).values(shop_token_sealed=None))
    await park(connection, merchant_id, reason)


async def connected_since(connection: AsyncConnection, merchant_id: str, instant: datetime) -> bool:
    """Whether a person has connected the shop after that: what happened before it no longer matters."""
    found = await connection.scalar(
        select(shop_grants.c.merchant_id).where(
            shop_grants.c.merchant_id == merchant_id, shop_grants.c.connected_at > instant
        )
    )
    return found is not None


async def _lock(connection: AsyncConnection, merchant_id: str) -> None:
    """The merchant's row goes before its grant's, as in `Merchants.add`: two orders would be a deadlock."""
    mine = select(merchants.c.id).where(merchants.c.id == merchant_id).with_for_update(key_share=True)
    await connection.execute(mine)


def _name(purpose: Purpose) -> str:
    return "access token" if purpose is Purpose.ACCESS else str(purpose)


def _is(merchant_id: str, generation: int) -> ColumnElement[bool]:
    return and_(shop_grants.c.merchant_id == merchant_id, shop_grants.c.generation == generation)
