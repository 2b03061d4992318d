"""The port's promises, kept against the sandbox over real HTTP."""

from __future__ import annotations

import io

import httpx
import pytest
from PIL import Image

from app.adapters.shopify.alone import AloneLimits
from app.adapters.shopify.client import ShopCredentials
from app.adapters.shops import Shops
from pipeline.clock import SystemClock
from pipeline.contract import Reject
from pipeline.domain.merchant import Merchant
from pipeline.errors import VendorRefused, VendorUnavailable
from pipeline.ports import DELETED, QuantityChange, Shop, ShopGallery
from pipeline.shopkeeping.pictures import in_work
from tests.sandbox_shop import TOKEN, SandboxShop, http, make_draft, make_given, sandbox, shops
from tests.support import eventually

__all__ = ["http", "sandbox", "shops"]

MERCHANT = make_given("shopify-sync").run.merchant
DOCUMENT = "gid://po-pipeline/PurchaseOrder/1"


@pytest.fixture
async def shop(shops: Shops) -> Shop:
    return await shops.of(MERCHANT)


async def test_facts_are_the_shops_own(shop: Shop, sandbox: SandboxShop) -> None:
    facts = await shop.facts()
    (location,) = (await sandbox.state())["locations"]
    assert (facts.currency, facts.taxes_included) == ("USD", False)
    assert (facts.location_id, facts.location_note) == (location["id"], "")
    assert "write_inventory" in facts.scopes


async def test_the_link_to_our_drafts_is_declared_once_per_shop(shops: Shops, sandbox: SandboxShop) -> None:
    for _ in range(3):
        await (await shops.of(MERCHANT)).facts()
    state = await sandbox.state()
    (definition,) = state["definitions"]
    assert state["calls"]["metafieldDefinitionCreate"] == 1
    assert (definition["type"], definition["owner_type"]) == ("id", "PRODUCT")


async def test_a_link_that_another_process_declared_is_as_good(shops: Shops, sandbox: SandboxShop) -> None:
    await (await shops.of(MERCHANT)).facts()
    await (await shops.of(MERCHANT.model_copy(update={"id": "as if another process"}))).facts()
    assert len((await sandbox.state())["definitions"]) == 1


async def located(
    sandbox: SandboxShop, http: httpx.AsyncClient, domain: str, chosen: str, *names: str
) -> tuple[str, str]:
    """Where a shop with these locations would be told to expect goods, and why nowhere."""
    body = {"domain": domain, "token": TOKEN, "locations": names}
    (await http.post(f"{sandbox.address}/shops", json=body)).raise_for_status()
    endpoint = f"{sandbox.address}/shops/{domain}/admin/api/2026-10/graphql.json"

    async def credentials(_merchant: Merchant) -> ShopCredentials:
        return ShopCredentials(endpoint, TOKEN)

    settings = MERCHANT.settings.model_copy(update={"location_id": chosen})
    of = Shops(http, credentials, SystemClock()).of
    facts = await (await of(MERCHANT.model_copy(update={"settings": settings}))).facts()
    return facts.location_id, facts.location_note


async def test_of_several_locations_none_is_guessed(sandbox: SandboxShop, http: httpx.AsyncClient) -> None:
    location, note = await located(sandbox, http, "two.example", "", "Berlin", "Leeds")
    assert location == ""
    assert "Berlin, Leeds" in note


async def test_a_chosen_location_must_still_be_there(sandbox: SandboxShop, http: httpx.AsyncClient) -> None:
    location, note = await located(sandbox, http, "gone.example", "gid://shopify/Location/9", "Berlin")
    assert location == ""
    assert "closed or no longer" in note


async def test_a_product_is_found_again_by_its_draft_and_by_its_id(shop: Shop) -> None:
    draft = make_draft("mug", {"S": 1, "L": 2})
    assert await shop.find_product(draft.id) is None
    created = await shop.create_product(draft)
    assert await shop.find_product(draft.id) == created
    assert await shop.find_by_id(created.id) == created
    assert [one.options for one in created.variants] == [{"Size": "S"}, {"Size": "L"}]
    assert await shop.find_by_id("gid://shopify/Product/404") is None


async def test_a_product_with_more_variants_than_a_page_is_read_whole(shop: Shop) -> None:
    created = await shop.create_product(make_draft("bolt", {f"{number:03}": 1 for number in range(95)}))
    assert len(created.variants) == 95


async def test_variants_are_found_by_exact_sku_only(shop: Shop) -> None:
    await shop.create_product(make_draft("mug", {"S": 1, "SX": 2}))
    found = await shop.find_variants(skus=["mug-S"])
    assert [one.sku for one in found] == ["mug-S"]
    assert await shop.find_variants(barcodes=["4006381333931"]) == []


async def test_a_variant_added_by_hand_is_refused_not_doubled(shop: Shop) -> None:
    draft = make_draft("mug", {"S": 1})
    product = await shop.create_product(draft)
    with pytest.raises(VendorRefused):
        await shop.add_variants(product, draft, [draft.variants[0].id])


async def test_one_key_changes_a_quantity_once(shop: Shop, sandbox: SandboxShop) -> None:
    location = (await shop.facts()).location_id
    product = await shop.create_product(make_draft("mug", {"S": 1}))
    changes = [QuantityChange(product.variants[0].inventory_item_id, 5)]
    groups = {
        await shop.adjust(
            key="6a3f0c55-0000-5000-8000-000000000001",
            name="incoming",
            reason="movement_created",
            document=DOCUMENT,
            location_id=location,
            changes=changes,
        )
        for _ in range(3)
    }
    assert len(groups) == 1
    assert await sandbox.quantities("incoming") == {"mug-S": 5}

    for _ in range(2):
        await shop.move(
            key="6a3f0c55-0000-5000-8000-000000000002", document=DOCUMENT, location_id=location, changes=changes
        )
    assert await sandbox.quantities("incoming") == {"mug-S": 0}
    assert await sandbox.quantities("available") == {"mug-S": 5}


async def test_a_picture_is_uploaded_then_attached(shop: Shop) -> None:
    product = await shop.create_product(make_draft("mug", {"S": 1}))
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "JPEG")
    resource = await shop.upload_image("front.jpg", "image/jpeg", out.getvalue())
    (medium,) = (await shop.attach_image(product.id, resource, "A mug")).media
    assert medium.alt == "A mug"
    assert in_work(medium)
    assert medium.sources == ()

    async def ready() -> bool:
        return (await shop.gallery(product.id)).media[0].status == "READY"

    await eventually(ready)
    gallery = await shop.gallery(product.id)
    assert gallery.status == "DRAFT"
    assert [one.id for one in gallery.media] == [medium.id]
    assert any(source.endswith("/front.jpg") for source in gallery.media[0].sources)


async def test_a_deleted_product_has_a_gallery_that_says_so(shop: Shop, sandbox: SandboxShop) -> None:
    product = await shop.create_product(make_draft("mug", {"S": 1}))
    await sandbox.do("mutation($id: ID!) { productDelete(input: {id: $id}) { userErrors { message } } }", id=product.id)
    assert await shop.gallery(product.id) == ShopGallery(DELETED, ())


async def test_a_missing_scope_is_said_in_the_shops_words(shop: Shop, sandbox: SandboxShop) -> None:
    await shop.facts()
    await sandbox.change(scopes=["read_products"])
    with pytest.raises(VendorUnavailable, match="write_products") as raised:
        await shop.create_product(make_draft("mug", {"S": 1}))
    assert raised.value.patient


async def test_a_changed_token_is_taken_up_by_the_next_run(sandbox: SandboxShop, http: httpx.AsyncClient) -> None:
    tokens = [TOKEN, "shpat_second"]

    async def credentials(_merchant: Merchant) -> ShopCredentials:
        return ShopCredentials(sandbox.endpoint, tokens[0])

    limits = AloneLimits(SystemClock())
    shops = Shops(http, credentials, SystemClock(), limits)
    await (await shops.of(MERCHANT)).facts()
    await sandbox.change(token="shpat_second")
    with pytest.raises(VendorUnavailable, match="connect the shop again"):
        await (await shops.of(MERCHANT)).facts()
    tokens.pop(0)
    await limits.unpark(MERCHANT.id)
    assert (await (await shops.of(MERCHANT)).facts()).currency == "USD"


async def test_a_merchant_without_a_shop_is_told_so(http: httpx.AsyncClient) -> None:
    async def nothing(_merchant: Merchant) -> None:
        return None

    with pytest.raises(Reject) as rejected:
        await Shops(http, nothing, SystemClock()).of(MERCHANT)
    assert rejected.value.code == "no_shop"
