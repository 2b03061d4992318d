"""Files uploaded for pictures and never attached: a worker died in between, or the product was gone by then.

Nobody has to clean up: the shop throws a staged file away when its policy ends, 24 hours after a POST target like
ours was given out (a PUT target's is good for seven days). But they are counted, and shown with their pictures.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, exists, func, select

from app.db.session import Database
from app.db.tables import effects, images

KEPT_FOR = timedelta(hours=24)


async def count_unused(database: Database) -> int:
    """How many lie in shops' staging areas right now."""
    recent = effects.c.intended_at > func.now() - KEPT_FOR
    async with database.transaction() as connection:
        found = await connection.scalar(select(func.count()).select_from(effects, images).where(_unused(), recent))
        return int(found or 0)


def unused_of(run_ids: Select[Any]) -> Select[Any]:
    """By picture (`image_id`) how many were uploaded for nothing by any of those runs (`unused`)."""
    return (
        select(images.c.id.label("image_id"), func.count().label("unused"))
        .select_from(effects, images)
        .where(effects.c.run_id.in_(run_ids), _unused())
        .group_by(images.c.id)
    )


def _unused() -> ColumnElement[bool]:
    """An upload, arrived or unheard of, of a picture whose fate is known, that is not the file it hangs by.

    What the target refused never arrived.
    """
    hung = effects.alias()
    return and_(
        effects.c.key.like("upload:%"),
        ~effects.c.external.has_key("refused"),
        images.c.id == effects.c.parameters["image_id"].astext,
        images.c.state != "candidate",
        ~exists().where(
            hung.c.key == "image:" + images.c.id,
            hung.c.external["upload"].astext == effects.c.key,
        ),
    )
