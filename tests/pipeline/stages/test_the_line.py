"""An order's way through the stages before the shop, in memory: what one stage says the next one reads."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from pipeline.contract import Done, Review, Run, StageInput
from pipeline.domain.merchant import Merchant, Rounding
from pipeline.domain.purchase_order import DocumentKind, ExtractedLine, ExtractedOrder, LineKind, Party
from pipeline.domain.results import Drafts, ImageChoice, Output, ProductPlan
from pipeline.ports import Reading
from pipeline.stages.ai_enrichment import AiEnrichment
from pipeline.stages.ai_parsing import AiParsing
from pipeline.stages.data_normalization import DataNormalization
from pipeline.stages.database_save import DatabaseSave
from pipeline.stages.image_attachment import ImageAttachment
from pipeline.stages.merchant_config import MerchantConfig
from pipeline.stages.product_draft_creation import ProductDraftCreation
from pipeline.stages.shopify_payload import ShopifyPayload
from tests.pipeline.domain.printed import line, merchant, order
from tests.pipeline.stages.given import Known, Library, Sayings


async def walk(printed: ExtractedOrder, of: Merchant) -> tuple[dict[str, Output], Review | None]:
    """The results by stage, and the review that ended the walk if one did."""
    library, known, model = Library(Reading(printed)), Known(), Sayings(configured=False)
    stages = {
        "ai-parsing": AiParsing(library, library, model),
        "database-save": DatabaseSave(known, known),
        "data-normalization": DataNormalization(),
        "merchant-config": MerchantConfig(),
        "ai-enrichment": AiEnrichment(model),
        "shopify-payload": ShopifyPayload(known),
        "product-draft-creation": ProductDraftCreation(),
        "image-attachment": ImageAttachment(known),
    }
    run = Run("run-1", "order", of, 0, 1, "wf-1", "up-1", document_id="doc-1", supplier_id="sup-1")
    earlier: dict[str, Output] = {}
    for name, stage in stages.items():
        result = await stage.run(StageInput(run, name, 1, earlier, still_ours=lambda: None))
        if isinstance(result, Review):
            return earlier, result
        assert isinstance(result, Done)
        earlier[name] = result.output
    return earlier, None


async def test_a_plain_order_reaches_the_shop_without_a_question() -> None:
    results, review = await walk(order(line(1), line(2, image_url="https://acme.test/2.jpg")), merchant())
    assert review is None
    drafts = results["product-draft-creation"]
    assert isinstance(drafts, Drafts)
    assert [draft.plan.title for draft in drafts.drafts] == ["Mug 1", "Mug 2"]
    assert drafts.drafts[0].variants[0].plan.price == Decimal("9.99")
    images = results["image-attachment"]
    assert isinstance(images, ImageChoice)
    assert [image.url for image in images.images] == ["https://acme.test/2.jpg"]


async def test_an_order_whose_totals_do_not_add_up_waits_with_its_drafts_ready() -> None:
    results, review = await walk(order(line(1), total="99.00"), merchant())
    assert review is not None
    assert [doubt.code for doubt in review.doubts if doubt.blocking] == ["totals_mismatch"]
    assert "product-draft-creation" in results
    assert isinstance(review.output, ImageChoice)


async def test_running_the_line_twice_names_the_same_things_the_same_way() -> None:
    printed = order(line(1), line(2))
    assert await walk(printed, merchant()) == await walk(printed, merchant())


AMOUNTS = st.none() | st.decimals(allow_nan=False, allow_infinity=False) | st.decimals(-10, 10**4, places=2)
WORDS = st.text(max_size=12) | st.sampled_from(["Case of 12", "dozen", "each", "Freight", "4.01E+12", "4006381333931"])
LINES = st.builds(
    ExtractedLine,
    position=st.just(0),
    kind=st.sampled_from(LineKind),
    **dict.fromkeys(("sku", "gtin", "description", "unit", "product_name", "image_url"), WORDS),
    **dict.fromkeys(("quantity", "quantity_shipped", "quantity_backordered", "quantity_invoiced"), AMOUNTS),
    **dict.fromkeys(("unit_cost", "retail_price", "line_total"), AMOUNTS),
    pack_size=st.none() | st.integers(),
    options=st.dictionaries(WORDS, WORDS, max_size=4),
)
ORDERS = st.builds(
    ExtractedOrder,
    kind=st.sampled_from([DocumentKind.PURCHASE_ORDER, DocumentKind.INVOICE]),
    number=WORDS,
    currency=st.sampled_from(["", "$", "USD", "EUR", "JPY", "crowns"]),
    supplier=st.builds(Party, name=WORDS, tax_id=WORDS, email=WORDS, website=WORDS),
    buyer=st.builds(Party, name=WORDS),
    lines=st.lists(LINES, max_size=6).map(
        lambda lines: tuple(one.model_copy(update={"position": at}) for at, one in enumerate(lines, 1))
    ),
    **dict.fromkeys(("subtotal", "tax", "freight", "discount", "total"), AMOUNTS),
    confidence=st.floats(0, 1),
)


@given(ORDERS, st.sampled_from(Rounding))
async def test_no_document_makes_a_stage_fail_or_announces_what_is_not_there(
    printed: ExtractedOrder, rounding: Rounding
) -> None:
    results, review = await walk(printed, merchant(rounding=rounding))
    for output in results.values():
        assert type(output).model_validate_json(output.model_dump_json()) == output
    plan = results.get("shopify-payload", ProductPlan(products=()))
    assert isinstance(plan, ProductPlan)
    variants = [one for product in plan.products for one in product.variants]
    positions = [position for one in variants for position in one.positions]
    assert len(positions) == len(set(positions))
    assert all(product.title and len(product.option_names) <= 3 for product in plan.products)
    assert all(tuple(one.options) == product.option_names for product in plan.products for one in product.variants)
    assert all(one.quantity >= 0 for one in variants)
    assert review is not None or all(one.price is not None and one.price >= (one.unit_cost or 0) for one in variants)
