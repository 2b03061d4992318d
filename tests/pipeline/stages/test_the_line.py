"""An order's way through the stages before the shop, in memory: what one stage says the next one reads."""

from __future__ import annotations

from decimal import Decimal

from pipeline.contract import Done, Review, Run, StageInput
from pipeline.domain.merchant import Merchant
from pipeline.domain.purchase_order import ExtractedOrder
from pipeline.domain.results import Drafts, ImageChoice, Output
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
