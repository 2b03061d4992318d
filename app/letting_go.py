"""A shop is put right: it is called again, and its runs need not wait until they ask by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.db.shop_views import list_waiting
from app.enqueue import try_promote

if TYPE_CHECKING:
    from app.db.session import Database
    from app.db.shop_limits import PostgresShopLimits
    from pipeline.queue.bull import Bull


async def let_go(shop_limits: PostgresShopLimits, database: Database, bull: Bull, merchant_id: str, who: str) -> bool:
    """`who` says that the shop is put right. False if nothing held its runs up."""
    freed = await shop_limits.unpark(merchant_id, who)
    if freed:
        await go_on(database, bull, merchant_id)
    return freed


async def go_on(database: Database, bull: Bull, merchant_id: str) -> None:
    """Let those runs go whose next stage calls the shop."""
    await try_promote(bull, await list_waiting(database, merchant_id))
