from __future__ import annotations

import pytest

from pipeline.contract import Review
from pipeline.domain.drafting import draft_of
from pipeline.domain.purchase_order import Doubt
from pipeline.domain.results import (
    Drafts,
    ImageChoice,
    NormalizedOrder,
    Output,
    ParsedDocument,
    PlannedProduct,
    PricedOrder,
    ProductPlan,
)
from pipeline.ports import SupplierRecord
from pipeline.stages.image_attachment import ImageAttachment
from tests.pipeline.domain.printed import merchant, order, saved
from tests.pipeline.stages.given import SHA, Known, codes, done, given

URL = "https://acme.test/1.jpg"
PRODUCT = PlannedProduct(
    product_key="sku:mug",
    title="Mug",
    description_html="",
    vendor="Acme",
    product_type="",
    tags=(),
    option_names=(),
    variants=(),
    image_urls=(URL,),
)
KNOWN = Known(suppliers=[SupplierRecord("sup-1", "Acme", "acme", "", "", "", orders_confirmed=9)])


def doubt(code: str, *, blocking: bool = True) -> tuple[Doubt, ...]:
    return (Doubt(code=code, message=code, blocking=blocking),)


def results(**doubts: tuple[Doubt, ...]) -> tuple[Output, ...]:
    """Everything found out before, with doubts by stage."""
    return (
        ParsedDocument(order=order(doubts=doubts.get("parsed", ())), sha256=SHA),
        saved().model_copy(update={"doubts": doubts.get("saved", ())}),
        NormalizedOrder(currency="USD", lines=(), doubts=doubts.get("normalized", ())),
        PricedOrder(currency="USD", lines=(), doubts=doubts.get("priced", ())),
        ProductPlan(products=(PRODUCT,), doubts=doubts.get("planned", ())),
        Drafts(drafts=(draft_of("m-1", "sup-1", PRODUCT),), doubts=doubts.get("drafted", ())),
    )


async def test_pictures_are_chosen_and_a_sound_order_goes_on() -> None:
    choice = done(await ImageAttachment(KNOWN).run(given(*results())))
    assert [image.url for image in choice.images] == [URL]


@pytest.mark.parametrize("where", ["parsed", "saved", "normalized", "priced", "planned", "drafted"])
async def test_a_blocking_doubt_of_any_stage_stops_the_order_here(where: str) -> None:
    result = await ImageAttachment(KNOWN).run(given(*results(**{where: doubt("found_there")})))
    assert codes(result) == ["found_there"]
    assert isinstance(result, Review)
    assert isinstance(result.output, ImageChoice)
    assert [image.url for image in result.output.images] == [URL]


async def test_an_aside_does_not_stop_a_merchant_who_approves_automatically() -> None:
    done(await ImageAttachment(KNOWN).run(given(*results(saved=doubt("aside", blocking=False)))))


async def test_a_merchant_who_reviews_everything_is_asked_even_without_a_doubt() -> None:
    shy = merchant(auto_approve=False)
    assert codes(await ImageAttachment(KNOWN).run(given(*results(), of=shy))) == ["merchant_reviews_all"]
    assert codes(await ImageAttachment(Known()).run(given(*results(), of=shy))) == [
        "merchant_reviews_all",
        "new_supplier",
    ]


async def test_an_order_approved_at_an_earlier_stage_is_still_looked_at_before_it_leaves_the_house() -> None:
    shy = merchant(auto_approve=False)
    found = await ImageAttachment(Known()).run(given(*results(saved=doubt("b")), of=shy, approved_by="jo"))
    assert "b" in codes(found)
