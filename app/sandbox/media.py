"""Images: staged upload targets, the files made from them, and what becomes of bytes that are no image."""

from __future__ import annotations

import io
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit
from uuid import uuid4

from PIL import Image

from app.sandbox.call import Args, Call, UserErrors, no, user_error
from app.sandbox.images import find_picture
from app.sandbox.state import Media, Upload, now

if TYPE_CHECKING:
    from app.sandbox.state import Product, Shop
    from app.sandbox.store import Store

UPLOAD_MAX = 20 * 1024 * 1024
"""Shopify's signed policy: content-length-range 1..20,971,520."""

ALT_MAX = 512
SOURCE_MAX = 2048
PIXELS_MAX = 20_000_000
"""Guides differ between 20 and 25 megapixels; this is the stricter."""

ASPECT_MAX = 100
"""Not settled: the code INVALID_IMAGE_ASPECT_RATIO is in the schema, its bound is not."""

MEDIA_MAX = 250
"""Pictures on one product [2]. Not settled in which words the next is refused; `productUpdate` has no code for it."""

MIME_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "GIF": "image/gif", "WEBP": "image/webp"}


def staged_uploads_create(_source: Any, call: Call, args: Args) -> dict[str, Any]:
    """Hand out addresses on this server that take a file; each is good for one."""
    errors = []
    for index, entry in enumerate(args["input"]):
        if entry["resource"] == "IMAGE" and not entry["mimeType"].startswith("image/"):
            message = f"{entry['filename']}: ({entry['mimeType']}) is not a recognized format"
            errors.append(user_error(["input", index, "mimeType"], message))
    if errors:
        raise UserErrors(errors)
    return {"stagedTargets": [_target(call, entry) for entry in args["input"]], "userErrors": []}


def file_create(_source: Any, call: Call, args: Args) -> dict[str, Any]:
    """Put files into the shop without a product."""
    errors = errors_of(args["files"], ["files"])
    if errors:
        raise UserErrors(errors)
    return {"files": [make_media(call, entry) for entry in args["files"]], "userErrors": []}


def file_delete(_source: Any, call: Call, args: Args) -> dict[str, Any]:
    """Remove files from the shop and from every product that shows them."""
    for index, file_id in enumerate(args["fileIds"]):
        if file_id not in call.shop.media:
            raise no(["fileIds", index], f"File id {file_id} does not exist.", "FILE_DOES_NOT_EXIST")
    gone = set(args["fileIds"])
    for file_id in gone:
        del call.shop.media[file_id]
    for product in call.shop.products.values():
        product.media_ids = [one for one in product.media_ids if one not in gone]
        for variant in product.variants:
            variant.media_ids = [one for one in variant.media_ids if one not in gone]
    return {"deletedFileIds": args["fileIds"], "userErrors": []}


def errors_of(entries: list[Args], path: list[str | int]) -> list[dict[str, Any]]:
    """Why files or media cannot be taken: limits of the text fields."""
    errors = []
    for index, entry in enumerate(entries):
        if len(entry.get("alt") or "") > ALT_MAX:
            message = f"The alt value exceeds the maximum limit of {ALT_MAX} characters."
            errors.append(user_error([*path, index, "alt"], message, "ALT_VALUE_LIMIT_EXCEEDED"))
        source = entry.get("originalSource") or ""
        if len(source) > SOURCE_MAX or (source and not urlsplit(source).scheme.startswith("http")):
            message = "Image URL is invalid"
            errors.append(user_error([*path, index, "originalSource"], message, "INVALID_IMAGE_SOURCE_URL"))
    return errors


def errors_of_room(product: Product, entries: list[Args]) -> list[dict[str, Any]]:
    """Why a product cannot take that many more pictures."""
    if entries and len(product.media_ids) + len(entries) > MEDIA_MAX:
        return [user_error(["media"], f"Exceeded the maximum of {MEDIA_MAX} media per product")]
    return []


def make_media(call: Call, entry: Args) -> Media:
    """A new file; that the same source was used before makes no difference: adding again adds again."""
    source = entry["originalSource"]
    media = Media(
        id=call.shop.new_id("MediaImage"),
        alt=entry.get("alt"),
        original_source=source,
        filename=_free_name(call.shop, entry.get("filename") or urlsplit(source).path.rpartition("/")[2]),
        created_at=call.at,
        ready_at=call.at + timedelta(seconds=call.shop.settings.processing_s),
    )
    content = _fetch(call, source)
    if content is None:
        media.error_code, media.error_message = "IMAGE_DOWNLOAD_FAILURE", "The image could not be downloaded."
    else:
        _inspect(call, media, content)
    call.shop.media[media.id] = media
    return media


def receive_upload(shop: Shop, store: Store, key: str, content: bytes) -> Upload | None:
    """Keep the bytes posted to a staged target; None when nobody asked for that target, or too long ago.

    Not settled: whether a target takes a second file. Here it replaces the first, as the storage behind it would.
    """
    upload = _valid_upload(shop, key, now())
    if upload is not None:
        upload.sha256, upload.size = store.keep_file(content), len(content)
    return upload


def file_address(address: str, media: Media) -> str:
    """Where the shop shows a picture: as at Shopify's CDN, under the file's name."""
    return f"{address}/files/{media.sha256}/{quote(media.filename)}"


def _free_name(shop: Shop, name: str) -> str:
    """[S] APPEND_UUID, the default: a second file of a name gets letters of the shop's own behind it."""
    if all(one.filename != name for one in shop.media.values()):
        return name
    stem, dot, extension = name.rpartition(".")
    return f"{stem}_{uuid4()}{dot}{extension}" if dot else f"{name}_{uuid4()}"


def _valid_upload(shop: Shop, key: str, at: datetime) -> Upload | None:
    upload = shop.uploads.get(key)
    if upload is None or at - upload.created_at > timedelta(seconds=shop.settings.upload_expires_s):
        return None
    return upload


def upload_address(address: str, shop: Shop) -> str:
    """Where a shop's staged uploads are posted."""
    return f"{address}/uploads/{shop.domain}"


def _target(call: Call, entry: Args) -> dict[str, Any]:
    """A POST target's parameters, in Shopify's order; a PUT target has others, and its key is in the address."""
    key = f"tmp/{call.shop.domain}/{uuid4()}/{entry['filename']}"
    call.shop.uploads[key] = Upload(
        key=key, filename=entry["filename"], mime_type=entry["mimeType"], created_at=call.at
    )
    base = upload_address(call.address, call.shop)
    if entry["httpMethod"] == "PUT":
        parameters = {"content_type": entry["mimeType"], "acl": "private"}
        url = f"{base}/{key}"
    else:
        parameters = {
            "Content-Type": entry["mimeType"],
            "success_action_status": "201",
            "acl": "private",
            "key": key,
            "x-goog-date": call.at.strftime("%Y%m%dT%H%M%SZ"),
            "x-goog-credential": "sandbox",
            "x-goog-algorithm": "GOOG4-RSA-SHA256",
            "x-goog-signature": "sandbox",
            "policy": "sandbox",
        }
        url = f"{base}/"
    return {
        "url": url,
        "resourceUrl": f"{base}/{key}",
        "parameters": [{"name": name, "value": value} for name, value in parameters.items()],
    }


def _fetch(call: Call, source: str) -> bytes | None:
    """The bytes behind an address of this server; the sandbox asks nobody else."""
    uploads = upload_address(call.address, call.shop) + "/"
    if source.startswith(uploads):
        upload = _valid_upload(call.shop, source.removeprefix(uploads), call.at)
        return call.store.find_file(upload.sha256) if upload and upload.sha256 else None
    if source.startswith(f"{call.address}/images/"):
        return find_picture(urlsplit(source).path.rpartition("/")[2])
    return None


def _inspect(call: Call, media: Media, content: bytes) -> None:
    media.sha256, media.size = call.store.keep_file(content), len(content)
    problem = None
    try:
        with Image.open(io.BytesIO(content)) as image:
            media.width, media.height = image.size
            media.mime_type = MIME_TYPES.get(image.format or "")
            problem = _problem(image)
            if problem is None:
                image.load()
    except (OSError, EOFError, SyntaxError, ValueError, Image.DecompressionBombError):  # what Pillow's readers raise
        problem = ("IMAGE_PROCESSING_FAILURE", "The file is not a readable image.")
    if problem is not None:
        media.error_code, media.error_message = problem


def _problem(image: Image.Image) -> tuple[str, str] | None:
    """What is wrong with an image by its header alone, before it is decoded."""
    if image.format not in MIME_TYPES:
        return "UNSUPPORTED_IMAGE_FILE_TYPE", "The image type is not supported."
    if image.width * image.height > PIXELS_MAX:
        return "INVALID_IMAGE_RESOLUTION", "The image has too many pixels."
    if max(image.size) > ASPECT_MAX * min(image.size):
        return "INVALID_IMAGE_ASPECT_RATIO", "The image is too narrow."
    return None
