"""Choosing: a person says what a draft is in the shop, where we could not tell or what it was is gone.

The word begins the draft anew (`choices` grows): its place is forgotten, it gets another custom id, and what the ledger
knows of the old one answers no more. The next entry of the run takes it up.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update

from app.db.errors import ConflictError, InvalidError, NotFoundError
from app.db.journal import restore
from app.db.tables import draft_variants, order_variants, product_drafts, stage_runs
from pipeline import flow
from pipeline.domain.results import ShopSync
from pipeline.ports import NEW_PRODUCT

if TYPE_CHECKING:
    from sqlalchemy import RowMapping
    from sqlalchemy.ext.asyncio import AsyncConnection

_PRODUCT = re.compile(r"(?:gid://shopify/Product/|https://\S+/products/)?(\d+)/?")


async def choose(connection: AsyncConnection, run: RowMapping, name: str, choice: str) -> dict[str, Any]:
    """Write down what the draft is: NEW_PRODUCT, or a product by its id or admin address. Returns what was chosen.

    `name` is the draft's id, a SKU of it, or its title. Refuses for a product that is in the shop and in order: its
    place is known, and taking it away would make a second one.
    """
    choice = _choice(choice)
    draft = await _draft(connection, run, name)
    if draft["product_id"] and draft["id"] not in await _failed(connection, run["id"]):
        raise ConflictError(f"“{draft['title']}” is in the shop already ({draft['product_id']}): nothing to choose")
    await connection.execute(
        update(product_drafts)
        .where(product_drafts.c.id == draft["id"])
        .values(choice=choice, choices=product_drafts.c.choices + 1, product_id="", matched_by="")
    )
    await connection.execute(
        update(draft_variants)
        .where(draft_variants.c.draft_id == draft["id"])
        .values(variant_id="", inventory_item_id="")
    )
    return {"draft_id": draft["id"], "title": draft["title"], "choice": choice, "was": draft["product_id"]}


def _choice(text: str) -> str:
    if text.strip().lower() == NEW_PRODUCT:
        return NEW_PRODUCT
    found = _PRODUCT.fullmatch(text.strip())
    if found is None:
        raise InvalidError(f"{text} is no product: give its number, its address in the admin, or `{NEW_PRODUCT}`")
    return f"gid://shopify/Product/{found[1]}"


async def _draft(connection: AsyncConnection, run: RowMapping, name: str) -> RowMapping:
    """The draft of this run's order that is meant."""
    named = (product_drafts.c.id == name) | (draft_variants.c.sku == name) | (product_drafts.c.title == name)
    of_order = select(order_variants.c.draft_variant_id).where(order_variants.c.order_id == run["order_id"])
    found = await connection.execute(
        select(product_drafts.c.id, product_drafts.c.title, product_drafts.c.product_id)
        .join(draft_variants, draft_variants.c.draft_id == product_drafts.c.id)
        .where(draft_variants.c.id.in_(of_order), named)
        .distinct()
        .limit(2)
    )
    drafts = found.mappings().all()
    if len(drafts) != 1:
        how_many = "several products" if drafts else "no product"
        raise NotFoundError(
            f"this order has {how_many} called {name}: give the draft's id, one of its SKUs or its title"
        )
    await connection.execute(
        select(product_drafts.c.id).where(product_drafts.c.id == drafts[0]["id"]).with_for_update()
    )
    return drafts[0]


async def _failed(connection: AsyncConnection, run_id: str) -> set[str]:
    """The drafts the run's latest pass could not bring into the shop."""
    found = await connection.execute(
        select(stage_runs.c.output_type, stage_runs.c.output)
        .where(stage_runs.c.run_id == run_id, stage_runs.c.stage == flow.SYNC, stage_runs.c.state == "finished")
        .order_by(stage_runs.c.entry.desc())
        .limit(1)
    )
    row = found.one_or_none()
    output = restore(*row) if row else None
    return {one.draft_id for one in output.failures} if isinstance(output, ShopSync) else set()
