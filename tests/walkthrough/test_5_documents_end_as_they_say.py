"""Documents end as their contents say: under any name, altered, all at once, and a second copy has no effect."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from app.core import Core, open_core
from app.db import order_view, views
from samples import make
from tests.shop import connect_merchant, settings_for, settled, shop_state, submit, working


def _altered(sample: make.Sample) -> make.Sample:
    """The same layout with other numbers, another supplier and other quantities: nothing a table of answers knows."""
    paper = sample.paper
    items = tuple(replace(item, quantity=item.quantity + 3) for item in paper.items)
    changed = replace(paper, number=f"{paper.number}7", supplier=f"Old {paper.supplier}", items=items)
    return replace(sample, paper=changed)


@pytest.mark.parametrize("alter", [lambda sample: sample, _altered], ids=["as they are", "altered"])
async def test_every_sample_ends_as_its_truth_says_under_a_name_that_tells_nothing(
    alter: Any, redis_url: str, database_url: str, sandbox: str
) -> None:
    settings = settings_for(redis_url, database_url, sandbox)
    samples = [alter(sample) for sample in make.SAMPLES]
    async with open_core(settings) as core:
        await connect_merchant(core, sandbox, names=("Harbor & Pine", "Harbor & Pine LLC"))
        for number, sample in enumerate(samples):
            await submit(core, f"scan{number:03}.bin", sample.content())
        async with working(settings):
            rows = {row.document: row for row in await settled(core, len(samples))}
        for number, sample in enumerate(samples):
            row = rows[f"scan{number:03}.bin"]
            assert await _account(core, row, sample.truth()) == _expected(sample.truth()), sample.file
    state = await shop_state(sandbox)
    assert all(
        variant["quantities"]["available"] == 0 for product in state["products"] for variant in product["variants"]
    )
    assert {product["status"] for product in state["products"]} == {"DRAFT"}


async def test_a_second_copy_of_a_document_has_no_effect_whatever_it_is_called(
    redis_url: str, database_url: str, sandbox: str
) -> None:
    settings = settings_for(redis_url, database_url, sandbox)
    content = make.SAMPLES[0].content()
    async with open_core(settings) as core:
        await connect_merchant(core, sandbox)
        async with working(settings):
            await submit(core, "order.csv", content)
            await settled(core, 1)
            before = await shop_state(sandbox)
            await submit(core, "a copy, renamed.txt", content)
            rows = await settled(core, 2)
        copy = next(row for row in rows if row.document != "order.csv")
        assert (copy.state, [doubt.code for doubt in copy.review]) == ("needs_review", ["duplicate_document"])
        after = await shop_state(sandbox)
    assert after["products"] == before["products"]


async def _account(core: Core, row: views.RunRow, truth: dict[str, Any]) -> dict[str, Any]:
    """What became of a document, in the words of a truth file."""
    view = await order_view.find_run(core.database, row.run_id)
    assert view is not None
    moved = [variant for variant in view.variants if variant.announced]
    reasons = {doubt.code for doubt in row.review}
    return {
        "outcome": row.state,
        "reason": truth["reason"] if truth["reason"] in reasons else next(iter(reasons), None),
        "units": {variant.sku: variant.announced for variant in moved},
        "products": len({variant.product_id for variant in moved}),
    }


def _expected(truth: dict[str, Any]) -> dict[str, Any]:
    return {name: truth[name] for name in ("outcome", "reason", "units", "products")}
