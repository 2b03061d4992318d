"""Images: posted to a staged target, attached as often as they are sent, READY or FAILED some time later."""

from __future__ import annotations

import asyncio
import hashlib
import io
import re
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.app.sandbox.conftest import SET_PRODUCT, ShopClient

STAGE = """
mutation ($input: [StagedUploadInput!]!) {
  stagedUploadsCreate(input: $input) {
    stagedTargets { url resourceUrl parameters { name value } } userErrors { field message }
  }
}
"""
ATTACH = """
mutation ($id: ID!, $media: [CreateMediaInput!]) {
  productUpdate(product: {id: $id}, media: $media) {
    product { media(first: 10) { nodes { id alt status } } } userErrors { field message }
  }
}
"""
APPEND = """
mutation ($productId: ID!, $variantMedia: [ProductVariantAppendMediaInput!]!) {
  productVariantAppendMedia(productId: $productId, variantMedia: $variantMedia) { userErrors { code field message } }
}
"""
POLL = """
query ($ids: [ID!]!) {
  nodes(ids: $ids) { ... on MediaImage { status image { width height url } mediaErrors { code message } } }
}
"""


async def _staged(shop: ShopClient, mime_type: str = "image/jpeg") -> dict[str, Any]:
    given = {"resource": "IMAGE", "filename": "shirt.jpg", "mimeType": mime_type, "httpMethod": "POST"}
    return (await shop.data(STAGE, input=[given]))["stagedUploadsCreate"]


async def _post(shop: ShopClient, target: dict[str, Any], content: bytes) -> httpx.Response:
    fields = {one["name"]: one["value"] for one in target["parameters"]}
    return await shop.http.post(target["url"], data=fields, files={"file": ("shirt.jpg", content, "image/jpeg")})


async def _attached(shop: ShopClient, content: bytes) -> dict[str, Any]:
    """The media made from these bytes, once it is settled."""
    target = (await _staged(shop))["stagedTargets"][0]
    assert (await _post(shop, target, content)).status_code == 201
    return await _settled(shop, target["resourceUrl"])


async def _settled(shop: ShopClient, source: str) -> dict[str, Any]:
    product = (await shop.data(SET_PRODUCT, input={"title": "A"}))["productSet"]["product"]["id"]
    media = [{"originalSource": source, "alt": "A shirt", "mediaContentType": "IMAGE"}]
    nodes = (await shop.data(ATTACH, id=product, media=media))["productUpdate"]["product"]["media"]["nodes"]
    assert [one["status"] for one in nodes] == ["UPLOADED"]
    for _ in range(100):
        found = (await shop.data(POLL, ids=[nodes[0]["id"]]))["nodes"][0]
        if found["status"] in {"READY", "FAILED"}:
            return found
        assert found["image"] is None
        await asyncio.sleep(0.01)
    pytest.fail("the image never settled")


def _jpeg() -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (40, 30), (200, 30, 30)).save(content, "JPEG")
    return content.getvalue()


async def test_an_uploaded_picture_becomes_ready_with_the_bytes_that_were_sent(shop: ShopClient) -> None:
    content = _jpeg()
    found = await _attached(shop, content)
    assert (found["status"], found["image"]["width"], found["image"]["height"]) == ("READY", 40, 30)
    assert found["image"]["url"].endswith("/shirt.jpg")
    assert (await shop.http.get(found["image"]["url"])).content == content
    recorded = (await shop.state())["media"][0]
    assert (recorded["sha256"], recorded["size"]) == (hashlib.sha256(content).hexdigest(), len(content))


async def test_bytes_that_are_no_picture_fail_with_a_code(shop: ShopClient) -> None:
    found = await _attached(shop, b"<html>sign in</html>")
    assert (found["status"], found["mediaErrors"][0]["code"]) == ("FAILED", "IMAGE_PROCESSING_FAILURE")


async def test_a_source_nobody_uploaded_fails_as_a_download(shop: ShopClient) -> None:
    found = await _settled(shop, "http://192.0.2.1/shirt.jpg")
    assert (found["status"], found["mediaErrors"][0]["code"]) == ("FAILED", "IMAGE_DOWNLOAD_FAILURE")


async def test_attaching_the_same_picture_again_adds_it_again(shop: ShopClient) -> None:
    product = (await shop.data(SET_PRODUCT, input={"title": "A"}))["productSet"]["product"]["id"]
    media = [{"originalSource": f"{shop.address}/images/shirt.jpg", "mediaContentType": "IMAGE"}]
    for _ in range(2):
        await shop.data(ATTACH, id=product, media=media)
    assert len((await shop.state())["products"][0]["media"]) == 2


@pytest.mark.parametrize(
    ("form", "size", "code"),
    [
        ("BMP", (40, 30), "UNSUPPORTED_IMAGE_FILE_TYPE"),
        ("PNG", (5001, 4000), "INVALID_IMAGE_RESOLUTION"),
        ("PNG", (1010, 10), "INVALID_IMAGE_ASPECT_RATIO"),
    ],
)
async def test_a_picture_shopify_does_not_take_fails_with_its_code(
    shop: ShopClient, form: str, size: tuple[int, int], code: str
) -> None:
    content = io.BytesIO()
    Image.new("1", size).save(content, form)
    found = await _attached(shop, content.getvalue())
    assert (found["status"], found["mediaErrors"][0]["code"]) == ("FAILED", code)


async def test_an_upload_whose_answer_is_lost_has_arrived(shop: ShopClient) -> None:
    target = (await _staged(shop))["stagedTargets"][0]
    await shop.order("error_502_after_success", "stagedUpload")
    assert (await _post(shop, target, _jpeg())).status_code == 502
    assert (await _settled(shop, target["resourceUrl"]))["status"] == "READY"


async def test_a_staged_file_is_gone_when_its_policy_ends(shop: ShopClient) -> None:
    target, late = [(await _staged(shop))["stagedTargets"][0] for _ in range(2)]
    assert (await _post(shop, target, _jpeg())).status_code == 201
    await shop.open(settings={"processing_s": 0.05, "upload_expires_s": 0})
    assert (await _post(shop, late, _jpeg())).status_code == 403
    found = await _settled(shop, target["resourceUrl"])
    assert (found["status"], found["mediaErrors"][0]["code"]) == ("FAILED", "IMAGE_DOWNLOAD_FAILURE")


async def test_a_second_file_of_a_name_gets_letters_of_the_shops_behind_it(shop: ShopClient) -> None:
    first, second = [await _attached(shop, _jpeg()) for _ in range(2)]
    assert first["image"]["url"].endswith("/shirt.jpg")
    assert re.search(r"/shirt_[0-9a-f-]{36}\.jpg$", second["image"]["url"])


async def test_nothing_is_shown_of_a_file_before_it_is_ready(shop: ShopClient) -> None:
    await shop.open(settings={"processing_s": 60})
    product = (await shop.data(SET_PRODUCT, input={"title": "A"}))["productSet"]["product"]["id"]
    media = [{"originalSource": f"{shop.address}/images/shirt.jpg", "mediaContentType": "IMAGE"}]
    nodes = (await shop.data(ATTACH, id=product, media=media))["productUpdate"]["product"]["media"]["nodes"]
    shown = "query($ids: [ID!]!) { nodes(ids: $ids) { ... on MediaImage { image { url } originalSource { url } } } }"
    assert (await shop.data(shown, ids=[nodes[0]["id"]]))["nodes"] == [{"image": None, "originalSource": None}]


async def test_a_product_takes_250_pictures_and_no_more(shop: ShopClient) -> None:
    product = (await shop.data(SET_PRODUCT, input={"title": "A"}))["productSet"]["product"]["id"]
    one = {"originalSource": f"{shop.address}/images/shirt.jpg", "mediaContentType": "IMAGE"}
    assert (await shop.data(ATTACH, id=product, media=[one] * 250))["productUpdate"]["userErrors"] == []
    refused = (await shop.data(ATTACH, id=product, media=[one]))["productUpdate"]
    assert refused["userErrors"][0]["field"] == ["media"]
    assert len((await shop.state())["products"][0]["media"]) == 250


async def test_a_put_target_takes_the_raw_bytes(shop: ShopClient) -> None:
    given = {"resource": "IMAGE", "filename": "shirt.jpg", "mimeType": "image/jpeg"}
    target = (await shop.data(STAGE, input=[given]))["stagedUploadsCreate"]["stagedTargets"][0]
    assert (await shop.http.put(target["url"], content=_jpeg())).status_code == 200
    assert (await _settled(shop, target["resourceUrl"]))["status"] == "READY"


async def test_a_variant_shows_an_image_only_once_that_is_ready(shop: ShopClient) -> None:
    await shop.open(settings={"processing_s": 0.2})
    product = (await shop.data(SET_PRODUCT, input={"title": "A"}))["productSet"]["product"]
    media = [{"originalSource": f"{shop.address}/images/shirt.jpg", "mediaContentType": "IMAGE"}]
    payload = (await shop.data(ATTACH, id=product["id"], media=media))["productUpdate"]
    media_id = payload["product"]["media"]["nodes"][0]["id"]
    pair = {"variantId": product["variants"]["nodes"][0]["id"], "mediaIds": [media_id]}

    async def append() -> list[str]:
        answer = await shop.data(APPEND, productId=product["id"], variantMedia=[pair])
        return [error["code"] for error in answer["productVariantAppendMedia"]["userErrors"]]

    assert await append() == ["NON_READY_MEDIA"]
    await asyncio.sleep(0.2)
    assert await append() == []
    assert await append() == ["PRODUCT_VARIANT_ALREADY_HAS_MEDIA"]


async def test_an_image_target_is_not_given_for_another_type(shop: ShopClient) -> None:
    payload = await _staged(shop, "application/pdf")
    assert payload["stagedTargets"] is None
    assert "is not a recognized format" in payload["userErrors"][0]["message"]


async def test_an_upload_needs_its_parameters_its_order_and_a_size_in_range(shop: ShopClient) -> None:
    target = (await _staged(shop))["stagedTargets"][0]
    assert (await _post(shop, target, b"")).status_code == 400
    assert (await _post(shop, target, b"x" * (20 * 1024 * 1024 + 1))).status_code == 400
    unsigned = {**target, "parameters": [one for one in target["parameters"] if one["name"] != "policy"]}
    assert (await _post(shop, unsigned, _jpeg())).status_code == 403
    key = next(one["value"] for one in target["parameters"] if one["name"] == "key")
    file_first = [("file", ("a.jpg", _jpeg())), ("key", (None, key))]
    assert (await shop.http.post(target["url"], files=file_first)).status_code == 400
    assert (await shop.state())["uploads"][0]["sha256"] is None


async def test_a_picture_is_the_same_every_time_and_another_for_another_name(shop: ShopClient) -> None:
    first, again, other = [
        (await shop.http.get(f"{shop.address}/images/{name}")).content for name in ("mug.jpg", "mug.jpg?v=2", "cap.jpg")
    ]
    assert first == again != other
    assert Image.open(io.BytesIO(first)).size == (640, 640)


async def test_hostile_addresses_serve_what_a_guard_must_refuse(shop: ShopClient) -> None:
    images = f"{shop.address}/images"
    page = await shop.http.get(f"{images}/not-an-image.jpg")
    assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert (await shop.http.get(f"{images}/missing.jpg")).status_code == 404
    assert (await shop.http.get(f"{images}/inward.jpg")).headers["Location"].startswith("http://169.254.169.254/")
    async with shop.http.stream("GET", f"{images}/huge.jpg") as huge:
        assert int(huge.headers["Content-Length"]) == 5 * 1024**3
    bomb = (await shop.http.get(f"{images}/bomb.jpg")).content
    assert len(bomb) < 200
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(bomb))
