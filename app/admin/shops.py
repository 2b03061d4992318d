"""What a person may say about a shop: that it is put right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter

from app.admin.orders import By
from app.db import views
from app.db.errors import ConflictError, NotFoundError
from app.letting_go import let_go

if TYPE_CHECKING:
    from app.admin.deps import AdminDeps
    from app.admin.events import Feed


def shops_router(deps: AdminDeps, feed: Feed) -> APIRouter:
    """/api/merchants/{merchant}/unpark."""
    router = APIRouter(prefix="/api/merchants", tags=["shops"])

    @router.post("/{merchant}/unpark")
    async def unpark(merchant: str, by: By) -> dict[str, Any]:
        """The shop is put right: it is called again, and its runs go on at once."""
        if not await let_go(deps.shop_limits, deps.database, deps.bull, merchant, by.who):
            if merchant not in {row.id for row in await views.list_merchants(deps.database)}:
                raise NotFoundError(f"there is no merchant {merchant}")
            raise ConflictError(f"nothing holds the runs of {merchant} up")
        await feed.tell_totals()
        return {"success": True, "message": f"the shop of {merchant} is called again, and its runs go on"}

    return router
