"""What stages may ask about drafts and their pictures: the run's own view, with where things live in the shop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.effects import PLACED, rivals
from app.db.journal import earlier_outputs
from app.db.session import Database
from app.db.tables import draft_variants, effects, images, product_drafts
from pipeline.domain.identifiers import gtin14, spellings
from pipeline.domain.results import Draft, Drafts
from pipeline.ports import SentFile, StoredDraft, StoredImage, StoredVariant


class PostgresDrafts:
    """Implements `DraftStore` of `pipeline.ports`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_run(self, run_id: str) -> Sequence[StoredDraft]:
        """The drafts this run's order touches, in line order."""
        async with self._database.transaction() as connection:
            drafts = await _drafts_of(connection, run_id)
            ids = [draft.id for draft in drafts]
            found = await connection.execute(
                select(
                    product_drafts.c.id,
                    product_drafts.c.product_id,
                    product_drafts.c.choice,
                    product_drafts.c.choices,
                ).where(product_drafts.c.id.in_(ids))
            )
            products = {row["id"]: row for row in found.mappings()}
            places = await connection.execute(select(draft_variants).where(draft_variants.c.draft_id.in_(ids)))
            variants: dict[str, list[StoredVariant]] = {}
            for row in places.mappings():
                stored = StoredVariant(row["id"], row["variant_key"], row["variant_id"], row["inventory_item_id"])
                variants.setdefault(row["draft_id"], []).append(stored)
            unplaced = [one for one in drafts if not products[one.id]["product_id"]]
            elsewhere = await _elsewhere(connection, run_id, unplaced)
            untried = await connection.execute(
                select(images.c.draft_id, func.count())
                .where(images.c.draft_id.in_(ids), images.c.state == "candidate")
                .group_by(images.c.draft_id)
            )
            pictures: dict[str, int] = dict(untried.all())
        return [
            StoredDraft(
                draft,
                products[draft.id]["product_id"],
                tuple(variants.get(draft.id, ())),
                products[draft.id]["choice"],
                products[draft.id]["choices"],
                elsewhere.get(draft.id, ()),
                pictures.get(draft.id, 0),
            )
            for draft in drafts
        ]


async def _elsewhere(connection: AsyncConnection, run_id: str, drafts: Sequence[Draft]) -> dict[str, tuple[str, ...]]:
    """Products of the same merchant's other drafts that hold one of these drafts' GTINs, by draft id.

    The shop would find them too, but only once its index has caught up with what we wrote. Nor is it waited for that
    another run records what it has created: it may have died, and then that stands in the ledger alone.
    """
    if not drafts:
        return {}
    mine, other = product_drafts.alias("mine"), product_drafts.alias("other")
    found: dict[str, set[str]] = {}
    for draft in drafts:
        gtins = {code for one in draft.variants if one.plan.gtin for code in spellings(one.plan.gtin)}
        if not gtins:
            continue
        recorded = (
            select(other.c.product_id)
            .join(draft_variants, draft_variants.c.draft_id == other.c.id)
            .join(mine, mine.c.merchant_id == other.c.merchant_id)
            .where(
                mine.c.id == draft.id,
                other.c.id != draft.id,
                other.c.product_id != "",
                draft_variants.c.gtin.in_(gtins),
                draft_variants.c.gtin != "",
                draft_variants.c.variant_id != "",
            )
        )
        confirmed = rivals(run_id, sorted({gtin14(one.plan.gtin) for one in draft.variants if one.plan.gtin}))
        placed = confirmed.with_only_columns(PLACED).where(PLACED.is_not(None))
        found[draft.id] = set((await connection.execute(recorded.union(placed))).scalars())
    return {name: tuple(sorted(products)) for name, products in found.items() if products}


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
                .where(
                    images.c.draft_id.in_(ids),
                    images.c.state == "candidate",
                    product_drafts.c.product_id != "",
                    product_drafts.c.matched_by == "",  # a product of the merchant's own keeps the pictures it has
                )
                .order_by(images.c.draft_id, images.c.position, images.c.id)
            )
            sent = await _sent(connection, run_id)
            return [StoredImage(**row, sent=sent.get(row["id"])) for row in found.mappings()]

    async def hung(self, merchant_id: str, product_ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """By product the phashes of all we ever hung there, for whichever order, also of what was taken down since."""
        async with self._database.transaction() as connection:
            found = await connection.execute(
                select(product_drafts.c.product_id, images.c.phash)
                .join(product_drafts, product_drafts.c.id == images.c.draft_id)
                .where(
                    product_drafts.c.merchant_id == merchant_id,
                    product_drafts.c.product_id.in_(product_ids),
                    images.c.state == "attached",
                    images.c.phash != "",
                )
                .order_by(images.c.id)
            )
            phashes: dict[str, list[str]] = {}
            for row in found:
                phashes.setdefault(row.product_id, []).append(row.phash)
            return phashes


async def _sent(connection: AsyncConnection, run_id: str) -> dict[str, SentFile]:
    """By picture the last file this run uploaded for it."""
    found = await connection.execute(
        select(effects.c.key, effects.c.parameters, effects.c.external)
        .where(effects.c.run_id == run_id, effects.c.key.like("upload:%"), effects.c.state == "confirmed")
        .order_by(effects.c.confirmed_at)
    )
    return {
        row.parameters["image_id"]: SentFile(
            key=row.key,
            at=datetime.fromisoformat(row.external["at"]),
            **{name: row.external[name] for name in ("sha256", "phash", "width", "height")},
        )
        for row in found
        if "at" in row.external  # others were refused, or nobody heard of them
    }


async def _drafts_of(connection: AsyncConnection, run_id: str) -> tuple[Draft, ...]:
    outputs = await earlier_outputs(connection, run_id, but="")
    for output in outputs.values():
        if isinstance(output, Drafts):
            return output.drafts
    return ()
