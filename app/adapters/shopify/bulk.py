"""Many products in one bulk operation: a file of variables, one productSet per line, and a file of results.

A bulk operation has no cost limits. It is found again by the name of its mutation, which Shopify shows in
`BulkOperation.query`: what a repeated `clientIdentifier` does is documented nowhere, so nothing rests on it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from app.adapters.shopify import operations
from app.adapters.shopify.products import ShopifyProducts, custom_id_of, product_input
from pipeline.domain.results import Draft
from pipeline.errors import VendorRefused

MIME = "text/jsonl"
FILE_MAX = 100 * 1024 * 1024
RUNNING = frozenset({"CREATED", "RUNNING", "CANCELING"})
LOOK_BACK = 50
"""Five may run at once, so the one that was started minutes ago is among the newest."""


class ShopifyBulk(ShopifyProducts):
    """Products of one merchant's shop, many at a time."""

    async def start_bulk(self, name: str, drafts: Sequence[tuple[str, Draft]]) -> str:
        """Start creating these (custom id, draft), a line each, and return the operation's id.

        `name` is letters and digits, and one for ever. Raises VendorRefused when the shop starts none (five run
        already, say): nothing has happened then.
        """
        await self._custom_ids.ensure()
        content = "".join(f"{line}\n" for line in _lines(drafts)).encode()
        if len(content) > FILE_MAX:
            raise VendorRefused("the products do not fit into one file of 100 MB", code="too_large")
        wanted = {
            "resource": "BULK_MUTATION_VARIABLES",
            "filename": f"{name}.jsonl",
            "mimeType": MIME,
            "httpMethod": "POST",
        }
        data = await self._client.call(operations.STAGE_UPLOAD, input=[wanted])
        target = data["stagedUploadsCreate"]["stagedTargets"][0]
        fields = [(parameter["name"], parameter["value"]) for parameter in target["parameters"]]
        await self._client.upload(target["url"], fields, f"{name}.jsonl", MIME, content)
        data = await self._client.call(
            operations.RUN_BULK, mutation=named(name), path=dict(fields)["key"], clientIdentifier=name
        )
        return str(data["bulkOperationRunMutation"]["bulkOperation"]["id"])

    async def find_bulk(self, name: str) -> str | None:
        """The operation started under that name, None if none was."""
        nodes = (await self._client.call(operations.BULK_OPERATIONS, first=LOOK_BACK))["bulkOperations"]["nodes"]
        return next((str(node["id"]) for node in nodes if _title(name) in node["query"]), None)

    async def bulk_refusals(self, operation_id: str) -> Mapping[int, str] | None:
        """Why which lines (from 0) were refused, once the operation is over; None while it runs.

        What it did not get to, because it was cancelled or has failed, is not among them.
        """
        node = (await self._client.call(operations.BULK_OPERATION, id=operation_id))["bulkOperation"]
        if node is not None and node["status"] in RUNNING:
            return None
        url = node and (node["url"] or node["partialDataUrl"])
        if not url:
            return {}
        return dict(_refusals(await self._client.download(url)))


def named(name: str) -> str:
    """The bulk mutation under its own name."""
    return operations.BULK_CREATE.replace("BulkCreate", _title(name), 1)


def _title(name: str) -> str:
    return f"BulkCreate_{name}"


def _lines(drafts: Sequence[tuple[str, Draft]]) -> Iterator[str]:
    for custom_id, draft in drafts:
        variables = {"identifier": {"customId": custom_id_of(custom_id)}, "input": product_input(draft, custom_id)}
        yield json.dumps(variables)


def _refusals(content: bytes) -> Iterator[tuple[int, str]]:
    """Line number and reason of each row that says no."""
    for row in content.splitlines():
        result = json.loads(row)
        payload = (result.get("data") or {}).get("productSet") or {}
        errors = [*(payload.get("userErrors") or ()), *(result.get("errors") or ())]
        if errors:
            yield int(result["__lineNumber"]), "; ".join(str(error.get("message", "")) for error in errors)
