"""Merchants as rows: who they are, the rules they chose, and what opens their shop."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from sqlalchemy import RowMapping, case, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from app.adapters.secrets import Seal, SealError
from app.adapters.shopify.client import ShopCredentials
from app.db.errors import RefusedError
from app.db.session import Database
from app.db.tables import merchants
from pipeline.contract import Reject
from pipeline.domain.merchant import Merchant, MerchantSettings

LIST_MAX = 1000

_HOST = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+")
_COLUMNS = tuple(merchants.c[name] for name in ("id", "name", "shop_domain", "settings", "settings_version"))


class MerchantError(RefusedError):
    """A merchant cannot be stored or read as asked; the message is for the operator."""


class UnknownMerchantError(MerchantError):
    """There is no merchant of that id."""


class Merchants:
    """The table `merchants`. Tokens are sealed on the way in and opened for a shop call only."""

    def __init__(self, database: Database, seal: Seal | None, *, api_version: str) -> None:
        self._database = database
        self._seal = seal
        self._api_version = api_version

    async def add(self, merchant: Merchant, *, endpoint: str = "", token: str | None = None) -> Merchant:
        """Store a merchant, or change the one of that id; the row as it now stands.

        `endpoint` is the shop's full GraphQL address, empty for Shopify's own. Without a `token` the stored
        one stays, unless the shop is another one now: a token is never sent to an address it was not given for.
        """
        if not _HOST.fullmatch(merchant.shop_domain):
            raise MerchantError(f"{merchant.shop_domain!r} is not a shop's domain, like acme.myshopify.com")
        given = insert(merchants).values(
            id=merchant.id,
            name=merchant.name,
            shop_domain=merchant.shop_domain,
            settings=merchant.settings.model_dump(mode="json"),
            shop_endpoint=endpoint,
            shop_token_sealed=None if token is None else self._sealed(token, merchant.id),
        )
        same_shop = (merchants.c.shop_domain == given.excluded.shop_domain) & (
            merchants.c.shop_endpoint == given.excluded.shop_endpoint
        )
        changed = merchants.c.settings != given.excluded.settings
        upsert = given.on_conflict_do_update(
            index_elements=[merchants.c.id],
            set_={
                "name": given.excluded.name,
                "shop_domain": given.excluded.shop_domain,
                "shop_endpoint": given.excluded.shop_endpoint,
                "settings": given.excluded.settings,
                "settings_version": case(
                    (changed, merchants.c.settings_version + 1), else_=merchants.c.settings_version
                ),
                "shop_token_sealed": func.coalesce(
                    given.excluded.shop_token_sealed, case((same_shop, merchants.c.shop_token_sealed), else_=None)
                ),
            },
        ).returning(*_COLUMNS)
        try:
            async with self._database.transaction() as connection:
                return _merchant((await connection.execute(upsert)).mappings().one())
        except IntegrityError:
            raise MerchantError(f"the shop {merchant.shop_domain} belongs to another merchant") from None

    async def get(self, merchant_id: str) -> Merchant:
        """The merchant of that id. Raises UnknownMerchantError."""
        async with self._database.transaction() as connection:
            found = await connection.execute(select(*_COLUMNS).where(merchants.c.id == merchant_id))
            row = found.mappings().one_or_none()
        if row is None:
            raise UnknownMerchantError(f"there is no merchant {merchant_id!r}")
        return _merchant(row)

    async def list_all(self) -> Sequence[Merchant]:
        """The merchants by name, at most LIST_MAX."""
        async with self._database.transaction() as connection:
            found = await connection.execute(
                select(*_COLUMNS).order_by(merchants.c.name, merchants.c.id).limit(LIST_MAX)
            )
            return [_merchant(row) for row in found.mappings()]

    async def credentials(self, merchant: Merchant) -> ShopCredentials | None:
        """Where the merchant's shop is and what opens it; None when no token is stored.

        Raises Reject("shop_token_locked") when the token cannot be opened: a person must set SECRET_KEY right,
        or give the token again.
        """
        columns = (merchants.c.shop_domain, merchants.c.shop_endpoint, merchants.c.shop_token_sealed)
        async with self._database.transaction() as connection:
            found = await connection.execute(select(*columns).where(merchants.c.id == merchant.id))
            row = found.mappings().one_or_none()
        if row is None or row["shop_token_sealed"] is None:
            return None
        return ShopCredentials(
            endpoint=row["shop_endpoint"] or f"https://{row['shop_domain']}/admin/api/{self._api_version}/graphql.json",
            token=self._opened(row["shop_token_sealed"], merchant),
        )

    async def reseal(self) -> int:
        """Seal every token anew with the first key, so that the older keys may leave SECRET_KEY; how many there are.

        Raises SealError, changing nothing, when one cannot be opened.
        """
        if self._seal is None:
            raise MerchantError("there is no key to seal with: set SECRET_KEY")
        columns = (merchants.c.id, merchants.c.shop_token_sealed)
        async with self._database.transaction() as connection:
            # Locked: a token given meanwhile must not be overwritten by the one it replaces.
            held = await connection.execute(
                select(*columns).where(merchants.c.shop_token_sealed.is_not(None)).with_for_update()
            )
            rows = held.all()
            for merchant_id, sealed in rows:
                token = self._seal.open(sealed, owner=merchant_id)
                anew = self._seal.seal(token, owner=merchant_id)
                await connection.execute(
                    update(merchants).where(merchants.c.id == merchant_id).values(shop_token_sealed=anew)
                )
        return len(rows)

    def _sealed(self, token: str, merchant_id: str) -> bytes:
        if self._seal is None:
            raise MerchantError("a shop's token is stored sealed only: set SECRET_KEY")
        if not token.strip():
            raise MerchantError("the shop's token is empty")
        return self._seal.seal(token.strip(), owner=merchant_id)

    def _opened(self, sealed: bytes, merchant: Merchant) -> str:
        why = "SECRET_KEY is not set"
        if self._seal is not None:
            try:
                return self._seal.open(sealed, owner=merchant.id)
            except SealError as error:
                why = str(error)
        raise Reject("shop_token_locked", f"The access token of {merchant.shop_domain} cannot be opened: {why}.")


def _merchant(row: RowMapping) -> Merchant:
    values: dict[str, Any] = dict(row)
    try:
        settings = MerchantSettings.model_validate(values.pop("settings"))
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, problem["loc"])) for problem in error.errors())
        raise MerchantError(f"the settings of merchant {row['id']} cannot be used: {fields}") from None
    return Merchant(settings=settings, **values)
