"""What every resolver is handed, and the two ways to say no."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphql import GraphQLError

if TYPE_CHECKING:
    from datetime import datetime

    from app.sandbox.idempotency import Running
    from app.sandbox.state import Shop
    from app.sandbox.store import Store

Args = dict[str, Any]
PAGE_SIZE_MAX = 250


@dataclass(frozen=True)
class Call:
    """One GraphQL request being answered for one shop."""

    shop: Shop
    store: Store
    address: str
    """This server's own address, as the client spelled it."""
    at: datetime
    running: Running
    """The idempotency keys of requests that have not been answered."""
    request: object
    """Which request this is, among those."""


Resolver = Callable[[Any, Call, Args], Any]


class UserErrors(Exception):
    """The business layer's no: HTTP 200, no top-level error, `userErrors` filled and nothing written."""

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__(errors[0]["message"])
        self.errors = errors


def refused(message: str, code: str, **extensions: Any) -> GraphQLError:
    """The request layer's no: an entry of `errors[]` with `extensions.code`, and `data.<field>` null."""
    return GraphQLError(message, extensions={"code": code, **extensions})


def user_error(field: Sequence[str | int] | None, message: str, code: str | None = None) -> dict[str, Any]:
    """One entry of `userErrors`; Shopify writes list indexes in `field` as strings."""
    path = None if field is None else [str(part) for part in field]
    return {"field": path, "message": message, "code": code}


def no(field: Sequence[str | int] | None, message: str, code: str | None = None) -> UserErrors:
    """A single user error, to be raised."""
    return UserErrors([user_error(field, message, code)])


def connection(items: Sequence[Any], args: Args) -> dict[str, Any]:
    """Cut one page out of a list, Relay style; an item's id is its cursor."""
    first, last = args.get("first"), args.get("last")
    if first is None and last is None:
        raise refused("you must provide one of first or last", "BAD_REQUEST")
    if max(first or 0, last or 0) > PAGE_SIZE_MAX:
        raise refused(f"a page holds at most {PAGE_SIZE_MAX}", "BAD_REQUEST")
    ordered = list(reversed(items)) if args.get("reverse") else list(items)
    begin, end = 0, len(ordered)
    cursors = [item.id for item in ordered]
    if args.get("after") is not None:
        begin = _position(cursors, args["after"]) + 1
    if args.get("before") is not None:
        end = _position(cursors, args["before"])
    if first is not None:
        end = min(end, begin + first)
    if last is not None:
        begin = max(begin, end - last)
    page = ordered[begin:end]
    return {
        "nodes": page,
        "edges": [{"cursor": item.id, "node": item} for item in page],
        "pageInfo": {
            "hasNextPage": end < len(ordered),
            "hasPreviousPage": begin > 0,
            "startCursor": page[0].id if page else None,
            "endCursor": page[-1].id if page else None,
        },
    }


def _position(cursors: list[str], cursor: str) -> int:
    if cursor not in cursors:
        raise refused(f"Invalid cursor: {cursor}", "BAD_REQUEST")
    return cursors.index(cursor)
