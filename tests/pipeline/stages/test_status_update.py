from __future__ import annotations

import pytest

from pipeline.contract import Reject
from pipeline.domain.purchase_order import Doubt
from pipeline.domain.results import ShopSync, StockMove
from pipeline.stages.status_update import StatusUpdate
from tests.pipeline.stages.given import done, given

SYNC = ShopSync(stock=(StockMove(draft_variant_id="v", inventory_item_id="i", quantity=8, move="received"),))


async def test_a_run_with_reasons_to_look_needs_review() -> None:
    outcome = done(await StatusUpdate().run(given(review=(Doubt(code="x", message="Look here."),))))
    assert (outcome.state, outcome.summary) == ("needs_review", "Look here.")


async def test_a_run_that_reached_the_shop_is_completed() -> None:
    outcome = done(await StatusUpdate().run(given(ShopSync())))
    assert (outcome.state, outcome.summary) == ("completed", "0 products (0 variants), no new units announced")


async def test_a_receipt_is_told_as_goods_received() -> None:
    assert done(await StatusUpdate().run(given(SYNC, kind="receipt"))).summary == "8 units received into stock"


async def test_a_run_that_neither_reached_the_shop_nor_waits_is_our_own_fault() -> None:
    with pytest.raises(Reject, match="no ShopSync"):
        await StatusUpdate().run(given())
