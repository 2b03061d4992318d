"""What an order created in its shop, from the ledger: also where a run died before it was recorded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, func, select
from sqlalchemy.dialects.postgresql import distinct_on

from app.db.effects import PLACED
from app.db.journal import restore
from app.db.tables import (
    draft_variants,
    effects,
    images,
    order_variants,
    product_drafts,
    purchase_orders,
    runs,
    stage_runs,
)
from pipeline.domain.results import Draft, Drafts
from pipeline.domain.undo import Creation
from pipeline.shopkeeping.products import CREATE

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.db.session import Database

_PRODUCT, _VARIANTS = "product:", "variants:"


class PostgresCreations:
    """Implements `Creations` of `pipeline.ports`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_order(self, order_id: str) -> Sequence[Creation]:
        """The products the order created, by title."""
        async with self._database.transaction() as connection:
            found = await _effects(connection, order_id)
            made = [row for row in found if row["key"].startswith(_PRODUCT) and _created(row)]
            written = await _written(connection, order_id)
            ids = [row["parameters"]["draft_id"] for row in made]
            pictures = await _media(connection, ids)
            products = {row["parameters"]["draft_id"]: row["external"].get("product_id", "") for row in made}
            others = await _others(connection, order_id, products)
        added = _added(found)
        creations = []
        for row in made:
            draft_id = row["parameters"]["draft_id"]
            product_id = row["external"].get("product_id", "")
            places = {**added.get(product_id, {}), **row["external"].get("variants", {})}
            if draft_id in written:
                creations.append(
                    Creation(
                        draft_id=draft_id,
                        custom_id=row["key"].removeprefix(_PRODUCT).partition("/")[0],
                        product_id=product_id,
                        written=tuple(written[draft_id]),
                        variants={name: place[0] for name, place in places.items()},
                        media_ids=frozenset(pictures.get(draft_id, ())),
                        also_in=others.get(draft_id, ""),
                    )
                )
        return sorted(creations, key=lambda one: (one.title, one.draft_id))


def _created(row: Mapping[str, Any]) -> bool:
    """Made, or about to be; not refused, and not a product of the merchant's that was only linked."""
    by = row["external"].get("by", row["parameters"].get("by", CREATE))
    return by == CREATE and "refused" not in row["external"]


async def _effects(connection: AsyncConnection, order_id: str) -> list[dict[str, Any]]:
    """What the order's runs did to products, oldest first."""
    found = await connection.execute(
        select(effects.c.key, effects.c.parameters, effects.c.external)
        .join(runs, runs.c.id == effects.c.run_id)
        .where(
            runs.c.order_id == order_id,
            effects.c.key.startswith(_PRODUCT) | effects.c.key.startswith(_VARIANTS),
        )
        .order_by(effects.c.intended_at, effects.c.key)
    )
    return [dict(row) for row in found.mappings()]


def _added(found: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[str]]]:
    """Variants the order added after creating, by product. Those of others on the same product are not ours."""
    added: defaultdict[str, dict[str, list[str]]] = defaultdict(dict)
    for row in found:
        if row["key"].startswith(_VARIANTS):
            ours = set(row["parameters"].get("draft_variant_ids", ()))
            places = row["external"].get("variants", {})
            added[row["parameters"]["product_id"]] |= {name: one for name, one in places.items() if name in ours}
    return added


async def _written(connection: AsyncConnection, order_id: str) -> dict[str, list[Draft]]:
    """Each draft as every run of the order had it, oldest first."""
    found = await connection.execute(
        select(stage_runs.c.output_type, stage_runs.c.output)
        .ext(distinct_on(runs.c.created_at, runs.c.id))
        .join(runs, runs.c.id == stage_runs.c.run_id)
        .where(
            runs.c.order_id == order_id,
            stage_runs.c.state == "finished",
            stage_runs.c.output_type == Drafts.__name__,
        )
        .order_by(runs.c.created_at, runs.c.id, stage_runs.c.entry.desc())
    )
    written: defaultdict[str, list[Draft]] = defaultdict(list)
    for kind, content in found:
        output = restore(kind, content)
        if isinstance(output, Drafts):
            for draft in output.drafts:
                written[draft.id].append(draft)
    return written


async def _media(connection: AsyncConnection, draft_ids: Sequence[str]) -> dict[str, list[str]]:
    found = await connection.execute(
        select(images.c.draft_id, images.c.media_id).where(images.c.draft_id.in_(draft_ids), images.c.media_id != "")
    )
    media: defaultdict[str, list[str]] = defaultdict(list)
    for draft_id, media_id in found:
        media[draft_id].append(media_id)
    return media


async def _others(connection: AsyncConnection, order_id: str, products: Mapping[str, str]) -> dict[str, str]:
    """Another order, not cancelled, that counts on each of these products (by draft id); by its number.

    By the draft they share, or by the product: another supplier's order came to it by GTIN, under a draft of its own,
    and may have said so in the ledger only.
    """
    mine = purchase_orders.alias("mine")
    is_another = and_(mine.c.id == order_id, purchase_orders.c.id != order_id, purchase_orders.c.state != "cancelled")
    number = func.min(func.coalesce(purchase_orders.c.number, purchase_orders.c.id))
    others = (
        select(product_drafts.c.id, product_drafts.c.product_id, number)
        .join(draft_variants, draft_variants.c.draft_id == product_drafts.c.id)
        .join(order_variants, order_variants.c.draft_variant_id == draft_variants.c.id)
        .join(purchase_orders, purchase_orders.c.id == order_variants.c.order_id)
        .join(mine, mine.c.merchant_id == purchase_orders.c.merchant_id)
        .where(is_another)
    )
    known = [name for name in products.values() if name]
    recorded = await connection.execute(
        others.where(product_drafts.c.id.in_(products) | product_drafts.c.product_id.in_(known)).group_by(
            product_drafts.c.id, product_drafts.c.product_id
        )
    )
    told = await connection.execute(
        select(PLACED, number)
        .join(runs, runs.c.id == effects.c.run_id)
        .join(purchase_orders, purchase_orders.c.id == runs.c.order_id)
        .join(mine, mine.c.merchant_id == purchase_orders.c.merchant_id)
        .where(is_another, effects.c.key.startswith(_PRODUCT), PLACED.in_(known))
        .group_by(PLACED)
    )
    by_name = {name: other for draft_id, product_id, other in recorded for name in (draft_id, product_id) if name}
    by_name |= dict(told.all())
    named = {draft_id: by_name.get(draft_id, by_name.get(name)) for draft_id, name in products.items()}
    return {draft_id: other or "without a number" for draft_id, other in named.items() if other is not None}
