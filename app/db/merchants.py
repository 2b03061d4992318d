"""Merchants as rows: who they are, where their shop is, and the rules they chose."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from sqlalchemy import RowMapping, case, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from app.db.errors import RefusedError
from app.db.grants import Access, Grants, forget
from app.db.session import Database
from app.db.tables import merchants
from pipeline.domain.merchant import Merchant, MerchantSettings

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

LIST_MAX = 1000

_HOST = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+")
_COLUMNS = tuple(merchants.c[name] for name in ("id", "name", "shop_domain", "settings", "settings_version"))


class MerchantError(RefusedError):
    """A merchant cannot be stored or read as asked; the message is for the operator."""


class UnknownMerchantError(MerchantError):
    """There is no merchant of that id."""


class Merchants:
    """The table `merchants`. What opens a merchant's shop is kept by `Grants`."""

    def __init__(self, database: Database, grants: Grants) -> None:
        self._database = database
        self._grants = grants

    async def add(self, merchant: Merchant, *, endpoint: str = "", access: Access | None = None) -> Merchant:
        """Store a merchant, or change the one of that id; the row as it now stands.

        `endpoint` is the shop's full GraphQL address, empty for Shopify's own. Without `access` the stored one
        stays, unless the shop is another one now: a secret is never sent to an address it was not given for.
        """
        if not _HOST.fullmatch(merchant.shop_domain):
            raise MerchantError(f"{merchant.shop_domain!r} is not a shop's domain, like acme.myshopify.com")
        given = insert(merchants).values(
            id=merchant.id,
            name=merchant.name,
            shop_domain=merchant.shop_domain,
            settings=merchant.settings.model_dump(mode="json"),
            shop_endpoint=endpoint,
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
            },
        ).returning(*_COLUMNS)
        try:
            async with self._database.transaction() as connection:
                before = await _shop_of(connection, merchant.id)
                row = (await connection.execute(upsert)).mappings().one()
                if access is not None:
                    await self._grants.connect(connection, merchant.id, access)
                elif before is not None and before != (merchant.shop_domain, endpoint):
                    await forget(connection, merchant.id)
                return _merchant(row)
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


async def _shop_of(connection: AsyncConnection, merchant_id: str) -> tuple[str, str] | None:
    """The shop a merchant had until now; locked, so that two changes do not each see the other's address."""
    found = await connection.execute(
        select(merchants.c.shop_domain, merchants.c.shop_endpoint)
        .where(merchants.c.id == merchant_id)
        .with_for_update()
    )
    row = found.one_or_none()
    return None if row is None else (row.shop_domain, row.shop_endpoint)


def _merchant(row: RowMapping) -> Merchant:
    values: dict[str, Any] = dict(row)
    try:
        settings = MerchantSettings.model_validate(values.pop("settings"))
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, problem["loc"])) for problem in error.errors())
        raise MerchantError(f"the settings of merchant {row['id']} cannot be used: {fields}") from None
    return Merchant(settings=settings, **values)
