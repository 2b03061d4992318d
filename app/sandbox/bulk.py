"""Bulk mutations: one mutation over a file of variables, and a file of results, a line for a line.

Facts are from captured responses unless marked: the file is JSONL, not empty, at most 100 MB; the document at most
65,535 bytes with one connection in its selection; five run at once per shop (from 2026-01); a result row carries
`__lineNumber`; there are no cost limits. Not settled: what becomes of a repeated `clientIdentifier`. Here it means
nothing, so whoever relies on it starts twice. All lines take effect at the start; the operation says COMPLETED later.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from graphql import (
    FieldNode,
    GraphQLError,
    OperationDefinitionNode,
    OperationType,
    Visitor,
    execute_sync,
    get_operation_ast,
    parse,
    validate,
    visit,
)

from app.sandbox.call import Args, Call, no
from app.sandbox.state import BulkOperation

if TYPE_CHECKING:
    from graphql import DocumentNode

DOCUMENT_MAX = 65_535
FILE_MAX = 100 * 1024 * 1024
AT_ONCE_MAX = 5


def run_mutation(_source: Any, call: Call, args: Args) -> dict[str, Any]:
    """Start one: check the document and the file, then do what every line says."""
    document = _document(args["mutation"])
    lines = _lines(call, args["stagedUploadPath"])
    running = [one for one in call.shop.bulk_operations.values() if one.status(call.at) != "COMPLETED"]
    if len(running) >= AT_ONCE_MAX:
        raise no(None, f"{AT_ONCE_MAX} bulk mutations are running already.", "LIMIT_REACHED")
    results = [_perform(call, document, variables, number) for number, variables in enumerate(lines)]
    content = "".join(json.dumps(result) + "\n" for result in results).encode()
    operation = BulkOperation(
        id=call.shop.new_id("BulkOperation"),
        query=args["mutation"],
        objects=len(results),
        sha256=call.store.keep_file(content),
        size=len(content),
        ready_at=call.at + timedelta(seconds=call.shop.settings.bulk_s),
        created_at=call.at,
    )
    call.shop.bulk_operations[operation.id] = operation
    return {"bulkOperation": operation, "userErrors": []}


def _document(text: str) -> DocumentNode:
    from app.sandbox.schema import load_schema  # noqa: PLC0415  the schema's list of mutations names this module

    try:
        document = parse(text)
        problems = validate(load_schema(), document)
    except GraphQLError as error:
        problems, document = [error], None
    operation = get_operation_ast(document) if document else None
    mutates = operation is not None and operation.operation is OperationType.MUTATION
    if document is None or problems or operation is None or not mutates or len(text.encode()) > DOCUMENT_MAX:
        words = problems[0].message if problems else "The document must hold one mutation"
        raise no(["mutation"], f"Failed to parse the mutation - {words}", "INVALID_MUTATION")
    if _connections(operation) > 1:
        raise no(["mutation"], "The mutation has more than one connection field", "INVALID_MUTATION")
    return document


def _connections(operation: OperationDefinitionNode) -> int:
    class Counter(Visitor):
        found = 0

        def enter_field(self, node: FieldNode, *_args: Any) -> None:
            self.found += any(argument.name.value in {"first", "last"} for argument in node.arguments or ())

    counter = Counter()
    visit(operation, counter)
    return counter.found


def _lines(call: Call, path: str) -> list[Args]:
    upload = call.shop.uploads.get(path)
    content = call.store.find_file(upload.sha256) if upload and upload.sha256 else None
    if content is None:
        raise no(["stagedUploadPath"], "The JSONL file could not be found.", "NO_SUCH_FILE")
    try:
        lines = [json.loads(line) for line in content.decode().splitlines() if line.strip()]
    except ValueError:
        lines = []
    if not lines or len(content) > FILE_MAX or any(not isinstance(line, dict) for line in lines):
        raise no(["stagedUploadPath"], "The JSONL file is empty or no JSONL.", "INVALID_STAGED_UPLOAD_FILE")
    return lines


def _perform(call: Call, document: DocumentNode, variables: Args, number: int) -> dict[str, Any]:
    from app.sandbox.schema import load_schema, resolve_plainly  # noqa: PLC0415  as above

    result = execute_sync(
        load_schema(), document, context_value=call, variable_values=variables, field_resolver=resolve_plainly
    )
    row: dict[str, Any] = {"data": result.data} if result.data is not None else {}
    if result.errors:
        row["errors"] = [error.formatted for error in result.errors]
    return {**row, "__lineNumber": number}
