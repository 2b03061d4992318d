"""Bulk mutations: a file of variables, a line of results for each, and Shopify's ways to start none."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.app.sandbox.conftest import ShopClient, shirt

STAGE = """
mutation ($input: [StagedUploadInput!]!) {
  stagedUploadsCreate(input: $input) { stagedTargets { url parameters { name value } } userErrors { message } }
}
"""
RUN = """
mutation ($mutation: String!, $path: String!) {
  bulkOperationRunMutation(mutation: $mutation, stagedUploadPath: $path) {
    bulkOperation { id } userErrors { code field message }
  }
}
"""
LOOK = "query ($id: ID!) { bulkOperation(id: $id) { status url objectCount query type } }"
SET = """
mutation Many($identifier: ProductSetIdentifiers, $input: ProductSetInput!) {
  productSet(identifier: $identifier, input: $input, synchronous: true) { product { id } userErrors { code message } }
}
"""


def line(draft: str, **changes: Any) -> dict[str, Any]:
    identifier = {"customId": {"namespace": "$app", "key": "draft", "value": draft}}
    return {"identifier": identifier, "input": {**shirt(), **changes}}


async def upload(shop: ShopClient, *lines: dict[str, Any]) -> str:
    """Put the lines where Shopify wants them; the path to name."""
    wanted = {
        "resource": "BULK_MUTATION_VARIABLES",
        "filename": "v.jsonl",
        "mimeType": "text/jsonl",
        "httpMethod": "POST",
    }
    (target,) = (await shop.data(STAGE, input=[wanted]))["stagedUploadsCreate"]["stagedTargets"]
    fields = {one["name"]: (None, one["value"]) for one in target["parameters"]}
    content = "\n".join(map(json.dumps, lines)).encode() or b"\n"
    answer = await shop.http.post(target["url"], files={**fields, "file": ("v.jsonl", content, "text/jsonl")})
    assert answer.status_code == 201, answer.text
    return str(fields["key"][1])


async def start(shop: ShopClient, mutation: str, path: str) -> dict[str, Any]:
    return dict((await shop.data(RUN, mutation=mutation, path=path))["bulkOperationRunMutation"])


async def results(shop: ShopClient, operation_id: str) -> list[dict[str, Any]]:
    async with asyncio.timeout(5):
        while True:
            seen = (await shop.data(LOOK, id=operation_id))["bulkOperation"]
            if seen["status"] == "COMPLETED":
                break
            assert seen["url"] is None
            await asyncio.sleep(0.02)
    return [json.loads(row) for row in (await shop.http.get(seen["url"])).text.splitlines()]


async def test_each_line_is_performed_and_answered_under_its_number(shop: ShopClient) -> None:
    await shop.define_draft_id()
    started = await start(shop, SET, await upload(shop, line("d1"), line("d2", title=""), line("d3", title="Third")))
    assert started["userErrors"] == []
    rows = await results(shop, started["bulkOperation"]["id"])
    assert [row["__lineNumber"] for row in rows] == [0, 1, 2]
    errors = [row["data"]["productSet"]["userErrors"] for row in rows]
    assert [bool(one) for one in errors] == [False, True, False]
    assert [one["title"] for one in (await shop.state())["products"]] == ["Linen Shirt", "Third"]


async def test_the_mutation_can_be_read_from_the_operation(shop: ShopClient) -> None:
    await shop.define_draft_id()
    started = await start(shop, SET, await upload(shop, line("d1")))
    seen = (await shop.data(LOOK, id=started["bulkOperation"]["id"]))["bulkOperation"]
    assert (seen["query"], seen["type"], seen["objectCount"]) == (SET, "MUTATION", "1")


@pytest.mark.parametrize(
    ("mutation", "code"),
    [
        ("query { shop { name } }", "INVALID_MUTATION"),
        ("mutation {", "INVALID_MUTATION"),
        (SET + "# " + "x" * 65_535, "INVALID_MUTATION"),
        (
            SET.replace("{ id }", "{ variants(first: 1) { nodes { id } } media(first: 1) { nodes { id } } }"),
            "INVALID_MUTATION",
        ),
    ],
)
async def test_a_document_that_is_no_bulk_mutation_starts_nothing(shop: ShopClient, mutation: str, code: str) -> None:
    payload = await start(shop, mutation, await upload(shop, line("d1")))
    assert (payload["bulkOperation"], payload["userErrors"][0]["code"]) == (None, code)


async def test_a_file_that_is_not_there_or_empty_starts_nothing(shop: ShopClient) -> None:
    assert (await start(shop, SET, "tmp/nowhere"))["userErrors"][0]["code"] == "NO_SUCH_FILE"
    payload = await start(shop, SET, await upload(shop))
    assert payload["userErrors"][0]["code"] == "INVALID_STAGED_UPLOAD_FILE"


async def test_five_run_at_once_and_no_more(shop: ShopClient) -> None:
    await shop.open(settings={"bulk_s": 3600})
    await shop.define_draft_id()
    path = await upload(shop, line("d1"))
    codes = [[one["code"] for one in (await start(shop, SET, path))["userErrors"]] for _ in range(6)]
    assert codes == [[], [], [], [], [], ["LIMIT_REACHED"]]
