"""What stages may ask about drafts and their pictures: the run's own view, with where things live in the shop."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.journal import earlier_outputs
from app.db.session import Database
from app.db.tables import draft_variants, images, product_drafts
from pipeline.domain.results import Draft, Drafts
from pipeline.ports import StoredDraft, StoredImage, StoredVariant


class PostgresDrafts:
    """Implements `DraftStore` of `pipeline.ports`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_run(self, run_id: str) -> Sequence[StoredDraft]:
        """The drafts this run's order touches, in line order."""
        async with self._database.transaction() as connection:
            drafts = await _drafts_of(connection, run_id)
            ids = [draft.id for draft in drafts]
            products = await connection.execute(
                select(product_drafts.c.id, product_drafts.c.product_id).where(product_drafts.c.id.in_(ids))
            )
            product_ids: dict[str, str] = {row.id: row.product_id for row in products}
            found = await connection.execute(select(draft_variants).where(draft_variants.c.draft_id.in_(ids)))
            variants: dict[str, list[StoredVariant]] = {}
            for row in found.mappings():
                stored = StoredVariant(row["id"], row["variant_key"], row["variant_id"], row["inventory_item_id"])
                variants.setdefault(row["draft_id"], []).append(stored)
        return [
            StoredDraft(draft, product_ids.get(draft.id, ""), tuple(variants.get(draft.id, ()))) for draft in drafts
        ]


class PostgresImages:
    """Implements `ImageStore` of `pipeline.ports`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_run(self, run_id: str) -> Sequence[StoredImage]:
        """This run's candidates that have no final state yet, by draft and position."""
        async with self._database.transaction() as connection:
            ids = [draft.id for draft in await _drafts_of(connection, run_id)]
            found = await connection.execute(
                select(
                    images.c.id,
                    images.c.draft_id,
                    product_drafts.c.product_id,
                    images.c.url,
                    images.c.position,
                    product_drafts.c.title.label("alt"),
                    images.c.state,
                )
                .join(product_drafts, product_drafts.c.id == images.c.draft_id)
                .where(images.c.draft_id.in_(ids), images.c.state == "candidate", product_drafts.c.product_id != "")
                .order_by(images.c.draft_id, images.c.position, images.c.id)
            )
            return [StoredImage(**row) for row in found.mappings()]


async def _drafts_of(connection: AsyncConnection, run_id: str) -> tuple[Draft, ...]:
    outputs = await earlier_outputs(connection, run_id, but="")
    for output in outputs.values():
        if isinstance(output, Drafts):
            return output.drafts
    return ()
