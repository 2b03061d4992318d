"""Stages 3 to 7: each asks one rule and hands on what it says."""

from __future__ import annotations

from decimal import Decimal

import pytest

from pipeline.contract import Reject
from pipeline.domain.results import (
    Drafts,
    EnrichedLine,
    Enrichment,
    NormalizedOrder,
    PricedLine,
    PricedOrder,
    ProductPlan,
)
from pipeline.errors import LeaseLost
from pipeline.ports import SupplierItem
from pipeline.stages.ai_enrichment import AiEnrichment
from pipeline.stages.data_normalization import DataNormalization
from pipeline.stages.merchant_config import MerchantConfig
from pipeline.stages.product_draft_creation import ProductDraftCreation
from pipeline.stages.shopify_payload import ShopifyPayload
from tests.pipeline.domain.printed import goods, line, merchant, saved
from tests.pipeline.stages.given import Known, Sayings, done, given

NORMALIZED = NormalizedOrder(currency="USD", lines=(goods(1), goods(2)))
PRICED = PricedOrder(
    currency="USD",
    lines=tuple(
        PricedLine(position=at, unit_cost=Decimal("4.50"), price=Decimal("9.99"), price_rule="a rule") for at in (1, 2)
    ),
)


async def test_normalization_takes_the_shops_currency_where_none_is_printed() -> None:
    found = done(await DataNormalization().run(given(saved(line(), currency=""), of=merchant(currency="EUR"))))
    assert (found.currency, [one.sku for one in found.lines]) == ("EUR", ["MUG-1"])


async def test_the_merchants_own_rules_make_the_price() -> None:
    found = done(await MerchantConfig().run(given(NORMALIZED, of=merchant(markup=Decimal(3), rounding="x.95"))))
    assert [one.price for one in found.lines] == [Decimal("13.95")] * 2


async def test_words_are_left_alone_unless_the_merchant_asks_and_that_is_said() -> None:
    model = Sayings()
    off = done(await AiEnrichment(model).run(given(NORMALIZED, PRICED)))
    keyless = done(
        await AiEnrichment(Sayings(configured=False)).run(given(NORMALIZED, PRICED, of=merchant(enrich=True)))
    )
    empty = NormalizedOrder(currency="USD", lines=())
    nothing = done(await AiEnrichment(model).run(given(empty, PRICED, of=merchant(enrich=True))))
    assert [one.skipped for one in (off, keyless, nothing)] == [
        "switched off in the merchant's settings",
        "switched on, but no model's key is set",
        "no goods to describe",
    ]
    assert model.asked == []


async def test_a_models_words_are_taken_without_its_numbers() -> None:
    said = [EnrichedLine(position=1, title="Stoneware Mug 1"), EnrichedLine(position=2, title="Mug No. 7")]
    found = done(await AiEnrichment(Sayings(words=said)).run(given(NORMALIZED, PRICED, of=merchant(enrich=True))))
    assert ([one.title for one in found.lines], found.model) == (["Stoneware Mug 1", ""], "a-model")


async def test_no_words_are_bought_once_the_job_belongs_to_another() -> None:
    model = Sayings()
    with pytest.raises(LeaseLost):
        await AiEnrichment(model).run(given(NORMALIZED, PRICED, of=merchant(enrich=True), lost=True))
    assert model.asked == []


ENRICHED = Enrichment(lines=(EnrichedLine(position=2, title="Glazed Mug 2"),))


async def test_lines_become_products_under_the_suppliers_name() -> None:
    plan = done(await ShopifyPayload(Known()).run(given(saved(), NORMALIZED, PRICED, ENRICHED)))
    assert [(one.product_key, one.title, one.vendor) for one in plan.products] == [
        ("sku:mug-1", "Mug 1", "Acme Pottery Ltd"),
        ("sku:mug-2", "Glazed Mug 2", "Acme Pottery Ltd"),
    ]


async def test_a_remembered_article_keeps_its_keys() -> None:
    item = SupplierItem("MUG-1", "", "d", "v", "style:mug", "color=blue", None, None, "USD")
    plan = done(await ShopifyPayload(Known(remembered=[item])).run(given(saved(), NORMALIZED, PRICED, ENRICHED)))
    assert (plan.products[0].product_key, plan.products[0].variants[0].variant_key) == ("style:mug", "color=blue")


async def test_a_supplier_not_yet_stored_has_nothing_to_remember() -> None:
    item = SupplierItem("MUG-1", "", "d", "v", "style:mug", "color=blue", None, None, "USD")
    known = Known(remembered=[item])
    plan = done(await ShopifyPayload(known).run(given(saved(), NORMALIZED, PRICED, ENRICHED, supplier_id=None)))
    assert plan.products[0].product_key == "sku:mug-1"


async def test_two_orders_for_one_article_make_one_draft() -> None:
    plan = done(await ShopifyPayload(Known()).run(given(saved(), NORMALIZED, PRICED, ENRICHED)))
    first: Drafts = done(await ProductDraftCreation().run(given(plan)))
    again = ProductPlan(products=plan.products[::-1])
    second: Drafts = done(await ProductDraftCreation().run(given(again, id="run-2", order_id="another")))
    assert {draft.id for draft in first.drafts} == {draft.id for draft in second.drafts}
    assert [draft.plan for draft in first.drafts] == list(plan.products)


async def test_a_draft_without_a_supplier_is_our_own_fault_and_says_so() -> None:
    with pytest.raises(Reject, match="without a supplier"):
        await ProductDraftCreation().run(given(ProductPlan(products=()), supplier_id=None))
